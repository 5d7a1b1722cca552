"""Executions, snapshots and rollbacks against a scripted server."""

from __future__ import annotations

from typing import Any

import pytest
import scripted
from conftest import make, make_async
from scripted import DECISION, Server, decision, reply

from checkrein import (
    BadRequestError,
    ConflictError,
    RollbackConflictError,
    Snapshot,
    StatementError,
    UnreachableError,
)

RAN = DECISION | {
    "executed": True,
    "affected": 3,
    "columns": ["id"],
    "rows": [{"id": 1}, {"id": 2}],
    "snapshot_id": "snp_1",
}
SNAPSHOT = {
    "id": "snp_1",
    "target": "shop",
    "resource": "shop.users",
    "sealed": False,
    "state": "live",
    "records": 2,
    "by_resource": [{"resource": "shop.users", "records": 2}],
    "bytes": 512,
    "created_at": "2026-11-22T09:10:05.123456Z",
}
CONFLICT = {
    "resource": "shop.users",
    "key": {"id": "1"},
    "kind": "changed",
    "before": {"plan": "pro"},
    "after": {"plan": "free"},
    "now": {"plan": "team"},
}


def refusal(status: int, word: str, detail: str, **more: Any) -> scripted.Act:
    body = {"type": f"https://x/problems/{word}", "title": "T", "status": status, "detail": detail} | more
    return reply(status, body, "application/problem+json")


def test_an_execution_that_ran(server: Server) -> None:
    server.will(*[reply(200, RAN)])
    with make(server) as asked:
        done = asked.execute("shop", "UPDATE users SET plan = $1", ["free"], record_count=3)
        assert done
        assert (done.executed, done.affected, done.snapshot_id) == (True, 3, "snp_1")
        assert [row["id"] for row in done] == [1, 2]
        body = server.asked[0].body
        assert server.asked[0].path == "/v1/executions"
        assert body.pop("idempotency_key")
        assert body == {
            "target": "shop",
            "statement": "UPDATE users SET plan = $1",
            "params": ["free"],
            "record_count": 3,
        }


@pytest.mark.parametrize("verdict", ["block", "hold", "later"])
def test_what_is_not_allowed_did_not_run_whatever_else_is_said(server: Server, verdict: str) -> None:
    server.will(*[reply(200, RAN | {"verdict": verdict})])
    with make(server) as asked:
        done = asked.execute("shop", "DELETE FROM users")
        assert not done
        assert not done.executed
        assert done.blocked
        assert done.affected is None


def test_a_lost_answer_is_asked_for_again_under_one_key(server: Server) -> None:
    script = [scripted.close, reply(200, RAN | {"rows": None})]
    server.will(*script)
    with make(server) as asked:
        assert asked.execute("shop", "DELETE FROM users").rows is None
        first, second = (a.body["idempotency_key"] for a in server.asked)
        assert first == second


def test_nobody_knows_is_never_told_as_a_no(server: Server) -> None:
    server.will(*[scripted.close] * 3)
    with make(server) as asked, pytest.raises(UnreachableError, match="not known"):
        asked.execute("shop", "DELETE FROM users")


def test_a_refused_statement_is_an_error_of_its_own(server: Server) -> None:
    refused = refusal(422, "statement-failed", "23505: duplicate key")
    server.will(*[refused])
    with make(server) as asked, pytest.raises(StatementError, match="23505"):
        asked.execute("shop", "INSERT INTO users VALUES (1)")


def test_a_hold_is_waited_for_and_then_run(server: Server) -> None:
    script = [
        reply(200, DECISION | {"verdict": "hold", "executed": False, "approval_id": "apr_1"}),
        decision(verdict="allow", reason="Approved by Ada."),
        reply(200, RAN),
    ]
    server.will(*script)
    with make(server) as asked:
        held = asked.execute("shop", "DELETE FROM users WHERE id = $1", [7])
        assert held.held
        assert not held
        done = held.wait(5)
        assert done.executed
        first, polled, again = server.asked
        assert polled.path.startswith("/v1/checks/chk_1?wait=")
        assert again.body["statement"] == first.body["statement"]
        assert again.body["params"] == [7]
        assert again.body["idempotency_key"] != first.body["idempotency_key"]


def test_a_denied_hold_does_not_run(server: Server) -> None:
    script = [
        reply(200, DECISION | {"verdict": "hold", "executed": False, "approval_id": "apr_1"}),
        decision(verdict="block", reason="Denied by Ada."),
    ]
    server.will(*script)
    with make(server) as asked:
        answer = asked.execute("shop", "DELETE FROM users").wait(5)
        assert (answer.verdict, answer.reason, answer.executed) == ("block", "Denied by Ada.", False)
        assert len(server.asked) == 2


