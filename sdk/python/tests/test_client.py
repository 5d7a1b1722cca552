from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import pathlib
import ssl
import threading
import time
from typing import Any

import anyio
import pytest
import scripted
import trustme
from conftest import make, make_async
from scripted import ALLOW, BLOCK, HOLD, Server

from checkrein import (
    BadRequestError,
    Checkrein,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    PolicyConflictError,
    PolicyInvalidError,
    RateLimitedError,
    UnreachableError,
)


def test_settings_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKREIN_URL", server.url + "/")
    monkeypatch.setenv("CHECKREIN_API_KEY", " ck_test\n")
    monkeypatch.setenv("CHECKREIN_AGENT", "billing-bot")
    # A proxy must not be told the key of a server on this machine.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.will(ALLOW, ALLOW)
    with Checkrein(session="run-1") as client:
        assert client.check(action="update", resource="shop.users").allowed
        assert client.check(
            action="a", resource="r", agent="other", session="run-2", idempotency_key="k"
        ).allowed
    assert [(a.body["agent"], a.body["session"]) for a in server.asked] == [
        ("billing-bot", "run-1"),
        ("other", "run-2"),
    ]
    assert server.asked[1].body["idempotency_key"] == "k"
    assert server.connections == 1, "the connection is kept"


def test_tls(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose certificate nobody vouches for is no server; nor may it hold up the client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)

    async def check_async() -> Any:
        async with make_async(server, timeout=5.0, retries=0) as client:
            return await client.check(action="update", resource="shop.users")

    def check() -> Any:
        with make(server, timeout=5.0, retries=0) as client:
            return client.check(action="update", resource="shop.users")

    try:
        server.will(ALLOW, ALLOW, then=scripted.drip(b"HTTP/1.1 200 OK\r\n" * 20))
        for result in (check(), anyio.run(check_async)):
            assert result.blocked
            assert "CERTIFICATE_VERIFY_FAILED" in result.reason
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert check().allowed
        assert anyio.run(check_async).allowed
        started = time.monotonic()
        with make(server, timeout=0.5, retries=0) as client:
            assert client.check(action="update", resource="shop.users").blocked
        assert time.monotonic() - started < 1.5
    finally:
        server.stop()


