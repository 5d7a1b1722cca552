"""Every way in which the server can fail, times every setting, times every way to ask.

The function behind a guard counts its calls: that number is the proof.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import scripted
from conftest import make, make_async
from scripted import DECISION, Server

from checkrein import BadRequestError, Checkrein, PolicyViolationError, UnreachableError

ALLOW_BYTES = b'{"id":"chk_1","verdict":"allow","reason":"r"}'
FULL = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ALLOW_BYTES) + ALLOW_BYTES


def raw_decision(verdict: str) -> str:
    """An answer with ``verdict`` in it to the letter."""
    return '{"id":"chk_1","reason":"r",' + verdict + "}"


# The server could not be asked, or it answered with something that is no decision.
FAILURES: dict[str, scripted.Act] = {
    "silent": scripted.silent,
    "slow headers": scripted.drip(FULL),
    "slow body": scripted.drip(FULL[FULL.index(b"{") - 1 :]),
    "closed at once": scripted.close,
    "half-closed": scripted.half_closed,
    "rubbish bytes": scripted.raw(b"\x00\xff\x00 nonsense\r\n\r\n"),
    "rubbish JSON": scripted.reply(200, '{"verdict": "allow", '),
    "not UTF-8": scripted.reply(200, b'{"verdict":"allow","id":"\xff","reason":"x"}'),
    "deep JSON": scripted.reply(200, "[" * 100_000),
    "UTF-16": scripted.reply(200, ALLOW_BYTES.decode().encode("utf-16")),
    "a byte order mark": scripted.reply(200, b"\xef\xbb\xbf" + ALLOW_BYTES),
    "a JSON list": scripted.reply(200, '["allow"]'),
    "JSON null": scripted.reply(200, "null"),
    "empty 200": scripted.reply(200, ""),
    "204": scripted.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "allow with 201": scripted.reply(201, DECISION),
    "allow without id": scripted.reply(200, {"verdict": "allow", "reason": "r"}),
    "allow without reason": scripted.reply(200, {"verdict": "allow", "id": "chk_1"}),
    "allow with id of a wrong type": scripted.reply(200, DECISION | {"id": 7}),
    "nothing but an unknown field": scripted.reply(200, {"allowed": True}),
    "HTML 200": scripted.reply(200, "<html>allow</html>", "text/html"),
    "HTML 502": scripted.reply(502, "<html>bad gateway</html>", "text/html"),
    "500 problem": scripted.problem(500, "the log could not be written"),
    "503 problem": scripted.problem(503, "the store is full"),
    "500 with an allow in it": scripted.reply(500, DECISION),
    "redirect": scripted.reply(307, DECISION, location="/elsewhere"),
    "huge body": scripted.reply(200, b'{"verdict":"allow","id":"c","reason":"' + b"x" * 9_000_000 + b'"}'),
    "compressed": scripted.reply(200, DECISION, content_encoding="gzip"),
}
# The server answered and did not allow: no setting makes that an allow.
REFUSALS: dict[str, scripted.Act] = {
    "block": scripted.BLOCK,
    "hold": scripted.HOLD,
    "an unknown verdict": scripted.decision(verdict="allow_with_snapshot"),
    "ALLOW": scripted.decision(verdict="ALLOW"),
    "a verdict that is true": scripted.decision(verdict=True),
    "a verdict that is a list": scripted.decision(verdict=["allow"]),
    "a verdict that is null": scripted.decision(verdict=None),
    "nothing but a block": scripted.reply(200, {"verdict": "block"}),
    "nothing but a hold": scripted.reply(200, {"verdict": "hold"}),
    "allow and block in one": scripted.reply(200, raw_decision('"verdict":"block","verdict":"allow"')),
    "allow twice": scripted.reply(200, raw_decision('"verdict":"allow","verdict":"allow"')),
    "a key written in two ways": scripted.reply(
        200, raw_decision('"verdict":"block","\\u0076erdict":"allow"')
    ),
    "a key twice further in": scripted.reply(200, raw_decision('"verdict":"allow","x":[{"a":1,"a":1}]')),
    "NaN": scripted.reply(200, raw_decision('"verdict":"allow","x":NaN')),
    "-Infinity": scripted.reply(200, raw_decision('"verdict":"allow","x":[-Infinity]')),
    "a block with NaN": scripted.reply(200, raw_decision('"verdict":"block","x":NaN')),
    "a number beyond all": scripted.reply(200, raw_decision('"verdict":"allow","x":1e999')),
    "429 for ever": scripted.problem(429, "too many checks", retry_after="0"),
    "429 for long": scripted.problem(429, "too many checks", retry_after="3600"),
}


class Counter:
    """A function that an agent might call."""

    def __init__(self) -> None:
        self.calls = 0

    def update(self, ids: list[int]) -> str:
        self.calls += 1
        return "done"

    async def aupdate(self, ids: list[int]) -> str:
        self.calls += 1
        return "done"


Way = Callable[[Server, dict[str, Any], Counter], bool]


def decorator(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    with make(server, **settings) as client:
        guarded = client.guard(action="update", resource="shop.users")(counter.update)
        return raises(lambda: guarded([1]))


def bare(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    with make(server, **settings) as client:
        guarded = client.guard(counter.update)
        return raises(lambda: guarded([1]))


def block_of_code(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    def run() -> None:
        with client.guard(action="update", resource="shop.users"):
            counter.update([1])

    with make(server, **settings) as client:
        return raises(run)


def naive(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    with make(server, **settings) as client:
        result = client.check(action="update", resource="shop.users", payload={"record_count": 1})
    assert result.blocked is not result.allowed
    if result.blocked:
        assert result.reason
        return True
    counter.update([1])
    return False


def truth(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    with make(server, **settings) as client:
        if client.check(action="update", resource="shop.users"):
            counter.update([1])
            return False
    return True


def async_decorator(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    async def main() -> None:
        async with make_async(server, **settings) as client:
            await client.guard(action="update", resource="shop.users")(counter.aupdate)([1])

    return raises(lambda: anyio.run(main))


def async_block_of_code(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    async def main() -> None:
        async with (
            make_async(server, **settings) as client,
            client.guard(action="update", resource="shop.users"),
        ):
            await counter.aupdate([1])

    return raises(lambda: anyio.run(main))


def async_naive(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    async def main() -> bool:
        async with make_async(server, **settings) as client:
            if (await client.check(action="update", resource="shop.users")).blocked:
                return True
            await counter.aupdate([1])
            return False

    return anyio.run(main)


def async_by_sync_client(server: Server, settings: dict[str, Any], counter: Counter) -> bool:
    client = make(server, **settings)

    async def main() -> None:
        await client.guard(action="update", resource="shop.users")(counter.aupdate)([1])
        await client.aclose()

    return raises(lambda: anyio.run(main))


def raises(run: Callable[[], Any]) -> bool:
    try:
        run()
    except PolicyViolationError as error:
        assert error.reason
        assert error.result is not None
        assert error.result.blocked
        return True
    return False


WAYS: list[Way] = [
    decorator,
    bare,
    block_of_code,
    naive,
    truth,
    async_decorator,
    async_block_of_code,
    async_naive,
    async_by_sync_client,
]
FAST = {"retries": 0, "timeout": 0.15}


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_blocks_unless_told_otherwise(server: Server, way: Way, failure: str) -> None:
    for setting in ("block", "allow_reads", "allow"):
        server.will(then=FAILURES[failure])
        counter = Counter()
        blocked = way(server, FAST | {"on_unreachable": setting}, counter)
        assert (blocked, counter.calls) == ((False, 1) if setting == "allow" else (True, 0)), setting
    assert server.asked, "the server was asked"
    assert server.outcomes == [], "what was never decided has no outcome"
    assert all(a.path == "/v1/checks" for a in server.asked), "no redirect is followed"


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_blocks_whatever_the_setting(server: Server, way: Way, refusal: str) -> None:
    for setting in ("block", "allow_reads", "allow"):
        server.will(then=REFUSALS[refusal])
        counter = Counter()
        assert way(server, FAST | {"on_unreachable": setting}, counter)
        assert counter.calls == 0


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
def test_an_allow_lets_it_run_once(server: Server, way: Way) -> None:
    server.will(then=scripted.ALLOW)
    counter = Counter()
    assert way(server, {"timeout": 5.0}, counter) is False
    assert counter.calls == 1
    assert len(server.checks()) == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize(("setting", "calls"), [("block", 0), ("allow_reads", 0), ("allow", 1)])
def test_refused_connection(server: Server, way: Way, setting: str, calls: int) -> None:
    counter = Counter()
    settings = FAST | {"url": f"http://127.0.0.1:{free_port()}", "on_unreachable": setting}
    assert way(server, settings, counter) is (calls == 0)
    assert counter.calls == calls


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422])
@pytest.mark.parametrize("setting", ["block", "allow_reads", "allow"])
def test_what_is_wrong_with_the_request_raises_and_does_not_run(
    server: Server, status: int, setting: str
) -> None:
    server.will(then=scripted.problem(status, "say it better"))
    counter = Counter()
    for way in (decorator, bare, block_of_code, naive, async_decorator, async_by_sync_client):
        with pytest.raises(Exception, match="say it better") as caught:
            way(server, {"on_unreachable": setting}, counter)
        assert caught.value.status == status
        assert caught.value.request_id == "req_7"
    assert counter.calls == 0
    assert len(server.asked) == 6, "not retried"


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), MemoryError(), SystemExit()])
def test_a_check_that_raises_unexpectedly_does_not_run(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("checkrein._transport.Transport._send", broken)
    monkeypatch.setattr("checkrein._transport.AsyncTransport._send", broken)
    counter = Counter()
    for way in WAYS:
        with pytest.raises(type(error)):
            way(server, {"on_unreachable": "allow"}, counter)
    assert counter.calls == 0


def test_the_reason_names_cause_and_next_step(server: Server) -> None:
    port = free_port()
    with make(server, url=f"http://127.0.0.1:{port}", retries=0) as client:
        result = client.check(action="update", resource="shop.users")
    assert result.degraded
    assert result.id is None
    assert f"http://127.0.0.1:{port}" in result.reason
    assert "refused" in result.reason
    assert "checkrein serve" in result.reason
    assert "CHECKREIN_URL" in result.reason
    assert "ck_test" not in result.reason
    assert result.wait(5) is result
    assert result.outcome("ok") is False


def test_a_degraded_allow_says_so(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.will(then=scripted.problem(500, "broken"))
    with make(server, on_unreachable="allow") as client, caplog.at_level(logging.WARNING, "checkrein"):
        result = client.check(action="update", resource="shop.users")
    assert result.allowed
    assert result.degraded
    assert "unchecked" in caplog.text


@pytest.mark.parametrize(
    ("fields", "runs"),
    [
        ({"action": "read", "resource": "shop.users"}, True),
        ({"action": "select", "resource": "shop.public.orders", "record_ids": [1]}, True),
        ({"action": "read", "resource": "shop.users", "payload": {"record_count": 3, "of": [1]}}, True),
        ({"action": "select", "resource": "shop.users", "payload": {"sql": "delete from users"}}, False),
        ({"action": "get", "resource": "shop.users", "payload": [{"method": "DELETE"}]}, False),
        ({"action": "read"}, False),
        ({"action": "Read", "resource": "shop.users"}, False),
        ({"action": "read_and_delete", "resource": "shop.users"}, False),
        ({"action": "read", "resource": "shop.users", "statement": "delete from users"}, False),
        ({"action": "get", "resource": "https://evil.example/?q=secret"}, False),
        ({"action": "get", "resource": "user@evil.example"}, False),
        ({"action": "update", "resource": "shop.users"}, False),
        ({"tool": "read", "arguments": {}}, False),
        ({"tool": "get_user", "arguments": {"resource": "shop.users"}}, False),
    ],
)
def test_allow_reads_lets_only_plain_reads_through(
    server: Server, fields: dict[str, Any], runs: bool
) -> None:
    server.will(then=scripted.problem(500, "broken"))
    with make(server, on_unreachable="allow_reads") as client:
        result = client.check(**fields)
    assert (result.allowed, result.degraded) == (runs, True)


def test_one_key_for_all_tries(server: Server) -> None:
    server.will(scripted.problem(429, "slow down", retry_after="0"), scripted.close, then=scripted.ALLOW)
    with make(server) as client:
        assert client.check(action="update", resource="shop.users").allowed
        assert client.check(action="update", resource="shop.users").allowed
    keys = [a.body["idempotency_key"] for a in server.asked]
    assert len(keys) == 4
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_retries_end(server: Server) -> None:
    server.will(then=scripted.problem(503, "the store is full"))
    with make(server, retries=2) as client:
        result = client.check(action="update", resource="shop.users")
    assert result.blocked
    assert "the store is full" in result.reason
    assert len(server.asked) == 3


@pytest.mark.parametrize("value", ["soon", "-1", "1e99", "Thu, 99 Foo 2026", "", "²"])
def test_a_retry_after_that_makes_no_sense_is_ignored(server: Server, value: str) -> None:
    def act(sock: socket.socket, asked: scripted.Asked) -> None:
        sock.sendall(
            b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nretry-after: " + value.encode("utf-8") + b"\r\n\r\n"
        )

    server.will(act, then=scripted.ALLOW)
    with make(server) as client:
        assert client.check(action="update", resource="shop.users").allowed


@pytest.mark.parametrize("act", [scripted.silent, *(FAILURES[f] for f in ("slow headers", "slow body"))])
def test_time_is_bounded(server: Server, act: scripted.Act) -> None:
    server.will(then=act)
    for way in (naive, async_naive):
        started = time.monotonic()
        assert way(server, {"timeout": 0.3, "retries": 2}, Counter())
        assert time.monotonic() - started < 0.3 * 3 + 0.6


def test_an_answer_to_an_approval_is_given_once(server: Server) -> None:
    server.will(then=scripted.close)
    with make(server) as client:
        with pytest.raises(UnreachableError):
            client.approvals.approve("apr_1")
        with pytest.raises(UnreachableError):
            client.policies.delete("p")
    assert len(server.asked) == 2


def test_a_hold_without_an_id_cannot_be_waited_for(server: Server) -> None:
    server.will(scripted.reply(200, {"verdict": "hold"}))
    with make(server) as client:
        result = client.check(action="update", resource="shop.users")
        assert result.wait(5) is result
        assert result.held


@pytest.mark.parametrize("refusal", ["allow and block in one", "allow twice", "NaN"])
def test_an_ambiguous_answer_settles_no_hold(server: Server, refusal: str) -> None:
    server.will(scripted.HOLD, then=REFUSALS[refusal])
    with make(server) as client:
        assert client.check(action="update", resource="shop.users").wait(0.3).held


def test_management_says_unreachable(server: Server) -> None:
    with make(server, url=f"http://127.0.0.1:{free_port()}", retries=0) as client:
        with pytest.raises(UnreachableError, match="could not be asked"):
            client.policies.list()
        with pytest.raises(UnreachableError):
            client.approvals.approve("apr_1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_unreachable": "alow"}, "on_unreachable"),
        ({"on_unreachable": None}, "on_unreachable"),
        ({"url": "127.0.0.1:7070"}, "url must look like"),
        ({"url": "ftp://x"}, "url must look like"),
        ({"url": "http://user:pw@x"}, "api_key"),
        ({"url": "http://a..b:7070"}, "label"),
        ({"url": "http://x:99999"}, "ort"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"api_key": "ck_a\r\nx: y"}, "API key"),
        ({"api_key": "ck_ä"}, "API key"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkrein(**settings)


def test_a_check_is_one_form_or_the_other(client: Checkrein) -> None:
    with pytest.raises(BadRequestError, match="exactly one"):
        client.check(resource="shop.users")
    with pytest.raises(BadRequestError, match="exactly one"):
        client.check(action="update", tool="update")


def test_an_ambiguous_answer_to_management_is_none(server: Server, client: Checkrein) -> None:
    server.will(scripted.reply(200, '{"policies": [], "policies": []}'))
    with pytest.raises(UnreachableError, match="not Checkrein"):
        client.policies.list()


def test_the_key_is_not_shown(client: Checkrein) -> None:
    assert "ck_test" not in repr(client)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.check(action="update", resource="shop.users")
