/**
 * What every adapter stands on: ask about a tool call, word a refusal for the model, report what came of it.
 *
 * An adapter calls `Gate.ask`, and runs the tool only if the answer is `allowed`, with the arguments that were
 * checked, inside `reporting`. `ask` does not throw for a check that went wrong: some frameworks swallow what a hook
 * throws and run the tool.
 */
import { Checkrein, milliseconds } from "./client.js";
import { ApprovalRequiredError, PolicyViolationError } from "./errors.js";
import { exact, type Json } from "./exact.js";
import { type Body, sameAction } from "./protocol.js";
import { type CheckResult, Decision, WAIT_MS } from "./result.js";

/** Settings of an adapter. */
export interface GateOptions {
  /** Names the run on record; by default the client's session, else one that the adapter finds. */
  session?: string | undefined;
  /** Milliseconds that a person has to answer a hold before the model is told that nobody has; 300,000 by default. */
  waitMs?: number | undefined;
}

/** A tool call, as a framework has it. */
export interface ToolCall {
  tool: string;
  /** What the tool is to run with. */
  input: unknown;
  /** What the check is told in its place, where the tool makes more of it, such as defaults. */
  told?: unknown;
  session?: string | undefined;
  /** The framework's name for this call: under it a hold is remembered, so that asking again finds its answer. */
  id?: string | undefined;
  /** Instead of the gate's own. */
  waitMs?: number | undefined;
  /** Ends the asking: it is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Settings of an adapter whose framework can pause a run for a person. */
export interface PausingOptions extends GateOptions {
  /** A held call pauses the run, instead of being waited for; true by default. */
  pause?: boolean | undefined;
}

/** The answer, and a copy of the input that it is about, to run the tool with. */
export interface Asked {
  result: CheckResult;
  input: Json;
}

// Milliseconds to look whether a hold, about which was asked before, has been answered meanwhile.
const LOOK_MS = 1000;
// Milliseconds for which an answer that was asked for ahead is good when the tool is called.
const FRESH_MS = 10_000;
// Holds that are remembered; what is forgotten is asked about anew.
const REMEMBERED = 10_000;

/** What a model reads in the place of a tool's result, when the tool did not run: `String(refusal)`. */
export class Refusal {
  /** The same, as text. */
  readonly text: string;

  /** `decision`: why. */
  constructor(readonly decision: Decision) {
    this.text = told(decision);
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

/** Asks about the tool calls of one agent. */
export class Gate {
  readonly client: Checkrein;
  readonly waitMs: number;
  /** The session that was given, if one was. */
  readonly given: string | undefined;
  readonly #held = new Map<string, { body: Body; decision: Decision }>();
  readonly #ahead = new Map<string, { at: number; tool: string; asked: Asked }>();

  constructor(client: Checkrein, { session, waitMs }: GateOptions = {}) {
    if (!(client instanceof Checkrein)) throw new TypeError("give the adapter a Checkrein");
    this.client = client;
    this.waitMs = milliseconds(waitMs ?? WAIT_MS, "waitMs");
    this.given = session ?? client.session;
  }

  /** Whether the call may run; a hold is waited for. */
  async ask(call: ToolCall): Promise<Asked> {
    try {
      const input = exact(call.input, "arguments");
      const ahead = this.#takeAhead(call, input);
      if (ahead !== undefined) return ahead;
      const decision = await this.#decide(call, input);
      return { result: this.client.result(decision), input };
    } catch (error) {
      call.signal?.throwIfAborted();
      const cause = error instanceof Error ? `${error.name}: ${error.message}` : "not an Error was thrown";
      const reason = `the check of a tool call failed, so it does not run: ${cause}`;
      return { result: this.client.result({ verdict: "block", reason, degraded: true }), input: null };
    }
  }

  /**
   * As `ask`, without waiting, for a framework that wants to know whether to pause before it calls the tool: what
   * settles the call is the answer when it is then asked about, so that one call is one check.
   */
  async askAhead(call: ToolCall): Promise<Asked> {
    const asked = await this.ask({ ...call, waitMs: 0 });
    const now = performance.now();
    for (const [id, { at }] of this.#ahead) {
      if (now - at < FRESH_MS) break;
      this.#ahead.delete(id);
    }
    if (!asked.result.held && call.id) this.#ahead.set(call.id, { at: now, tool: call.tool, asked });
    return asked;
  }

  /** The hold that is remembered under this name of a call. */
  held(call: string): Decision | undefined {
    return this.#held.get(call)?.decision;
  }

  async #decide({ tool, id, signal, ...call }: ToolCall, input: Json): Promise<Decision> {
    const { protocol } = this.client;
    // The raw form has an object; what is none has no better name.
    const told = call.told === undefined ? input : exact(call.told, "arguments");
    const named = typeof told === "object" && told !== null && !Array.isArray(told) ? told : { input: told };
    const body = this.client.checkBody({ tool, arguments: named, session: this.given ?? call.session });
    const before = this.#recall(id, body);
    let decision = before ? await protocol.wait(before, LOOK_MS, signal) : await protocol.check(body, signal);
    const waitMs = call.waitMs ?? this.waitMs;
    if (decision.held && waitMs > 0) decision = await protocol.wait(decision, waitMs, signal);
    if (decision.held && id !== undefined) this.#remember(id, body, decision);
    return decision;
  }

  #takeAhead({ id = "", tool }: ToolCall, input: Json): Asked | undefined {
    const found = this.#ahead.get(id);
    this.#ahead.delete(id);
    const fresh = found !== undefined && performance.now() - found.at < FRESH_MS && found.tool === tool;
    return fresh && JSON.stringify(found.asked.input) === JSON.stringify(input) ? found.asked : undefined;
  }

