/**
 * What is asked of the server and how its answers are read.
 *
 * The rule throughout: nothing but a complete, well-formed `allow` for the check that was asked lets an action run.
 */
import {
  AuthenticationError,
  BadRequestError,
  CheckreinError,
  ConflictError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitedError,
  RollbackConflictError,
  StatementError,
  UnreachableError,
} from "./errors.js";
import { exact, type Json } from "./exact.js";
import {
  type Answer,
  exchange,
  Failure,
  type Limits,
  RETRIED,
  Reply,
  type Request,
  sleep,
} from "./exchange.js";
import { AMBIGUOUS } from "./reading.js";
import {
  type BlastRadius,
  type Drift,
  Decision,
  type DecisionFields,
  type MatchedPolicy,
  type Verdict,
} from "./result.js";
import type { Transport } from "./transport.js";

/** What a check answers when the server cannot be asked. */
export type OnUnreachable = "block" | "allow_reads" | "allow";
/** A request's body: JSON that nobody else holds. */
export type Body = { [key: string]: Json };
/** An object as the server sent it. */
export type Found = Readonly<Record<string, unknown>>;

/** Actions that change nothing, to the letter; the SDK guesses nothing beyond them. */
const READS: ReadonlySet<Json> = new Set(["read", "get", "list", "search", "select", "count", "view"]);
// `<target>.<path>`: an address or URL is not merely read, something is sent there.
const PLAIN_RESOURCE = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const POLL_MS = 30_000;

/** Every request that a client makes. */
export class Protocol {
  readonly #transport: Transport;
  readonly #where: string;
  readonly #limits: Limits;
  readonly #onUnreachable: OnUnreachable;

  constructor(transport: Transport, where: string, limits: Limits, onUnreachable: OnUnreachable) {
    this.#transport = transport;
    this.#where = where;
    this.#limits = limits;
    this.#onUnreachable = onUnreachable;
  }

  /** Asks whether an action may run. Throws where the request or the key is wrong. */
  async check(body: Body, signal?: AbortSignal): Promise<Decision> {
    const answer = await this.exchange({ method: "POST", path: "/v1/checks", body, signal });
    if (answer instanceof Reply && answer.status === 429) {
      // The server was there and refused. An agent must not get past it by asking too often.
      return this.#undecided(refusal(answer));
    }
    const decision = readDecision(answer);
    if (decision instanceof Decision) return decision;
    throwFor(answer);
    // An answer that readers may differ about may well have said no.
    const mayHaveBeenNo = answer instanceof Reply && answer.status === 200 && answer.json === AMBIGUOUS;
    return mayHaveBeenNo ? this.#undecided(decision) : this.#unasked(body, decision);
  }

  /** Waits for a hold to be settled. What cannot be found out leaves it held. */
  async wait(held: Decision, timeoutMs: number, signal?: AbortSignal): Promise<Decision> {
    const ends = performance.now() + timeoutMs;
    for (let left = timeoutMs; left > 0; left = ends - performance.now()) {
      const asked = performance.now();
      const patienceMs = Math.min(POLL_MS, left);
      const path = `/v1/checks/${segment(held.id)}?wait=${Math.max(Math.trunc(patienceMs / 1000), 1)}s`;
      const request: Request = { method: "GET", path, patienceMs, signal };
      const answer = await exchange(this.#transport, request, { ...this.#limits, retries: 0 });
      const decision = readDecision(answer, held.id);
      if (decision instanceof Decision && !decision.held) return decision;
      if (!(answer instanceof Reply && RETRIED.has(answer.status))) throwFor(answer);
      // A server that does not wait must not be asked in a tight loop.
      const now = performance.now();
      const pause = Math.min(Math.min(1000, patienceMs) - (now - asked), ends - now);
      if (pause > 0) await sleep(pause, signal);
    }
    return held;
  }

  /** Asks, as often as is safe and allowed. */
  exchange(request: Request): Promise<Answer> {
    return exchange(this.#transport, request, this.#limits);
  }

  /** Asks for success, and throws for anything else. */
  async ask(request: Request): Promise<Reply> {
    return this.success(await this.exchange(request));
  }

  /** Asks for a JSON object. */
  async object(request: Request): Promise<Found> {
    return this.objectIn(await this.exchange(request));
  }

  /** The JSON object in an answer. */
  objectIn(answer: Answer): Found {
    const { json } = this.success(answer);
    if (isObject(json)) return json;
    throw new UnreachableError(`what answered at ${this.#where} is not Checkrein: no JSON object`);
  }

  /** All that is under `key`, page by page, of the list at `path`. */
  async pages(path: string, key: string, query: Record<string, string | undefined> = {}): Promise<Found[]> {
    const found: Found[] = [];
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) asked.set(name, value);
    for (;;) {
      const page = await this.object({ method: "GET", path: asked.size > 0 ? `${path}?${asked}` : path });
      if (!Array.isArray(page[key])) {
        throw new UnreachableError(`what answered at ${this.#where} is not Checkrein: no \`${key}\``);
      }
      found.push(...objects(page[key]));
      const cursor = page["next_cursor"];
      if (typeof cursor !== "string" || cursor === asked.get("cursor")) return found;
      asked.set("cursor", cursor);
    }
  }

  /** The answer, if it is success; throws for anything else. */
  success(answer: Answer): Reply {
    throwFor(answer);
    if (answer instanceof Reply && answer.status >= 200 && answer.status < 300) return answer;
    const cause = answer instanceof Failure ? answer.cause : refusal(answer);
    throw new UnreachableError(`Checkrein at ${this.#where} could not be asked: ${cause}`);
  }

  #undecided(cause: string): Decision {
    const reason =
      `Checkrein at ${this.#where} could not decide (${cause}), so this does not run. ` +
      "Start it with `checkrein serve`, or set CHECKREIN_URL to where it runs.";
    return new Decision({ verdict: "block", reason, degraded: true });
  }

