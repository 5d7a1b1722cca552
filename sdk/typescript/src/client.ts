/** The client. */
import { inspect } from "node:util";
import { type Call, type CheckFields, type GuardOptions, planned, reporting, stillTheSame } from "./guard.js";
import { Approvals, Grants, Policies } from "./management.js";
import { type Body, checkBody, given, newKey, type OnUnreachable, Protocol, segment } from "./protocol.js";
import {
  CheckResult,
  Decision,
  type DecisionFields,
  type OutcomeDetails,
  type Status,
  WAIT_MS,
  type WaitOptions,
} from "./result.js";
import { BadRequestError } from "./errors.js";
import { serverUrl, Transport } from "./transport.js";
import {
  Execution,
  type OnConflict,
  type RollbackResult,
  type Snapshot,
  type SnapshotLike,
  Undo,
} from "./undo.js";

const DEFAULT_URL = "http://127.0.0.1:7070";
const ON_UNREACHABLE: readonly OnUnreachable[] = ["block", "allow_reads", "allow"];
const STATUSES: readonly Status[] = ["ok", "error", "unknown"];
const ERROR_TEXT = 2000;
/** Milliseconds that a database may take for an execution. */
const EXECUTION_MS = 60_000;
/** Milliseconds that taking, sealing or rolling back a snapshot may take. */
const SNAPSHOT_MS = 600_000;

/** Settings of a client. */
export interface CheckreinOptions {
  /** Where the server is; by default CHECKREIN_URL, else `http://127.0.0.1:7070`. */
  url?: string | undefined;
  /** The key; by default CHECKREIN_API_KEY. */
  apiKey?: string | undefined;
  /** Who acts; by default CHECKREIN_AGENT. Needed only where the key does not say it. */
  agent?: string | undefined;
  /** Names the run on record. */
  session?: string | undefined;
  /** Milliseconds for one try, over 0 and at most 60,000; 2,000 by default. */
  timeoutMs?: number;
  /** What a check answers when the server cannot be asked; `"block"` by default. */
  onUnreachable?: OnUnreachable;
  /** Tries after the first, 0 to 10, all with one idempotency key; 2 by default. */
  retries?: number;
  /** Takes warnings, each one line; `console.warn` by default. */
  log?: (line: string) => void;
}

/** What a check may have besides its fields. */
export interface CheckOptions extends CheckFields {
  /** The same key again: the same answer, recorded once. */
  idempotencyKey?: string | undefined;
  /** Where the caller stands in its own trace (W3C Trace Context); by default OpenTelemetry's current span. */
  traceparent?: string | undefined;
  /** Ends the asking: the promise is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** What Checkrein is asked to run. */
export interface ExecuteOptions {
  /** The target's name, as configured. */
  target: string;
  /** One SQL statement, with its `params`; or several `statements`, all or none. */
  statement?: string | undefined;
  params?: readonly unknown[] | undefined;
  statements?: readonly (string | { statement: string; params?: readonly unknown[] })[] | undefined;
  /** How many records the caller thinks that it changes. */
  recordCount?: number | undefined;
  agent?: string | undefined;
  session?: string | undefined;
  idempotencyKey?: string | undefined;
  /** Where the caller stands in its own trace (W3C Trace Context); by default OpenTelemetry's current span. */
  traceparent?: string | undefined;
  /** Milliseconds that the database may take, 60,000 by default. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

/** Which records to keep. */
export interface SnapshotOptions {
  resource: string;
  recordIds?: readonly (string | number)[] | undefined;
  /** Column to value, or to a list of values. */
  where?: Readonly<Record<string, unknown>> | undefined;
  /** SQL whose records are meant, with its `params`. */
  statement?: string | undefined;
  params?: readonly unknown[] | undefined;
  /** With `delete`, also the records that would follow through foreign keys. */
  action?: "update" | "delete" | undefined;
  agent?: string | undefined;
  session?: string | undefined;
  /** Milliseconds that it may take, 600,000 by default. */
  timeoutMs?: number;
}

/** A function that is checked before each call. */
export type Guarded<A extends unknown[], R> = (...args: A) => Promise<Awaited<R>>;

/** Asks Checkrein. It keeps connections open between calls; any number of calls may share one. */
export class Checkrein {
  readonly url: string;
  readonly agent: string | undefined;
  readonly session: string | undefined;
  /** The policies; an admin's key is needed to change them. */
  readonly policies: Policies;
  /** Answers to holds; an operator's key is needed. */
  readonly approvals: Approvals;
  /** A yes beforehand, for a while. */
  readonly grants: Grants;
  /** For the adapters of this package. */
  readonly protocol: Protocol;
  readonly #transport: Transport;
  readonly #undo: Undo;
  readonly #log: (line: string) => void;

