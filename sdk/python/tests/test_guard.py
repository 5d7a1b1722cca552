from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import scripted
from conftest import make, make_async
from scripted import ALLOW, BLOCK, HOLD, Server

from checkrein import ApprovalRequiredError, BadRequestError, Checkrein, PolicyViolationError

APPROVED = scripted.decision(reason="approved by ada")


def asked(server: Server, i: int = -1) -> dict[str, Any]:
    body = dict(server.checks()[i].body)
    assert len(body.pop("idempotency_key")) == 32
    return body


def test_explicit_form(server: Server, client: Checkrein) -> None:
    @client.guard(action="update", resource="shop.users", payload=lambda ids, **_: {"record_count": len(ids)})
    def rename(ids: list[int], name: str = "x") -> str:
        """Rename users."""
        return f"{len(ids)} renamed to {name}"

    server.will(ALLOW)
    assert rename([1, 2, 3], name="y") == "3 renamed to y"
    assert asked(server) == {"action": "update", "resource": "shop.users", "payload": {"record_count": 3}}
    assert server.outcomes == [{"status": "ok"}]
    assert (rename.__name__, rename.__doc__) == ("rename", "Rename users.")


def test_bare_form_sends_name_and_arguments(server: Server, client: Checkrein) -> None:
    @client.guard
    def delete_users(table: str, *ids: int, everything: bool = True, **more: Any) -> int:
        return len(ids)

    server.will(ALLOW)
    assert delete_users("users", 1, 2, to="a@b.c") == 2
    assert asked(server) == {
        "tool": "delete_users",
        "arguments": {"table": "users", "ids": [1, 2], "everything": True, "to": "a@b.c"},
    }


def test_tool_names_the_raw_form(server: Server, client: Checkrein) -> None:
    server.will(ALLOW)
    assert client.guard(tool="mail.send", agent="ada", session="s1")(lambda to: to)("x") == "x"
    assert asked(server) == {"tool": "mail.send", "arguments": {"to": "x"}, "agent": "ada", "session": "s1"}


def test_keyword_arguments_never_hide_a_parameter(server: Server, client: Checkrein) -> None:
    @client.guard
    def f(ids: list[int], /, **more: Any) -> None: ...

    server.will(ALLOW)
    f([1, 2, 3], ids=[])
    assert asked(server)["arguments"] == {"ids": [1, 2, 3], "more": {"ids": []}}


def test_what_a_partial_binds_is_seen(server: Server, client: Checkrein) -> None:
    def drop(schema: str, table: str, cascade: bool = False) -> str:
        return f"{schema}.{table}"

    half = functools.partial(functools.partial(drop, "production"), cascade=True)
    server.will(ALLOW)
    assert client.guard(half)("users") == "production.users"
    assert asked(server) == {
        "tool": "drop",
        "arguments": {"schema": "production", "table": "users", "cascade": True},
    }


def test_methods(server: Server, client: Checkrein) -> None:
    class Shop:
        @client.guard
        def close(self, day: str) -> tuple[Any, str]:
            return self, day

        @classmethod
        @client.guard
        def open(cls, day: str) -> tuple[Any, str]:
            return cls, day

        @client.guard
        @staticmethod
        def paint(colour: str) -> str:
            return colour

        @client.guard
        @classmethod
        def sell(cls, price: int) -> tuple[Any, int]:
            return cls, price

        def __call__(self, item: str) -> str:
            return item

    server.will(then=ALLOW)
    shop = Shop()
    assert shop.close("mon") == (shop, "mon")
    assert Shop.open("tue") == (Shop, "tue")
    assert shop.paint("red") == "red"
    assert Shop.sell(7) == (Shop, 7)
    assert client.guard(shop.__call__)("a") == "a"
    assert client.guard(shop)("b") == "b"
    assert [a.body["arguments"] for a in server.checks()] == [
        {"day": "mon"},
        {"day": "tue"},
        {"colour": "red"},
        {"price": 7},
        {"item": "a"},
        {"item": "b"},
    ]
    assert server.checks()[-1].body["tool"] == "Shop"


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


