/** The AI SDK's `generateText` and `streamText`, with a scripted model. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, suite, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import {
  generateText,
  type LanguageModel,
  type ModelMessage,
  simulateReadableStream,
  isStepCount,
  streamText,
  tool,
  type ToolSet,
} from "ai";
import { MockLanguageModelV4 } from "ai/test";
import type { Checkrein } from "checkrein";
import { checkedTools, held } from "checkrein/ai";
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
import { ALLOW, BLOCK, make, withServer } from "./scripted.js";

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

function scriptedModel(turns: Turn[]): MockLanguageModelV4 {
  const run = randomUUID();
  const said = (asked: number) => {
    const turn = turns[asked - 1];
    const calls = (turn ?? []).map(([toolName, args], at) => ({
      type: "tool-call" as const,
      toolCallId: `${run}-${asked}-${at}`,
      toolName,
      input: JSON.stringify(args),
    }));
    const reason = { unified: turn ? ("tool-calls" as const) : ("stop" as const), raw: undefined };
    return { calls, finishReason: reason };
  };
  const model: MockLanguageModelV4 = new MockLanguageModelV4({
    doGenerate: async () => {
      const { calls, finishReason } = said(model.doGenerateCalls.length);
      const content = calls.length > 0 ? calls : [{ type: "text" as const, text: "done" }];
      return { content, finishReason, usage, warnings: [] };
    },
    doStream: async () => {
      const { calls, finishReason } = said(model.doStreamCalls.length);
      const start = { type: "stream-start" as const, warnings: [] };
      const chunks = [start, ...calls, { type: "finish" as const, finishReason, usage }];
      return { stream: simulateReadableStream({ chunks }) };
    },
  });
  return model;
}

/** What the model read as results of its calls. */
function read(model: MockLanguageModelV4): string[] {
  const prompt = [...model.doGenerateCalls, ...model.doStreamCalls].at(-1)?.prompt ?? [];
  const parts = prompt.flatMap((message) => (message.role === "tool" ? message.content : []));
  return parts.flatMap((part) => {
    if (part.type !== "tool-result") return [];
    const { output } = part;
    return [String("value" in output ? output.value : (output.reason ?? output.type))];
  });
}

const made = (): ToolSet =>
  Object.fromEntries(
    Object.entries(TOOLS).map(([name, { description, schema, run }]) => [
      name,
      tool({ description, inputSchema: schema as z.ZodType, execute: run as never }),
    ]),
  );

const SETTINGS = { prompt: "go", stopWhen: isStepCount(9) };

const generating: Drive = async (client, turns, options) => {
  const model = scriptedModel(turns);
  await generateText({
    model,
    tools: checkedTools(made(), client, { pause: false, ...options }),
    ...SETTINGS,
  });
  return read(model);
};

const streaming: Drive = async (client, turns, options) => {
  const model = scriptedModel(turns);
  const tools = checkedTools(made(), client, { pause: false, ...options });
  await streamText({ model, tools, ...SETTINGS }).consumeStream();
  return read(model);
};

contract("generateText", generating);
contract("streamText", streaming);
beforeEach(() => void (RAN.length = 0));

suite("a hold pauses the run", () => {
  const { admin } = withRealServer();

  for (const restarted of [false, true]) {
    for (const answer of ["approve", "deny", "nothing"] as const) {
      test(`${answer}${restarted ? ", resumed by another process" : ""}`, async () => {
        let tools = checkedTools(made(), admin());
        const messages: ModelMessage[] = [{ role: "user", content: "go" }];
        const model: LanguageModel = scriptedModel([[...DELETE, ...MAIL]]);
        const paused = await generateText({ model, tools, messages, stopWhen: isStepCount(9) });
        assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]], "the call beside it ran");
        const [request, ...more] = paused.content.filter((part) => part.type === "tool-approval-request");
        assert.ok(request && more.length === 0);
        const approvalId = held(tools, request)?.approvalId ?? "";
        assert.match(approvalId, /^apr_/);
        if (answer !== "nothing") await admin().approvals[answer](approvalId, "because");
        messages.push(...paused.responseMessages);
        // The framework's own yes is no approval.
        const yes = {
          type: "tool-approval-response",
          approvalId: request.approvalId,
          approved: true,
        } as const;
        messages.push({ role: "tool", content: [yes] });
        if (restarted) tools = checkedTools(made(), admin());
        const again = scriptedModel([]);
        const sent = JSON.parse(JSON.stringify(messages)) as ModelMessage[];
        await generateText({ model: again, tools, messages: sent, stopWhen: isStepCount(9) });
        const texts = read(again);
        assert.equal(RAN.length, answer === "approve" ? 2 : 1);
        const mail = texts.find((text) => /mail|NOT RUN/.test(text)) ?? "";
        assert.match(mail, answer === "approve" ? /mail sent/ : /NOT RUN/);
        if (answer === "deny" && !restarted) assert.match(mail, /because/);
        await denyAll(admin());
      });
    }
  }

  test("the tool's own approval is kept", () =>
    withServer(async (server) => {
      server.will().then_(ALLOW);
      const { send_mail } = made();
      const own = { send_mail: { ...send_mail, needsApproval: true } as ToolSet[string] };
      const tools = checkedTools(own, make(server));
      const paused = await generateText({ model: scriptedModel([MAIL]), tools, ...SETTINGS });
      const request = paused.content.find((part) => part.type === "tool-approval-request");
      assert.ok(request);
      assert.equal(held(tools, request), undefined);
      assert.deepEqual([RAN, server.checks()], [[], []]);
    }));

  test("a setting of the run that approves everything approves nothing here", async () => {
    const tools = checkedTools(made(), admin());
    const model = scriptedModel([MAIL]);
    await generateText({ model, tools, ...SETTINGS, toolApproval: () => "approved" });
    assert.deepEqual(RAN, []);
    assert.match(read(model)[0] ?? "", /Nobody has approved it yet/);
    await denyAll(admin());
  });
});

