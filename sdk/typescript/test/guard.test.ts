/** Guards: what is asked, what runs, and what is reported. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import vm from "node:vm";
import { ApprovalRequiredError, BadRequestError, Checkrein, PolicyViolationError } from "checkrein";
import * as scripted from "./scripted.js";
import { ALLOW, BLOCK, HOLD, make, type Server, withServer } from "./scripted.js";

const UPDATE = { action: "update", resource: "shop.users" };
const APPROVED = scripted.decision({ reason: "approved by ada" });
const never = (): never => assert.fail("it ran");

function body(server: Server, at = 0): Record<string, unknown> {
  const { idempotency_key: key, ...rest } = server.checks()[at]?.body as Record<string, unknown>;
  assert.match(String(key), /^[0-9a-f]{32}$/);
  return rest;
}

test("raw: the name and the one object, of which a copy runs", () =>
  withServer(async (server) => {
    const args = { ids: [1], deep: { note: "x" }, ["__proto__"]: 7 };
    server.will((socket, asked) => {
      args.ids.push(2);
      args.deep.note = "y";
      return ALLOW(socket, asked);
    });
    const seen: unknown[] = [];
    const guarded = make(server).guard(async function purge(given: typeof args) {
      await later(1);
      seen.push(given);
      return given.ids.length;
    });
    assert.equal(await guarded(args), 1);
    assert.equal(guarded.name, "purge");
    const expected = JSON.parse('{"ids":[1],"deep":{"note":"x"},"__proto__":7}') as object;
    assert.deepEqual(seen, [expected]);
    assert.deepEqual(body(server), { tool: "purge", arguments: expected });
    assert.deepEqual(server.outcomes, [{ status: "ok" }]);
  }));

test("raw: no arguments, and a name that is said", () =>
  withServer(async (server) => {
    server.will(ALLOW, ALLOW);
    const client = make(server);
    assert.equal(
      await client.guard(function vacuum() {
        return arguments.length;
      })(),
      0,
    );
    assert.equal(await client.guard(() => 7, { tool: "answer", session: "s" })(), 7);
    assert.deepEqual(body(server), { tool: "vacuum", arguments: {} });
    assert.deepEqual(body(server, 1), { tool: "answer", arguments: {}, session: "s" });
  }));

test("explicit: fields may be functions of the arguments, and `this` is kept", () =>
  withServer(async (server) => {
    class Shop {
      name = "shop";
      deactivate = client.guard(
        function (this: Shop, ids: number[], note?: string) {
          return [this.name, ids.length, note];
        },
        {
          ...UPDATE,
          payload: (ids) => ({ record_count: ids.length }),
          session: (_, note) => note,
          recordIds: (ids) => ids,
        },
      );
    }
    server.will(ALLOW);
    const client = make(server);
    assert.deepEqual(await new Shop().deactivate([1, 2], "n"), ["shop", 2, "n"]);
    const told = { ...UPDATE, payload: { record_count: 2 }, session: "n", record_ids: [1, 2] };
    assert.deepEqual(body(server), told);
  }));

test("several arguments are named by a function", () =>
  withServer(async (server) => {
    server.will(ALLOW);
    const client = make(server);
    function move(from: string, to: string): string {
      return `${from} ${to}`;
    }
    assert.throws(() => client.guard(move), /name them, as in/);
    const named = client.guard(move, { arguments: (from, to) => ({ from, to }) });
    assert.equal(await named("a", "b"), "a b");
    assert.deepEqual(body(server), { tool: "move", arguments: { from: "a", to: "b" } });
  }));

test("explicit: what changes during the check does not run", () =>
  withServer(async (server) => {
    for (const script of [[], [HOLD]]) {
      const ids = [1];
      server.will(...script, (socket, asked) => {
        ids.push(2);
        return APPROVED(socket, asked);
      });
      const guarded = make(server).guard(never as (ids: number[]) => void, {
        ...UPDATE,
        recordIds: (ids) => ids,
        waitMs: 5000,
      });
      await assert.rejects(guarded(ids), (error: Error) => {
        return error instanceof PolicyViolationError && /changed/.test(error.message);
      });
    }
    assert.deepEqual(server.outcomes, []);
  }));

test("what cannot be checked before is refused when it is guarded", () => {
  const client = new Checkrein();
  class Job {}
  const bound = { run() {} }.run.bind({});
  const renamed = Object.defineProperty(bound.bind({}), "name", { value: "run" });
  const wrong: unknown[] = [
    7,
    undefined,
    "x",
    {},
    Job,
    function* () {},
    async function* () {},
    bound,
    () => 1,
  ];
  for (const fn of wrong) assert.throws(() => client.guard(fn as () => void), TypeError);
  assert.throws(() => client.guard(Job as never, UPDATE), /a class/);
  for (const fn of [bound, renamed]) {
    for (const options of [{ tool: "get_x" }, UPDATE, { arguments: () => ({}) }]) {
      assert.throws(() => client.guard(fn, options), /a bound function hides/);
    }
  }
  client.guard(new Proxy(never, {}), UPDATE); // as mocks are
  assert.throws(() => client.guard(never, { action: "a", tool: "b" }), /not both/);
  assert.throws(() => client.guard(never, { waitMs: NaN }), /waitMs/);
});

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

suite("a value that JSON cannot say exactly does not run", () => {
  const loop: Record<string, unknown> = {};
  loop["self"] = loop;
  let deep: unknown = 1;
  for (let i = 0; i < 70; i++) deep = [deep];
  const cases: [string, unknown, RegExp][] = [
    ["NaN", NaN, /arguments\.x is NaN/],
    ["Infinity", -Infinity, /is -Infinity/],
    ["a count above 2^53", 2 ** 53, /arguments\.x is 9007199254740992, over 2\^53/],
    ["a great number", 1e300, /send it as text/],
    ["bigint", 7n, /is a bigint.*send it as text/],
    ["undefined", undefined, /is undefined.*leave it out, or send null/],
    ["Date", new Date(0), /is a Date.*toISOString/],
    ["Map", new Map([[1, 2]]), /is a Map/],
    ["Set", new Set([1]), /is a Set/],
    ["RegExp", /x/, /is a RegExp/],
    ["bytes", new Uint8Array(3), /is a Uint8Array/],
    [
      "an instance",
      new (class User {
        id = 1;
      })(),
      /is a User/,
    ],
    ["a boxed text", new String("x"), /is a String/],
    ["an error", new Error("x"), /is a Error/],
    ["a promise", Promise.resolve(1), /is a Promise/],
    ["a function", () => 1, /is a function/],
    ["a symbol", Symbol("x"), /is a symbol/],
    ["a symbol key", { [Symbol("x")]: 1 }, /arguments\.x\[a symbol\]/],
    [
      "a getter",
      {
        get n() {
          return 1;
        },
      },
      /arguments\.x\.n is computed/,
    ],
    ["a hidden property", Object.defineProperty({}, "n", { value: 1 }), /JSON leaves out/],
    ["toJSON", { toJSON: () => 1 }, /is a function/],
    ["inherited fields", Object.create({ n: 1 }), /so it cannot be checked/],
    [
      "fields inherited of what looks like Object.prototype",
      Object.create(Object.assign(Object.create(null), { ids: [1], isPrototypeOf: 1, constructor: Object })),
      /is a Object with another prototype/,
    ],
    [
      "fields inherited in another realm",
      vm.runInNewContext("Object.prototype.ids = [1]; ({})"),
      /of another realm.*plain object/,
    ],
    ["a list of another realm", vm.runInNewContext("[1]"), /of another realm.*plain list/],
    [
      "a list with an iterator of its class",
      new (class Ids extends Array<number> {
        override *[Symbol.iterator](): ArrayIterator<number> {
          yield 7;
        }
      })(3).fill(0),
      /arguments\.x is a Ids, no plain list/,
    ],
    ["a list without a class", Object.setPrototypeOf([1], null), /no plain list/],
    ["a getter in a list", Object.defineProperty([1], 0, { get: () => 2 }), /x\[0\] is computed by a getter/],
    ["a Proxy of a list", new Proxy([1], {}), /arguments\.x is a Proxy/],
    ["a Proxy", new Proxy({ n: 1 }, {}), /arguments\.x is a Proxy/],
    ["a revoked Proxy", revoked(), /arguments\.x is a Proxy/],
    ["minus zero", [-0], /arguments\.x\[0\] is -0.*send 0/],
    ["a hole", [1, , 2], /is undefined/],
    ["a list with more", Object.assign([1], { more: 2 }), /holes or properties/],
    ["half a character", "\ud800", /lone surrogate/],
    ["half a character in a name", { "a\ud800": 1 }, /x\["a\\ud800"\] has a name with half a character/],
    ["what contains itself", loop, /contains itself/],
    ["what is nested deep", deep, /nested deeper than 60/],
    ["too many", Array(100_001).fill(1), /100001 items/],
    ["a hostile key", { "a\nb": undefined }, /arguments\.x\["a\\nb"\] is undefined/],
  ];
  for (const [name, value, message] of cases) {
    test(name, () =>
      withServer(async (server) => {
        const client = make(server, { onUnreachable: "allow" });
        const guarded = client.guard(never as (args: object) => never, { tool: "t" });
        const refused = (error: Error): boolean => {
          assert.ok(error instanceof BadRequestError);
          assert.match(error.message, message);
          return true;
        };
        await assert.rejects(guarded({ x: value }), refused);
        await assert.rejects(client.check({ tool: "t", arguments: { x: value } }), refused);
        const explicit = client.guard(never as (x: unknown) => never, { ...UPDATE, payload: (x) => ({ x }) });
        // What it says of `payload.x` is the same.
        await assert.rejects(explicit(value), BadRequestError);
        assert.deepEqual(server.asked, []);
      }),
    );
  }
});

test("what JSON can say runs as it is", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const x = [
      null,
      true,
      0.1,
      -5,
      2 ** 53 - 1,
      "\u{1f600}",
      { a: [], "": {} },
      Object.create(null) as object,
    ];
    const echo = make(server).guard(function echo(args: { x: unknown }) {
      return args.x;
    });
    assert.deepEqual(JSON.stringify(await echo({ x })), JSON.stringify(x));
  }));

test("errors are reported, and pass unchanged", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const client = make(server);
    class ReadTimeout extends Error {}
    const caused = (cause: unknown): Error => new TypeError("fetch failed", { cause });
    const cases: [unknown, string, string][] = [
      [new RangeError("no such column \ud800"), "error", "RangeError: no such column \ufffd"],
      [new DOMException("late", "TimeoutError"), "unknown", "TimeoutError: late"],
      [new DOMException("stop", "AbortError"), "unknown", "AbortError: stop"],
      [new ReadTimeout("late"), "unknown", "ReadTimeout: late"],
      [Object.assign(new Error("x"), { code: "ETIMEDOUT" }), "unknown", "Error: x"],
      [
        caused(Object.assign(new Error("x"), { code: "UND_ERR_HEADERS_TIMEOUT" })),
        "unknown",
        "TypeError: fetch failed",
      ],
      [caused(new Error("refused")), "error", "TypeError: fetch failed"],
      ["a text", "error", "not an Error was thrown"],
    ];
    for (const [error, status, told] of cases) {
      const work = client.guard(() => {
        throw error;
      }, UPDATE);
      await assert.rejects(work(), (caught) => caught === error);
      assert.deepEqual(server.outcomes.pop(), { status, error: told });
    }
  }));

test("what has yet to arrive has an unknown outcome", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const client = make(server);
    async function* rows(): AsyncGenerator<number> {
      yield 1;
    }
    for (const value of [rows(), [1][Symbol.iterator](), new Blob(["x"]).stream()]) {
      assert.equal(await client.guard(() => value, UPDATE)(), value);
      assert.deepEqual(server.outcomes.pop(), { status: "unknown" });
    }
  }));

test("a report that fails masks nothing", () =>
  withServer(async (server) => {
    const lines: string[] = [];
    const client = make(server, { timeoutMs: 2000, retries: 0 }, lines);
    for (const act of [
      scripted.problem(500, "x"),
      scripted.problem(404, "x"),
      scripted.silent,
      scripted.close,
    ]) {
      server.will().then_(ALLOW).onOutcome(act);
      assert.equal(await client.guard(() => 42, UPDATE)(), 42);
      await assert.rejects(
        client.guard(() => {
          throw new RangeError("r");
        }, UPDATE)(),
        RangeError,
      );
    }
    assert.equal(lines.filter((line) => line.includes("not on record")).length, 8);
  }));

test("a hold asks for approval, or waits for it", () =>
  withServer(async (server) => {
    const client = make(server);
    server.will(HOLD);
    await assert.rejects(client.guard(never, UPDATE)(), (error: ApprovalRequiredError) => {
      return error instanceof ApprovalRequiredError && error.result?.approvalId === "apr_1";
    });
    assert.deepEqual(server.outcomes, []);
    server.will(HOLD, HOLD, scripted.problem(502, "restarting"), scripted.close, APPROVED);
    assert.equal(await client.guard(() => 42, { ...UPDATE, waitMs: 20_000 })(), 42);
    assert.deepEqual(server.outcomes, [{ status: "ok" }]);
  }));

test("waiting in vain does not run", () =>
  withServer(async (server) => {
    const { problem, reply, decision } = scripted;
    const cases: [scripted.Act, typeof PolicyViolationError][] = [
      [decision({ verdict: "block", reason: "denied by ada" }), PolicyViolationError],
      [decision({ verdict: "approved" }), PolicyViolationError],
      [HOLD, ApprovalRequiredError],
      [scripted.silent, ApprovalRequiredError],
      [problem(500, "x"), ApprovalRequiredError],
      [problem(429, "x"), ApprovalRequiredError],
      [reply(200, "rubbish"), ApprovalRequiredError],
      [decision({ id: "chk_2" }), ApprovalRequiredError],
    ];
    for (const [act, kind] of cases) {
      server.will(HOLD).then_(act);
      const asked = server.asked.length;
      const client = make(server, { onUnreachable: "allow", timeoutMs: 2000 });
      await assert.rejects(
        client.guard(never, { ...UPDATE, waitMs: 500 })(),
        (error: Error) => error.constructor === kind,
      );
      assert.ok(server.asked.length - asked < 6, "not asked in a tight loop");
    }
  }));

test("run: a piece of code, which may report more itself", () =>
  withServer(async (server) => {
    server.will().then_(ALLOW);
    const client = make(server);
    const changed = await client.run({ ...UPDATE, recordIds: [1] }, async (check) => {
      await check.outcome("ok", { records: 7 });
      return 7;
    });
    assert.equal(changed, 7);
    await assert.rejects(
      client.run({ tool: "rm", arguments: { path: "/x" } }, () => {
        throw new RangeError("gone");
      }),
    );
    assert.deepEqual(server.outcomes, [
      { status: "ok", records: 7 },
      { status: "error", error: "RangeError: gone" },
    ]);
    server.will(BLOCK);
    await assert.rejects(client.run(UPDATE, never), PolicyViolationError);
  }));

test("parallel calls are each decided", () =>
  withServer(async (server) => {
    const ran: number[] = [];
    server.will().then_((socket, asked) => {
      return ((asked.body.arguments as { n: number }).n % 2 === 0 ? ALLOW : BLOCK)(socket, asked);
    });
    const guarded = make(server, { timeoutMs: 10_000 }).guard(({ n }: { n: number }) => void ran.push(n), {
      tool: "t",
    });
    const came = await Promise.allSettled([...Array(40).keys()].map((n) => guarded({ n })));
    assert.deepEqual(
      ran.sort((a, b) => a - b),
      [...Array(20).keys()].map((n) => 2 * n),
    );
    assert.deepEqual(
      came.map((c) => c.status === "rejected"),
      came.map((_, n) => n % 2 === 1),
    );
  }));
