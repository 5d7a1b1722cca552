/** What is asked and how answers are read, against a scripted server. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import { inspect } from "node:util";
import {
  ApprovalRequiredError,
  BadRequestError,
  Checkrein,
  type CheckreinOptions,
  ConflictError,
  NotFoundError,
  PermissionDeniedError,
  type Policy,
  PolicyConflictError,
  PolicyInvalidError,
  PolicyViolationError,
  RateLimitedError,
  UnreachableError,
} from "checkrein";
import * as scripted from "./scripted.js";
import { ALLOW, BLOCK, HOLD, make, problem, reply, type Server, withServer } from "./scripted.js";

const UPDATE = { action: "update", resource: "shop.users" };

/** Runs `test` with these environment variables. */
async function withEnv(env: Record<string, string>, test: () => Promise<void>): Promise<void> {
  const before = { ...process.env };
  for (const name of ["no_proxy", "NO_PROXY"]) delete process.env[name];
  Object.assign(process.env, env);
  try {
    await test();
  } finally {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

test("settings come from the environment", () =>
  withServer((server) => {
    const env = {
      CHECKREIN_URL: `${server.url}/`,
      CHECKREIN_API_KEY: " ck_test\n",
      CHECKREIN_AGENT: "billing-bot",
      // A proxy must not be told the key of a server on this machine.
      HTTP_PROXY: "http://127.0.0.1:9",
    };
    return withEnv(env, async () => {
      server.will(ALLOW, ALLOW);
      const client = new Checkrein({ session: "run-1" });
      assert.ok((await client.check(UPDATE)).allowed);
      await client.check({ ...UPDATE, agent: "other", session: "run-2", idempotencyKey: "k" });
      assert.deepEqual(
        server.asked.map((a) => [a.body.agent, a.body.session]),
        [
          ["billing-bot", "run-1"],
          ["other", "run-2"],
        ],
      );
      assert.equal(server.asked[1]?.body.idempotency_key, "k");
      assert.equal(server.connections, 1, "the connection is kept");
      client.close();
    });
  }));

test("a proxy is used for other machines", () =>
  withServer(async (server) => {
    const asked = async (env: Record<string, string>): Promise<boolean> => {
      let allowed = false;
      await withEnv(env, async () => {
        server.will().then_(ALLOW);
        const client = make(server, { url: "http://checkrein.invalid:7070", retries: 0 });
        allowed = (await client.check(UPDATE)).allowed;
      });
      return allowed;
    };
    const proxy = server.url.replace("http://", "http://me:p%40ss@");
    assert.ok(await asked({ http_proxy: proxy }));
    assert.equal(server.asked[0]?.path, "http://checkrein.invalid:7070/v1/checks");
    assert.equal(server.asked[0]?.headers["host"], "checkrein.invalid:7070");
    assert.equal(server.asked[0]?.headers["proxy-authorization"], `Basic ${btoa("me:p@ss")}`);
    assert.ok(await asked({ HTTP_PROXY: server.url, NO_PROXY: "example.com,rein.invalid" }));
    for (const exempt of ["*", "x,checkrein.invalid", ".invalid", "*.invalid", "checkrein.invalid:7070"]) {
      assert.ok(!(await asked({ http_proxy: server.url, no_proxy: exempt })), exempt);
    }
    assert.ok(!(await asked({ https_proxy: server.url })));
  }));

test("TLS: a server for which nobody vouches is no server; through a proxy as well", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "checkrein-tls-"));
  try {
    const [key, cert] = [path.join(folder, "key.pem"), path.join(folder, "cert.pem")];
    const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    const names = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:checkrein.invalid,IP:127.0.0.1"];
    const made = spawnSync("openssl", [
      "req",
      "-x509",
      ...ec,
      "-nodes",
      ...names,
      "-keyout",
      key,
      "-out",
      cert,
    ]);
    assert.equal(made.status, 0, String(made.stderr));
    const run = (env: Record<string, string>): string => {
      const script = new URL("tls-program.js", import.meta.url).pathname;
      const done = spawnSync(process.execPath, [script, key, cert], {
        env: { ...process.env, ...env },
        encoding: "utf8",
      });
      assert.equal(done.status, 0, done.stderr);
      return done.stdout;
    };
    const stranger = run({ NODE_EXTRA_CA_CERTS: "" });
    assert.match(stranger, /^direct: block .*self-signed certificate/m);
    assert.match(stranger, /^asked: 0$/m);
    const known = run({ NODE_EXTRA_CA_CERTS: cert });
    for (const line of [
      "direct: allow",
      "tunnel: allow",
      "asked: 2",
      "tunnelled to: checkrein.invalid:7070",
    ]) {
      assert.match(known, new RegExp(`^${line}`, "m"));
    }
    assert.match(known, /^refused: block .*the proxy answered 403/m);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("every field arrives", () =>
  withServer(async (server) => {
    server.will(ALLOW, ALLOW);
    const client = make(server);
    const explicit = {
      ...UPDATE,
      payload: { record_count: 2 },
      statement: "update users set a = $1",
      params: ["x"],
    };
    await client.check({ ...explicit, recordIds: [7] });
    await client.check({ tool: "send_email", arguments: { to: ["a@b.c"], sql: null } });
    const bodies = server.asked.map(({ body }) => ({ ...(body as object), idempotency_key: 0 }));
    assert.deepEqual(bodies, [
      { ...explicit, record_ids: [7], idempotency_key: 0 },
      { tool: "send_email", arguments: { to: ["a@b.c"], sql: null }, idempotency_key: 0 },
    ]);
    await assert.rejects(client.check({ resource: "shop.users" }), /exactly one/);
    await assert.rejects(client.check({ action: "update", tool: "update" }), BadRequestError);
  }));

test("the decision is read whole", () =>
  withServer(async (server) => {
    const matched = { name: "mail", rule: "alert", mode: "enforce", reason: "120 recipients" };
    const policies = [{ ...matched, exempted_by: "newsletter" }, "rubbish"];
    server.will(scripted.decision({ policies, verdict: "hold", approval_id: "apr_1" }));
    const result = await make(server).check(UPDATE);
    assert.deepEqual(result.policies, [{ ...matched, exemptedBy: "newsletter" }]);
    const { verdict, held, blocked, allowed, id, category, environment, approvalId, degraded } = result;
    assert.deepEqual([verdict, held, blocked, allowed, degraded], ["hold", true, true, false, false]);
    assert.deepEqual([id, category, environment, approvalId], ["chk_1", "write", "production", "apr_1"]);
    assert.equal(result.blastRadius?.records, 3);
    assert.equal(result.blastRadius?.recipients, null);
    assert.deepEqual(result.blastRadius?.byResource, [{ resource: "shop.users", records: 3 }]);
    assert.deepEqual(result.raw["a_field_of_a_later_version"], { x: 1 });
  }));

test("a count that a number cannot hold is unknown", () =>
  withServer(async (server) => {
    const radius =
      '{"records":9007199254740993,"systems":1,"basis":"declared","declared":1.5,"by_resource":[]}';
    const text = JSON.stringify({ ...scripted.DECISION, blast_radius: "?" }).replace('"?"', radius);
    server.will(reply(200, text));
    const { blastRadius } = await make(server).check(UPDATE);
    assert.deepEqual([blastRadius?.records, blastRadius?.systems, blastRadius?.declared], [null, 1, null]);
  }));

test("forgetting await is noticed", () =>
  withServer(async (server) => {
    server.will().then_(BLOCK);
    const client = make(server);
    const pending = client.check(UPDATE) as unknown as { blocked: boolean };
    assert.throws(() => pending.blocked, /await client\.check/);
    const running = client.execute({ target: "shop", statement: "select 1" }) as unknown as {
      blocked: boolean;
    };
    assert.throws(() => running.blocked, /await client\.execute/);
    await later(50);
  }));

test("throwIfBlocked", () =>
  withServer(async (server) => {
    server.will(ALLOW, BLOCK, HOLD);
    const client = make(server);
    (await client.check(UPDATE)).throwIfBlocked();
    const blocked = await client.check(UPDATE);
    assert.throws(() => blocked.throwIfBlocked(), PolicyViolationError);
    const held = await client.check(UPDATE);
    assert.throws(() => held.throwIfBlocked(), ApprovalRequiredError);
  }));

test("policies", () =>
  withServer(async (server) => {
    const policy: Policy = { name: "a/b ü", rule: "block", condition: { action: "delete" } };
    const answer = reply(200, policy);
    const gone = reply(204, "");
    const all = reply(200, { policies: [policy] });
    server.will(reply(201, policy), answer, all, answer, gone, all);
    const { policies } = make(server);
    assert.deepEqual(await policies.create(policy), policy);
    assert.deepEqual(await policies.create(policy), policy);
    assert.deepEqual(await policies.list(), [policy]);
    assert.deepEqual(await policies.get("a/b ü"), policy);
    await policies.delete("a/b ü");
    await policies.apply([policy]);
    assert.deepEqual(
      server.asked.map((a) => `${a.method} ${a.path}`),
      [
        "POST /v1/policies",
        "POST /v1/policies",
        "GET /v1/policies",
        "GET /v1/policies/a%2Fb%20%C3%BC",
        "DELETE /v1/policies/a%2Fb%20%C3%BC",
        "PUT /v1/policies",
      ],
    );
    assert.deepEqual(server.asked.at(-1)?.body, { policies: [policy] });
    for (const name of ["", ".", ".."]) await assert.rejects(policies.delete(name), BadRequestError);
  }));

test("errors about policies", () =>
  withServer(async (server) => {
    const errors = [
      { subject: "p", path: "condition.record_count_exceds", message: "unknown key" },
      { subject: "p", path: "", message: "rule `blok` is not known" },
      { what: "else" },
    ];
    server.will(
      problem(409, "`p` exists with other content"),
      problem(422, "2 problems", errors),
      problem(404, "no policy `p`"),
      problem(403, "an agent's key cannot change policies"),
      problem(400, "not JSON"),
      problem(429, "slow down", undefined, { "retry-after": "100" }),
    );
    const { policies } = make(server);
    const policy = { name: "p", rule: "block" } as const;
    await assert.rejects(policies.create(policy), (error: PolicyConflictError) => {
      assert.ok(error instanceof PolicyConflictError);
      assert.deepEqual([error.status, error.type, error.name], [409, "https://x/p", "PolicyConflictError"]);
      return true;
    });
    await assert.rejects(policies.create(policy), (error: PolicyInvalidError) => {
      assert.ok(error instanceof PolicyInvalidError);
      const lines = [
        "2 problems",
        "- p condition.record_count_exceds: unknown key",
        "- p: rule `blok` is not known",
      ];
      assert.equal(error.message, [...lines, "- what: else"].join("\n"));
      assert.equal(error.problems.length, 3);
      return true;
    });
    await assert.rejects(policies.get("p"), NotFoundError);
    await assert.rejects(policies.apply([]), PermissionDeniedError);
    await assert.rejects(policies.apply([]), (error: Error) => {
      return error instanceof BadRequestError && !(error instanceof PolicyInvalidError);
    });
    await assert.rejects(policies.list(), RateLimitedError);
  }));

test("approvals", () =>
  withServer(async (server) => {
    const approval = { id: "apr_1", state: "pending" };
    server.will(
      reply(200, { approvals: [approval], next_cursor: "c/1" }),
      reply(200, { approvals: [approval] }),
      reply(200, approval),
      reply(200, { ...approval, state: "approved" }),
      problem(409, "already approved"),
      reply(200, { approval: [] }),
    );
    const { approvals } = make(server);
    assert.deepEqual(await approvals.list("pending"), [approval, approval]);
    assert.deepEqual(await approvals.get("apr_1"), approval);
    assert.equal((await approvals.approve("apr_1", "fine")).state, "approved");
    await assert.rejects(approvals.deny("apr_1"), ConflictError);
    await assert.rejects(approvals.list(), UnreachableError);
    assert.deepEqual(
      server.asked.slice(0, 5).map((a) => [a.method, a.path, a.body]),
      [
        ["GET", "/v1/approvals?state=pending", undefined],
        ["GET", "/v1/approvals?state=pending&cursor=c%2F1", undefined],
        ["GET", "/v1/approvals/apr_1", undefined],
        ["POST", "/v1/approvals/apr_1/decision", { decision: "approve", comment: "fine" }],
        ["POST", "/v1/approvals/apr_1/decision", { decision: "deny" }],
      ],
    );
  }));

test("outcome", () =>
  withServer(async (server) => {
    const lines: string[] = [];
    server.will(ALLOW);
    const result = await make(server, {}, lines).check(UPDATE);
    assert.equal(await result.outcome("error", { records: 2, error: "x".repeat(5000) }), true);
    assert.deepEqual(server.outcomes, [{ status: "error", records: 2, error: "x".repeat(2000) }]);
    assert.equal(server.asked.at(-1)?.path, "/v1/checks/chk_1/outcome");
    await assert.rejects(result.outcome("fine" as never), /an outcome is one of/);
    server.onOutcome(scripted.close);
    assert.equal(await result.outcome("ok"), false);
    assert.match(lines.join(), /the outcome ok of chk_1 is not on record/);
  }));

test("a wait ends on time and stays held, and can be ended", () =>
  withServer(async (server) => {
    server.will(HOLD).then_(scripted.silent);
    const held = await make(server, { timeoutMs: 1500 }).check(UPDATE);
    const started = performance.now();
    const after = await held.wait({ timeoutMs: 600 });
    assert.ok(performance.now() - started < 8000);
    assert.deepEqual([after.held, after.blocked], [true, true]);
    await assert.rejects(held.wait({ signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
    await assert.rejects(held.wait({ timeoutMs: -1 }), /timeoutMs/);
  }));

test("a wait takes a long poll", () =>
  withServer(async (server) => {
    server.will(HOLD, async (socket, asked) => {
      assert.equal(asked.path, "/v1/checks/chk_1?wait=30s");
      await later(1500); // longer than the client's time-out for a check
      await scripted.decision({ verdict: "block", reason: "denied by ada" })(socket, asked);
    });
    const held = await make(server, { timeoutMs: 1000 }).check(UPDATE);
    const result = await held.wait({ timeoutMs: 60_000 });
    assert.deepEqual([result.verdict, result.reason], ["block", "denied by ada"]);
    assert.equal(server.asked.length, 2);
  }));

test("waiting: a server that is busy is asked again, one that forgets the key throws", () =>
  withServer(async (server) => {
    const busy = problem(429, "busy", undefined, { "retry-after": "3600" });
    const approved = scripted.decision({ reason: "approved by ada" });
    server.will(HOLD, busy, scripted.close, scripted.decision({ id: "chk_2" }), approved);
    assert.equal((await (await make(server).check(UPDATE)).wait()).reason, "approved by ada");
    server.will(HOLD, problem(403, "revoked"));
    await assert.rejects((await make(server).check(UPDATE)).wait(), PermissionDeniedError);
    server.will(reply(200, { verdict: "hold" }));
    const nameless = await make(server).check(UPDATE);
    assert.equal(await nameless.wait(), nameless);
  }));

test("a check can be given up", () =>
  withServer(async (server) => {
    const reason = new Error("no longer wanted");
    const given = new AbortController();
    server.will().then_(() => given.abort(reason));
    const client = make(server, { onUnreachable: "allow" });
    await assert.rejects(client.check({ ...UPDATE, signal: given.signal }), reason);
    await assert.rejects(client.check({ ...UPDATE, signal: given.signal }), reason);
    assert.equal(server.asked.length, 1);
  }));

const byNumber: scripted.Act = (socket, asked) => {
  const { n } = asked.body.payload as { n: number };
  return scripted.decision({ id: `chk_${n}`, verdict: n % 2 ? "allow" : "block" })(socket, asked);
};

test("many at once through one client", () =>
  withServer(async (server) => {
    server.will().then_(byNumber);
    const client = make(server, { timeoutMs: 20_000 });
    const numbers = [...Array(300).keys()];
    const results = await Promise.all(numbers.map((n) => client.check({ ...UPDATE, payload: { n } })));
    assert.deepEqual(
      results.map((r) => [r.id, r.allowed]),
      numbers.map((n) => [`chk_${n}`, n % 2 === 1]),
    );
    client.close();
    await assert.rejects(client.check(UPDATE), /closed/);
  }));

test("a server that closes idle connections", () =>
  withServer(async (server) => {
    const thenClose: scripted.Act = async (socket, asked) => {
      await ALLOW(socket, asked);
      socket.end();
    };
    server.will().then_(thenClose);
    const client = make(server, { timeoutMs: 5000 });
    for (let i = 0; i < 5; i++) assert.ok((await client.check(UPDATE)).allowed);
  }));

test("wrong settings are refused at once", () => {
  const cases: [CheckreinOptions, RegExp][] = [
    [{ onUnreachable: "alow" as never }, /onUnreachable/],
    [{ onUnreachable: null as never }, /onUnreachable/],
    [{ url: "127.0.0.1:7070" }, /url must look like/],
    [{ url: "ftp://x" }, /url must look like/],
    [{ url: "http:x" }, /url must look like/],
    [{ url: "http://user:pw@x" }, /apiKey/],
    [{ url: "http://x?y" }, /no user, query/],
    [{ url: "http://x:99999" }, /url must look like/],
    [{ timeoutMs: 0 }, /timeoutMs/],
    [{ timeoutMs: NaN }, /timeoutMs/],
    [{ timeoutMs: 300_000 }, /timeoutMs/],
    [{ retries: -1 }, /retries/],
    [{ retries: 1.5 }, /retries/],
    [{ apiKey: "ck_a\r\nx: y" }, /API key/],
    [{ apiKey: "ck_ä" }, /API key/],
  ];
  for (const [settings, message] of cases) assert.throws(() => new Checkrein(settings), message);
});

test("the key is not shown", () =>
  withServer(async (server: Server) => {
    server.will(BLOCK);
    const client = make(server);
    const result = await client.check(UPDATE);
    for (const shown of [inspect(client, { depth: 9, showHidden: true }), JSON.stringify([client, result])]) {
      assert.ok(!shown.includes("ck_test"));
    }
    client.close();
    await assert.rejects(client.check(UPDATE), /closed/);
  }));
