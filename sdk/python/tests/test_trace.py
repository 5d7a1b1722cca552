"""Requests carry the current span, with the real package of OpenTelemetry."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from real_server import RealServer, serving

from checkrein import AsyncCheckrein, Checkrein
from checkrein._exchange import Request, Send
from checkrein._transport import Address


def sent() -> dict[str, str]:
    request = Send(Request("POST", "/v1/checks", {"action": "read"}), 1.0)
    headers: dict[str, str] = Address("http://127.0.0.1:7070", "ck_1", 1.0).request(request)["headers"]
    return headers


def test_the_current_span_is_forwarded() -> None:
    assert "traceparent" not in sent()
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        assert sent()["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert "traceparent" not in sent()


def test_whatever_is_wrong_with_it_the_check_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    assert "traceparent" not in sent()
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert "traceparent" not in sent()


SAID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("shop")
    with contextlib.closing(sqlite3.connect(folder / "shop.sqlite")) as database:
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    config = folder / "checkrein.toml"
    config.write_text('[targets.shop]\nkind = "sqlite"\npath = "shop.sqlite"\nenvironment = "sandbox"\n')
    with serving(config) as server:
        yield server


def span(n: int) -> contextlib.AbstractContextManager[object]:
    return trace.use_span(NonRecordingSpan(SpanContext(n, n, True, TraceFlags(1))))


def written(n: int) -> str:
    return f"00-{n:032x}-{n:016x}-01"


def recorded(server: RealServer) -> str | None:
    """What is on record of the last check about its trace."""
    ran = server.command("log", "export")
    assert ran.returncode == 0, ran.stderr
    entries = [json.loads(line) for line in ran.stdout.splitlines()]
    last = [entry for entry in entries if entry["kind"] == "check"][-1]
    trace_of: str | None = last["body"]["check"].get("traceparent")
    return trace_of


def test_a_check_a_guard_and_an_execution_are_on_record_in_the_current_span(shop: RealServer) -> None:
    with Checkrein(shop.url, shop.admin_key, timeout=10.0) as client:
        guarded = client.guard(lambda: None, action="read", resource="elsewhere.users")
        works: list[Callable[[], object]] = [
            lambda: client.check(action="read", resource="elsewhere.users"),
            guarded,
            lambda: client.execute("shop", "SELECT id FROM users"),
        ]
        for work in works:
            with span(7):
                work()
            assert recorded(shop) == written(7)
            work()
            assert recorded(shop) is None
        # What is given goes before the current span; what is malformed does not.
        with span(8):
            client.check(action="read", resource="elsewhere.users", traceparent=SAID)
            assert recorded(shop) == SAID
            client.execute("shop", "SELECT id FROM users", traceparent=SAID)
            assert recorded(shop) == SAID
        assert client.check(action="read", resource="elsewhere.users", traceparent="nonsense").allowed
        assert recorded(shop) is None


@pytest.mark.anyio
async def test_tasks_side_by_side_each_send_their_own_span(shop: RealServer) -> None:
    async with AsyncCheckrein(shop.url, shop.admin_key, timeout=10.0) as client:

        async def work(n: int) -> None:
            with span(n):
                await client.check(action="read", resource=f"elsewhere.t{n}", session="side-by-side")

        async with anyio.create_task_group() as group:
            for n in range(1, 9):
                group.start_soon(work, n)
        await client.execute("shop", "SELECT id FROM users", traceparent=SAID)
    lines = [json.loads(line) for line in shop.command("log", "export").stdout.splitlines()]
    checks = [line["body"]["check"] for line in lines if line["kind"] == "check"]
    assert {c["traceparent"] for c in checks if c.get("session") == "side-by-side"} == {
        written(n) for n in range(1, 9)
    }
    assert checks[-1]["traceparent"] == SAID
