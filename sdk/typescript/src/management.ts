/** What operators and admins do: policies and approvals. */
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

  /** Lets the action run. Throws `ConflictError` when it is already decided or expired. */
  approve(approvalId: string, comment?: string): Promise<Approval> {
    return this.#decide(approvalId, "approve", comment);
  }

  /** Does not let the action run. Throws `ConflictError` as `approve` does. */
  deny(approvalId: string, comment?: string): Promise<Approval> {
    return this.#decide(approvalId, "deny", comment);
  }

  async #decide(approvalId: string, decision: Schemas["Answer"], comment?: string): Promise<Approval> {
    const body = { decision, ...(comment === undefined ? {} : { comment: exact(comment, "comment") }) };
    const path = `/v1/approvals/${segment(approvalId)}/decision`;
    return (await this.#protocol.object({ method: "POST", path, body, once: true })) as unknown as Approval;
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
