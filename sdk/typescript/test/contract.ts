/**
 * What every adapter must keep, with the framework's real package and a scripted model.
 *
 * A test of a framework calls `contract` with a way to drive it: run an agent whose model makes the tool calls of each
 * turn, and answer with what the model read as their results, in order.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import path from "node:path";
import { after, before, beforeEach, suite, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Checkrein, CheckreinOptions } from "checkrein";
import { z } from "zod";
import { type RealServer, serve } from "./real-server.js";
import * as scripted from "./scripted.js";
import { ALLOW, BLOCK, HOLD, make, problem, reply, type Server, withServer } from "./scripted.js";

/** A tool call of the model: the tool's name and its arguments. */
export type Call = [tool: string, args: Record<string, unknown>];
/** One turn of the model: the tool calls that it makes at once. */
export type Turn = Call[];
/** Runs an agent. */
export type Drive = (client: Checkrein, turns: Turn[], options?: { waitMs?: number }) => Promise<string[]>;

/** What ran, in order. */
export const RAN: [string, unknown][] = [];
export const DELETE: Turn = [["delete_users", { ids: [1, 2, 3] }]];
export const MAIL: Turn = [["send_mail", { to: "ada@example.com" }]];
export const ids = (n: number): number[] => [...Array(n).keys()];

/** The tools of the agents here. */
export const TOOLS = {
  delete_users: {
    description: "Deletes users.",
    schema: z.object({ ids: z.array(z.number()) }),
    run: async ({ ids }: { ids: number[] }): Promise<string> => {
      await later(0);
      RAN.push(["delete_users", ids]);
      return `${ids.length} users deleted`;
    },
  },
  send_mail: {
    description: "Sends a mail.",
    schema: z.object({ to: z.string() }),
    run: ({ to }: { to: string }): string => {
      RAN.push(["send_mail", to]);
      return `mail sent to ${to}`;
    },
  },
  fail: {
    description: "Fails.",
    schema: z.object({ kind: z.enum(["error", "timeout"]) }),
    run: ({ kind }: { kind: "error" | "timeout" }): string => {
      RAN.push(["fail", kind]);
      throw kind === "error"
        ? new RangeError("this is why")
        : new DOMException("this is why", "TimeoutError");
    },
  },
};

/** A real server with policies: at most 25 deletes, mails are held. */
export function withRealServer(): { admin: () => Checkrein } {
  let server: RealServer;
  let admin: Checkrein;
  before(async () => {
    server = await serve();
    admin = server.admin();
    await admin.policies.apply([
      { name: "few_deletes", rule: "block", condition: { category: "delete", record_count_exceeds: 25 } },
      { name: "mails", rule: "require_approval", condition: { tool: "*send_mail" } },
    ]);
  });
  after(async () => {
    admin.close();
    await server.stop();
  });
  return { admin: () => admin };
}

/** Answers the next approval that is asked for; what had run until then. */
export async function person(admin: Checkrein, answer: "approve" | "deny"): Promise<[string, unknown][]> {
  for (let i = 0; i < 200; i++) {
    const [pending] = await admin.approvals.list("pending");
    if (pending !== undefined) {
      await later(200); // long enough for a tool that does not wait
      const ranBefore = [...RAN];
      await admin.approvals[answer](pending.id, "because");
      return ranBefore;
    }
    await later(50);
  }
  throw new Error("nobody asked for approval");
}

export async function denyAll(admin: Checkrein): Promise<void> {
  for (const { id } of await admin.approvals.list("pending")) await admin.approvals.deny(id);
}

export const sessions = (server: Server): string[] => server.checks().map((a) => a.body.session as string);

/** What `examples/integrations/<name>.ts` prints, on a server of its own. */
export async function runExample(name: string): Promise<string> {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const source = readFileSync(path.join(here, `../../../../examples/integrations/${name}.ts`), "utf8");
  assert.ok(source.split("\n").length <= 41, "an example has at most 40 lines");
  const server = await serve();
  try {
    const env = server.env;
    const script = path.join(here, "examples", `${name}.js`);
    const done = spawnSync(process.execPath, [script], { env, encoding: "utf8", timeout: 300_000 });
    assert.equal(done.status, 0, done.stderr);
    return done.stdout;
  } finally {
    await server.stop();
  }
}

