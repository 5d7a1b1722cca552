"""What every adapter must keep, with the framework's real package and a scripted model.

A test module of a framework imports everything from here and gives a fixture ``drive``: run an agent whose
model makes the tool calls of each turn, and answer with what the model read as their results, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import scripted
from conftest import make
from real_server import RealServer, serving
from scripted import ALLOW, BLOCK, HOLD, Server

from checkrein import Checkrein

T = TypeVar("T")
#: One turn of the model: the tool calls that it makes at once.
Turn = list[tuple[str, dict[str, Any]]]
Drive = Callable[..., list[str]]

RAN: list[tuple[str, Any]] = []
DELETE: Turn = [("delete_users", {"ids": [1, 2, 3]})]
MAIL: Turn = [("send_mail", {"to": "ada@example.com"})]


def delete_users(ids: list[int]) -> str:
    """Delete users."""
    RAN.append(("delete_users", ids))
    return f"{len(ids)} users deleted"


def send_mail(to: str) -> str:
    """Send a mail."""
    RAN.append(("send_mail", to))
    return f"mail sent to {to}"


def fail(kind: str) -> str:
    """Fail."""
    RAN.append(("fail", kind))
    raise {"timeout": TimeoutError, "error": ValueError}[kind]("this is why")


async def async_delete_users(ids: list[int]) -> str:
    """Delete users."""
    await asyncio.sleep(0)
    return delete_users(ids)


async def async_send_mail(to: str) -> str:
    """Send a mail."""
    await asyncio.sleep(0)
    return send_mail(to)


async def async_fail(kind: str) -> str:
    """Fail."""
    await asyncio.sleep(0)
    return fail(kind)


def tools(*, asynchronous: bool) -> list[Callable[..., Any]]:
    """The tools of the agents here, under the names of the blocking ones."""
    if not asynchronous:
        return [delete_users, send_mail, fail]
    found = [async_delete_users, async_send_mail, async_fail]
    for tool in found:
        tool.__name__ = tool.__name__.removeprefix("async_")
    return list(found)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture(scope="session")
def real() -> Iterator[RealServer]:
    with serving() as server:
        with Checkrein(server.url, server.admin_key) as admin:
            admin.policies.apply(
                [
                    {
                        "name": "few_deletes",
                        "rule": "block",
                        "condition": {"category": "delete", "record_count_exceeds": 25},
                    },
                    {"name": "mails", "rule": "require_approval", "condition": {"tool": "*send_mail"}},
                ]
            )
        yield server


@pytest.fixture
def admin(real: RealServer) -> Iterator[Checkrein]:
    with Checkrein(real.url, real.admin_key, timeout=10.0) as client:
        yield client


def run_async(client: Checkrein, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` on an event loop of its own, and close the connections that belong to it."""

    async def run() -> T:
        try:
            return await main()
        finally:
            held = client._for_async()._transport._http.get(None)
            if held is not None:
                await held[1].aclose()

    return asyncio.run(run())