def test_one_statement_or_several_never_both(server: Server) -> None:
    server.will(*[reply(200, RAN)])
    with make(server) as asked:
        for wrong in ({}, {"statement": "SELECT 1", "statements": ["SELECT 2"]}):
            with pytest.raises(BadRequestError, match="exactly one"):
                asked.execute("shop", **wrong)  # type: ignore[arg-type]
        assert server.asked == []
        asked.execute("shop", statements=["DELETE FROM a", {"statement": "DELETE FROM b", "params": [1]}])
        assert server.asked[0].body["statements"] == [
            {"statement": "DELETE FROM a"},
            {"statement": "DELETE FROM b", "params": [1]},
        ]


def test_a_snapshot_is_its_id_wherever_one_is_wanted(server: Server) -> None:
    restored = {"status": "done", "id": "rbk_1", "snapshot_id": "snp_1", "restored": 2, "plan": {}}
    script = [reply(201, SNAPSHOT), reply(200, SNAPSHOT | {"sealed": True})] + [reply(200, restored)] * 4
    server.will(*script)
    with make(server) as asked:
        kept = asked.snapshot("shop.users", record_ids=[1, 2])
        assert server.asked[0].body == {"resource": "shop.users", "record_ids": [1, 2]}
        assert (kept.id, kept.snapshot_id, kept["id"], kept["snapshot_id"], str(kept)) == ("snp_1",) * 5
        assert asked.seal(kept).sealed
        assert asked.rollback(kept).restored == 2
        assert asked.rollback("snp_1").id == "rbk_1"
        assert asked.rollback(snapshot_id=kept.id).status == "done"
        assert asked.rollback({"id": "snp_1"}).status == "done"  # type: ignore[arg-type]
        assert {a.path for a in server.asked[2:]} == {"/v1/snapshots/snp_1/rollback"}
        for wrong in ("", None, 7):
            with pytest.raises(BadRequestError, match="snapshot"):
                asked.rollback(wrong)  # type: ignore[arg-type]


def test_conflicts_are_shown_whole(server: Server) -> None:
    told = {"conflicts": [CONFLICT], "conflict_count": 9, "plan": {"digest": "d1"}}
    refused = refusal(409, "rollback-conflicts", "1 record has changed since", **told)
    done = {"status": "done", "snapshot_id": "snp_1", "plan": {"digest": "d1"}}
    server.will(*[refused, reply(200, done)])
    with make(server) as asked:
        with pytest.raises(RollbackConflictError) as raised:
            asked.rollback("snp_1")
        assert isinstance(raised.value, ConflictError)
        assert raised.value.conflicts == [CONFLICT]
        assert raised.value.conflict_count == 9
        assert raised.value.digest == "d1"
        seen = asked.rollback("snp_1", on_conflict="force", plan_digest=raised.value.digest)
        assert seen.digest == "d1"
        assert server.asked[0].body == {"dry_run": False, "on_conflict": "refuse"}
        assert server.asked[1].body == {"dry_run": False, "on_conflict": "force", "plan_digest": "d1"}
        with pytest.raises(BadRequestError, match="on_conflict"):
            asked.rollback("snp_1", on_conflict="overwrite")


def test_a_rollback_is_never_repeated_by_itself(server: Server) -> None:
    server.will(*[scripted.close] * 3)
    with make(server) as asked:
        with pytest.raises(UnreachableError, match="not known"):
            asked.rollback("snp_1")
        assert len(server.asked) == 1


def test_pages_of_snapshots_are_put_together(server: Server) -> None:
    script = [
        reply(200, {"snapshots": [SNAPSHOT], "next_cursor": "7"}),
        reply(200, {"snapshots": [SNAPSHOT | {"id": "snp_2"}], "next_cursor": None}),
    ]
    server.will(*script)
    with make(server) as asked:
        assert [s.id for s in asked.list_snapshots(target="shop")] == ["snp_1", "snp_2"]
        assert server.asked[1].path == "/v1/snapshots?target=shop&cursor=7"


@pytest.mark.anyio
async def test_async_alike(server: Server) -> None:
    script = [
        reply(200, DECISION | {"verdict": "hold", "executed": False, "approval_id": "apr_1"}),
        decision(verdict="allow", reason="Approved by Ada."),
        reply(200, RAN),
        reply(201, SNAPSHOT),
        reply(200, {"status": "planned", "dry_run": True, "snapshot_id": "snp_1", "plan": {}}),
    ]
    server.will(*script)
    async with make_async(server) as asked:
        done = await (await asked.execute("shop", "DELETE FROM users")).wait(5)
        assert done.executed
        kept = await asked.snapshot("shop.users", [1])
        assert isinstance(kept, Snapshot)
        assert (await asked.rollback(kept, dry_run=True)).status == "planned"
        assert server.asked[-1].body == {"dry_run": True, "on_conflict": "refuse"}
