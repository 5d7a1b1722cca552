"""The SDK against the real server: `$CHECKREIN_BIN`, a store of its own for each test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pydantic
import pytest
from real_server import RealServer, binary, serving

from checkrein import (
    ApprovalRequiredError,
    AsyncCheckrein,
    AuthenticationError,
    BadRequestError,
    Checkrein,
    CheckResult,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    PolicyConflictError,
    PolicyInvalidError,
    PolicyViolationError,
)

ROOT = Path(__file__).resolve().parents[3]

BULK = {
    "name": "blast_radius_limit",
    "rule": "block",
    "condition": {"action": "update", "record_count_exceeds": 25},
}
REFUND = {
    "name": "refunds_need_a_person",
    "rule": "require_approval",
    "condition": {"action": "refund"},
}


@pytest.fixture
def real() -> Iterator[RealServer]:
    with serving() as server:
        yield server


@pytest.fixture
def admin(real: RealServer) -> Iterator[Checkrein]:
    with Checkrein(real.url, real.admin_key, timeout=10.0) as client:
        yield client


def test_a_check_goes_on_record_and_comes_back(admin: Checkrein) -> None:
    admin.policies.create(BULK)
    result = admin.check(
        action="update", resource="shop.users", payload={"record_count": 10_000}, agent="ada", session="s1"
    )
    assert (result.verdict, result.category, result.environment) == ("block", "write", "production")
    assert not result.degraded
    assert "10000" in result.reason
    assert [(p.name, p.rule, p.mode) for p in result.policies] == [("blast_radius_limit", "block", "enforce")]
    assert result.blast_radius is not None
    assert (result.blast_radius.records, result.blast_radius.declared) == (10_000, 10_000)
    assert result.id is not None
    assert result.logged_at is not None
    assert admin.check(action="update", resource="shop.users", payload={"record_count": 25}).allowed
    assert admin.check(action="read", resource="shop.users").allowed
    assert admin.check(action="update", resource="shop.users").blocked, "an unknown count is too many"


def test_one_idempotency_key_one_record(admin: Checkrein) -> None:
    first, second = (
        admin.check(action="read", resource="shop.users", idempotency_key="k1") for _ in range(2)
    )
    assert first.id == second.id
    assert admin.check(action="read", resource="shop.users").id != first.id


def test_the_raw_form_is_classified(admin: Checkrein) -> None:
    @admin.guard
    def delete_users(ids: list[int]) -> int:
        return len(ids)

    result = admin.check(tool="delete_users", arguments={"ids": [1, 2, 3]})
    assert result.category == "delete"
    assert result.blast_radius is not None
    assert result.blast_radius.records == 3
    assert delete_users([1]) == 1
    admin.policies.create({"name": "no_deletes", "rule": "block", "condition": {"category": "delete"}})
    with pytest.raises(PolicyViolationError, match="delete"):
        delete_users([1])


def test_what_python_has_and_json_has_not_is_taken(admin: Checkrein) -> None:
    values: list[Any] = [float("nan"), 2**70, 1e300, "\ud800", b"x", {1, 2}, object(), {"a": {1: None}}]
    for value in values:
        assert admin.check(action="read", resource="shop.users", payload={"value": value}).allowed


def test_policies(admin: Checkrein) -> None:
    admin.policies.create(BULK)
    admin.policies.create(BULK)
    other = BULK | {"condition": {"action": "update", "record_count_exceeds": 26}}
    with pytest.raises(PolicyConflictError):
        admin.policies.create(other)
    with pytest.raises(PolicyInvalidError) as caught:
        admin.policies.create(
            {"name": "x", "rule": "block", "condition": {"action": "update", "record_count_exceds": 25}}
        )
    assert "record_count_exceeds" in str(caught.value)
    assert [p["name"] for p in admin.policies.list()] == ["blast_radius_limit"]
    assert admin.policies.get("blast_radius_limit")["rule"] == "block"
    admin.policies.apply([REFUND])
    assert [p["name"] for p in admin.policies.list()] == ["refunds_need_a_person"]
    with pytest.raises(PolicyInvalidError):
        admin.policies.apply([BULK, {"name": "broken", "rule": "blok", "condition": {}}])
    assert [p["name"] for p in admin.policies.list()] == ["refunds_need_a_person"], "all or nothing"
    admin.policies.delete("refunds_need_a_person")
    assert admin.policies.list() == []
    with pytest.raises(NotFoundError):
        admin.policies.delete("refunds_need_a_person")


def test_wrong_key_and_wrong_request_raise(real: RealServer, admin: Checkrein) -> None:
    with Checkrein(real.url, "ck_agent_" + "0" * 64, on_unreachable="allow") as stranger:
        with pytest.raises(AuthenticationError):
            stranger.check(action="read", resource="shop.users")
        with pytest.raises(AuthenticationError):
            stranger.guard(action="read", resource="shop.users")(pytest.fail)("ran")
    with Checkrein(real.url) as nobody, pytest.raises(AuthenticationError):
        nobody.check(action="read", resource="shop.users")
    with pytest.raises(BadRequestError):
        admin.check(action="upd\u200bate", resource="shop.users")
    with pytest.raises(BadRequestError):
        admin.check(action="update", resource="shop.users", payload={"x": "y" * 3_000_000})


def test_an_agents_key_is_only_that(real: RealServer, admin: Checkrein) -> None:
    made = real.command("keys", "create", "--role", "agent", "--name", "bot", "--agent", "bot", "--json")
    assert made.returncode == 0, made.stderr
    with Checkrein(real.url, json.loads(made.stdout)["key"], timeout=10.0) as bot:
        assert bot.check(action="read", resource="shop.users").allowed
        with pytest.raises(PermissionDeniedError):
            bot.check(action="read", resource="shop.users", agent="somebody-else")
        with pytest.raises(PermissionDeniedError):
            bot.policies.create(BULK)
        admin.policies.create(REFUND)
        held = bot.check(action="refund", resource="shop.orders", payload={"record_count": 1})
        assert held.held
        assert held.approval_id is not None
        with pytest.raises(PermissionDeniedError):
            bot.approvals.approve(held.approval_id)


def answer_soon(admin: Checkrein, answer: str) -> threading.Thread:
    def work() -> None:
        for _ in range(200):
            for approval in admin.approvals.list(state="pending"):
                getattr(admin.approvals, answer)(approval["id"], comment="seen")
                return
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_hold_runs_once_approved(admin: Checkrein) -> None:
    admin.policies.create(REFUND)
    runs: list[int] = []

    @admin.guard(action="refund", resource="shop.orders", payload=lambda order: {"order": order}, wait=20)
    def refund(order: int) -> int:
        runs.append(order)
        return order

    thread = answer_soon(admin, "approve")
    assert refund(7) == 7
    thread.join()
    thread = answer_soon(admin, "deny")
    with pytest.raises(PolicyViolationError) as caught:
        refund(8)
    thread.join()
    assert not isinstance(caught.value, ApprovalRequiredError)
    assert runs == [7]


class Refund(pydantic.BaseModel):
    order: int


def test_an_approval_fits_no_other_object(admin: Checkrein) -> None:
    admin.policies.create(REFUND)

    def ask(payload: Any) -> CheckResult:
        return admin.check(action="refund", resource="shop.orders", payload=payload)

    def approve(payload: Any) -> None:
        held = ask(payload)
        assert held.approval_id is not None
        admin.approvals.approve(held.approval_id)

    approve(Refund(order=1))
    assert ask(Refund(order=2)).held
    assert ask(Refund(order=1)).allowed, "the same again"
    unseen = object()
    approve({"order": unseen})
    assert ask({"order": unseen}).held


def test_a_hold_that_nobody_answers_stays_held(admin: Checkrein) -> None:
    admin.policies.create(REFUND)
    held = admin.check(action="refund", resource="shop.orders", payload={"order": 1})
    assert held.held
    started = time.monotonic()
    assert held.wait(timeout=1.5).held
    assert time.monotonic() - started < 5
    assert held.approval_id is not None
    assert admin.approvals.get(held.approval_id)["state"] == "pending"
    admin.approvals.deny(held.approval_id)
    with pytest.raises(ConflictError):
        admin.approvals.approve(held.approval_id)
    settled = held.wait(timeout=5)
    assert settled.verdict == "block"


def test_a_hold_says_which_check_used_its_approval(admin: Checkrein) -> None:
    admin.policies.create(REFUND)
    held = admin.check(action="refund", resource="shop.orders", payload={"order": 7})
    assert held.approval_id is not None
    admin.approvals.approve(held.approval_id)
    again = admin.check(action="refund", resource="shop.orders", payload={"order": 7})
    assert (again.allowed, again.used_by) == (True, None)
    settled = held.wait(timeout=5)
    assert (settled.blocked, settled.used_by) == (True, again.id)


def test_the_outcome_is_on_record(real: RealServer, admin: Checkrein) -> None:
    result = admin.check(action="update", resource="shop.users", payload={"record_count": 3})
    assert result.outcome("ok", records=3)

    @admin.guard(action="update", resource="shop.users", payload={"record_count": 1})
    def fail() -> None:
        raise RuntimeError("no such table")

    with pytest.raises(RuntimeError):
        fail()
    log = real.command("log", "export", "--data", str(real.data))
    assert log.returncode == 0, log.stderr
    assert "no such table" in log.stdout
    verified = real.command("log", "verify", "--data", str(real.data))
    assert verified.returncode == 0, verified.stderr


@pytest.mark.anyio
async def test_async(real: RealServer) -> None:
    async with AsyncCheckrein(real.url, real.admin_key, timeout=10.0) as admin:
        await admin.policies.create(BULK)
        ran: list[int] = []

        @admin.guard(action="update", resource="shop.users", payload=lambda n: {"record_count": n})
        async def update(n: int) -> None:
            ran.append(n)

        async def attempt(n: int) -> None:
            try:
                await update(n)
            except PolicyViolationError:
                return

        async with anyio.create_task_group() as group:
            for n in range(1, 51):
                group.start_soon(attempt, n)
        assert sorted(ran) == list(range(1, 26))


def test_no_verdict_once_the_server_is_gone() -> None:
    with serving() as server:
        client = Checkrein(server.url, server.admin_key, timeout=10.0)
        assert client.check(action="read", resource="shop.users").allowed
    result = client.check(action="read", resource="shop.users")
    assert result.blocked
    assert result.degraded
    client.close()


def example(real: RealServer, name: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"CHECKREIN_URL": real.url, "CHECKREIN_API_KEY": real.admin_key}
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_example_plain_functions(real: RealServer) -> None:
    for _ in range(2):  # also against a server that has its policies already
        run = example(real, "plain_functions.py")
        assert run.returncode == 0, run.stderr
        lines = run.stdout.splitlines()
        assert lines[0] == "find_users(inactive_days=90): [1, 2, 3]"
        assert lines[1] == "tag_users(ids=[1, 2, 3], tag='dormant'): 3 users tagged"
        assert lines[2].startswith("tag_users(ids=")
        assert "stopped: " in lines[2]
        assert lines[3].startswith("delete_users(ids=[1, 2, 3]): stopped: ")
    source = (ROOT / "examples/plain_functions.py").read_text().splitlines()
    assert len(source) <= 40


def test_example_five_lines(real: RealServer) -> None:
    run = example(real, "five_lines.py")
    assert run.returncode == 0, run.stderr
    assert (
        len([line for line in (ROOT / "examples/five_lines.py").read_text().splitlines() if line.strip()])
        == 5
    ), "five lines"


def test_the_demo(tmp_path: Path) -> None:
    env = os.environ | {
        "TMPDIR": str(tmp_path),
        "CHECKREIN_BIN": str(binary()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = subprocess.run(
        [sys.executable, ROOT / "examples/demo/run.py"],
        env=env,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert "\033" not in run.stdout, "no colours in a pipe"
    expected = {"  allowed": 2, "  BLOCKED": 3, "  alerted": 1, "  held": 1, "  approved": 1, "  restored": 1}
    for word, times in expected.items():
        assert sum(line.startswith(word) for line in lines) == times, word
    for receiver in ("Slack     🟠 Warning", "PagerDuty warning · Warning"):
        told = f"  {receiver}: action.blocked (2 times): update on production.users by shop-bot"
        assert sum(line.startswith(told) for line in lines) == 1, receiver
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_demo_stays_for_a_person_who_decides(tmp_path: Path) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path), "CHECKREIN_BIN": str(binary()), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-B", ROOT / "examples/demo/run.py", "--keep"]
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE) as demo:
        try:
            assert demo.stdout is not None
            url = key = ""
            for line in demo.stdout:
                if "See them, and all that was, at " in line:
                    url = line.split(" at ")[1].split("/ ")[0]
                if line.startswith("  ck_operator_"):
                    key = line.strip()
                if "Ctrl-C" in line:
                    break
            headers = {"Authorization": f"Bearer {key}"}
            waiting = httpx.get(f"{url}/v1/approvals?state=pending", headers=headers).json()["approvals"]
            ids = {a["blast_radius"]["records"]: a["id"] for a in waiting if a["agent"] == "shop-bot"}
            assert sorted(ids) == [60, 300]
            for records, decision in ((300, "approve"), (60, "deny")):
                path = f"{url}/v1/approvals/{ids[records]}/decision"
                assert httpx.post(path, headers=headers, json={"decision": decision}).status_code == 200
            assert demo.stdout.readline().startswith("  allowed  cancel 300 orders · Approved by you")
            assert demo.stdout.readline().startswith("  BLOCKED  delete 60 users · Denied by you")
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 130
        finally:
            demo.kill()
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_loop_is_told(admin: Checkrein) -> None:
    calm = admin.check(action="read", resource="tickets/0", agent="looping")
    assert (calm.drift, calm.breaker) == (None, "closed")
    for _ in range(30):
        result = admin.check(action="read", resource="tickets/1", agent="looping")
        if result.drift is not None:
            break
    assert (result.allowed, result.breaker) == (True, "closed")
    assert result.drift is not None
    assert (result.drift.channel, result.drift.score >= 5) == ("loop", True)
    assert "times in a row" in result.drift.reason
    assert result.drift.seen > result.drift.expected
