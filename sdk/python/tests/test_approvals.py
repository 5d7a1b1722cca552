"""Two people, grants, comments, links and withdrawal through the SDK, against the real server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from real_server import RealServer, serving

from checkrein import AsyncCheckrein, Checkrein, ConflictError, RollbackConflictError

REFUND: dict[str, Any] = {"action": "refund", "resource": "shop.orders", "payload": {"record_count": 1}}


@pytest.fixture
def server() -> Iterator[RealServer]:
    with serving() as running:
        yield running


def asking(server: RealServer, approvals: int = 1) -> Checkrein:
    client = Checkrein(server.url, api_key=server.admin_key)
    client.policies.create(
        {
            "name": "ask",
            "rule": "require_approval",
            "approvals": approvals,
            "condition": {"action": "refund"},
        }
    )
    return client


def test_two_people_comments_and_links(server: RealServer) -> None:
    with asking(server, 2) as client:
        held = client.check(**REFUND, agent="shop-bot")
        assert held.approval_id
        link = client.approvals.link(held.approval_id, "alice", "1h")
        assert link["path"].startswith("/approve/")
        assert link["for"] == "alice"
        said = client.approvals.comment(held.approval_id, "waiting for finance")
        assert said["comments"][0]["text"] == "waiting for finance"
        assert (said["approvals_given"], said["approvals_required"]) == (0, 2)
        with pytest.raises(ConflictError, match="asked for this action"):
            client.approvals.approve(held.approval_id)


def test_a_grant_is_given_used_listed_and_revoked(server: RealServer) -> None:
    with asking(server) as client:
        grant = client.grants.give(
            agent="shop-bot",
            action="refund",
            resource="shop.*",
            max_records=5,
            lasting="1h",
            reason="faulty batch",
            accept_declared=True,
        )
        allowed = client.check(**REFUND, agent="shop-bot")
        assert allowed.allowed
        assert grant["id"] in allowed.reason
        assert client.grants.get(grant["id"])["records_used"] == 1
        assert [g["id"] for g in client.grants.list("shop-*", is_open=True)] == [grant["id"]]
        assert client.grants.revoke(grant["id"])["state"] == "revoked"
        with pytest.raises(ConflictError):
            client.grants.revoke(grant["id"])
        assert client.grants.list(is_open=True) == []
        assert client.check(**REFUND, agent="shop-bot").held


def test_a_wait_withdraws_only_if_asked(server: RealServer) -> None:
    with asking(server) as client:
        held = client.check(**REFUND)
        assert held.approval_id
        assert held.wait(0.2).held, "it can be waited for again"
        assert client.approvals.get(held.approval_id)["state"] == "pending"
        gone = held.wait(0.2, withdraw=True)
        assert gone.verdict == "block"
        assert "withdrew" in gone.reason
        assert client.approvals.get(held.approval_id)["state"] == "withdrawn"


@pytest.mark.anyio
async def test_a_cancelled_wait_withdraws(server: RealServer, anyio_backend: str) -> None:
    asking(server).close()
    async with AsyncCheckrein(server.url, api_key=server.admin_key) as client:
        held = await client.check(**REFUND)
        assert held.approval_id
        with anyio.move_on_after(0.5) as scope:
            await held.wait(60, withdraw=True)
        assert scope.cancelled_caught
        assert (await client.approvals.get(held.approval_id))["state"] == "withdrawn"
        again = await client.check(**REFUND)
        assert (await again.wait(0.2, withdraw=True)).verdict == "block"
        grant = await client.grants.give(
            agent="default",
            action="refund",
            resource="*",
            max_records=1,
            lasting="1h",
            reason="x",
            accept_declared=True,
        )
        assert (await client.check(**REFUND)).allowed
        assert (await client.grants.get(grant["id"]))["state"] == "used_up"


class Shop:
    """A server that is connected to a database of five users, in which deletes wait for a person."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.sqlite"
        self.sql("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, password TEXT)")
        for n in range(5):
            self.sql(f"INSERT INTO users VALUES ({n}, 'user {n}', 'geheim{n}')")
        self.config = folder / "checkrein.toml"
        self.config.write_text(
            f'[targets.shop]\nkind = "sqlite"\npath = "{self.path}"\nenvironment = "production"\n'
            '[[policies]]\nname = "ask"\nrule = "require_approval"\ncondition = { action = "delete" }\n'
        )

    def sql(self, statement: str) -> None:
        """Does what somebody else could."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(statement)

    def names(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as db:
            return [name for (name,) in db.execute("SELECT name FROM users ORDER BY id")]


def test_a_sample_shows_what_would_go(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with serving(shop.config) as server, Checkrein(server.url, server.admin_key, timeout=10.0) as client:
        held = client.execute("shop", "DELETE FROM users WHERE id < 2", agent="bot")
        assert held.approval_id
        (users,) = client.approvals.sample(held.approval_id)["resources"]
        assert users["resource"] == "shop.users"
        assert users["columns"] == ["id", "name", "password"]
        assert users["rows"] == [[0, "user 0", "[redacted]"], [1, "user 1", "[redacted]"]]
        client.approvals.deny(held.approval_id)
        with pytest.raises(ConflictError, match="nobody is asked"):
            client.approvals.sample(held.approval_id)


def test_a_rollback_is_bound_to_what_was_seen(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with serving(shop.config) as server, Checkrein(server.url, server.admin_key, timeout=10.0) as client:
        done = client.execute("shop", "UPDATE users SET name = 'x' WHERE id < 3")
        assert done.snapshot_id
        shop.sql("UPDATE users SET name = 'mine' WHERE id = 1")
        with pytest.raises(RollbackConflictError) as refused:
            client.rollback(done.snapshot_id)
        planned = client.rollback(done.snapshot_id, dry_run=True)
        assert refused.value.digest == planned.digest
        assert planned.digest
        shop.sql("UPDATE users SET name = 'mine, later' WHERE id = 1")
        with pytest.raises(RollbackConflictError) as changed:
            client.rollback(done.snapshot_id, on_conflict="force", plan_digest=planned.digest)
        assert shop.names()[:3] == ["x", "mine, later", "x"]
        again = client.rollback(done.snapshot_id, on_conflict="force", plan_digest=changed.value.digest)
        assert again.status == "done"
        assert shop.names()[:3] == ["user 0", "user 1", "user 2"]


@pytest.mark.anyio
async def test_samples_and_seen_plans_async_alike(tmp_path: Path, anyio_backend: str) -> None:
    shop = Shop(tmp_path)
    with serving(shop.config) as server:
        async with AsyncCheckrein(server.url, server.admin_key, timeout=10.0) as client:
            held = await client.execute("shop", "DELETE FROM users WHERE id = 4")
            assert held.approval_id
            sample = await client.approvals.sample(held.approval_id)
            assert [row[0] for row in sample["resources"][0]["rows"]] == [4]
            done = await client.execute("shop", "UPDATE users SET name = 'x' WHERE id < 3")
            assert done.snapshot_id
            planned = await client.rollback(done.snapshot_id, dry_run=True)
            shop.sql("UPDATE users SET name = 'mine' WHERE id = 1")
            with pytest.raises(RollbackConflictError):
                await client.rollback(done.snapshot_id, on_conflict="skip", plan_digest=planned.digest)
            assert shop.names()[:3] == ["x", "mine", "x"]
