/** The SDK against the real server: everything that it asks, it is understood in. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import {
  ApprovalRequiredError,
  AuthenticationError,
  BadRequestError,
  Checkrein,
  ConflictError,
  NotFoundError,
  PermissionDeniedError,
  type Policy,
  PolicyConflictError,
  PolicyInvalidError,
  PolicyViolationError,
  RollbackConflictError,
  StatementError,
} from "checkrein";
import { type RealServer, serve } from "./real-server.js";

const BULK: Policy = {
  name: "blast_radius_limit",
  rule: "block",
  condition: { action: "update", record_count_exceeds: 25 },
};
const REFUND: Policy = { name: "refunds", rule: "require_approval", condition: { action: "refund" } };
const READ = { action: "read", resource: "elsewhere.users" };
const UPDATE = { action: "update", resource: "elsewhere.users" };
const TARGET = `[targets.shop]
kind = "sqlite"
path = "{folder}/shop.sqlite"
environment = "production"
`;

const sql = (script: string): void => server.sql("shop.sqlite", script);
let server: RealServer;
let admin: Checkrein;
before(async () => {
  server = await serve(TARGET);
  admin = server.admin();
  await admin.policies.apply([BULK, REFUND]);
});
after(async () => {
  admin.close();
  await server.stop();
});

test("a check goes on record and comes back", async () => {
  const result = await admin.check({
    ...UPDATE,
    payload: { record_count: 10_000 },
    agent: "ada",
    session: "s1",
  });
  assert.deepEqual([result.verdict, result.category, result.environment], ["block", "write", "production"]);
  assert.deepEqual([result.degraded, result.policies[0]?.name], [false, "blast_radius_limit"]);
  assert.match(result.reason, /10000/);
  assert.deepEqual([result.blastRadius?.records, result.blastRadius?.declared], [10_000, 10_000]);
  assert.ok(result.id && result.loggedAt);
  assert.ok((await admin.check({ ...UPDATE, payload: { record_count: 25 } })).allowed);
  assert.ok((await admin.check(UPDATE)).blocked, "an unknown count is too many");
});

test("one idempotency key, one record", async () => {
  const ask = (idempotencyKey?: string) => admin.check({ ...READ, idempotencyKey });
  const [first, second, other] = [await ask("k1"), await ask("k1"), await ask()];
  assert.equal(first.id, second.id);
  assert.notEqual(first.id, other.id);
});

test("the raw form is classified", async () => {
  const result = await admin.check({ tool: "delete_users", arguments: { ids: [1, 2, 3] } });
  assert.deepEqual([result.category, result.blastRadius?.records], ["delete", 3]);
  const deleteUsers = admin.guard(async function delete_users({ ids }: { ids: number[] }) {
    return ids.length;
  });
  assert.equal(await deleteUsers({ ids: [1] }), 1);
});

test("policies", async () => {
  assert.equal((await admin.policies.create(BULK)).name, "blast_radius_limit");
  const condition = { action: "update", record_count_exceeds: 26 };
  await assert.rejects(admin.policies.create({ ...BULK, condition }), PolicyConflictError);
  const broken = {
    name: "x",
    rule: "block",
    condition: { action: "update", record_count_exceds: 25 },
  } as const;
  await assert.rejects(admin.policies.create(broken), (error: PolicyInvalidError) => {
    return error instanceof PolicyInvalidError && /record_count_exceeds/.test(error.message);
  });
  assert.equal((await admin.policies.get("refunds")).rule, "require_approval");
  await assert.rejects(
    admin.policies.apply([BULK, { ...broken, rule: "blok" as never }]),
    PolicyInvalidError,
  );
  assert.equal((await admin.policies.list()).length, 2, "all or nothing");
  await admin.policies.create({ name: "gone", rule: "alert", condition: { action: "x" } });
  await admin.policies.delete("gone");
  await assert.rejects(admin.policies.delete("gone"), NotFoundError);
});

test("a wrong key and a wrong request throw", async () => {
  const stranger = new Checkrein({
    url: server.url,
    apiKey: `ck_agent_${"0".repeat(64)}`,
    onUnreachable: "allow",
  });
  await assert.rejects(stranger.check(READ), AuthenticationError);
  await assert.rejects(stranger.guard(() => assert.fail("it ran"), READ)(), AuthenticationError);
  await assert.rejects(admin.check({ ...READ, action: "upd\u200bate" }), BadRequestError);
  await assert.rejects(admin.check({ ...UPDATE, payload: { x: "y".repeat(3_000_000) } }), BadRequestError);
});

test("an agent's key is only that", async () => {
  const args = ["--role", "agent", "--name", "bot", "--agent", "bot", "--json"];
  const { key: apiKey } = JSON.parse(server.command("keys", "create", ...args)) as { key: string };
  const bot = new Checkrein({ url: server.url, apiKey, timeoutMs: 10_000 });
  assert.ok((await bot.check(READ)).allowed);
  await assert.rejects(bot.check({ ...READ, agent: "ada" }), PermissionDeniedError);
  await assert.rejects(bot.policies.apply([]), PermissionDeniedError);
  const held = await bot.check({ action: "refund", resource: "elsewhere.orders", recordIds: [9] });
  assert.ok(held.held, held.reason);
  await assert.rejects(bot.approvals.approve(held.approvalId ?? ""), PermissionDeniedError);
  bot.close();
});

test("a person decides", async () => {
  const orders: number[] = [];
  const options = {
    action: "refund",
    resource: "elsewhere.orders",
    recordIds: ({ id }: { id: number }) => [id],
  };
  const refund = (waitMs: number, id: number) =>
    admin.guard(({ id }: { id: number }) => void orders.push(id), { ...options, waitMs })({ id });
  await assert.rejects(refund(0, 1), ApprovalRequiredError);
  for (const [answer, id] of [
    ["approve", 2],
    ["deny", 3],
  ] as const) {
    const came = refund(20_000, id).then(
      () => "ran",
      (error: Error) => error,
    );
    await later(300);
    const [newest] = await admin.approvals.list("pending");
    assert.ok(newest);
    assert.deepEqual(newest.check.record_ids, [id]);
    await admin.approvals[answer](newest.id, "because");
    await assert.rejects(admin.approvals.approve(newest.id), ConflictError);
    const end = await came;
    if (answer === "approve") assert.equal(end, "ran");
    else assert.ok(end instanceof PolicyViolationError && /because/.test(end.message));
  }
  assert.deepEqual(orders, [2]);
});

test("outcomes are taken", async () => {
  const result = await admin.check(READ);
  assert.ok(await result.outcome("ok", { records: 3 }));
  assert.match(server.command("log", "tail", "--json"), /"status":"ok","records":3/);
});

test("executions, snapshots and rollback", async () => {
  const run = (statement: string, params?: unknown[]) => admin.execute({ target: "shop", statement, params });
  const rows = [...Array(40).keys()].map((n) => `(${n}, 'pro')`).join();
  sql(`CREATE TABLE users (id INTEGER PRIMARY KEY, plan TEXT); INSERT INTO users VALUES ${rows}`);

  const done = await run("UPDATE users SET plan = ? WHERE id < ?", ["free", 12]);
  assert.deepEqual([done.executed, done.affected, done.blocked], [true, 12, false]);
  const read = await run("SELECT plan, count(*) AS n FROM users GROUP BY plan ORDER BY plan");
  assert.deepEqual(read.rows, [
    { plan: "free", n: 12 },
    { plan: "pro", n: 28 },
  ]);
  assert.deepEqual(read.columns, ["plan", "n"]);
  const all = await run("UPDATE users SET plan = 'x'");
  assert.deepEqual([all.executed, all.blocked, all.affected], [false, true, undefined]);
  await assert.rejects(run("UPDATE nothing SET plan = 1"), StatementError);
  await assert.rejects(admin.execute({ target: "shop" }), BadRequestError);
  const big = await run("SELECT 9007199254740993 AS n");
  assert.deepEqual(big.rows, [{ n: "9007199254740993" }], "no digit is lost");
  const both = await admin.execute({
    target: "shop",
    statements: ["SELECT 1", { statement: "SELECT ?", params: [2] }],
  });
  assert.equal(both.results.length, 2);

  const plan = await admin.rollback(done, { dryRun: true });
  assert.equal(plan.status, "planned");
  sql("UPDATE users SET plan = 'gold' WHERE id = 3");
  await assert.rejects(admin.rollback(done), (error: RollbackConflictError) => {
    return (
      error instanceof RollbackConflictError && error.conflictCount === 1 && error.conflicts.length === 1
    );
  });
  const seen = await admin.rollback(done, { dryRun: true });
  sql("UPDATE users SET plan = 'platinum' WHERE id = 3");
  let now: string | undefined;
  const stale = admin.rollback(done, { onConflict: "skip", planDigest: seen.digest ?? "" });
  await assert.rejects(stale, (error: RollbackConflictError) => {
    now = error.digest;
    return error instanceof RollbackConflictError && seen.digest !== undefined && now !== seen.digest;
  });
  const undone = await admin.rollback(done, { onConflict: "skip", planDigest: now ?? "" });
  assert.deepEqual([undone.status, undone.restored], ["done", 11]);
  assert.ok(undone.undoSnapshotId);

  const kept = await admin.snapshot({ resource: "shop.users", recordIds: [20, 21] });
  assert.deepEqual([kept.records, kept.sealed], [2, false]);
  sql("UPDATE users SET plan = 'none' WHERE id IN (20, 21)");
  assert.ok((await admin.seal(kept)).sealed);
  assert.equal((await admin.getSnapshot(kept.id)).id, kept.id);
  assert.ok((await admin.listSnapshots({ target: "shop" })).some((s) => s.id === kept.id));
  assert.equal((await admin.rollback(kept)).restored, 2);
  await assert.rejects(admin.rollback("chk_1"), BadRequestError);
  await assert.rejects(admin.rollback(kept, { onConflict: "overwrite" as never }), /onConflict/);
});

test("a held execution runs when it is approved", async () => {
  const ask: Policy = { name: "ask", rule: "require_approval", condition: { action: "insert" } };
  await admin.policies.create(ask);
  sql("CREATE TABLE notes (id INTEGER PRIMARY KEY)");
  const held = await admin.execute({ target: "shop", statement: "INSERT INTO notes VALUES (1)" });
  assert.deepEqual([held.held, held.executed], [true, false]);
  const waiting = held.wait({ timeoutMs: 20_000 });
  await admin.approvals.approve(held.approvalId ?? "");
  const done = await waiting;
  assert.deepEqual([done.executed, done.affected], [true, 1]);
  const other = await admin.execute({ target: "shop", statement: "INSERT INTO notes VALUES (2)" });
  await admin.approvals.deny(other.approvalId ?? "", "no");
  const denied = await other.wait();
  assert.deepEqual([denied.blocked, denied.held, denied.executed], [true, false, false]);
});

test("a sample shows some of the records that would go", async () => {
  const ask: Policy = { name: "ask_delete", rule: "require_approval", condition: { action: "delete" } };
  await admin.policies.create(ask);
  sql("CREATE TABLE people (id INTEGER PRIMARY KEY, password TEXT); INSERT INTO people VALUES (7, 'geheim')");
  const held = await admin.execute({ target: "shop", statement: "DELETE FROM people" });
  const sample = await admin.approvals.sample(held.approvalId ?? "");
  assert.deepEqual(sample.resources, [
    { resource: "shop.people", columns: ["id", "password"], rows: [[7, "[redacted]"]] },
  ]);
  await admin.approvals.deny(held.approvalId ?? "");
  await assert.rejects(admin.approvals.sample(held.approvalId ?? ""), ConflictError);
});
