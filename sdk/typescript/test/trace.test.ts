/** Requests carry the current span, with the real packages of OpenTelemetry. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import { context, trace, TraceFlags } from "@opentelemetry/api";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import type { Checkrein } from "checkrein";
import { checkedTools } from "checkrein/langchain";
import { z } from "zod";
import { tool } from "@langchain/core/tools";
import { type RealServer, serve } from "./real-server.js";
import { ALLOW, make, withServer } from "./scripted.js";

const READ = { action: "read", resource: "elsewhere.users" };
const SAID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const provider = new NodeTracerProvider();
let server: RealServer;
let admin: Checkrein;
before(async () => {
  provider.register();
  server = await serve(
    '[targets.shop]\nkind = "sqlite"\npath = "{folder}/shop.sqlite"\nenvironment = "sandbox"\n',
  );
  server.sql("shop.sqlite", "CREATE TABLE users (id INTEGER PRIMARY KEY)");
  admin = server.admin();
});
after(async () => {
  admin.close();
  await server.stop();
  await provider.shutdown();
  trace.disable();
  context.disable();
});

/** What is on record of the last check about its trace: trace, span and flags. */
function recorded(): string | undefined {
  const entries = server.command("log", "export").trim().split("\n");
  const checks = entries.map((line) => JSON.parse(line)).filter((entry) => entry.kind === "check");
  return checks.at(-1).body.check.traceparent as string | undefined;
}

/** Runs `work` in a span, and says how that is written. */
async function within(work: () => Promise<unknown>): Promise<string> {
  return trace.getTracer("test").startActiveSpan("agent", async (span) => {
    await work();
    span.end();
    const { traceId, spanId } = span.spanContext();
    return `00-${traceId}-${spanId}-01`;
  });
}

test("a check, a guard and an execution are on record in the current span", async () => {
  const guarded = admin.guard(async (id: number) => id, { action: "read", resource: "elsewhere.users" });
  for (const work of [
    () => admin.check(READ),
    async () => {
      await later(1);
      await guarded(7);
    },
    () => admin.run(READ, () => 1),
    () => admin.execute({ target: "shop", statement: "SELECT id FROM users" }),
  ]) {
    const said = await within(work);
    assert.equal(recorded(), said);
    await work();
    assert.equal(recorded(), undefined, "outside of a span there is none");
  }
});

test("what is given goes before the current span", async () => {
  await within(() => admin.check({ ...READ, traceparent: SAID }));
  assert.equal(recorded(), SAID);
  await within(() => admin.execute({ target: "shop", statement: "SELECT id FROM users", traceparent: SAID }));
  assert.equal(recorded(), SAID);
  assert.equal((await admin.check({ ...READ, traceparent: "nonsense" })).verdict, "allow");
  assert.equal(recorded(), undefined);
});

test("a framework's tool is checked in the span that it is called in", async () => {
  const ran: string[] = [];
  const run = ({ id }: { id: string }): string => {
    ran.push(id);
    return "ok";
  };
  const schema = z.object({ id: z.string() });
  const [getUser] = checkedTools([tool(run, { name: "get_user", description: "", schema })], admin);
  const said = await within(() => getUser!.invoke({ id: "7" }));
  assert.deepEqual([ran, recorded()], [["7"], said]);
});

test("spans of calls side by side stay apart, and a span that is not sampled says so", async () => {
  await withServer(async (scripted) => {
    scripted.will().then_(ALLOW);
    const client = make(scripted);
    const said = await Promise.all([1, 2, 3].map(() => within(() => client.check(READ))));
    const got = scripted.asked.map((asked) => asked.headers["traceparent"]);
    assert.deepEqual(got.sort(), said.sort());
    const quiet = trace.wrapSpanContext({
      traceId: "0af7651916cd43dd8448eb211c80319c",
      spanId: "b7ad6b7169203331",
      traceFlags: TraceFlags.NONE,
    });
    await context.with(trace.setSpan(context.active(), quiet), () => client.check(READ));
    assert.equal(scripted.asked.at(-1)!.headers["traceparent"], SAID.replace(/01$/, "00"));
  });
});

test("whatever is wrong with it, the check is sent", async () => {
  const api = Symbol.for("opentelemetry.js.api.1");
  const all = globalThis as Record<symbol, unknown>;
  const right = all[api];
  const span = (traceId: unknown): object => ({
    context: { active: () => ({ getValue: () => ({ spanContext: () => ({ traceId, spanId: "1" }) }) }) },
  });
  try {
    for (const wrong of [7, null, {}, { context: {} }, span("x\r\nhost: evil"), span({}), span(undefined)]) {
      all[api] = wrong;
      assert.equal((await admin.check(READ)).verdict, "allow");
      assert.equal(recorded(), undefined);
    }
  } finally {
    all[api] = right;
  }
});