class GeneratorCall:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "fn",
    [
        generator,
        async_generator,
        functools.partial(generator),
        GeneratorCall(),
        GeneratorCall,
        property(lambda self: 1),
        functools.partialmethod(generator),
        7,
    ],
)
def test_what_cannot_be_checked_before_is_refused_when_decorated(client: Checkrein, fn: Any) -> None:
    for guard in (client.guard, client.guard(action="a", resource="r"), make_async_guard()):
        with pytest.raises(TypeError):
            guard(fn)


def make_async_guard() -> Any:
    from checkrein import AsyncCheckrein

    return AsyncCheckrein().guard


def test_an_async_client_cannot_guard_a_blocking_function() -> None:
    with pytest.raises(TypeError, match="not async"):
        make_async_guard()(len)


def test_a_function_without_a_signature_needs_the_explicit_form(server: Server, client: Checkrein) -> None:
    with pytest.raises(TypeError, match="action="):
        client.guard(iter)
    server.will(ALLOW)
    assert list(client.guard(action="read", resource="x.y")(iter)([1])) == [1]


def test_errors_are_reported_and_pass_unchanged(server: Server, client: Checkrein) -> None:
    boom = ValueError("no such column \ud800")

    @client.guard(action="update", resource="shop.users")
    def fail() -> None:
        raise boom

    server.will(ALLOW)
    with pytest.raises(ValueError) as caught:
        fail()
    assert caught.value is boom
    assert server.outcomes == [{"status": "error", "error": "ValueError: no such column \\ud800"}]


def test_an_error_whose_text_raises(server: Server, client: Checkrein) -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fail() -> None:
        raise Bad

    server.will(ALLOW)
    with pytest.raises(Bad):
        client.guard(fail)()
    assert server.outcomes == [{"status": "error", "error": "Bad"}]