/** What can go wrong with a check: what the server does, and whether `onUnreachable: "allow"` covers it. */
const TROUBLE: Record<string, [scripted.Act | undefined, boolean]> = {
  down: [undefined, true],
  slow: [scripted.silent, true],
  "broken off": [scripted.halfClosed, true],
  "no JSON": [reply(200, "<html>hello</html>", "text/html"), true],
  "no verdict": [reply(200, { ok: true }), true],
  "an allow without an id": [reply(200, { verdict: "allow", reason: "x" }), true],
  "500": [problem(500, "oops"), true],
  "two verdicts": [reply(200, '{"verdict":"block","verdict":"allow"}'), false],
  "a new verdict": [scripted.decision({ verdict: "maybe" }), false],
  "429": [problem(429, "slow down"), false],
  "401": [problem(401, "who are you?"), false],
  "422": [problem(422, "what is this?"), false],
  "the check throws": [ALLOW, false],
};

async function freePort(): Promise<number> {
  const listener = net.createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/** A client whose checks go wrong. */
export async function troubled(
  server: Server,
  trouble: string,
  more: CheckreinOptions = {},
): Promise<Checkrein> {
  const [act] = TROUBLE[trouble] ?? [];
  server.will().then_(act ?? ALLOW);
  const url = act === undefined ? `http://127.0.0.1:${await freePort()}` : server.url;
  const client = make(server, { retries: 0, timeoutMs: trouble === "slow" ? 300 : 10_000, url, ...more });
  if (trouble === "the check throws") {
    client.protocol.check = () => {
      throw new EvalError("in the check");
    };
  }
  return client;
}

/** Declares the tests that every adapter must pass. */
export function contract(name: string, drive: Drive): void {
  suite(name, () => {
    beforeEach(() => void (RAN.length = 0));
    suite("on the real server", () => onTheRealServer(drive));
    suite("on a scripted server", () => onAScriptedServer(drive));
  });
}

function onTheRealServer(drive: Drive): void {
  const { admin } = withRealServer();

  test("allowed runs once", async () => {
    const read = await drive(admin(), [DELETE]);
    assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]]);
    assert.match(read[0] ?? "", /3 users deleted/);
  });

  test("blocked does not run, and the model can act on it", async () => {
    const read = await drive(admin(), [[["delete_users", { ids: ids(30) }]]]);
    assert.deepEqual(RAN, []);
    assert.match(read[0] ?? "", /NOT RUN: Blocked by few_deletes/);
    assert.match(read[0] ?? "", /At most 25 records at a time would be allowed\./);
    assert.doesNotMatch(read[0] ?? "", /chk_/);
  });

  test("a model that obeys gets its work done", async () => {
    const read = await drive(admin(), [[["delete_users", { ids: ids(30) }]], DELETE]);
    assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]]);
    assert.match(read[0] ?? "", /NOT RUN/);
    assert.match(read[1] ?? "", /3 users deleted/);
  });

  test("parallel calls are judged one by one", async () => {
    const read = await drive(admin(), [
      [1, 30, 2, 40, 3].map((n): Call => ["delete_users", { ids: ids(n) }]),
    ]);
    assert.deepEqual(RAN.map(([, list]) => (list as number[]).length).sort(), [1, 2, 3]);
    assert.deepEqual(
      read.map((text) => text.includes("NOT RUN")),
      [false, true, false, true, false],
    );
  });

  test("held runs once, and only when approved", async () => {
    const answered = person(admin(), "approve");
    const read = await drive(admin(), [MAIL], { waitMs: 20_000 });
    assert.deepEqual(await answered, []);
    assert.deepEqual(RAN, [["send_mail", "ada@example.com"]]);
    assert.match(read[0] ?? "", /mail sent/);
  });

  test("a denied hold does not run", async () => {
    const answered = person(admin(), "deny");
    const read = await drive(admin(), [MAIL], { waitMs: 20_000 });
    await answered;
    assert.deepEqual(RAN, []);
    assert.match(read[0] ?? "", /NOT RUN: Denied by/);
    assert.match(read[0] ?? "", /because/);
  });

  test("a hold that nobody answers does not run", async () => {
    const read = await drive(admin(), [[["send_mail", { to: "nobody@example.com" }]]], { waitMs: 500 });
    assert.deepEqual(RAN, []);
    assert.match(read[0] ?? "", /Nobody has approved it yet \(apr_/);
    await denyAll(admin());
  });
}