def run_example(name: str) -> str:
    """What ``examples/integrations/<name>.py`` prints, on a server of its own."""
    script = Path(__file__).resolve().parents[3] / "examples/integrations" / f"{name}.py"
    assert len(script.read_text().splitlines()) <= 40
    with serving() as server:
        env = os.environ | {"CHECKREIN_URL": server.url, "CHECKREIN_API_KEY": server.admin_key}
        done = subprocess.run(
            [sys.executable, script], env=env, text=True, capture_output=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Person(threading.Thread):
    """Answers the next approval that is asked for, and notes what had run until then."""

    def __init__(self, admin: Checkrein, answer: str) -> None:
        super().__init__(daemon=True)
        self._admin, self._answer = admin, answer
        self.ran_before: list[tuple[str, Any]] | None = None
        self.start()

    def run(self) -> None:
        for _ in range(200):
            if pending := self._admin.approvals.list("pending"):
                time.sleep(0.2)  # long enough for a tool that does not wait
                self.ran_before = list(RAN)
                getattr(self._admin.approvals, self._answer)(pending[0]["id"], "because")
                return
            time.sleep(0.05)


def sessions(server: Server) -> list[str]:
    return [asked.body["session"] for asked in server.checks()]


# Against the real server


def test_allowed_runs_once(drive: Drive, admin: Checkrein) -> None:
    read = drive(admin, [DELETE])
    assert RAN == [("delete_users", [1, 2, 3])]
    assert "3 users deleted" in read[0]


def test_blocked_does_not_run_and_the_model_can_act_on_it(drive: Drive, admin: Checkrein) -> None:
    read = drive(admin, [[("delete_users", {"ids": list(range(30))})]])
    assert RAN == []
    assert "NOT RUN: Blocked by few_deletes" in read[0]
    assert "At most 25 records at a time would be allowed." in read[0]
    assert "chk_" not in read[0]


def test_a_model_that_obeys_gets_its_work_done(drive: Drive, admin: Checkrein) -> None:
    read = drive(admin, [[("delete_users", {"ids": list(range(30))})], DELETE])
    assert RAN == [("delete_users", [1, 2, 3])]
    assert "NOT RUN" in read[0]
    assert "3 users deleted" in read[1]


def test_parallel_calls_are_judged_one_by_one(drive: Drive, admin: Checkrein) -> None:
    turn = [("delete_users", {"ids": list(range(n))}) for n in (1, 30, 2, 40, 3)]
    read = drive(admin, [turn])
    assert sorted(len(ids) for _, ids in RAN) == [1, 2, 3]
    assert ["NOT RUN" in text for text in read] == [False, True, False, True, False]


def test_held_runs_once_and_only_when_approved(drive: Drive, admin: Checkrein) -> None:
    person = Person(admin, "approve")
    read = drive(admin, [MAIL], wait=20)
    person.join()
    assert person.ran_before == []
    assert RAN == [("send_mail", "ada@example.com")]
    assert "mail sent" in read[0]


def test_a_denied_hold_does_not_run(drive: Drive, admin: Checkrein) -> None:
    person = Person(admin, "deny")
    read = drive(admin, [MAIL], wait=20)
    person.join()
    assert RAN == []
    assert "NOT RUN: Denied by" in read[0]
    assert "because" in read[0]


def test_a_hold_that_nobody_answers_does_not_run(drive: Drive, admin: Checkrein) -> None:
    read = drive(admin, [[("send_mail", {"to": "nobody@example.com"})]], wait=1)
    assert RAN == []
    assert "Nobody has approved it yet (apr_" in read[0]
    for approval in admin.approvals.list("pending"):
        admin.approvals.deny(approval["id"])


# Against a server that follows a script


def test_what_is_asked_and_reported(drive: Drive, server: Server) -> None:
    server.will(then=ALLOW)
    with make(server, agent="ada") as client:
        drive(client, [DELETE])
    body = server.checks()[0].body
    # Some frameworks put the name of a server before that of the tool.
    assert body["tool"].removeprefix("mcp__shop__") == "delete_users"
    assert body["arguments"] == {"ids": [1, 2, 3]}
    assert body["agent"] == "ada"
    assert len(server.checks()) == 1
    assert server.outcomes == [{"status": "ok"}]


@pytest.mark.parametrize(("kind", "status"), [("error", "error"), ("timeout", "unknown")])
def test_a_tool_that_fails_is_reported(drive: Drive, server: Server, kind: str, status: str) -> None:
    server.will(then=ALLOW)
    with make(server) as client, contextlib.suppress(ValueError, TimeoutError):
        drive(client, [[("fail", {"kind": kind})]])
    assert len(RAN) == len(server.outcomes) == len(server.checks()) >= 1
    assert server.outcomes[0]["status"] == status
    assert "this is why" in server.outcomes[0]["error"]


def test_one_session_over_a_run_and_another_over_the_next(drive: Drive, server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        drive(client, [DELETE + MAIL, DELETE])
        one = sessions(server)
        drive(client, [DELETE])
    assert len(one) == 3
    assert len(set(one)) == 1
    assert sessions(server)[3] != one[0]


def test_a_session_that_is_given_is_kept(drive: Drive, server: Server) -> None:
    server.will(then=ALLOW)
    with make(server, session="ticket-7") as client:
        drive(client, [DELETE])
    assert sessions(server) == ["ticket-7"]


#: What can go wrong with a check: what the server does, and whether `on_unreachable="allow"` covers it.
TROUBLE: dict[str, tuple[scripted.Act | None, bool]] = {
    "down": (None, True),
    "slow": (scripted.silent, True),
    "broken off": (scripted.half_closed, True),
    "no JSON": (scripted.reply(200, "<html>hello</html>", "text/html"), True),
    "no verdict": (scripted.reply(200, {"ok": True}), True),
    "an allow without an id": (scripted.reply(200, {"verdict": "allow", "reason": "x"}), True),
    "500": (scripted.problem(500, "oops"), True),
    "two verdicts": (scripted.reply(200, '{"verdict":"block","verdict":"allow"}'), False),
    "a new verdict": (scripted.decision(verdict="maybe"), False),
    "429": (scripted.problem(429, "slow down"), False),
    "401": (scripted.problem(401, "who are you?"), False),
    "422": (scripted.problem(422, "what is this?"), False),
    "the check raises": (ALLOW, False),
}


@contextlib.contextmanager
def troubled(server: Server, trouble: str, **changes: Any) -> Iterator[Checkrein]:
    act = TROUBLE[trouble][0]
    server.will(then=act or ALLOW)
    if act is None:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            changes["url"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with make(server, retries=0, **changes) as client:
        if trouble == "the check raises":

            def boom(*_: Any) -> Any:
                raise ZeroDivisionError("in the check")

            client._protocol.check = client._for_async()._protocol.check = boom  # type: ignore[method-assign]
        yield client


def does_not_run(drive: Drive, server: Server, trouble: str) -> None:
    with troubled(server, trouble) as client:
        read = drive(client, [DELETE + MAIL])
    assert RAN == []
    for text in read:
        assert "NOT RUN: this call could not be checked" in text
        assert "127.0.0.1" not in text
        assert "checkrein serve" not in text
    assert len(read) == 2


def runs_where_it_says_so(drive: Drive, server: Server, trouble: str) -> None:
    with troubled(server, trouble, on_unreachable="allow") as client:
        drive(client, [DELETE])
    assert ([("delete_users", [1, 2, 3])] if TROUBLE[trouble][1] else []) == RAN


@pytest.mark.parametrize("trouble", TROUBLE)
def test_what_cannot_be_checked_does_not_run(drive: Drive, server: Server, trouble: str) -> None:
    does_not_run(drive, server, trouble)


@pytest.mark.parametrize("trouble", TROUBLE)
def test_on_unreachable_allow_lets_run_only_what_it_says(drive: Drive, server: Server, trouble: str) -> None:
    runs_where_it_says_so(drive, server, trouble)


@pytest.mark.parametrize("trouble", ["down", "slow"])
def test_on_unreachable_allow_reads_knows_no_tool_that_only_reads(
    drive: Drive, server: Server, trouble: str
) -> None:
    with troubled(server, trouble, on_unreachable="allow_reads") as client:
        drive(client, [DELETE])
    assert RAN == []


def test_a_blocked_call_among_allowed_ones_when_the_script_says_so(drive: Drive, server: Server) -> None:
    server.will(then=BLOCK)
    with make(server) as client:
        drive(client, [DELETE + MAIL + DELETE])
    assert RAN == []
    assert server.outcomes == []


def test_a_hold_outlives_no_server(drive: Drive, server: Server) -> None:
    """Held, and then nobody there who could say yes."""
    server.will(HOLD, then=scripted.close)
    with make(server, retries=0, on_unreachable="allow") as client:
        read = drive(client, [MAIL], wait=1)
    assert RAN == []
    assert "NOT RUN" in read[0]


__all__ = [name for name in globals() if name.startswith("test_")] + [
    "RAN", "_nothing_ran", "admin", "real", "tools",
]  # fmt: skip
