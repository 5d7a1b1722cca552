/** LangChain's agents and a graph of one's own, with a scripted model. */
import assert from "node:assert/strict";
import { beforeEach, suite, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import { AIMessage, type BaseMessage, ToolMessage } from "@langchain/core/messages";
import { type DynamicStructuredTool, tool } from "@langchain/core/tools";
import {
  Command,
  END,
  interrupt,
  MemorySaver,
  MessagesAnnotation,
  START,
  StateGraph,
} from "@langchain/langgraph";
import { ToolNode } from "@langchain/langgraph/prebuilt";
import type { Checkrein } from "checkrein";
import { checkedTools, checkreinMiddleware } from "checkrein/langchain";
import { createAgent, createMiddleware, fakeModel } from "langchain";
import { z } from "zod";
import {
  contract,
  DELETE,
  denyAll,
  type Drive,
  MAIL,
  person,
  RAN,
  runExample,
  sessions,
  TOOLS,
  type Turn,
  withRealServer,
} from "./contract.js";
import { ALLOW, BLOCK, make, withServer } from "./scripted.js";

type State = { messages: BaseMessage[]; __interrupt__?: { id: string; value: Record<string, unknown> }[] };

const made = (): DynamicStructuredTool[] =>
  Object.entries(TOOLS).map(([name, { description, schema, run }]) =>
    tool(run as never, { name, description, schema: schema as z.ZodObject }),
  ) as unknown as DynamicStructuredTool[];

function scriptedModel(turns: Turn[]): ReturnType<typeof fakeModel> {
  const model = fakeModel();
  turns.forEach((turn, t) => {
    model.respondWithTools(turn.map(([name, args], c) => ({ name, args, id: `call-${t}-${c}` })));
  });
  return model.respond(new AIMessage("done"));
}

const GO = { messages: [{ role: "user", content: "go" }] };
const read = (state: State): string[] =>
  state.messages
    .filter((message) => ToolMessage.isInstance(message))
    .map((message) => String(message.content));

type Options = { waitMs?: number | undefined };
function agentOf(client: Checkrein, turns: Turn[], options?: Options, checkpointer?: MemorySaver) {
  const middleware = [checkreinMiddleware(client, options)];
  return createAgent({
    model: scriptedModel(turns),
    tools: made(),
    middleware,
    ...(checkpointer && { checkpointer }),
  });
}

function graphOf(client: Checkrein, turns: Turn[], options?: Options, checkpointer?: MemorySaver) {
  const model = scriptedModel(turns);
  return new StateGraph(MessagesAnnotation)
    .addNode("model", async (state) => ({ messages: [await model.invoke(state.messages)] }))
    .addNode("tools", new ToolNode(checkedTools(made(), client, options), { handleToolErrors: false }))
    .addEdge(START, "model")
    .addConditionalEdges("model", (state) => {
      return (state.messages.at(-1) as AIMessage).tool_calls?.length ? "tools" : END;
    })
    .addEdge("tools", "model")
    .compile(checkpointer && { checkpointer });
}

const invoking: Drive = async (client, turns, options) => {
  return read((await agentOf(client, turns, options).invoke(GO)) as State);
};

const streaming: Drive = async (client, turns, options) => {
  let last: State | undefined;
  for await (const state of await agentOf(client, turns, options).stream(GO, { streamMode: "values" })) {
    last = state as State;
  }
  return last ? read(last) : [];
};

const graph: Drive = async (client, turns, options) => {
  return read((await graphOf(client, turns, options).invoke(GO)) as State);
};

contract("createAgent, invoke", invoking);
contract("createAgent, stream", streaming);
contract("a graph with a ToolNode", graph);
beforeEach(() => void (RAN.length = 0));

suite("a hold pauses the graph", () => {
  const { admin } = withRealServer();
  const config = { configurable: { thread_id: "t1" } };

  const paused = async (turns: Turn[]) => {
    const saver = new MemorySaver();
    const agent = agentOf(admin(), turns, {}, saver);
    return { saver, agent, state: (await agent.invoke(GO, config)) as State };
  };
  const resume = async (agent: ReturnType<typeof agentOf>, state: State, answer: unknown = "go on") => {
    const resumed = Object.fromEntries((state.__interrupt__ ?? []).map(({ id }) => [id, answer]));
    return (await agent.invoke(new Command({ resume: resumed }), config)) as State;
  };

  test("and runs once when approved", async () => {
    const { agent, state } = await paused([MAIL]);
    const question = state.__interrupt__?.[0]?.value;
    assert.deepEqual(RAN, []);
    assert.equal(question?.["tool"], "send_mail");
    assert.deepEqual(question?.["arguments"], { to: "ada@example.com" });
    // What the graph is resumed with is no approval, whoever sends it.
    const still = await resume(agent, state, { approved: true });
    assert.deepEqual(RAN, []);
    assert.equal(still.__interrupt__?.[0]?.value["approval_id"], question?.["approval_id"]);
    await admin().approvals.approve(String(question?.["approval_id"]));
    assert.match(read(await resume(agent, still))[0] ?? "", /mail sent/);
    assert.deepEqual(RAN, [["send_mail", "ada@example.com"]]);
  });

  test("and tells the model why it was denied", async () => {
    const { agent, state } = await paused([MAIL]);
    await admin().approvals.deny(String(state.__interrupt__?.[0]?.value["approval_id"]), "no mails today");
    assert.match(read(await resume(agent, state))[0] ?? "", /no mails today/);
    assert.deepEqual(RAN, []);
  });

  test("and its approval is found by another process", async () => {
    const { saver, state } = await paused([MAIL]);
    await admin().approvals.approve(String(state.__interrupt__?.[0]?.value["approval_id"]));
    const other = agentOf(admin(), [], {}, saver);
    assert.match(read(await resume(other, state))[0] ?? "", /mail sent/);
    assert.deepEqual(RAN, [["send_mail", "ada@example.com"]]);
  });

  test("and the calls beside it run once", async () => {
    const bob = { to: "bob@example.com" };
    const nine = { ids: [9] };
    const { agent, state } = await paused([[...DELETE, ...MAIL, ["send_mail", bob], ["delete_users", nine]]]);
    assert.equal(RAN.length, 2);
    const questions = state.__interrupt__ ?? [];
    assert.equal(questions.length, 2);
    for (const { value } of questions) {
      const answer = JSON.stringify(value["arguments"]).includes("bob") ? "deny" : "approve";
      await admin().approvals[answer](String(value["approval_id"]));
    }
    const texts = read(await resume(agent, state));
    assert.equal(RAN.length, 3);
    assert.equal(RAN.filter(([name]) => name === "send_mail").length, 1);
    assert.equal(texts.length, 4);
  });

  test("but in a ToolNode it is waited for, and each call runs once", async () => {
    const answered = person(admin(), "approve");
    const done = graphOf(admin(), [[...DELETE, ...MAIL]], {}, new MemorySaver());
    const state = (await done.invoke(GO, config)) as State;
    assert.deepEqual(
      (await answered).map(([name]) => name),
      ["delete_users"],
    );
    assert.equal(state.__interrupt__, undefined);
    assert.deepEqual(
      RAN.map(([name]) => name),
      ["delete_users", "send_mail"],
    );
    await denyAll(admin());
  });
});

test("one middleware names each run; a thread is a session", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const client = make(server);
    const middleware = [checkreinMiddleware(client)];
    for (let i = 0; i < 2; i++) {
      const model = scriptedModel([DELETE, [...DELETE, ...MAIL]]);
      await createAgent({ model, tools: made(), middleware }).invoke(GO);
    }
    const all = sessions(server);
    assert.equal(new Set(all.slice(0, 3)).size, 1);
    assert.equal(new Set(all.slice(3)).size, 1);
    assert.notEqual(all[0], all[3]);
    const agent = agentOf(client, [DELETE], {}, new MemorySaver());
    await agent.invoke(GO, { configurable: { thread_id: "t7" } });
    assert.equal(sessions(server).at(-1), "t7");
  }));