def test_a_proxy_is_used_for_other_machines(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    server.will(ALLOW)
    with make(server, url="http://checkrein.internal:7070") as client:
        assert client.check(action="update", resource="shop.users").allowed
    assert server.asked[0].path == "http://checkrein.internal:7070/v1/checks"


def test_every_field_arrives(server: Server, client: Checkrein) -> None:
    server.will(ALLOW, ALLOW)
    client.check(
        action="update",
        resource="shop.users",
        payload={"record_count": 2},
        statement="update users set a = $1",
        params=["x"],
        record_ids={7},
    )
    client.check(tool="send_email", arguments={"to": ["a@b.c"]})
    bodies = [{k: v for k, v in a.body.items() if k != "idempotency_key"} for a in server.asked]
    assert bodies == [
        {
            "action": "update",
            "resource": "shop.users",
            "payload": {"record_count": 2},
            "statement": "update users set a = $1",
            "params": ["x"],
            "record_ids": [7],
        },
        {"tool": "send_email", "arguments": {"to": ["a@b.c"]}},
    ]


def test_the_decision_is_read_whole(server: Server, client: Checkrein) -> None:
    matched = {
        "name": "mail",
        "rule": "alert",
        "mode": "enforce",
        "reason": "120 recipients",
        "exempted_by": "newsletter",
    }
    server.will(scripted.decision(policies=[matched, "rubbish"], verdict="hold", approval_id="apr_1"))
    result = client.check(action="update", resource="shop.users")
    assert dataclasses.asdict(result.policies[0]) == matched
    assert len(result.policies) == 1
    assert (result.verdict, result.held, result.blocked, result.allowed, bool(result)) == (
        "hold",
        True,
        True,
        False,
        False,
    )
    assert (result.id, result.category, result.environment, result.approval_id) == (
        "chk_1",
        "write",
        "production",
        "apr_1",
    )
    assert result.blast_radius is not None
    assert result.blast_radius.records == 3
    assert result.blast_radius.recipients is None
    assert result.blast_radius.by_resource == (("shop.users", 3),)
    assert result.raw["a_field_of_a_later_version"] == {"x": 1}
    assert not result.degraded


def test_policies(server: Server, client: Checkrein) -> None:
    policy = {"name": "a/b ü", "rule": "block", "condition": {"action": "delete"}}
    server.will(
        scripted.reply(201, policy),
        scripted.reply(200, policy),
        scripted.reply(200, {"policies": [policy]}),
        scripted.reply(200, policy),
        scripted.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        scripted.reply(200, {"policies": [policy]}),
    )
    assert client.policies.create(policy) == policy
    assert client.policies.create(policy) == policy
    assert client.policies.list() == [policy]
    assert client.policies.get("a/b ü") == policy
    client.policies.delete("a/b ü")
    client.policies.apply([policy])
    assert [(a.method, a.path) for a in server.asked] == [
        ("POST", "/v1/policies"),
        ("POST", "/v1/policies"),
        ("GET", "/v1/policies"),
        ("GET", "/v1/policies/a%2Fb%20%C3%BC"),
        ("DELETE", "/v1/policies/a%2Fb%20%C3%BC"),
        ("PUT", "/v1/policies"),
    ]
    assert server.asked[-1].body == {"policies": [policy]}


def test_policy_errors(server: Server, client: Checkrein) -> None:
    errors = [
        {
            "subject": "p",
            "path": "condition.record_count_exceds",
            "message": "unknown key; did you mean record_count_exceeds?",
        },
        {"subject": "p", "path": "", "message": "rule `blok` is not known"},
        {"what": "else"},
    ]
    server.will(
        scripted.problem(409, "`p` exists with other content"),
        scripted.problem(422, "2 problems", errors),
        scripted.problem(404, "no policy `p`"),
        scripted.problem(403, "an agent's key cannot change policies"),
        scripted.problem(400, "not JSON"),
    )
    with pytest.raises(PolicyConflictError, match="other content") as conflict:
        client.policies.create({"name": "p"})
    assert (conflict.value.status, conflict.value.type) == (409, "https://x/p")
    with pytest.raises(PolicyInvalidError) as invalid:
        client.policies.create({"name": "p"})
    for told in (
        "2 problems",
        "- p condition.record_count_exceds: unknown key",
        "- p: rule `blok`",
        "- what: else",
    ):
        assert told in str(invalid.value)
    assert len(invalid.value.problems) == 3
    with pytest.raises(NotFoundError):
        client.policies.get("p")
    with pytest.raises(PermissionDeniedError):
        client.policies.apply([])
    with pytest.raises(BadRequestError) as other:
        client.policies.apply([])
    assert not isinstance(other.value, PolicyInvalidError)
    for name in ("", ".", ".."):
        with pytest.raises(BadRequestError):
            client.policies.delete(name)


def test_approvals(server: Server, client: Checkrein) -> None:
    approval = {"id": "apr_1", "state": "pending"}
    server.will(
        scripted.reply(200, {"approvals": [approval], "next_cursor": "c/1"}),
        scripted.reply(200, {"approvals": [approval]}),
        scripted.reply(200, {"approvals": []}),
        scripted.reply(200, approval),
        scripted.reply(200, approval | {"state": "approved"}),
        scripted.problem(409, "already approved"),
        scripted.problem(429, "slow down", retry_after="100"),
        scripted.reply(200, {"approval": []}),
    )
    assert client.approvals.list(state="pending") == [approval, approval]
    assert client.approvals.list() == []
    assert client.approvals.get("apr_1") == approval
    assert client.approvals.approve("apr_1", comment="fine")["state"] == "approved"
    with pytest.raises(ConflictError):
        client.approvals.deny("apr_1")
    with pytest.raises(RateLimitedError):
        client.approvals.list()
    with pytest.raises(UnreachableError, match="not Checkrein"):
        client.approvals.list()
    assert [(a.method, a.path, a.body) for a in server.asked[:6]] == [
        ("GET", "/v1/approvals?state=pending", None),
        ("GET", "/v1/approvals?state=pending&cursor=c%2F1", None),
        ("GET", "/v1/approvals", None),
        ("GET", "/v1/approvals/apr_1", None),
        ("POST", "/v1/approvals/apr_1/decision", {"decision": "approve", "comment": "fine"}),
        ("POST", "/v1/approvals/apr_1/decision", {"decision": "deny"}),
    ]


@pytest.mark.anyio
async def test_async_management(server: Server) -> None:
    server.will(
        scripted.reply(201, {"name": "p"}),
        scripted.problem(409, "other content"),
        scripted.reply(200, {"policies": []}),
        scripted.reply(200, {"id": "apr_1"}),
    )
    async with make_async(server) as client:
        assert await client.policies.create({"name": "p"}) == {"name": "p"}
        with pytest.raises(PolicyConflictError):
            await client.policies.create({"name": "p"})
        assert await client.policies.list() == []
        assert await client.approvals.approve("apr_1") == {"id": "apr_1"}


def test_outcome(server: Server, client: Checkrein) -> None:
    server.will(ALLOW)
    result = client.check(action="update", resource="shop.users")
    assert result.outcome("error", records=2, error="x" * 5000) is True
    assert server.outcomes == [{"status": "error", "records": 2, "error": "x" * 2000}]
    assert server.asked[-1].path == "/v1/checks/chk_1/outcome"
    with pytest.raises(ValueError, match="outcome is one of"):
        result.outcome("fine")  # type: ignore[arg-type]


def test_wait_ends_on_time_and_stays_held(server: Server, client: Checkrein) -> None:
    server.will(HOLD, then=scripted.silent)
    held = client.check(action="update", resource="shop.users")
    started = time.monotonic()
    after = held.wait(timeout=0.6)
    assert time.monotonic() - started < 2
    assert after.held
    assert after.blocked
    assert held.wait(timeout=0) is held
    assert held.wait(timeout=-1) is held


def test_wait_takes_a_long_poll(server: Server, client: Checkrein) -> None:
    def after_a_second(sock: Any, asked: scripted.Asked) -> None:
        assert asked.path == "/v1/checks/chk_1?wait=30s"
        time.sleep(1.0)  # longer than the client's time-out for a check
        scripted.decision(verdict="block", reason="denied by ada")(sock, asked)

    server.will(HOLD, after_a_second)
    result = client.check(action="update", resource="shop.users").wait(timeout=60)
    assert (result.verdict, result.reason) == ("block", "denied by ada")
    assert len(server.asked) == 2


def test_wait_with_a_key_that_was_revoked_raises(server: Server, client: Checkrein) -> None:
    server.will(HOLD, scripted.problem(403, "revoked"))
    with pytest.raises(PermissionDeniedError):
        client.check(action="update", resource="shop.users").wait(5)


def by_number(sock: Any, asked: scripted.Asked) -> None:
    n = asked.body["payload"]["n"]
    changes = {"id": f"chk_{n}", "verdict": "allow" if n % 2 else "block"}
    scripted.decision(**changes)(sock, asked)


def test_32_threads_share_a_client(server: Server) -> None:
    server.will(then=by_number)
    wrong: list[int] = []

    def work(first: int) -> None:
        for n in range(first, first + 20):
            result = client.check(action="a", resource="r", payload={"n": n})
            if (result.id, result.allowed) != (f"chk_{n}", n % 2 == 1):
                wrong.append(n)

    with make(server, timeout=20.0) as client:
        threads = [threading.Thread(target=work, args=(i * 20,)) for i in range(32)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []
    assert len(server.asked) == 640


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(server: Server) -> None:
    server.will(then=by_number)
    with make(server, timeout=5.0) as client:
        assert client.check(action="a", resource="r", payload={"n": 1}).allowed
        child = os.fork()
        if child == 0:
            ok = all(client.check(action="a", resource="r", payload={"n": 2 * i}).blocked for i in range(50))
            os._exit(0 if ok else 1)
        assert all(
            client.check(action="a", resource="r", payload={"n": 2 * i + 1}).allowed for i in range(50)
        )
        assert os.waitpid(child, 0)[1] == 0
    ours = {a.connection for a in server.asked if a.body["payload"]["n"] % 2}
    theirs = {a.connection for a in server.asked if a.body["payload"]["n"] % 2 == 0}
    assert not ours & theirs


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_async_client_on_many_loops(server: Server) -> None:
    server.will(then=ALLOW)
    client = make_async(server, timeout=5.0)

    async def once() -> bool:
        return (await client.check(action="a", resource="r")).allowed

    assert [asyncio.run(once()) for _ in range(3)] == [True] * 3
    assert anyio.run(once, backend="trio")
    gc.collect()  # what the finished loops left open is let go here, not in another test


def test_a_server_that_closes_idle_connections(server: Server, client: Checkrein) -> None:
    def then_close(sock: Any, asked: scripted.Asked) -> None:
        ALLOW(sock, asked)
        scripted.close(sock, asked)

    server.will(then=then_close)
    assert all(client.check(action="a", resource="r").allowed for _ in range(5))


def test_raise_if_blocked(server: Server, client: Checkrein) -> None:
    server.will(ALLOW, BLOCK)
    client.check(action="a", resource="r").raise_if_blocked()
    with pytest.raises(Exception, match="over 25"):
        client.check(action="a", resource="r").raise_if_blocked()
