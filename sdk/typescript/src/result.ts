/** The answer to a check. */
import { ApprovalRequiredError, PolicyViolationError } from "./errors.js";
import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type Verdict = Schemas["Verdict"];
/** What became of an action; `unknown` also where it may have taken effect and nobody can tell. */
export type Status = Schemas["OutcomeStatus"];

/** A policy that matched. */
export interface MatchedPolicy {
  readonly name: string;
  /** `block`, `require_approval`, `alert` or `allow`. */
  readonly rule: string;
  /** `enforce` or `shadow` (reported, without effect). */
  readonly mode: string;
  /** Why it matched, for a person. */
  readonly reason: string;
  /** The `allow` policy that took its effect away. */
  readonly exemptedBy?: string | undefined;
}

/** How much the action affects. `null`: nobody can know, which counts as too many. */
export interface BlastRadius {
  readonly records: number | null;
  readonly systems: number | null;
  readonly recipients: number | null;
  /** `declared`, `counted` or `measured`. */
  readonly basis: string;
  /** The number of records that the caller stated, if it stated one. */
  readonly declared: number | null;
  /** Records by resource, largest first. */
  readonly byResource: readonly { readonly resource: string; readonly records: number | null }[];
  /** The caller stated far fewer records than were counted. */
  readonly understated: boolean;
  /** `declared` is the number of ids that were given: it says nothing about what follows from them. */
  readonly declaredIds: boolean;
}

/** How far the action departs from what its agent normally does. */
export interface Drift {
  /** How rare this is, in powers of ten: 5 to 12. */
  readonly score: number;
  /** `notice`, `warning` or `critical`. */
  readonly severity: string;
  /** `rate`, `burst`, `loop`, `novelty`, `sequence`, `mix`, `records` or `errors`. */
  readonly channel: string;
  /** One sentence for a person. */
  readonly reason: string;
  /** What is normal: a count, or a share for `mix` and `errors`. */
  readonly expected: number;
  /** What was seen instead, in the same unit. */
  readonly seen: number;
}

/** What a decision holds. */
export interface DecisionFields {
  readonly verdict: Verdict;
  /** One sentence for a person: why, and what to do next. */
  readonly reason: string;
  /** `chk_…`; absent when the server could not be asked. */
  readonly id?: string | undefined;
  /** Every policy that matched, those that decided first. */
  readonly policies?: readonly MatchedPolicy[];
  /** `read`, `write`, `delete`, `outbound`, `execute` or `admin`. */
  readonly category?: string | undefined;
  /** `production`, `staging` or `sandbox`. */
  readonly environment?: string | undefined;
  readonly blastRadius?: BlastRadius | undefined;
  /** The departure from what is normal, if it is one that somebody should know of. */
  readonly drift?: Drift | undefined;
  /** `closed`, `open` or `half_open`: the breaker that concerns the agent; absent when the server could not be asked. */
  readonly breaker?: string | undefined;
  /** `apr_…`: the approval that a hold waits for. */
  readonly approvalId?: string | undefined;
  /** `snp_…`: what Checkrein kept of the records, so that they can be rolled back. */
  readonly snapshotId?: string | undefined;
  /** `chk_…`: the other check that used the approval of this hold. That one was let through; this one must not run. */
  readonly usedBy?: string | undefined;
  /** When it was put on record, RFC 3339. */
  readonly loggedAt?: string | undefined;
  /** The server could not be asked or not be understood; `onUnreachable` decided. */
  readonly degraded?: boolean;
  /** The whole answer, as the server sent it. */
  readonly raw?: Partial<Schemas["Decision"]> & Readonly<Record<string, unknown>>;
}

/**
 * Whether the action may run, and why. It is an object, so `if (decision)` is always true: ask `allowed` or
 * `blocked`, which copies of it have too.
 */
