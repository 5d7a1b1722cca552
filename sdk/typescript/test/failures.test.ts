/**
 * Every way in which the server can fail, times every setting, times every way to ask.
 *
 * The function behind a guard counts its calls: that number is the proof.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type CheckreinOptions, PolicyViolationError, UnreachableError } from "checkrein";
import * as scripted from "./scripted.js";
import { type Act, DECISION, make, problem, raw, reply, type Server, withServer } from "./scripted.js";

const ALLOW_TEXT = '{"id":"chk_1","verdict":"allow","reason":"r"}';
const FULL = `HTTP/1.1 200 OK\r\ncontent-length: ${ALLOW_TEXT.length}\r\n\r\n${ALLOW_TEXT}`;
/** An answer with `verdict` in it to the letter. */
const told = (verdict: string): Act => reply(200, `{"id":"chk_1","reason":"r",${verdict}}`);

/** The server could not be asked, or it answered with something that is no decision. */
const FAILURES: Record<string, Act> = {
  silent: scripted.silent,
  "slow headers": scripted.drip(FULL),
  "slow body": scripted.drip(FULL.slice(FULL.indexOf("{") - 1)),
  "closed at once": scripted.close,
  "half-closed": scripted.halfClosed,
  "rubbish bytes": raw(Buffer.from("\x00\xff\x00 nonsense\r\n\r\n", "latin1")),
  "rubbish JSON": reply(200, '{"verdict": "allow", '),
  "not UTF-8": reply(200, Buffer.from('{"verdict":"allow","id":"\xff","reason":"x"}', "latin1")),
  "deep JSON": reply(200, "[".repeat(100_000)),
  "UTF-16": reply(200, Buffer.from(ALLOW_TEXT, "utf16le")),
  "a byte order mark": reply(200, `\ufeff${ALLOW_TEXT}`),
  "a JSON list": reply(200, '["allow"]'),
  "JSON null": reply(200, "null"),
  "empty 200": reply(200, ""),
  "204": raw("HTTP/1.1 204 No Content\r\n\r\n"),
  "101": raw("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
  "allow with 201": reply(201, DECISION),
  "allow without id": reply(200, { verdict: "allow", reason: "r" }),
  "allow without reason": reply(200, { verdict: "allow", id: "chk_1" }),
  "allow with id of a wrong type": reply(200, { ...DECISION, id: 7 }),
  "nothing but an unknown field": reply(200, { allowed: true }),
  "HTML 200": reply(200, "<html>allow</html>", "text/html"),
  "HTML 502": reply(502, "<html>bad gateway</html>", "text/html"),
  "500 problem": problem(500, "the log could not be written"),
  "503 problem": problem(503, "the store is full"),
  "500 with an allow in it": reply(500, DECISION),
  redirect: reply(307, DECISION, "application/json", { location: "/elsewhere" }),
  "huge body": reply(200, `{"verdict":"allow","id":"c","reason":"${"x".repeat(9_000_000)}"}`),
  compressed: reply(200, DECISION, "application/json", { "content-encoding": "gzip" }),
};
/** The server answered and did not allow: no setting makes that an allow. */
const REFUSALS: Record<string, Act> = {
  block: scripted.BLOCK,
  hold: scripted.HOLD,
  "an unknown verdict": scripted.decision({ verdict: "allow_with_snapshot" }),
  ALLOW: scripted.decision({ verdict: "ALLOW" }),
  "a verdict that is true": scripted.decision({ verdict: true }),
  "a verdict that is a list": scripted.decision({ verdict: ["allow"] }),
  "a verdict that is null": scripted.decision({ verdict: null }),
  "nothing but a block": reply(200, { verdict: "block" }),
  "nothing but a hold": reply(200, { verdict: "hold" }),
  "block and allow in one": told('"verdict":"block","verdict":"allow"'),
  "allow twice": told('"verdict":"allow" , "verdict"  :"allow"'),
  "a key written in two ways": told('"verdict":"block","\\u0076erdict":"allow"'),
  "a key twice further in": told('"verdict":"allow","x":[{"a":1,"a":1}]'),
  NaN: told('"verdict":"allow","x":NaN'),
  "-Infinity": told('"verdict":"allow","x":[-Infinity]'),
  "a block with NaN": told('"verdict":"block","x":NaN'),
  "a number beyond all": told('"verdict":"allow","x":1e999'),
  "429 for ever": problem(429, "too many checks", undefined, { "retry-after": "0" }),
  "429 for long": problem(429, "too many checks", undefined, { "retry-after": "3600" }),
};

/** Whether the action was kept from running, and how often it ran. */
type Came = [blocked: boolean, calls: number];
type Way = (server: Server, settings: CheckreinOptions) => Promise<Came>;

const UPDATE = { action: "update", resource: "shop.users" };

async function throwing(
  run: (update: (args: { ids: number[] }) => string) => Promise<unknown>,
): Promise<Came> {
  let calls = 0;
  const update = (): string => `call ${++calls}`;
  try {
    await run(update);
    return [false, calls];
  } catch (error) {
    if (!(error instanceof PolicyViolationError)) throw error;
    assert.ok(error.reason !== "" && error.result?.blocked);
    return [true, calls];
  }
}

const WAYS: Record<string, Way> = {
  guard: (server, settings) =>
    throwing((update) => make(server, settings).guard(update, UPDATE)({ ids: [1] })),
  "guard, raw": (server, settings) =>
    throwing((update) => make(server, settings).guard(update)({ ids: [1] })),
  run: (server, settings) =>
    throwing((update) => make(server, settings).run(UPDATE, () => update({ ids: [1] }))),
  check: async (server, settings) => {
    const result = await make(server, settings).check(UPDATE);
    assert.equal(result.blocked, !result.allowed);
    assert.equal({ ...result }.blocked, result.blocked);
    return [result.blocked, result.blocked ? 0 : 1];
  },
};
const SETTINGS = ["block", "allow_reads", "allow"] as const;
/** Short only where the server is to be given up. */
const once = (name: string): CheckreinOptions => ({
  retries: 0,
  timeoutMs: /slow|silent/.test(name) ? 150 : 10_000,
});

suite("a failure blocks unless told otherwise", () => {
  for (const [failure, act] of Object.entries(FAILURES)) {
    for (const [name, way] of Object.entries(WAYS)) {
      test(`${failure}, ${name}`, () =>
        withServer(async (server) => {
          for (const onUnreachable of SETTINGS) {
            server.will().then_(act);
            const came = await way(server, { ...once(failure), onUnreachable });
            assert.deepEqual(came, onUnreachable === "allow" ? [false, 1] : [true, 0], onUnreachable);
          }
          assert.equal(server.asked.length, 3);
          assert.deepEqual(server.outcomes, [], "what was never decided has no outcome");
          assert.ok(
            server.asked.every((a) => a.path === "/v1/checks"),
            "no redirect is followed",
          );
        }));
    }
  }
});

suite("a refusal blocks whatever the setting", () => {
  for (const [refusal, act] of Object.entries(REFUSALS)) {
    test(refusal, () =>
      withServer(async (server) => {
        server.will().then_(act);
        for (const onUnreachable of SETTINGS) {
          for (const way of Object.values(WAYS)) {
            assert.deepEqual(await way(server, { ...once(refusal), onUnreachable }), [true, 0]);
          }
        }
      }),
    );
  }
});

test("an allow lets it run once", () =>
  withServer(async (server) => {
    server.will().then_(scripted.ALLOW);
    for (const way of Object.values(WAYS)) assert.deepEqual(await way(server, {}), [false, 1]);
    assert.equal(server.checks().length, 4);
  }));

test("what is wrong with the request throws, and does not run", () =>
  withServer(async (server) => {
    for (const status of [400, 401, 403, 404, 405, 409, 413, 422]) {
      server.will().then_(problem(status, "say it better"));
      for (const way of Object.values(WAYS)) {
        await assert.rejects(way(server, { onUnreachable: "allow" }), (error: Error) => {
          assert.match(error.message, /say it better/);
          const { status: got, requestId } = error as unknown as Record<string, unknown>;
          assert.deepEqual([got, requestId], [status, "req_7"]);
          assert.ok(!(error instanceof PolicyViolationError));
          return true;
        });
      }
    }
    assert.equal(server.asked.length, 8 * 4, "not retried");
  }));

test("a check that throws unexpectedly does not run", () =>
  withServer(async (server) => {
    let calls = 0;
    const client = make(server, { onUnreachable: "allow" });
    client.protocol.check = () => {
      throw new EvalError("a bug");
    };
    const work = (): number => ++calls;
    for (const run of [client.guard(work), client.guard(work, UPDATE), () => client.run(UPDATE, work)]) {
      await assert.rejects(run(), /a bug/);
    }
    assert.equal(calls, 0);
  }));

test("the reason names cause and next step, and no secret", () =>
  withServer(async (server) => {
    const { url } = server;
    await server.stop();
    const lines: string[] = [];
    const client = make(server, { retries: 0 }, lines);
    const result = await client.check(UPDATE);
    assert.deepEqual([result.degraded, result.id], [true, undefined]);
    for (const word of [url, "ECONNREFUSED", "checkrein serve", "CHECKREIN_URL"]) {
      assert.ok(result.reason.includes(word), `${word}: ${result.reason}`);
    }
    assert.equal(await result.wait(), result);
    assert.equal(await result.outcome("ok"), false);
    await assert.rejects(client.policies.list(), (error: Error) => {
      assert.ok(error instanceof UnreachableError);
      assert.doesNotMatch(`${error.stack} ${JSON.stringify(error)}`, /ck_test/);
      return true;
    });
    assert.match(lines[0] ?? "", /^checkrein: block: .* so this does not run/);
    assert.doesNotMatch(lines.join(), /ck_test/);
    await server.start();
  }));

test("a degraded allow says so", () =>
  withServer(async (server) => {
    const lines: string[] = [];
    server.will(problem(500, "broken\nok: all is well"));
    const result = await make(server, { onUnreachable: "allow" }, lines).check(UPDATE);
    assert.deepEqual([result.allowed, result.degraded], [true, true]);
    assert.match(lines.join("|"), /^checkrein: allow: [^\n|]*runs unchecked[^\n|]*$/);
  }));

test("allow_reads lets only plain reads through", () =>
  withServer(async (server) => {
    server.will().then_(problem(500, "broken"));
    const client = make(server, { onUnreachable: "allow_reads" });
    const resource = "shop.users";
    const cases: [Parameters<typeof client.check>[0], boolean][] = [
      [{ action: "read", resource }, true],
      [{ action: "select", resource: "shop.public.orders", recordIds: [1] }, true],
      [{ action: "read", resource, payload: { record_count: 3, of: [1] } }, true],
      [{ action: "select", resource, payload: { sql: "delete from users" } }, false],
      [{ action: "get", resource, payload: { of: [{ method: "DELETE" }] } }, false],
      [{ action: "read" }, false],
      [{ action: "Read", resource }, false],
      [{ action: "read_and_delete", resource }, false],
      [{ action: "read", resource, statement: "delete from users" }, false],
      [{ action: "read", resource, where: {} }, false],
      [{ action: "get", resource: "https://evil.example/?q=secret" }, false],
      [{ action: "get", resource: "user@evil.example" }, false],
      [UPDATE, false],
      [{ tool: "read", arguments: {} }, false],
    ];
    for (const [fields, runs] of cases) {
      const result = await client.check(fields);
      assert.deepEqual([result.allowed, result.degraded], [runs, true], JSON.stringify(fields));
    }
  }));

test("one key for all tries", () =>
  withServer(async (server) => {
    const slow = problem(429, "slow down", undefined, { "retry-after": "0" });
    server.will(slow, scripted.close).then_(scripted.ALLOW);
    const client = make(server);
    assert.ok((await client.check(UPDATE)).allowed);
    assert.ok((await client.check(UPDATE)).allowed);
    const [one, two, three, other, ...more] = server.asked.map((a) => a.body.idempotency_key as string);
    assert.deepEqual([two, three, more], [one, one, []]);
    assert.notEqual(other, one);
  }));

test("retries end", () =>
  withServer(async (server) => {
    server.will().then_(problem(503, "the store is full"));
    const result = await make(server, { retries: 2 }).check(UPDATE);
    assert.match(result.reason, /the store is full/);
    assert.equal(server.asked.length, 3);
  }));

test("an answer without end is given up where it is too large", () =>
  withServer(async (server) => {
    server.will((socket) => {
      const more = (): void => void (socket.destroyed || socket.write(Buffer.alloc(65536, " "), more));
      socket.write("HTTP/1.1 200 OK\r\n\r\n", more);
    });
    const { reason } = await make(server, { retries: 0 }).check(UPDATE);
    assert.match(reason, /its answer is larger than 8 MiB/);
  }));

test("a Retry-After that makes no sense is ignored", () =>
  withServer(async (server) => {
    for (const value of ["soon", "-1", "1e99", "Thu, 99 Foo 2026", "", "²"]) {
      const busy = raw(`HTTP/1.1 503 X\r\ncontent-length: 0\r\nretry-after: ${value}\r\n\r\n`);
      server.will(busy).then_(scripted.ALLOW);
      assert.ok((await make(server).check(UPDATE)).allowed, value);
    }
  }));

test("time is bounded, and so is connecting", () =>
  withServer(async (server) => {
    for (const act of [scripted.silent, scripted.drip(FULL), scripted.drip(FULL.slice(-30))]) {
      server.will().then_(act);
      const started = performance.now();
      assert.ok((await make(server, { timeoutMs: 200, retries: 2 }).check(UPDATE)).blocked);
      assert.ok(performance.now() - started < 200 * 3 + 600);
    }
  }));

test("an answer to an approval is given once", () =>
  withServer(async (server) => {
    server.will().then_(scripted.close);
    const client = make(server);
    await assert.rejects(client.approvals.approve("apr_1"), UnreachableError);
    await assert.rejects(client.policies.delete("p"), UnreachableError);
    await assert.rejects(client.snapshot({ resource: "shop.users", recordIds: [1] }), UnreachableError);
    await assert.rejects(client.rollback("snp_1"), /is not known/);
    assert.equal(server.asked.length, 4);
  }));

test("an ambiguous answer settles no hold, and is none to management", () =>
  withServer(async (server) => {
    server.will(scripted.HOLD).then_(REFUSALS["allow twice"] ?? scripted.close);
    const held = await make(server).check(UPDATE);
    assert.ok((await held.wait({ timeoutMs: 300 })).held);
    server.will(reply(200, '{"policies": [], "policies": []}'));
    await assert.rejects(make(server).policies.list(), /not Checkrein/);
  }));
