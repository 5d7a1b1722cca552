/** Guards: check, run, report. A guarded function runs only after its own check was allowed. */
import { types } from "node:util";
import { BadRequestError, PolicyViolationError } from "./errors.js";
import { exact, type Json } from "./exact.js";
import { type Body, sameAction } from "./protocol.js";
import type { CheckResult, OutcomeDetails, Status } from "./result.js";

/** The fields of a check that a client knows, in its words. */
export interface CheckFields {
  /** Explicit form: what is done, e.g. `update`. */
  action?: string | undefined;
  /** Explicit form: what it is done to, `<target>.<path>` or a URL. */
  resource?: string | undefined;
  /** Explicit form: what describes the action; `record_count` in it is the declared count. */
  payload?: Readonly<Record<string, unknown>> | undefined;
  /** Raw form: the tool's name. */
  tool?: string | undefined;
  /** Raw form: the tool's arguments. */
  arguments?: Readonly<Record<string, unknown>> | undefined;
  /** The SQL that is about to run. */
  statement?: string | undefined;
  /** Parameters of `statement`. */
  params?: readonly unknown[] | undefined;
  /** The records affected, which Checkrein counts itself on a connected target. */
  recordIds?: readonly (string | number)[] | undefined;
  /** In their place: column to value, or to a list of values. */
  where?: Readonly<Record<string, unknown>> | undefined;
  /** Who acts; by default the client's agent. */
  agent?: string | undefined;
  /** The run that this belongs to; by default the client's session. */
  session?: string | undefined;
}

/** Settings of a guard: the fields of a check, each as it is or as a function of the call's arguments. */
export type GuardOptions<A extends unknown[]> = {
  [F in keyof CheckFields]: F extends "action" | "tool"
    ? CheckFields[F]
    : CheckFields[F] | ((...args: A) => CheckFields[F]);
} & {
  /** Milliseconds to wait for a person when the call is held; none by default. */
  waitMs?: number;
};

/** How one call is asked about and run. */
export interface Call {
  /** The fields of the check; asked again before it runs, to see that nothing has changed. */
  describe(): CheckFields;
  /** What runs. */
  run(check: CheckResult): unknown;
}

/** How one call of `fn`, with these arguments, is asked about and run. Throws what keeps it from running. */
export type Plan = (self: unknown, args: unknown[]) => Call;

/** How calls of `fn` are asked about. Throws `TypeError` for what no check can be made before. */
export function planned(fn: (...args: never[]) => unknown, options: GuardOptions<never[]> = {}): Plan {
  checkable(fn);
  const { waitMs: _, ...fields } = options;
  const call = (self: unknown, args: readonly unknown[]): unknown => Reflect.apply(fn, self, args);
  if (fields.action !== undefined && fields.tool !== undefined) {
    throw new TypeError("give a guard `action` (explicit form) or `tool` (raw form), not both");
  }
  const describe = (args: unknown[]): CheckFields =>
    Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [
        name,
        typeof value === "function" ? Reflect.apply(value, undefined, args) : value,
      ]),
    );
  if (fields.action !== undefined || fields.arguments !== undefined) {
    const name = fields.action === undefined ? { tool: fields.tool ?? toolName(fn) } : {};
    return (self, args) => ({
      describe: () => ({ ...describe(args), ...name }),
      run: () => call(self, args),
    });
  }
  const tool = fields.tool ?? toolName(fn);
  if (fn.length > 1) throw new TypeError(severalArguments(tool));
  return (self, args) => {
    // It runs with the copy that was checked, so what becomes of the caller's own is no matter.
    const checked = argumentsOf(tool, args);
    return {
      describe: () => ({ ...describe(args), tool, arguments: checked }),
      run: () => call(self, args.length === 0 ? [] : [checked]),
    };
  };
}

/** A copy of the one object that a tool is called with. */
export function argumentsOf(tool: string, args: readonly unknown[]): { [key: string]: Json } {
  if (args.length > 1) throw new BadRequestError(severalArguments(tool));
  const found = args.length === 0 ? {} : exact(args[0], "arguments");
  if (typeof found === "object" && found !== null && !Array.isArray(found)) return found;
  throw new BadRequestError(severalArguments(tool));
}

