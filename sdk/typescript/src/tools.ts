/** Guards for plain functions that are a model's tools. */
import type { Checkrein, Guarded } from "./client.js";
import { Gate, type GateOptions, newSession, Refusal } from "./gate.js";
import { argumentsOf, planned, reporting, toolName } from "./guard.js";

/** A tool: a function of one object, or of nothing. */
export type Tool = (args: never) => unknown;

/** The same tools, each of which may answer with a `Refusal`. */
export type GuardedTools<T> = {
  [K in keyof T]: T[K] extends (...args: infer A) => infer R ? Guarded<A, R | Refusal> : never;
};

/**
 * The same functions, each of which runs only if it may: those of a list under their own names, those of an object
 * under its keys. Each gets the copy of its arguments that was checked.
 *
 * Where `client.guard` throws, these answer with a `Refusal`: a text for the model, in the place of the result. A hold
 * is waited for. All share one session, by default the client's or a new one.
 */
export function guardTools<const T extends readonly Tool[] | Readonly<Record<string, Tool>>>(
  tools: T,
  client: Checkrein,
  options: GateOptions = {},
): GuardedTools<T> {
  const gate = new Gate(client, options);
  const session = gate.given ?? newSession();
  const guarded = (tool: Tool, name: string): ((...args: unknown[]) => Promise<unknown>) => {
    planned(tool, { tool: name }); // what cannot be guarded is refused here, not in the middle of a run
    const call = async function (this: unknown, ...args: unknown[]): Promise<unknown> {
      // Wrong arguments are the caller's mistake, and throw.
      const { result, input } = await gate.ask({ tool: name, input: argumentsOf(name, args), session });
      if (result.blocked) return new Refusal(result);
      return reporting(result, () => Reflect.apply(tool, this, args.length === 0 ? [] : [input]));
    };
    return Object.defineProperty(call, "name", { value: name });
  };
  const entries = Object.entries(tools as Readonly<Record<string, Tool>>);
  const made = Array.isArray(tools)
    ? entries.map(([, tool]) => guarded(tool, toolName(tool)))
    : Object.fromEntries(entries.map(([name, tool]) => [name, guarded(tool, name)]));
  return made as GuardedTools<T>;
}