  #unasked(body: Body, cause: string): Decision {
    const setting = this.#onUnreachable;
    if (setting !== "allow" && !(setting === "allow_reads" && isRead(body))) return this.#undecided(cause);
    const reason =
      `Checkrein at ${this.#where} could not decide (${cause}); this runs unchecked, ` +
      `because onUnreachable is "${setting}".`;
    return new Decision({ verdict: "allow", reason, degraded: true });
  }
}

/** A new idempotency key. It starts with the time, because keys that are close in time are then close in the
 * server's index, which is what keeps that small and fast. */
export function newKey(): string {
  const random = globalThis.crypto.randomUUID().replaceAll("-", "");
  return Date.now().toString(16).padStart(12, "0") + random.slice(0, 20);
}

/** What was given of `fields`, as JSON. */
export function given(fields: object): Body {
  const there = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(there.map(([name, value]) => [name, exact(value, name)]));
}

/** The body of a check: what was given, as JSON, with an idempotency key. */
export function checkBody(fields: object): Body {
  const body = given(fields);
  if ("action" in body === "tool" in body) {
    throw new BadRequestError(
      "a check is either explicit (action, resource, payload) or raw (tool, arguments); " +
        "give exactly one of action and tool",
    );
  }
  return { idempotency_key: newKey(), ...body };
}

/** Whether two bodies ask about the same, in whichever run. */
export function sameAction(one: Body, other: Body): boolean {
  const plain = (body: Body): string => JSON.stringify({ ...body, idempotency_key: null, session: null });
  return plain(one) === plain(other);
}

/** Whether the SDK itself can tell that nothing is changed and nothing sent. */
function isRead(body: Body): boolean {
  const resource = body["resource"];
  return (
    READS.has(body["action"] ?? null) &&
    typeof resource === "string" &&
    PLAIN_RESOURCE.test(resource) &&
    !["tool", "arguments", "statement", "params", "where"].some((name) => name in body) &&
    !hasText(body["payload"] ?? null)
  );
}

function hasText(value: Json): boolean {
  // A text may be a statement, a method or an address, which only the server can tell.
  return typeof value === "object" && value !== null
    ? Object.values(value).some(hasText)
    : typeof value === "string";
}

/**
 * The decision in an answer, or the cause why there is none.
 *
 * A verdict that is not exactly `allow` is never loosened, however little else was understood.
 */
export function readDecision(answer: Answer, expected?: string): Decision | string {
  const fields = readFields(answer, expected);
  return typeof fields === "string" ? fields : new Decision(fields);
}

function readFields(answer: Answer, expected: string | undefined): DecisionFields | string {
  if (answer instanceof Failure) return answer.cause;
  if (answer.status !== 200) return refusal(answer);
  const found = answer.json;
  if (found === AMBIGUOUS) {
    return "its answer has a key twice or a number that is none, so nobody knows what it says";
  }
  if (!isObject(found) || !Object.hasOwn(found, "verdict")) {
    return "what answered there does not speak Checkrein's protocol";
  }
  const reason = word(found["reason"]);
  const id = word(found["id"]);
  const complete = reason !== undefined && id !== undefined && (expected === undefined || id === expected);
  const verdict = known(found["verdict"]);
  if (verdict === "allow" && !complete) return "its answer is incomplete or belongs to another check";
  const unknown =
    `the server answered with the verdict ${JSON.stringify(found["verdict"]).slice(0, 40)}, which this version of ` +
    "the SDK does not know and takes for a block; upgrade the package `checkrein`";
  return {
    verdict: verdict ?? "block",
    reason:
      verdict === undefined ? unknown : (reason ?? `the server's verdict is ${verdict}; it gave no reason`),
    id: id ?? expected,
    policies: objects(found["policies"]).map(policy),
    category: optional(found["category"]),
    environment: optional(found["environment"]),
    blastRadius: isObject(found["blast_radius"]) ? blastRadius(found["blast_radius"]) : undefined,
    drift: isObject(found["drift"]) ? drift(found["drift"]) : undefined,
    breaker: optional(found["breaker"]) ?? "closed",
    approvalId: optional(found["approval_id"]),
    snapshotId: optional(found["snapshot_id"]),
    usedBy: optional(found["used_by"]),
    loggedAt: optional(found["logged_at"]),
    degraded: !complete,
    raw: found,
  };
}