function onAScriptedServer(drive: Drive): void {
  const scenario = (name: string, run: (server: Server) => Promise<void>): void =>
    void test(name, () => withServer(run));

  scenario("what is asked and reported", async (server) => {
    server.will().then_(ALLOW);
    await drive(make(server, { agent: "ada" }), [DELETE]);
    const [asked, ...more] = server.checks();
    assert.deepEqual(more, []);
    assert.equal(asked?.body.tool, "delete_users");
    assert.deepEqual(asked?.body.arguments, { ids: [1, 2, 3] });
    assert.equal(asked?.body.agent, "ada");
    assert.deepEqual(server.outcomes, [{ status: "ok" }]);
  });

  scenario("what changes during the check does not reach the tool", async (server) => {
    const args = { ids: [1, 2, 3] };
    server.will().then_((socket, asked) => {
      args.ids.push(4);
      return ALLOW(socket, asked);
    });
    await drive(make(server), [[["delete_users", args]]]);
    assert.deepEqual(RAN, [["delete_users", [1, 2, 3]]]);
    assert.deepEqual(server.checks()[0]?.body.arguments, { ids: [1, 2, 3] });
  });

  for (const [kind, status] of [
    ["error", "error"],
    ["timeout", "unknown"],
  ]) {
    scenario(`a tool that fails with ${kind} is reported`, async (server) => {
      server.will().then_(ALLOW);
      await drive(make(server), [[["fail", { kind }]]]).catch(() => {});
      assert.equal(RAN.length, 1);
      assert.equal(server.outcomes.length, 1);
      assert.equal(server.outcomes[0]?.["status"], status);
      assert.match(String(server.outcomes[0]?.["error"]), /this is why/);
    });
  }

  scenario("one session over a run and another over the next", async (server) => {
    server.will().then_(ALLOW);
    const client = make(server);
    await drive(client, [[...DELETE, ...MAIL], DELETE]);
    await drive(client, [DELETE]);
    const [one, two, three, other] = sessions(server);
    assert.ok(one);
    assert.deepEqual([two, three], [one, one]);
    assert.notEqual(other, one);
  });

  scenario("a session that is given is kept", async (server) => {
    server.will().then_(ALLOW);
    await drive(make(server, { session: "ticket-7" }), [DELETE]);
    assert.deepEqual(sessions(server), ["ticket-7"]);
  });

  for (const [trouble, [, covered]] of Object.entries(TROUBLE)) {
    scenario(`does not run: ${trouble}`, async (server) => {
      const read = await drive(await troubled(server, trouble), [[...DELETE, ...MAIL]]);
      assert.deepEqual(RAN, []);
      assert.equal(read.length, 2);
      for (const text of read) {
        assert.match(text, /NOT RUN: this call could not be checked/);
        assert.doesNotMatch(text, /127\.0\.0\.1|checkrein serve/);
      }
    });

    scenario(`onUnreachable: "allow" covers no more than it says: ${trouble}`, async (server) => {
      await drive(await troubled(server, trouble, { onUnreachable: "allow" }), [DELETE]);
      assert.deepEqual(RAN, covered ? [["delete_users", [1, 2, 3]]] : []);
    });
  }

  for (const trouble of ["down", "slow"]) {
    scenario(`onUnreachable: "allow_reads" knows no tool that only reads: ${trouble}`, async (server) => {
      await drive(await troubled(server, trouble, { onUnreachable: "allow_reads" }), [DELETE]);
      assert.deepEqual(RAN, []);
    });
  }

  scenario("blocked in parallel: none runs, none has an outcome", async (server) => {
    server.will().then_(BLOCK);
    await drive(make(server), [[...DELETE, ...MAIL, ...DELETE]]);
    assert.deepEqual(RAN, []);
    assert.deepEqual(server.outcomes, []);
  });

  scenario("held, and then nobody there who could say yes", async (server) => {
    server.will(HOLD).then_(scripted.close);
    const read = await drive(make(server, { retries: 0, onUnreachable: "allow" }), [MAIL], { waitMs: 500 });
    assert.deepEqual(RAN, []);
    assert.match(read[0] ?? "", /NOT RUN/);
  });
}