test("defaults are told, and a tool that pauses itself has an unknown outcome", () =>
  withServer(async (server) => {
    const schema = z.object({ table: z.string(), everything: z.boolean().default(true) });
    const purge = tool(() => "purged", { name: "purge", description: "", schema });
    const ask = tool(() => interrupt("who?") as string, {
      name: "ask",
      description: "",
      schema: z.object({}),
    });
    server.will().then_(ALLOW);
    const client = make(server);
    const middleware = [checkreinMiddleware(client)];
    const model = scriptedModel([[["purge", { table: "x" }]], [["ask", {}]]]);
    const agent = createAgent({ model, tools: [purge, ask], middleware, checkpointer: new MemorySaver() });
    const state = (await agent.invoke(GO, { configurable: { thread_id: "t" } })) as State;
    assert.deepEqual(server.checks()[0]?.body.arguments, { table: "x", everything: true });
    assert.equal(state.__interrupt__?.[0]?.value, "who?");
    assert.deepEqual(
      server.outcomes.map((o) => o["status"]),
      ["ok", "unknown"],
    );
  }));

test("what changes a call during its check does not reach the tool", () =>
  withServer(async (server) => {
    let seen: { ids?: number[] } = {};
    const other = createMiddleware({
      name: "Other",
      wrapToolCall: (request, handler) => {
        seen = request.toolCall.args;
        return handler(request);
      },
    });
    server.will((socket, asked) => {
      seen.ids?.push(4);
      return ALLOW(socket, asked);
    });
    const middleware = [other, checkreinMiddleware(make(server))];
    await createAgent({ model: scriptedModel([DELETE]), tools: made(), middleware }).invoke(GO);
    assert.deepEqual(seen, { ids: [1, 2, 3, 4] });
    assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]]);
  }));

