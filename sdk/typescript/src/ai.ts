/**
 * AI SDK (`ai`): tools that run only if they may, and pause the run for a person.
 *
 * The check is in `execute`, since the SDK swallows what its callbacks throw and runs the tool all the same.
 */
import type { Tool, ToolExecutionOptions, ToolSet } from "ai";
import type { Checkrein } from "./client.js";
import { type Asked, Gate, sessionOf, type PausingOptions, throwIfRefused } from "./gate.js";
import { failed, reporting } from "./guard.js";
import type { CheckResult, Decision } from "./result.js";

type Options = ToolExecutionOptions<never>;
type Execute = (input: unknown, options: Options) => unknown;

const GATES = new WeakMap<ToolSet, Gate>();

/**
 * The same tools, of which each that has `execute` runs only if it may; others are as they were.
 *
 * A block is the tool's error, with the reason. A hold pauses the run (a `tool-approval-request` part); `held` tells
 * what it waits for. With `pause: false` a hold is waited for up to `waitMs`. The session is by default the client's,
 * else a new one for each run.
 */
export function checkedTools<T extends ToolSet>(
  tools: T,
  client: Checkrein,
  { pause = true, ...options }: PausingOptions = {},
): T {
  const gate = new Gate(client, pause ? { ...options, waitMs: 0 } : options);
  const checked = Object.fromEntries(
    Object.entries(tools).map(([name, tool]) => [
      name,
      typeof tool.execute === "function" ? checkedTool(name, tool, gate, pause) : tool,
    ]),
  ) as T;
  GATES.set(checked, gate);
  return checked;
}

/**
 * The hold behind a `tool-approval-request` part; `undefined` if Checkrein did not ask for it.
 *
 * Its `approvalId` is what somebody approves in Checkrein. Then answer the part, and run again.
 */
export function held(tools: ToolSet, request: { toolCall: { toolCallId: string } }): Decision | undefined {
  return GATES.get(tools)?.held(request.toolCall.toolCallId);
}

function checkedTool(name: string, tool: Tool, gate: Gate, pause: boolean): Tool {
  const inner = tool.execute as Execute;
  const call = (input: unknown, { toolCallId: id, messages, abortSignal: signal }: Options) => ({
    tool: name,
    input,
    id,
    signal,
    // The calls of a run have its first message in common, and no other run has it.
    session: sessionOf(messages[0]),
  });
  const ask: Ask = async (input, options) => {
    const asked = await gate.ask(call(input, options));
    throwIfRefused(asked.result);
    return asked;
  };
  const execute = Object.getPrototypeOf(inner) === STREAMING ? streaming(inner, ask) : returning(inner, ask);
  const needsApproval = async (input: unknown, options: Options): Promise<boolean> => {
    const own = tool.needsApproval as boolean | ((input: unknown, options: Options) => unknown) | undefined;
    if (typeof own === "function" ? await own(input, options) : own) return true;
    return (await gate.askAhead(call(input, options))).result.held;
  };
  return { ...tool, execute, ...(pause ? { needsApproval } : {}) } as Tool;
}

/** Answers only where the tool may run, with the input that it is to run with. */
type Ask = (input: unknown, options: Options) => Promise<Asked>;
const STREAMING: unknown = Object.getPrototypeOf(async function* () {});

function returning(inner: Execute, ask: Ask): Execute {
  return async (input, options) => {
    const asked = await ask(input, options);
    const run = async (): Promise<unknown> => {
      const value = inner(asked.input, options);
      if (!isIterable(value)) return value;
      // It gives results piece by piece, of which the last is the result.
      let last: unknown;
      for await (const piece of value) last = piece;
      return last;
    };
    return reporting(asked.result, run, options.abortSignal);
  };
}

function streaming(inner: Execute, ask: Ask): Execute {
  return async function* (input, options) {
    const asked = await ask(input, options);
    let outcome: Parameters<CheckResult["outcome"]> = ["unknown"]; // unless it comes to an end
    try {
      yield* inner(asked.input, options) as AsyncIterable<unknown>;
      outcome = ["ok"];
    } catch (error) {
      outcome = failed(error);
      throw error;
    } finally {
      await asked.result.outcome(...outcome);
    }
  };
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