class ReadTimeout(Exception):
    """As HTTP and database libraries have theirs."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), TimeoutError(), ReadTimeout()])
def test_an_interrupted_function_has_an_unknown_outcome(
    server: Server, client: Checkrein, error: BaseException
) -> None:
    def stopped() -> None:
        raise error

    server.will(ALLOW)
    with pytest.raises(type(error)):
        client.guard(stopped)()
    assert [o["status"] for o in server.outcomes] == ["unknown"]


@pytest.mark.parametrize(
    "outcome", [scripted.problem(500, "x"), scripted.problem(404, "x"), scripted.silent, scripted.close]
)
def test_a_report_that_fails_masks_nothing(
    server: Server, outcome: scripted.Act, caplog: pytest.LogCaptureFixture
) -> None:
    with make(server, timeout=0.15, retries=0) as client:
        server.will(then=ALLOW, outcome=outcome)
        assert client.guard(action="a", resource="r")(lambda: 42)() == 42
        with pytest.raises(ZeroDivisionError):
            client.guard(action="a", resource="r")(lambda: 1 / 0)()
        assert client.check(action="a", resource="r").outcome("ok") is False
    assert caplog.text.count("not on record") == 3


def test_a_function_that_returns_something_unfinished_is_not_called_ok(
    server: Server, client: Checkrein
) -> None:
    server.will(ALLOW)
    client.guard(action="a", resource="r")(lambda: generator())()
    assert server.outcomes == [{"status": "unknown"}]


def test_wrong_arguments_and_a_broken_payload_do_not_run(server: Server, client: Checkrein) -> None:
    calls: list[int] = []
    with pytest.raises(TypeError):
        client.guard(lambda a: calls.append(a))()
    with pytest.raises(KeyError):
        client.guard(action="a", resource="r", payload=lambda a: {}["x"])(lambda a: calls.append(a))(1)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BadRequestError, match="contains itself"):
        client.guard(lambda a: calls.append(a))(loop)
    assert (calls, server.asked) == ([], [])


def test_a_hold_without_wait_asks_for_approval(server: Server, client: Checkrein) -> None:
    server.will(HOLD)
    with pytest.raises(ApprovalRequiredError) as caught:
        client.guard(action="a", resource="r")(pytest.fail)("ran")
    assert caught.value.result is not None
    assert caught.value.result.approval_id == "apr_1"
    assert server.outcomes == []


def test_a_hold_is_waited_for(server: Server, client: Checkrein) -> None:
    server.will(HOLD, HOLD, scripted.problem(502, "restarting"), scripted.close, APPROVED)
    assert client.guard(action="a", resource="r", wait=20)(lambda: 42)() == 42
    assert [a.method + a.path.partition("?")[0] for a in server.checks()] == [
        "POST/v1/checks",
        *["GET/v1/checks/chk_1"] * 4,
    ]
    assert server.outcomes == [{"status": "ok"}]


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (scripted.decision(verdict="block", reason="denied by ada"), PolicyViolationError),
        (HOLD, ApprovalRequiredError),
        (scripted.silent, ApprovalRequiredError),
        (scripted.problem(500, "x"), ApprovalRequiredError),
        (scripted.problem(429, "x"), ApprovalRequiredError),
        (scripted.reply(200, "rubbish"), ApprovalRequiredError),
        (scripted.decision(id="chk_2"), ApprovalRequiredError),
        (scripted.decision(verdict="approved"), PolicyViolationError),
    ],
)
def test_waiting_in_vain_does_not_run(server: Server, then: scripted.Act, error: type[Exception]) -> None:
    for setting in ("block", "allow"):
        server.will(HOLD, then=then)
        with make(server, on_unreachable=setting) as client:
            started = time.monotonic()
            with pytest.raises(PolicyViolationError) as caught:
                client.guard(action="a", resource="r", wait=0.7)(pytest.fail)("ran")
            assert type(caught.value) is error
            assert time.monotonic() - started < 2.5
    assert len(server.asked) < 8, "not asked in a tight loop"


BUSY = scripted.problem(429, "too many requests", retry_after="0")
BUSY_FOR_LONG = scripted.problem(429, "too many requests", retry_after="3600")


def test_a_busy_server_is_asked_again_while_waiting(server: Server, client: Checkrein) -> None:
    server.will(HOLD, BUSY, BUSY_FOR_LONG, APPROVED)
    assert client.guard(action="a", resource="r", wait=20)(lambda: 42)() == 42
    assert len(server.checks()) == 4
    assert server.outcomes == [{"status": "ok"}]


@pytest.mark.anyio
async def test_a_busy_server_is_asked_again_while_waiting_async(server: Server) -> None:
    async def run() -> int:
        return 42

    server.will(HOLD, BUSY, BUSY_FOR_LONG, APPROVED)
    async with make_async(server) as client:
        assert await client.guard(action="a", resource="r", wait=20)(run)() == 42


def test_a_server_that_stays_busy_leaves_the_hold_when_the_time_is_over(
    server: Server, client: Checkrein
) -> None:
    server.will(HOLD, then=BUSY)
    started = time.monotonic()
    with pytest.raises(ApprovalRequiredError):
        client.guard(action="a", resource="r", wait=1.5)(pytest.fail)("ran")
    assert 1.4 < time.monotonic() - started < 4
    assert len(server.checks()) >= 3


def test_arguments_that_change_during_the_wait_do_not_run(server: Server, client: Checkrein) -> None:
    ids = [1]

    def approve(sock: Any, asked: scripted.Asked) -> None:
        ids.extend(range(10_000))
        APPROVED(sock, asked)

    server.will(HOLD, approve)
    with pytest.raises(PolicyViolationError, match="changed"):
        client.guard(wait=5)(lambda ids: pytest.fail("ran"))(ids)


def test_context_manager(server: Server, client: Checkrein) -> None:
    server.will(then=ALLOW)
    with client.guard(action="update", resource="shop.users") as check:
        assert check.allowed
        check.outcome("ok", records=7)
    with pytest.raises(OSError), client.guard(tool="rm", arguments={"path": "/x"}):
        raise OSError("gone")
    with client.guard(action="update", resource="shop.users"):
        pass
    assert server.outcomes == [
        {"status": "ok", "records": 7},
        {"status": "error", "error": "OSError: gone"},
        {"status": "ok"},
    ]


def test_context_manager_misuse(server: Server, client: Checkrein) -> None:
    server.will(then=ALLOW)
    guard = client.guard(action="a", resource="r")
    with guard:
        pass
    with pytest.raises(RuntimeError, match="one `with`"):
        guard.__enter__()
    with pytest.raises(TypeError, match="payload"):
        client.guard(action="a", resource="r", payload=lambda: {}).__enter__()
    with pytest.raises(TypeError, match="no name"):
        client.guard().__enter__()
    with pytest.raises(ValueError, match="not both"):
        client.guard(action="a", tool="b")
    with pytest.raises(ValueError, match="wait"):
        client.guard(action="a", wait=-1)


def test_recursion_and_threads_through_one_guard(server: Server, client: Checkrein) -> None:
    server.will(then=ALLOW)

    @client.guard
    def countdown(n: int) -> int:
        return n if n == 0 else countdown(n - 1)

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(countdown(2))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [0] * 8
    assert len(server.checks()) == len(server.outcomes) == 24


# Async


@pytest.mark.anyio
@pytest.mark.parametrize("maker", [make, make_async])
async def test_async_function(server: Server, maker: Any) -> None:
    client = maker(server, timeout=5.0)

    @client.guard(action="update", resource="shop.users", payload=lambda n: {"record_count": n})
    async def update(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return n

    server.will(ALLOW, BLOCK, ALLOW)
    assert await update(3) == 3
    with pytest.raises(PolicyViolationError, match="over 25"):
        await update(10_000)
    with pytest.raises(ZeroDivisionError):
        await client.guard(action="a", resource="r")(divide)(0)
    assert asked(server, 0)["payload"] == {"record_count": 3}
    assert [o["status"] for o in server.outcomes] == ["ok", "error"]
    await client.aclose()


async def divide(n: int) -> float:
    return 1 / n


@pytest.mark.anyio
async def test_async_context_manager_and_wait(server: Server) -> None:
    async with make_async(server) as client:
        server.will(HOLD, HOLD, APPROVED, BLOCK)
        async with client.guard(action="a", resource="r", wait=10) as check:
            assert check.reason == "approved by ada"
        with pytest.raises(PolicyViolationError):
            async with client.guard(action="a", resource="r"):
                pytest.fail("ran")
    assert server.outcomes == [{"status": "ok"}]


@pytest.mark.anyio
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("maker", [make, make_async])
async def test_cancelled_while_asking_or_waiting_does_not_run(server: Server, maker: Any, held: bool) -> None:
    client = maker(server, timeout=20.0)
    calls: list[int] = []

    async def update() -> None:
        calls.append(1)

    server.will(*([HOLD] if held else []), then=scripted.silent)
    with anyio.move_on_after(0.3) as scope:
        await client.guard(action="a", resource="r", wait=60)(update)()
    assert scope.cancelled_caught
    await anyio.sleep(0.1)
    assert calls == []
    assert len(server.checks()) == 1 + held
    await client.aclose()


@pytest.mark.anyio
async def test_cancelled_while_running_reports_unknown(server: Server) -> None:
    async with make_async(server) as client:
        server.will(then=ALLOW)
        with anyio.move_on_after(0.3):
            await client.guard(action="a", resource="r")(anyio.sleep)(60)
        with anyio.move_on_after(0.3):
            async with client.guard(action="a", resource="r"):
                await anyio.sleep(60)
    assert [o["status"] for o in server.outcomes] == ["unknown", "unknown"]


def test_asyncio_cancel_while_running_reports_unknown(server: Server) -> None:
    async def main() -> None:
        async with make_async(server) as client:
            task = asyncio.create_task(client.guard(action="a", resource="r")(asyncio.sleep)(60))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    server.will(ALLOW)
    asyncio.run(main())
    assert [(o["status"], o["error"]) for o in server.outcomes] == [("unknown", "CancelledError: ")]


def test_parallel_async_calls_are_each_decided(server: Server) -> None:
    """As frameworks run the tool calls of one model answer: side by side."""
    ran: list[int] = []

    def by_number(sock: Any, asked: scripted.Asked) -> None:
        even = asked.body["payload"]["n"] % 2 == 0
        (ALLOW if even else BLOCK)(sock, asked)

    async def main() -> list[Any]:
        async with make_async(server, timeout=10.0) as client:

            @client.guard(action="a", resource="r", payload=lambda n: {"n": n})
            async def run(n: int) -> None:
                ran.append(n)

            return await asyncio.gather(*(run(n) for n in range(40)), return_exceptions=True)

    server.will(then=by_number)
    results = asyncio.run(main())
    assert sorted(ran) == list(range(0, 40, 2))
    assert [isinstance(r, PolicyViolationError) for r in results] == [n % 2 == 1 for n in range(40)]
