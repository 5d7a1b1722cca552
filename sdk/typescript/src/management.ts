/** What operators and admins do: policies, approvals and grants. */
import {
  BadRequestError,
  type CheckreinError,
  ConflictError,
  PolicyConflictError,
  PolicyInvalidError,
} from "./errors.js";
import { exact } from "./exact.js";
import type { components } from "./openapi.js";
import { type Protocol, segment } from "./protocol.js";

type Schemas = components["schemas"];

/** A policy, as in a file: `{ name, rule, condition, … }`. */
export type Policy = {
  name: string;
  rule: Schemas["Rule"];
  condition?: Readonly<Record<string, unknown>>;
} & Readonly<Record<string, unknown>>;
/** An approval, as the server shows it. */
export type Approval = Schemas["ApprovalView"];
/** Some of the records that a held action would touch, as the server shows them. */
export type Sample = Schemas["SampleView"];
/** A grant, as the server shows it. */
export type Grant = Schemas["GrantView"];

/** The policies; an admin's key is needed to change them. */
export class Policies {
  readonly #protocol: Protocol;

  constructor(protocol: Protocol) {
    this.#protocol = protocol;
  }

  /**
   * Creates a policy. The same one again is no error; another under its name is.
   *
   * Throws `PolicyConflictError`, or `PolicyInvalidError` with every problem found.
   */
  create(policy: Policy): Promise<Policy> {
    const body = (): unknown => exact(policy, "policy");
    return telling(() => this.#protocol.object({ method: "POST", path: "/v1/policies", body: body() }));
  }

  /** Puts these in the place of all policies that came through the API: all of them, or none. */
  apply(policies: readonly Policy[]): Promise<Schemas["PolicyChanges"]> {
    const body = (): unknown => ({ policies: exact([...policies], "policies") });
    return telling(() => this.#protocol.object({ method: "PUT", path: "/v1/policies", body: body() }));
  }

  /** All policies. */
  list(): Promise<Policy[]> {
    return telling(() => this.#protocol.pages("/v1/policies", "policies"));
  }

  /** The policy of this name. Throws `NotFoundError`. */
  get(name: string): Promise<Policy> {
    return telling(() => this.#protocol.object({ method: "GET", path: `/v1/policies/${segment(name)}` }));
  }

  /** Removes the policy of this name. Throws `NotFoundError`. */
  async delete(name: string): Promise<void> {
    const path = `/v1/policies/${segment(name)}`;
    await telling(() => this.#protocol.ask({ method: "DELETE", path, once: true }));
  }
}

/** Answers to holds; an operator's key is needed. */
export class Approvals {
  readonly #protocol: Protocol;

  constructor(protocol: Protocol) {
    this.#protocol = protocol;
  }

  /** Approvals, of one state or all, newest first. */
  async list(state?: Schemas["State"]): Promise<Approval[]> {
    return (await this.#protocol.pages("/v1/approvals", "approvals", { state })) as unknown as Approval[];
  }

  /** One approval, with the action that it is for. */
  async get(approvalId: string): Promise<Approval> {
    const path = `/v1/approvals/${segment(approvalId)}`;
    return (await this.#protocol.object({ method: "GET", path })) as unknown as Approval;
  }

  /**
   * Some of the records that the action would touch, as they are now, without secrets. That you looked goes on record.
   *
   * Throws `ConflictError` when nobody is asked any more.
   */
  async sample(approvalId: string): Promise<Sample> {
    const path = `/v1/approvals/${segment(approvalId)}/sample`;
    return (await this.#protocol.object({ method: "GET", path, once: true })) as unknown as Sample;
  }

  /** Lets the action run. Throws `ConflictError` when it is already decided or expired. */
  approve(approvalId: string, comment?: string): Promise<Approval> {
    return this.#decide(approvalId, "approve", comment);
  }

  /** Does not let the action run. Throws `ConflictError` as `approve` does. */
  deny(approvalId: string, comment?: string): Promise<Approval> {
    return this.#decide(approvalId, "deny", comment);
  }

  /** Says something about it without answering it. */
  async comment(approvalId: string, text: string): Promise<Approval> {
    const path = `/v1/approvals/${segment(approvalId)}/comments`;
    const body = { text: exact(text, "text") };
    return (await this.#protocol.object({ method: "POST", path, body, once: true })) as unknown as Approval;
  }

  /**
   * Makes a link by which `person` can answer: `path`, and `url` where the server knows its own address.
   *
   * Whoever has it answers in that name: send it to them alone. `lasting`: `"1h"`; as long as the approval waits, at
   * most and if absent.
   */
  async link(approvalId: string, person: string, lasting?: string): Promise<Schemas["LinkView"]> {
    const path = `/v1/approvals/${segment(approvalId)}/links`;
    const body = { for: exact(person, "person"), ...(lasting === undefined ? {} : { lasting }) };
    const link = await this.#protocol.object({ method: "POST", path, body, once: true });
    return link as unknown as Schemas["LinkView"];
  }

  async #decide(approvalId: string, decision: Schemas["Answer"], comment?: string): Promise<Approval> {
    const body = { decision, ...(comment === undefined ? {} : { comment: exact(comment, "comment") }) };
    const path = `/v1/approvals/${segment(approvalId)}/decision`;
    return (await this.#protocol.object({ method: "POST", path, body, once: true })) as unknown as Approval;
  }
}

/** A yes beforehand, for a while; an operator's key is needed. */
export class Grants {
  readonly #protocol: Protocol;

  constructor(protocol: Protocol) {
    this.#protocol = protocol;
  }

  /**
   * Lets one agent do this for a while (`for: "1h"`), to `max_records` records in all; recipients count where they are
   * more. A number that only the agent states is not enough, unless `accept_declared`.
   */
  async give(grant: Schemas["NewGrant"]): Promise<Grant> {
    const body = exact({ ...grant }, "grant");
    const given = await this.#protocol.object({ method: "POST", path: "/v1/grants", body, once: true });
    return given as unknown as Grant;
  }

  /** Grants, newest first; `open`: only those that can, or cannot, still be used. */
  async list(query: { agent?: string; open?: boolean } = {}): Promise<Grant[]> {
    const asked = { agent: query.agent, open: query.open === undefined ? undefined : String(query.open) };
    return (await this.#protocol.pages("/v1/grants", "grants", asked)) as unknown as Grant[];
  }

  /** One grant, with what was used of it. */
  async get(grantId: string): Promise<Grant> {
    const path = `/v1/grants/${segment(grantId)}`;
    return (await this.#protocol.object({ method: "GET", path })) as unknown as Grant;
  }

  /** Takes it back. Throws `ConflictError` when it is over already. */
  async revoke(grantId: string): Promise<Grant> {
    const path = `/v1/grants/${segment(grantId)}`;
    return (await this.#protocol.object({ method: "DELETE", path, once: true })) as unknown as Grant;
  }
}

/** What `ask` answers; errors become those about policies. */
async function telling<T>(ask: () => Promise<unknown>): Promise<T> {
  try {
    return (await ask()) as T;
  } catch (error) {
    if (error instanceof ConflictError) throw better(PolicyConflictError, error);
    if (error instanceof BadRequestError && error.status === 422) throw better(PolicyInvalidError, error);
    throw error;
  }
}

function better(kind: new (message: string) => CheckreinError, error: CheckreinError): CheckreinError {
  const { status, type, requestId, problems } = error;
  return Object.assign(new kind(error.message), { status, type, requestId, problems });
}