  #recall(id: string | undefined, body: Body): Decision | undefined {
    if (id === undefined) return undefined;
    const held = this.#held.get(id);
    this.#held.delete(id);
    return held && sameAction(held.body, body) ? held.decision : undefined;
  }

  #remember(id: string, body: Body, decision: Decision): void {
    for (const oldest of this.#held.keys()) {
      if (this.#held.size < REMEMBERED) break;
      this.#held.delete(oldest);
    }
    this.#held.set(id, { body, decision });
  }
}

/** Throws why a tool did not run, in the words of a `Refusal`, for frameworks that tell a model what was thrown. */
export function throwIfRefused(result: CheckResult): void {
  if (!result.blocked) return;
  const kind = result.held ? ApprovalRequiredError : PolicyViolationError;
  throw new kind(String(new Refusal(result)), result);
}

const SESSIONS = new WeakMap<object, string>();

/** A name for the run that `own`, an object, belongs to and no other run does; without one, for this call alone. */
export function sessionOf(own: object | undefined): string {
  const session = (own && SESSIONS.get(own)) ?? newSession();
  if (own) SESSIONS.set(own, session);
  return session;
}

/** A name for a run that has none. */
export function newSession(): string {
  return `run-${globalThis.crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
}

/** A refusal in words that a model can act on: why, and what would be allowed. No internals. */
function told(decision: Decision): string {
  if (decision.degraded || (decision.raw.verdict ?? decision.verdict) !== decision.verdict) {
    // Nobody judged it, or nobody here understands how. The reason is for whoever runs the agent: it has addresses and
    // settings in it.
    return (
      "NOT RUN: this call could not be checked, and nothing runs unchecked. Nothing was changed. " +
      "Do not try to reach the same effect in another way; say that it could not be done now."
    );
  }
  if (decision.held) {
    return (
      `NOT RUN: ${decision.reason} Nobody has approved it yet (${decision.approvalId}). Nothing was ` +
      "changed. Once it is approved, make exactly the same call again; any other is a new question."
    );
  }
  return [
    `NOT RUN: ${decision.reason} Nothing was changed.`,
    ...limits(decision),
    "Do not try to reach the same effect in another way.",
  ].join(" ");
}

const LIMIT = /\b(?:touches|goes to) (an unknown number of|\d+) (\w+?)s?\b[^,]*, over (\d+)/g;

function limits(decision: Decision): string[] {
  const found = new Set<string>();
  for (const policy of decision.policies) {
    if (policy.rule !== "block" || policy.mode !== "enforce" || policy.exemptedBy !== undefined) continue;
    for (const [, count, thing, limit] of policy.reason.matchAll(LIMIT)) {
      found.add(`At most ${limit} ${thing}s at a time would be allowed.`);
      if (!/^\d/.test(count ?? "")) found.add(`Name the ${thing}s, so that they can be counted.`);
    }
  }
  return [...found].sort();
}
