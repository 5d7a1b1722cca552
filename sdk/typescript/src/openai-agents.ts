/**
 * OpenAI Agents SDK (`@openai/agents`): function tools that run only if they may, and pause the run for a person.
 *
 * Not an input guardrail: that is not told what came of the call, and when it throws, the run ends while other tools
 * have run.
 */
import {
  type FunctionTool,
  getCurrentTrace,
  type RunContext,
  type RunToolApprovalItem,
  tool,
} from "@openai/agents";
import type { Checkrein } from "./client.js";
import { Gate, type PausingOptions, Refusal, sessionOf, throwIfRefused } from "./gate.js";
import { reporting } from "./guard.js";
import type { Decision } from "./result.js";

type ToolCallDetails = Parameters<FunctionTool["invoke"]>[2];
type Execute = (input: unknown, context?: RunContext, details?: ToolCallDetails) => unknown;
type NeedsApproval = (context: RunContext, input: unknown, callId?: string) => Promise<boolean>;
interface Options {
  execute: Execute;
  needsApproval?: boolean | NeedsApproval;
  outputSchema?: unknown;
}

const GATES = new WeakMap<object, Gate>();

/**
 * Takes the place of the SDK's `tool`: what it makes are the same function tools, which run only if they may.
 *
 * A block is the tool's output, with the reason. A hold pauses the run (`result.interruptions`); `held` tells what it
 * waits for. With `pause: false` a hold is waited for up to `waitMs`. The session is by default the client's, else the
 * id of the run's trace, else a new one for each run.
 */
export function checkedTool(
  client: Checkrein,
  { pause = true, ...options }: PausingOptions = {},
): typeof tool {
  const gate = new Gate(client, pause ? { ...options, waitMs: 0 } : options);
  const checked = (given: Options): FunctionTool => {
    const call = (input: unknown, context: RunContext | undefined, id: string | undefined) => {
      return { tool: made.name, input, id, session: runOf(context) };
    };
    const execute: Execute = async (input, context, details) => {
      const asked = await gate.ask({
        ...call(input, context, details?.toolCall?.callId),
        signal: details?.signal,
      });
      if (asked.result.blocked) {
        // A text would not fit a schema; what is thrown goes to the tool's `errorFunction`, or ends the run.
        if (given.outputSchema !== undefined) throwIfRefused(asked.result);
        return String(new Refusal(asked.result));
      }
      return reporting(asked.result, () => given.execute(asked.input, context, details), details?.signal);
    };
    const needsApproval: NeedsApproval = async (context, input, id) => {
      const own = given.needsApproval;
      if (typeof own === "function" ? await own(context, input, id) : own) return true;
      return (await gate.askAhead(call(input, context, id))).result.held;
    };
    const all = { ...given, execute, ...(pause ? { needsApproval } : {}) };
    // The name of a function that has no other.
    Object.defineProperty(execute, "name", { value: given.execute.name });
    const made = (tool as unknown as (options: Options) => FunctionTool)(all);
    GATES.set(made, gate);
    return made;
  };
  return checked as unknown as typeof tool;
}

/**
 * The hold behind one of `result.interruptions`; `undefined` if Checkrein did not ask for it.
 *
 * Its `approvalId` is what somebody approves in Checkrein. Then approve the interruption, and resume.
 */
export function held({ agent, name, rawItem }: RunToolApprovalItem): Decision | undefined {
  const asked = agent.tools.find((one) => one.name === name);
  return asked && "callId" in rawItem ? GATES.get(asked)?.held(rawItem.callId) : undefined;
}

function runOf(context: RunContext | undefined): string {
  const trace = getCurrentTrace();
  // Where the run is not traced, its context is what all its calls have in common.
  return trace !== null && trace.traceId !== "no-op" ? trace.traceId : sessionOf(context);
}