  /** Sets up a client; nothing is sent yet. Throws `TypeError` for settings that make no sense. */
  constructor(options: CheckreinOptions = {}) {
    const { timeoutMs = 2000, onUnreachable = "block", retries = 2, log = console.warn, session } = options;
    if (!ON_UNREACHABLE.includes(onUnreachable)) {
      throw new TypeError(
        `onUnreachable must be one of ${ON_UNREACHABLE.join(", ")}, not ${inspect(onUnreachable)}`,
      );
    }
    if (!(timeoutMs > 0 && timeoutMs <= 60_000)) {
      throw new TypeError(`timeoutMs must be over 0 and at most 60000 milliseconds, not ${timeoutMs}`);
    }
    if (!(Number.isInteger(retries) && retries >= 0 && retries <= 10)) {
      throw new TypeError(`retries must be 0 to 10, not ${retries}`);
    }
    const { CHECKREIN_URL, CHECKREIN_API_KEY, CHECKREIN_AGENT } = process.env;
    const url = serverUrl(options.url || CHECKREIN_URL || DEFAULT_URL);
    this.url = url.href.replace(/\/+$/, "");
    this.agent = options.agent || CHECKREIN_AGENT || undefined;
    this.session = session;
    this.#log = log;
    this.#transport = new Transport(url, options.apiKey || CHECKREIN_API_KEY, timeoutMs);
    this.protocol = new Protocol(this.#transport, this.url, { timeoutMs, retries }, onUnreachable);
    this.#undo = new Undo(this.protocol);
    this.policies = new Policies(this.protocol);
    this.approvals = new Approvals(this.protocol);
    this.grants = new Grants(this.protocol);
  }

  /**
   * Asks whether an action may run, before it runs.
   *
   * Explicit form: `action`, `resource`, `payload`; raw form: `tool`, `arguments`. Either may have `statement` with
   * `params` (SQL), and `recordIds` or `where` (column to value), which Checkrein counts itself on a connected target.
   *
   * When the server cannot be asked this does not throw: it answers as `onUnreachable` says, with `degraded` set. It
   * throws `AuthenticationError`, `PermissionDeniedError` or `BadRequestError` when the key or the request is wrong.
   */
  check(options: CheckOptions): Promise<CheckResult> {
    const asked = async (): Promise<CheckResult> => this.#check(this.checkBody(options), options.signal);
    return notYet(asked(), "check");
  }

  /**
   * Makes a function that runs only if it may: it checks, runs `fn`, and reports the outcome.
   *
   * Without options it asks in the raw form, with the function's name and the one object that it is called with, of
   * which `fn` gets the copy that was checked. With `action` and `resource` it asks in the explicit form; every field
   * but `action` and `tool` may be a function of the call's arguments.
   *
   * A block throws `PolicyViolationError`. A hold is waited for up to `waitMs`, and throws `ApprovalRequiredError` when
   * it is not settled by then.
   */
  guard<F extends (...args: never[]) => unknown>(
    fn: F,
    options: GuardOptions<Parameters<F>> = {},
  ): Guarded<Parameters<F>, ReturnType<F>> {
    const plan = planned(fn, options as GuardOptions<never[]>);
    const waitMs = milliseconds(options.waitMs ?? 0, "waitMs");
    // eslint-disable-next-line @typescript-eslint/no-this-alias
    const client = this;
    const guarded = async function (this: unknown, ...args: Parameters<F>): Promise<unknown> {
      return client.#guarded(plan(this, args), waitMs);
    };
    return Object.defineProperty(guarded, "name", { value: fn.name }) as Guarded<
      Parameters<F>,
      ReturnType<F>
    >;
  }

  /**
   * Checks one action, runs `work` if it may, and reports the outcome; throws as a guard does.
   *
   * `work` may report it itself, to tell more: `check.outcome("ok", { records: 7 })`.
   */
  async run<T>(
    options: CheckFields & { waitMs?: number },
    work: (check: CheckResult) => T,
  ): Promise<Awaited<T>> {
    const { waitMs = 0, ...fields } = options;
    const call = { describe: () => fields, run: work };
    return (await this.#guarded(call, milliseconds(waitMs, "waitMs"))) as Awaited<T>;
  }

  /**
   * Has Checkrein run SQL on a connected target: measured, judged, kept, then committed.
   *
   * In one transaction: what the database says it changed (cascades and triggers too) is what the policies see. Blocked
   * or held: rolled back, and `executed` is false.
   *
   * Throws `StatementError` when the database refuses the SQL, and `UnreachableError` when nobody can tell whether it
   * ran; asking again with the same `idempotencyKey` then never runs it twice.
   */
  execute(options: ExecuteOptions): Promise<Execution> {
    const asked = async (): Promise<Execution> => {
      const { statement, params, statements, recordCount, idempotencyKey, target, signal } = options;
      if ((statement === undefined) === (statements === undefined)) {
        throw new BadRequestError("give exactly one of statement and statements");
      }
      const body = given({
        ...this.#whoever(options),
        target,
        statement,
        params,
        // A text alone is a statement without parameters.
        statements: statements?.map((one) => (typeof one === "string" ? { statement: one } : one)),
        record_count: recordCount,
        idempotency_key: idempotencyKey ?? newKey(),
        traceparent: options.traceparent,
      });
      return this.#execute(body, milliseconds(options.timeoutMs ?? EXECUTION_MS, "timeoutMs"), signal);
    };
    return notYet(asked(), "execute");
  }

  /**
   * Keeps records as they are now, to put them back later.
   *
   * Call `seal` once the action has run, so that a rollback can tell its work from somebody else's.
   */
  async snapshot(options: SnapshotOptions): Promise<Snapshot> {
    const { resource, recordIds, where, statement, params, action, timeoutMs = SNAPSHOT_MS } = options;
    const fields = { resource, record_ids: recordIds, where, statement, params, action };
    const body = given({ ...this.#whoever(options), ...fields });
    return this.#undo.take(body, milliseconds(timeoutMs, "timeoutMs"));
  }

  /** Records what the action left of the snapshot's records. Doing it again changes nothing. */
  async seal(snapshot: SnapshotLike, options: { timeoutMs?: number } = {}): Promise<Snapshot> {
    return this.#undo.seal(snapshot, milliseconds(options.timeoutMs ?? SNAPSHOT_MS, "timeoutMs"));
  }

  /**
   * Puts the records of a snapshot back, all or none; an operator's key is needed.
   *
   * `dryRun` only plans. Throws `RollbackConflictError` when somebody has changed records since, or the snapshot is not
   * sealed; `onConflict` `"skip"` leaves such records, `"force"` overwrites. With `planDigest`, the `digest` of a plan or of
   * such an error that a person has looked at, it only takes place while the conflicts are those.
   */
  async rollback(
    snapshot: SnapshotLike,
    options: { dryRun?: boolean; onConflict?: OnConflict; planDigest?: string; timeoutMs?: number } = {},
  ): Promise<RollbackResult> {
    const { dryRun = false, onConflict = "refuse", planDigest, timeoutMs = SNAPSHOT_MS } = options;
    const patienceMs = milliseconds(timeoutMs, "timeoutMs");
    return this.#undo.rollback(snapshot, dryRun, onConflict, planDigest, patienceMs);
  }

  /** One snapshot. */
  async getSnapshot(snapshot: SnapshotLike): Promise<Snapshot> {
    return this.#undo.get(snapshot);
  }

  /** Snapshots, newest first; an agent's key sees its own agent's. */
  async listSnapshots(options: { agent?: string; target?: string } = {}): Promise<Snapshot[]> {
    return this.#undo.list({ agent: options.agent, target: options.target });
  }

  /** Closes the connections; the client cannot be used after. */
  close(): void {
    this.#transport.close();
  }

  /** The body of a check, for the adapters of this package. */
  checkBody(options: CheckOptions): Body {
    const { recordIds, idempotencyKey, signal: _, agent: _agent, session: _session, ...same } = options;
    const own = { ...this.#whoever(options), record_ids: recordIds, idempotency_key: idempotencyKey };
    return checkBody({ ...same, ...own });
  }

  /** A decision as a result of this client, for the adapters of this package. */
  result(decision: DecisionFields): CheckResult {
    if (decision.degraded) this.warn(`${decision.verdict}: ${decision.reason}`);
    return new CheckResult(decision, {
      wait: async (held, options) => {
        const timeoutMs = milliseconds(options.timeoutMs ?? WAIT_MS, "timeoutMs");
        if (options.withdraw !== true) {
          return this.result(await this.protocol.wait(held, timeoutMs, options.signal));
        }
        let settled: Decision;
        try {
          settled = await this.protocol.wait(held, timeoutMs, options.signal);
        } catch (error) {
          await this.#withdraw(held);
          throw error;
        }
        return this.result(settled.held ? await this.#withdraw(held) : settled);
      },
      report: (checked, status, details) => this.#report(checked, status, details),
    });
  }

  /** Logs a line, in which nothing can look like another line. */
  warn(line: string): void {
    // eslint-disable-next-line no-control-regex
    this.#log(`checkrein: ${line.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ")}`);
  }

  async #check(body: Body, signal?: AbortSignal): Promise<CheckResult> {
    return this.result(await this.protocol.check(body, signal));
  }

  async #guarded(call: Call, waitMs: number): Promise<unknown> {
    const body = this.checkBody(call.describe());
    let result = await this.#check(body);
    if (result.held && waitMs > 0) result = await result.wait({ timeoutMs: waitMs });
    stillTheSame(body, this.checkBody(call.describe()), result);
    result.throwIfBlocked();
    return reporting(result, () => call.run(result));
  }

  async #execute(body: Body, patienceMs: number, signal?: AbortSignal): Promise<Execution> {
    const decision = await this.#undo.execute(body, patienceMs, signal);
    const whenApproved = async (held: Execution, options: WaitOptions): Promise<Execution> => {
      const timeoutMs = milliseconds(options.timeoutMs ?? WAIT_MS, "timeoutMs");
      const settled = await this.protocol.wait(held, timeoutMs, options.signal);
      if (settled.held) return held;
      if (settled.blocked) return new Execution(new Decision({ ...held, ...settled }), whenApproved);
      return this.#execute({ ...body, idempotency_key: newKey() }, patienceMs, options.signal);
    };
    return new Execution(decision, whenApproved);
  }

  async #withdraw(held: Decision): Promise<DecisionFields> {
    try {
      const settled = await this.protocol.object({
        method: "POST",
        path: `/v1/checks/${segment(held.id)}/withdraw`,
      });
      return { ...held, verdict: "block", reason: String(settled["reason"] ?? "withdrawn"), raw: settled };
    } catch (error) {
      this.warn(`${held.id} could not be withdrawn: ${String(error)}`);
      return held;
    }
  }

  async #report(checked: Decision, status: Status, details: OutcomeDetails): Promise<boolean> {
    if (!STATUSES.includes(status)) {
      throw new TypeError(`an outcome is one of ${STATUSES.join(", ")}, not ${inspect(status)}`);
    }
    // What was never asked about cannot be reported on.
    if (checked.id === undefined) return false;
    try {
      const error = details.error?.slice(0, ERROR_TEXT).toWellFormed();
      const body = given({ status, records: details.records, error });
      await this.protocol.ask({ method: "POST", path: `/v1/checks/${segment(checked.id)}/outcome`, body });
      return true;
    } catch (error) {
      this.warn(`the outcome ${status} of ${checked.id} is not on record: ${String(error)}`);
      return false;
    }
  }

  #whoever(options: { agent?: string | undefined; session?: string | undefined }): CheckFields {
    return { agent: options.agent ?? this.agent, session: options.session ?? this.session };
  }
}

/** `value`, if it is a time. */
export function milliseconds(value: number, name: string): number {
  if (typeof value === "number" && value >= 0) return value;
  throw new TypeError(`${name} must be milliseconds, not ${inspect(value)}`);
}

/** `promise`, which throws when it is read as if it were its result: without `await`, nothing would be blocked. */
function notYet<T>(promise: Promise<T>, method: string): Promise<T> {
  const forgotten = {
    get(): never {
      promise.catch(() => {});
      throw new TypeError(
        `write \`await client.${method}(…)\`: this is the promise of an answer, not the answer`,
      );
    },
  };
  const names = ["allowed", "blocked", "held", "verdict", "executed"];
  return Object.defineProperties(promise, Object.fromEntries(names.map((name) => [name, forgotten])));
}
