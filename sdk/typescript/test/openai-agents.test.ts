/** The OpenAI Agents SDK's runner, with a scripted model. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, suite, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import {
  Agent,
  run,
  RunState,
  setTraceProcessors,
  setTracingDisabled,
  tool,
  type Tool,
  withTrace,
} from "@openai/agents";
import { assistantMessage, functionCall, ScriptedModel } from "@openai/agents/testing";
import type { Checkrein } from "checkrein";
import { checkedTool, held } from "checkrein/openai-agents";
import { z } from "zod";
import {
  contract,
  DELETE,
  denyAll,
  type Drive,
  MAIL,
  RAN,
  runExample,
  sessions,
  TOOLS,
  type Turn,
  withRealServer,
} from "./contract.js";
import { ALLOW, BLOCK, HOLD, make, withServer } from "./scripted.js";

setTracingDisabled(true);

function scriptedModel(turns: Turn[]): ScriptedModel {
  const id = randomUUID();
  const calls = turns.map((turn, t) =>
    turn.map(([name, args], c) => functionCall(name, args, { callId: `${id}-${t}-${c}` })),
  );
  return new ScriptedModel([...calls, [assistantMessage("done")]]);
}

/** What the model read as results of its calls. */
function read(model: ScriptedModel): string[] {
  const input = model.lastCall?.request.input;
  if (!Array.isArray(input)) return [];
  return input.flatMap((item) => {
    if (item.type !== "function_call_result") return [];
    const { output } = item;
    return [typeof output === "object" && "text" in output ? String(output.text) : String(output)];
  });
}

type Make = typeof tool;
const made = (make: Make): Tool[] =>
  Object.entries(TOOLS).map(([name, { description, schema, run }]) =>
    make({ name, description, parameters: schema as z.ZodObject, execute: run as never }),
  );

const agentOf = (tools: Tool[], model: ScriptedModel): Agent => new Agent({ name: "a", tools, model });

const running: Drive = async (client, turns, options) => {
  const model = scriptedModel(turns);
  await run(agentOf(made(checkedTool(client, { pause: false, ...options })), model), "go");
  return read(model);
};

const streaming: Drive = async (client, turns, options) => {
  const model = scriptedModel(turns);
  const agent = agentOf(made(checkedTool(client, { pause: false, ...options })), model);
  const result = await run(agent, "go", { stream: true });
  await result.completed;
  return read(model);
};

contract("run", running);
contract("run, streamed", streaming);
beforeEach(() => void (RAN.length = 0));

suite("a hold pauses the run", () => {
  const { admin } = withRealServer();

  for (const restarted of [false, true]) {
    for (const answer of ["approve", "deny", "nothing"] as const) {
      test(`${answer}${restarted ? ", resumed by another process" : ""}`, async () => {
        const model = scriptedModel([[...DELETE, ...MAIL]]);
        const agent = agentOf(made(checkedTool(admin())), model);
        const paused = await run(agent, "go");
        assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]], "the call beside it ran");
        const [interruption, ...more] = paused.interruptions;
        assert.ok(interruption && more.length === 0);
        const approvalId = held(interruption)?.approvalId ?? "";
        assert.match(approvalId, /^apr_/);
        if (answer !== "nothing") await admin().approvals[answer](approvalId, "because");
        let { state } = paused;
        if (restarted) {
          agent.tools = made(checkedTool(admin()));
          state = await RunState.fromString(agent, state.toString());
        }
        // The framework's own yes is no approval.
        for (const item of state.getInterruptions()) state.approve(item);
        const result = await run(agent, state);
        assert.deepEqual(result.interruptions, []);
        assert.equal(RAN.length, answer === "approve" ? 2 : 1);
        const mail = read(model).find((text) => /mail|NOT RUN/.test(text)) ?? "";
        assert.match(mail, answer === "approve" ? /mail sent/ : /NOT RUN/);
        if (answer === "deny" && !restarted) assert.match(mail, /because/);
        await denyAll(admin());
      });
    }
  }
});

test("one call is one check, also where it could have paused", () =>
  withServer(async (server) => {
    server.will(ALLOW, BLOCK);
    const model = scriptedModel([DELETE, DELETE]);
    await run(agentOf(made(checkedTool(make(server))), model), "go");
    assert.equal(server.checks().length, 2);
    assert.equal(RAN.length, 1);
    assert.match(read(model)[1] ?? "", /NOT RUN/);
  }));

test("the tool's own approval is kept", () =>
  withServer(async (server) => {
    const { schema, run: execute } = TOOLS.send_mail;
    const own = checkedTool(make(server))({
      name: "send_mail",
      description: "",
      parameters: schema,
      needsApproval: true,
      execute,
    });
    const { interruptions } = await run(agentOf([own], scriptedModel([MAIL])), "go");
    assert.equal(interruptions.length, 1);
    assert.ok(interruptions[0]);
    assert.equal(held(interruptions[0]), undefined);
    assert.deepEqual([RAN, server.checks()], [[], []]);
  }));

test("a time-out of the tool is an unknown outcome", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const slow = checkedTool(make(server))({
      name: "slow",
      description: "",
      parameters: z.object({}),
      timeoutMs: 1500,
      execute: () => later(20_000, "never", { ref: false }),
    });
    const model = scriptedModel([[["slow", {}]]]);
    await run(agentOf([slow], model), "go");
    assert.match(read(model)[0] ?? "", /timed out/);
    assert.deepEqual(await server.reported(), ["unknown"]);
  }));

test("a tool with an output schema throws where others tell", () =>
  withServer(async (server) => {
    const outputSchema = z.object({ n: z.number() });
    const counting = (client: Checkrein) =>
      checkedTool(client)({
        name: "count",
        description: "",
        parameters: z.object({}),
        outputSchema,
        execute: () => ({ n: 1 }),
        errorFunction: (_, error) => ({ n: /NOT RUN/.test(String(error)) ? -1 : -2 }),
      });
    server.will(ALLOW, BLOCK, HOLD);
    const model = scriptedModel([[["count", {}]], [["count", {}]]]);
    await run(agentOf([counting(make(server))], model), "go");
    assert.deepEqual(
      read(model).map((text) => JSON.parse(text) as unknown),
      [{ n: 1 }, { n: -1 }],
    );
  }));

test("the trace is the session", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    setTraceProcessors([]); // nothing is sent anywhere
    setTracingDisabled(false);
    const traceId = `trace_${"7".repeat(32)}`;
    try {
      const agent = agentOf(made(checkedTool(make(server))), scriptedModel([DELETE, MAIL]));
      await withTrace("workflow", () => run(agent, "go"), { traceId });
    } finally {
      setTracingDisabled(true);
    }
    assert.deepEqual(sessions(server), [traceId, traceId]);
  }));

test("the example", async () => {
  const said = await runExample("openai_agents");
  assert.match(said, /waits for a person: Held by ask/);
  assert.match(said, /3 users deleted/);
  assert.match(said, /NOT RUN: Blocked by few/);
  assert.doesNotMatch(said, /10000 users deleted/);
});