test("a run that is given up has an unknown outcome", () =>
  withServer(async (server) => {
    const given = new AbortController();
    const stuck = async (): Promise<string> => {
      given.abort();
      return later(20_000, "never", { ref: false });
    };
    server.will().then_(ALLOW);
    const slow = tool(stuck, { name: "slow", description: "", schema: z.object({}) });
    const middleware = [checkreinMiddleware(make(server))];
    const agent = createAgent({ model: scriptedModel([[["slow", {}]]]), tools: [slow], middleware });
    await assert.rejects(agent.invoke(GO, { signal: given.signal }));
    assert.deepEqual(await server.reported(), ["unknown"]);
  }));

test("a checked tool that is called by hand", () =>
  withServer(async (server) => {
    server.will(ALLOW, BLOCK, BLOCK, BLOCK);
    const client = make(server);
    const [checked] = checkedTools(made(), client);
    assert.ok(checked);
    assert.equal(await checked.invoke({ ids: [1] }), "1 users deleted");
    assert.match(String(await checked.invoke({ ids: [1] })), /^NOT RUN/);
    const message: unknown = await checked.invoke({
      name: "delete_users",
      args: { ids: [1] },
      id: "c",
      type: "tool_call",
    });
    assert.ok(ToolMessage.isInstance(message) && message.status === "error");
    const both = {
      name: "both",
      description: "",
      schema: z.object({}),
      responseFormat: "content_and_artifact",
    } as const;
    const [paired] = checkedTools([tool(() => ["text", { n: 1 }], both)], client);
    assert.match(String(await paired?.invoke({})), /^NOT RUN/);
    await assert.rejects(checked.invoke({ ids: "x" }), /schema/);
    assert.equal(server.checks().length, 4);
    assert.equal(RAN.length, 1);
    assert.throws(() => checkedTools([{ name: "x" } as never], client), /no StructuredTool/);
  }));

test("the example", async () => {
  const said = await runExample("langchain_agent");
  assert.match(said, /waits for a person: Held by ask/);
  assert.match(said, /tool: 3 users deleted/);
  assert.match(said, /tool: NOT RUN: Blocked by few/);
  assert.doesNotMatch(said, /10000 users deleted/);
});
