/** Executions, snapshots and rollbacks against a scripted server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, RollbackConflictError, StatementError, UnreachableError } from "checkrein";
import * as scripted from "./scripted.js";
import { type Act, DECISION, decision, make, reply, withServer } from "./scripted.js";

const RAN = {
  ...DECISION,
  executed: true,
  affected: 3,
  columns: ["id"],
  rows: [{ id: 1 }, { id: 2 }],
  snapshot_id: "snp_1",
};
const HELD = reply(200, { ...DECISION, verdict: "hold", executed: false, approval_id: "apr_1" });
const DELETE = { target: "shop", statement: "DELETE FROM users WHERE id = $1", params: [7] };

function refusal(status: number, word: string, more: object = {}): Act {
  const body = { type: `https://x/problems/${word}`, title: "T", status, detail: word, ...more };
  return reply(status, body, "application/problem+json");
}

test("an execution that ran", () =>
  withServer(async (server) => {
    server.will(reply(200, RAN));
    const done = await make(server, { agent: "ada" }).execute({ ...DELETE, recordCount: 3, session: "s" });
    assert.deepEqual(
      [done.executed, done.affected, done.snapshotId, done.columns],
      [true, 3, "snp_1", ["id"]],
    );
    assert.deepEqual(done.rows, [{ id: 1 }, { id: 2 }]);
    const { idempotency_key: key, ...body } = server.asked[0]?.body as Record<string, unknown>;
    assert.ok(key);
    assert.deepEqual(body, { ...DELETE, record_count: 3, agent: "ada", session: "s" });
  }));

test("what is not allowed did not run, whatever else is said", () =>
  withServer(async (server) => {
    for (const verdict of ["block", "hold", "later"]) {
      server.will(reply(200, { ...RAN, verdict }));
      const done = await make(server).execute(DELETE);
      assert.deepEqual([done.executed, done.blocked, done.affected], [false, true, undefined]);
    }
  }));

test("a lost answer is asked for again under one key; nobody knows is never told as a no", () =>
  withServer(async (server) => {
    server.will(scripted.close, reply(200, { ...RAN, rows: null }));
    assert.equal((await make(server).execute(DELETE)).rows, undefined);
    const [first, second] = server.asked.map((a) => a.body.idempotency_key as string);
    assert.equal(first, second);
    server.will().then_(scripted.close);
    const lost = make(server, { onUnreachable: "allow" }).execute({ ...DELETE, idempotencyKey: "k" });
    await assert.rejects(lost, (error: Error) => {
      return error instanceof UnreachableError && /not known.*idempotencyKey: "k"/.test(error.message);
    });
  }));

test("a hold is waited for and then run, once", () =>
  withServer(async (server) => {
    server.will(HELD, decision({ reason: "Approved by Ada." }), reply(200, RAN));
    const held = await make(server).execute(DELETE);
    assert.deepEqual([held.held, held.executed], [true, false]);
    assert.ok((await held.wait()).executed);
    const [first, polled, again] = server.asked;
    assert.match(polled?.path ?? "", /^\/v1\/checks\/chk_1\?wait=/);
    assert.deepEqual([again?.body.statement, again?.body.params], [DELETE.statement, [7]]);
    assert.notEqual(again?.body.idempotency_key, first?.body.idempotency_key);
    server.will(HELD, decision({ verdict: "block", reason: "Denied by Ada." }));
    const denied = await (await make(server).execute(DELETE)).wait();
    assert.deepEqual([denied.verdict, denied.reason, denied.executed], ["block", "Denied by Ada.", false]);
  }));

test("one statement or several, never both", () =>
  withServer(async (server) => {
    server.will(reply(200, { ...RAN, results: [{ affected: 1 }, { affected: 2 }] }));
    const client = make(server);
    const statements = ["SELECT 1", { statement: "SELECT $1", params: [2] }];
    assert.equal((await client.execute({ target: "shop", statements })).results.length, 2);
    assert.deepEqual(server.asked[0]?.body.statements, [{ statement: "SELECT 1" }, statements[1]]);
    await assert.rejects(client.execute({ ...DELETE, statements }), /exactly one/);
    await assert.rejects(client.execute({ target: "shop" }), /exactly one/);
  }));

test("refusals are errors of their own", () =>
  withServer(async (server) => {
    const conflict = {
      resource: "shop.users",
      key: { id: "1" },
      kind: "changed",
      before: {},
      after: {},
      now: {},
    };
    const conflicts = { conflicts: [conflict], conflict_count: 250, plan: { digest: "d1" } };
    server.will(
      refusal(422, "statement-failed"),
      refusal(409, "rollback-conflicts", conflicts),
      refusal(409, "rollback-running"),
    );
    const client = make(server);
    await assert.rejects(client.execute(DELETE), StatementError);
    await assert.rejects(client.rollback("snp_1"), (error: RollbackConflictError) => {
      assert.ok(error instanceof RollbackConflictError);
      assert.deepEqual([error.conflicts, error.conflictCount, error.digest], [[conflict], 250, "d1"]);
      return true;
    });
    await assert.rejects(
      client.rollback("snp_1", { onConflict: "force", planDigest: "d1" }),
      (error: Error) => {
        return error instanceof ConflictError && !(error instanceof RollbackConflictError);
      },
    );
    assert.deepEqual(server.asked.at(-1)?.body, { dry_run: false, on_conflict: "force", plan_digest: "d1" });
  }));

test("a dry run may be asked for again; what is no snapshot is refused", () =>
  withServer(async (server) => {
    const plan = {
      snapshot_id: "snp_1",
      status: "planned",
      restored: 0,
      plan: { notes: ["n"], by_resource: [] },
    };
    server.will(scripted.close, reply(200, plan), reply(200, {}), reply(200, { id: 7 }));
    const client = make(server);
    const planned = await client.rollback({ id: "snp_1" }, { dryRun: true });
    assert.deepEqual([planned.status, planned.notes], ["planned", ["n"]]);
    await assert.rejects(client.rollback("snp_1"), /not Checkrein/);
    await assert.rejects(client.seal("snp_1"), /not Checkrein/);
    for (const wrong of ["", "chk_1", {}, { id: "chk_1", snapshotId: undefined }]) {
      await assert.rejects(client.getSnapshot(wrong), /looks like snp_/);
    }
  }));