test("one call is one check, also where it could have paused", () =>
  withServer(async (server) => {
    server.will(ALLOW, BLOCK);
    const model = scriptedModel([DELETE, DELETE]);
    await generateText({ model, tools: checkedTools(made(), make(server)), ...SETTINGS });
    assert.equal(server.checks().length, 2);
    assert.equal(RAN.length, 1);
    assert.match(read(model)[1] ?? "", /NOT RUN/);
    assert.equal(new Set(sessions(server)).size, 1);
  }));

test("what changes an input during its check does not reach the tool", () =>
  withServer(async (server) => {
    const { schema: inputSchema, run: execute } = TOOLS.delete_users;
    let seen: { ids: number[] } | undefined;
    const onInputAvailable = ({ input }: { input: { ids: number[] } }): void => void (seen = input);
    server.will((socket, asked) => {
      seen?.ids.push(4);
      return ALLOW(socket, asked);
    });
    const tools = { delete_users: tool({ inputSchema, execute, onInputAvailable }) };
    const model = scriptedModel([DELETE]);
    await generateText({ model, tools: checkedTools(tools, make(server), { pause: false }), ...SETTINGS });
    assert.deepEqual(seen, { ids: [1, 2, 3, 4] });
    assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]]);
  }));

test("a tool that gives results piece by piece", () =>
  withServer(async (server) => {
    async function* count({ to }: { to: number }): AsyncGenerator<string> {
      for (let n = 1; n <= to; n++) yield `${n}`;
      if (to > 3) throw new RangeError("too far");
    }
    const inputSchema = z.object({ to: z.number() });
    const tools = {
      count: tool({ inputSchema, execute: count }),
      later: tool({ inputSchema, execute: (i) => count(i) }),
    };
    const run = async (
      client: Checkrein,
      name: string,
      to: number,
    ): Promise<[string | undefined, number]> => {
      const model = scriptedModel([[[name, { to }]]]);
      const result = streamText({
        model,
        tools: checkedTools(tools, client),
        ...SETTINGS,
        onError: () => {},
      });
      let pieces = 0;
      for await (const part of result.fullStream) {
        if (part.type === "tool-result" && part.preliminary) pieces++;
      }
      return [read(model)[0], pieces];
    };
    server.will(ALLOW, ALLOW, ALLOW, BLOCK);
    const client = make(server);
    assert.deepEqual(await run(client, "count", 3), ["3", 3]);
    assert.deepEqual(await run(client, "later", 3), ["3", 0]);
    await run(client, "count", 4);
    assert.deepEqual(
      server.outcomes.map((o) => o["status"]),
      ["ok", "ok", "error"],
    );
    const [told, pieces] = await run(client, "count", 3);
    assert.match(told ?? "", /NOT RUN/);
    assert.equal(pieces, 0);
  }));

test("a run that is given up: nothing runs, or its outcome is unknown", () =>
  withServer(async (server) => {
    const go = async (given: AbortController): Promise<unknown> => {
      const slow = tool({
        inputSchema: z.object({}),
        execute: async (_, { abortSignal }) => {
          RAN.push(["slow", null]);
          given.abort();
          await later(20_000, undefined, { signal: abortSignal });
        },
      });
      const tools = checkedTools({ slow }, make(server), { pause: false });
      const model = scriptedModel([[["slow", {}]]]);
      return generateText({ model, tools, ...SETTINGS, abortSignal: given.signal });
    };
    server.will().then_(ALLOW);
    await assert.rejects(go(new AbortController()));
    assert.equal(RAN.length, 1);
    assert.deepEqual(await server.reported(), ["unknown"]);
    const early = new AbortController();
    server.will().then_(() => early.abort());
    await assert.rejects(go(early));
    assert.equal(RAN.length, 1);
  }));

test("tools that run elsewhere are as they were", () => {
  const elsewhere = tool({ inputSchema: z.object({}), outputSchema: z.string() });
  const client = make({ url: "http://127.0.0.1:9" } as never);
  assert.equal(checkedTools({ elsewhere }, client).elsewhere, elsewhere);
  assert.throws(() => checkedTools({}, {} as Checkrein), /give the adapter a Checkrein/);
});

test("the example", async () => {
  const said = await runExample("ai_sdk");
  assert.match(said, /waits for a person: Held by ask/);
  assert.match(said, /3 users deleted/);
  assert.match(said, /NOT RUN: Blocked by few/);
  assert.doesNotMatch(said, /10000 users deleted/);
});