function known(verdict: unknown): Verdict | undefined {
  return verdict === "allow" || verdict === "hold" || verdict === "block" ? verdict : undefined;
}

function word(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A text, or nothing. */
export function optional(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** A text, or an empty one. */
export function text(value: unknown): string {
  return optional(value) ?? "";
}

/** A whole number without rounding, or nothing. */
export function count(value: unknown): number | null {
  return Number.isSafeInteger(value) ? (value as number) : null;
}

/** The objects of a list. */
export function objects(value: unknown): Found[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** Whether `value` is a JSON object. */
export function isObject(value: unknown): value is Found {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function policy(found: Found): MatchedPolicy {
  return {
    name: text(found["name"]),
    rule: text(found["rule"]),
    mode: text(found["mode"]),
    reason: text(found["reason"]),
    exemptedBy: optional(found["exempted_by"]),
  };
}

function blastRadius(found: Found): BlastRadius {
  return {
    records: count(found["records"]),
    systems: count(found["systems"]),
    recipients: count(found["recipients"]),
    basis: text(found["basis"]),
    declared: count(found["declared"]),
    understated: found["understated"] === true,
    declaredIds: found["declared_ids"] === true,
    byResource: objects(found["by_resource"]).map((r) => ({
      resource: text(r["resource"]),
      records: count(r["records"]),
    })),
  };
}

function drift(found: Found): Drift {
  return {
    score: figure(found["score"]),
    severity: text(found["severity"]),
    channel: text(found["channel"]),
    reason: text(found["reason"]),
    expected: figure(found["expected"]),
    seen: figure(found["seen"]),
  };
}

function figure(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

/** `name` as one segment of a path. */
export function segment(name: unknown): string {
  if (typeof name !== "string" || name === "" || name === "." || name === ".." || !name.isWellFormed()) {
    throw new BadRequestError(`${JSON.stringify(name)} is not a name`);
  }
  return encodeURIComponent(name);
}

/** Throws what an answer of 4xx means. */
export function throwFor(answer: Answer): void {
  if (answer instanceof Reply && answer.status >= 400 && answer.status < 500) throw errorOf(answer);
}

/** Why an answer is no decision, in a few words. */
function refusal(answer: Reply): string {
  if (answer.status >= 300 && answer.status < 400) {
    return `it answered ${answer.status}, a redirect, which is not followed`;
  }
  const told = toldBy(answer);
  const busy = RETRIED.has(answer.status) ? " after several tries" : "";
  return `it answered ${answer.status}${busy}${told === undefined ? "" : `: ${told.slice(0, 300)}`}`;
}

function toldBy(answer: Reply): string | undefined {
  const problem = isObject(answer.json) ? answer.json : {};
  return word(problem["detail"]) ?? word(problem["title"]);
}

const ERRORS: Readonly<Record<number, typeof CheckreinError>> = {
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  429: RateLimitedError,
};

function errorOf(answer: Reply): CheckreinError {
  const { status } = answer;
  const problem = isObject(answer.json) ? answer.json : {};
  const problems = objects(problem["errors"]);
  const lines = [
    toldBy(answer) ?? `the server answered ${status}`,
    ...problems.map((p) => `- ${oneLine(p)}`),
  ];
  if (status === 401) lines.push("The key comes from `apiKey`, else from CHECKREIN_API_KEY.");
  const is = (code: number, type: string): boolean => status === code && text(problem["type"]).endsWith(type);
  let kind = ERRORS[status] ?? BadRequestError;
  if (is(422, "/statement-failed")) kind = StatementError;
  if (is(409, "/rollback-conflicts")) kind = RollbackConflictError;
  const error = new kind(lines.join("\n"));
  if (error instanceof RollbackConflictError) {
    error.conflicts = objects(problem["conflicts"]);
    error.conflictCount = count(problem["conflict_count"]) ?? error.conflicts.length;
    error.digest = isObject(problem["plan"]) ? optional(problem["plan"]["digest"]) : undefined;
  }
  return Object.assign(error, {
    status,
    problems,
    type: optional(problem["type"]),
    requestId: optional(answer.headers["x-request-id"]),
  });
}

function oneLine(problem: Found): string {
  const message = optional(problem["message"]);
  if (message === undefined) {
    return Object.entries(problem)
      .map(([key, value]) => `${key}: ${String(value)}`)
      .join(", ");
  }
  const where = ["subject", "path"].flatMap((key) => word(problem[key]) ?? []).join(" ");
  return where === "" ? message : `${where}: ${message}`;
}
