"""Two people, grants, comments, links and withdrawal through the SDK, against the real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from real_server import RealServer, serving

from checkrein import AsyncCheckrein, Checkrein, ConflictError

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