export class Decision implements DecisionFields {
  readonly verdict: Verdict;
  readonly reason: string;
  readonly id: string | undefined;
  readonly policies: readonly MatchedPolicy[];
  readonly category: string | undefined;
  readonly environment: string | undefined;
  readonly blastRadius: BlastRadius | undefined;
  readonly drift: Drift | undefined;
  readonly breaker: string | undefined;
  readonly approvalId: string | undefined;
  readonly snapshotId: string | undefined;
  readonly usedBy: string | undefined;
  readonly loggedAt: string | undefined;
  readonly degraded: boolean;
  readonly raw: Partial<Schemas["Decision"]> & Readonly<Record<string, unknown>>;
  /** The action may run. */
  readonly allowed: boolean;
  /** The action must not run, now: it is blocked or held. */
  readonly blocked: boolean;
  /** The action waits for a person's approval; see `wait`. */
  readonly held: boolean;

  constructor(fields: DecisionFields) {
    this.verdict = fields.verdict;
    this.reason = fields.reason;
    this.id = fields.id;
    this.policies = fields.policies ?? [];
    this.category = fields.category;
    this.environment = fields.environment;
    this.blastRadius = fields.blastRadius;
    this.drift = fields.drift;
    this.breaker = fields.breaker;
    this.approvalId = fields.approvalId;
    this.snapshotId = fields.snapshotId;
    this.usedBy = fields.usedBy;
    this.loggedAt = fields.loggedAt;
    this.degraded = fields.degraded ?? false;
    this.raw = fields.raw ?? {};
    this.allowed = fields.verdict === "allow";
    this.blocked = !this.allowed;
    this.held = fields.verdict === "hold";
  }

  /** Throws `ApprovalRequiredError` for a hold, `PolicyViolationError` for a block. */
  throwIfBlocked(): void {
    if (this.held) throw new ApprovalRequiredError(this.reason, this);
    if (this.blocked) throw new PolicyViolationError(this.reason, this);
  }
}

/** Settings of a wait for a person. */
export interface WaitOptions {
  /** Milliseconds to wait, 300,000 by default. */
  timeoutMs?: number;
  /** Ends the wait: it is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
  /**
   * Takes the request for approval back when time is up or the signal ends the wait, so that nobody answers what
   * nobody waits for. Not by default: a hold that was not answered can be waited for again, also by another process
   * that asks for the same action.
   */
  withdraw?: boolean;
}

/** What a person waits for a hold unless told otherwise, in milliseconds. */
export const WAIT_MS = 300_000;

/** What a result asks of the client that it came from. */
export interface Asker {
  wait(held: Decision, options: WaitOptions): Promise<CheckResult>;
  report(checked: Decision, status: Status, details: OutcomeDetails): Promise<boolean>;
}

/** What else is known of an outcome. */
export interface OutcomeDetails {
  /** How many records were really affected. */
  records?: number | undefined;
  error?: string | undefined;
}

/** A decision that can be waited for and reported on. */
export class CheckResult extends Decision {
  readonly #asker: Asker;
  #reported = false;

  /** Made by the client. */
  constructor(fields: DecisionFields, asker: Asker) {
    super(fields);
    this.#asker = asker;
  }

  /** Whether an outcome was given. */
  get reported(): boolean {
    return this.#reported;
  }

  /**
   * Waits for a person to settle a hold.
   *
   * Answers with the decision as it then stands: allowed once approved, blocked once denied or expired, still
   * held (and so still `blocked`) when nobody answered or the server went away.
   */
  async wait(options: WaitOptions = {}): Promise<CheckResult> {
    return this.held && this.id !== undefined ? this.#asker.wait(this, options) : this;
  }

  /**
   * Reports what became of the action.
   *
   * The action is over, so this does not throw when the report cannot be delivered: it logs a warning and
   * answers false.
   */
  async outcome(status: Status, details: OutcomeDetails = {}): Promise<boolean> {
    this.#reported = true;
    return this.#asker.report(this, status, details);
  }
}