function severalArguments(tool: string): string {
  return (
    `${tool} takes something else than one object, so nobody knows what its arguments are called; ` +
    "name them, as in guard(fn, { arguments: (ids, reason) => ({ ids, reason }) })"
  );
}

/** Throws `TypeError` where `fn` is nothing that a check can be made before. */
function checkable(fn: unknown): void {
  if (typeof fn !== "function" || /^class\b/.test(Function.prototype.toString.call(fn))) {
    throw new TypeError(
      `a guard goes around a function, not ${typeof fn === "function" ? "a class" : typeof fn}`,
    );
  }
  if (isBound(fn)) {
    throw new TypeError(
      "a bound function hides what it is bound to; guard (args) => object.method(args), and say `tool`",
    );
  }
  const made = Object.getPrototypeOf(fn) as object;
  if (made === GENERATOR || made === ASYNC_GENERATOR) {
    throw new TypeError(
      `${fn.name} is a generator: it runs piece by piece, whenever it is iterated. ` +
        "Guard the function that consumes it",
    );
  }
}

/** Whether `fn` comes of `bind`, which leaves it no source, even where somebody has given it another name. */
function isBound(fn: { readonly name: string }): boolean {
  const nameless = Function.prototype.toString.call(fn) === "function () { [native code] }";
  return fn.name.startsWith("bound ") || (nameless && !types.isProxy(fn));
}

const GENERATOR: unknown = Object.getPrototypeOf(function* () {});
const ASYNC_GENERATOR: unknown = Object.getPrototypeOf(async function* () {});

/** The name under which `fn` is asked about. */
export function toolName(fn: (...args: never[]) => unknown): string {
  checkable(fn);
  if (fn.name === "") throw new TypeError("this function has no name; say which tool (or action) it is");
  return fn.name;
}

/** Whether nothing has changed since `body` was asked about. Throws where it has. */
export function stillTheSame(body: Body, again: Body, result: CheckResult): void {
  if (result.allowed && !sameAction(body, again)) {
    throw new PolicyViolationError(
      "the action changed while it was being checked, so it does not run; ask again",
      result,
    );
  }
}

/**
 * Runs what may run, and reports its outcome, unless it has done so itself. When `signal` is aborted, nobody waits any
 * more for what it comes to: that is unknown.
 */
export async function reporting<T>(
  result: CheckResult,
  run: () => T,
  signal?: AbortSignal,
): Promise<Awaited<T>> {
  const report = async (status: Status, details?: OutcomeDetails): Promise<void> => {
    if (!result.reported) await result.outcome(status, details);
  };
  const interrupted = (): void => void report("unknown", { error: failed(signal?.reason)[1].error });
  signal?.addEventListener("abort", interrupted, { once: true });
  try {
    const value = await run();
    await report(isUnfinished(value) ? "unknown" : "ok");
    return value;
  } catch (error) {
    await report(...failed(error));
    throw error;
  } finally {
    signal?.removeEventListener("abort", interrupted);
  }
}

/** What to report of a call that threw `error`. */
export function failed(error: unknown): [Status, OutcomeDetails] {
  const told = error instanceof Error ? `${nameOf(error)}: ${error.message}` : "not an Error was thrown";
  return [mayHaveRun(error) ? "unknown" : "error", { error: told }];
}

/** Whether `error` leaves open what happened: what timed out or was interrupted may have done anything. */
function mayHaveRun(error: unknown): boolean {
  for (let depth = 0; error instanceof Error && depth < 8; depth++, error = error.cause) {
    const code: unknown = "code" in error ? error.code : "";
    if (/time_?d?_?out|abort/i.test(`${nameOf(error)} ${String(code)}`)) return true;
  }
  return false;
}

// Libraries have time-outs of their own, that share no class, and some do not set `name`.
function nameOf(error: Error): string {
  return error.name === "Error" ? (error.constructor?.name ?? "Error") : String(error.name);
}

/** Whether `value` has yet to run or to arrive. */
function isUnfinished(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Symbol.asyncIterator in value || ("next" in value && typeof value.next === "function");
}
