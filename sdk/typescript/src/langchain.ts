/**
 * LangChain.js and LangGraph: every tool call is checked before it runs.
 *
 * `checkreinMiddleware` is for `createAgent`; `checkedTools` are for a graph of your own and for `tool.invoke`.
 */
import { ToolMessage } from "@langchain/core/messages";
import type { StructuredToolInterface } from "@langchain/core/tools";
import { interopSafeParseAsync, isInteropZodSchema } from "@langchain/core/utils/types";
import { type Command, getConfig, interrupt, isGraphBubbleUp } from "@langchain/langgraph";
import { createMiddleware } from "langchain";
import type { Checkrein } from "./client.js";
import { exact, type Json } from "./exact.js";
import { type Asked, Gate, type GateOptions, newSession, Refusal, sessionOf, type ToolCall } from "./gate.js";
import { reporting } from "./guard.js";
import type { CheckResult } from "./result.js";

type Answer = ToolMessage | Command;
interface Config {
  configurable?: Readonly<Record<string, unknown>>;
  metadata?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal;
}

/**
 * Middleware for `createAgent`; put it last, so that no other changes a call after its check.
 *
 * A block is a tool message with the reason. A hold pauses the graph (`interrupt`) where there is a checkpointer, and
 * else is waited for up to `waitMs`. The session is by default the client's, else the thread's id, else a new one for
 * each run.
 */
export function checkreinMiddleware(
  client: Checkrein,
  options: GateOptions = {},
): ReturnType<typeof createMiddleware> {
  const gate = new Gate(client, options);
  return createMiddleware({
    name: "CheckreinMiddleware",
    wrapToolCall: async (request, handler): Promise<Answer> => {
      const { toolCall, tool, state } = request;
      const call: ToolCall = {
        tool: toolCall.name,
        input: toolCall.args,
        told: await withDefaults(tool, toolCall.args),
        // The calls of a run have its first message in common, and no other run has it.
        session: sessionOf(state.messages[0]),
      };
      const config = configOf(request.runtime);
      const passed = await pass(gate, call, toolCall.id, config);
      if (typeof passed === "string") return refusal(passed, toolCall.name, toolCall.id ?? "");
      const args = passed.input as typeof toolCall.args;
      const run = () => handler({ ...request, toolCall: { ...toolCall, args } });
      return ran(passed.result, run, config.signal);
    },
  }) as ReturnType<typeof createMiddleware>;
}

/**
 * The same tools, each of which runs only if it may, whoever calls it: a `ToolNode` of your own graph, or you.
 *
 * As the middleware does, but a hold pauses only a graph that gives each call a task of its own (`Send`), and else is
 * waited for: one that pauses in the middle of a node would run the node's other calls again.
 */
export function checkedTools<T extends StructuredToolInterface>(
  tools: readonly T[],
  client: Checkrein,
  options: GateOptions = {},
): T[] {
  const gate = new Gate(client, options);
  const session = newSession();
  return tools.map((tool) => checkedTool(tool, gate, session));
}

type Call = (input: unknown, manager: unknown, config: Config & { toolCall?: { id?: string } }) => unknown;

function checkedTool<T extends StructuredToolInterface>(tool: T, gate: Gate, session: string): T {
  const inner: unknown = "_call" in tool ? tool._call : undefined;
  if (typeof inner !== "function") {
    throw new TypeError(`${tool.name} is no StructuredTool, so nothing can be asked before it runs`);
  }
  const checked: Call = async (input, manager, config) => {
    const id = config.toolCall?.id;
    const passed = await pass(gate, { tool: tool.name, input, session }, id, config);
    if (typeof passed === "string") {
      const told = id === undefined ? passed : refusal(passed, tool.name, id);
      return "responseFormat" in tool && tool.responseFormat === "content_and_artifact"
        ? [told, undefined]
        : told;
    }
    return ran(passed.result, () => Reflect.apply(inner, tool, [passed.input, manager, config]) as unknown);
  };
  // The same tool in all but this, whatever class it is of.
  return Object.create(tool, { _call: { value: checked } }) as T;
}

/** The answer of a check that was allowed; else what the model is to read. Pauses the graph where it can. */
async function pass(
  gate: Gate,
  call: ToolCall,
  id: string | undefined,
  config: Config,
): Promise<Asked | string> {
  const { thread_id: thread, __pregel_checkpointer: checkpointer } = config.configurable ?? {};
  const path = config.metadata?.["langgraph_path"];
  const pauses = checkpointer !== undefined && Array.isArray(path) && path[0] === "__pregel_push";
  const asking: ToolCall = {
    ...call,
    session: typeof thread === "string" ? thread : call.session,
    // Unique among all threads that share the gate.
    id: id === undefined ? undefined : `${String(thread)}/${id}`,
    waitMs: pauses ? 0 : undefined,
    signal: config.signal,
  };
  let asked = await gate.ask(asking);
  // It throws, to pause the graph, and returns once that is resumed. What it returns is no approval.
  while (asked.result.held && pauses) {
    interrupt(question(asked, call.tool));
    asked = await gate.ask(asking);
  }
  return asked.result.blocked ? String(new Refusal(asked.result)) : asked;
}

function question({ result, input }: Asked, tool: string): Record<string, Json> {
  const approval = result.approvalId ?? "";
  return {
    approval_id: approval,
    reason: result.reason,
    tool,
    arguments: input,
    next: `answer with \`checkrein approvals approve ${approval}\` (or deny), then resume`,
  };
}

function refusal(content: string, name: string, id: string): ToolMessage {
  return new ToolMessage({ content, name, tool_call_id: id, status: "error" });
}

/** Runs the tool, and reports what came of it. */
async function ran<T>(result: CheckResult, run: () => T, signal?: AbortSignal): Promise<Awaited<T>> {
  const noting = async (): Promise<Awaited<T>> => {
    try {
      const answer = await run();
      if (ToolMessage.isInstance(answer) && answer.status === "error") {
        await result.outcome("error", { error: String(answer.content) });
      }
      return answer;
    } catch (error) {
      // A tool that pauses the graph itself has done nobody knows how much.
      if (isGraphBubbleUp(error)) await result.outcome("unknown");
      throw error;
    }
  };
  return reporting(result, noting, signal);
}

/** The arguments as the tool's schema completes them: a default says as much about the action as an argument. */
async function withDefaults(tool: object | undefined, args: unknown): Promise<unknown> {
  const schema: unknown = tool && "schema" in tool ? tool.schema : undefined;
  if (!isInteropZodSchema(schema)) return args;
  try {
    const parsed = await interopSafeParseAsync(schema, args);
    return parsed.success ? exact(parsed.data, "arguments") : args;
  } catch {
    return args; // what the schema makes of them is no JSON
  }
}

/** All that LangGraph knows of this call; a runtime shows a part of it. */
function configOf(runtime: object): Config {
  const config = getConfig() as Config | undefined;
  return { ...(runtime as Config), ...config };
}
