"""Claude Agent SDK with Claude Code's own binary, as its package has it, and a stub of Anthropic's API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, create_sdk_mcp_server, query, tool
from claude_server import ClaudeServer, claude
from conftest import make
from contract import *  # noqa: F403
from contract import (
    DELETE,
    MAIL,
    RAN,
    Drive,
    Turn,
    does_not_run,
    run_async,
    run_example,
    runs_where_it_says_so,
    sessions,
    tools,
    troubled,
)
from scripted import ALLOW, BLOCK, Server

from checkrein import Checkrein
from checkrein.integrations.claude import _Hooks, checkrein_hooks


def shop() -> Any:
    """The tools of the tests, as an MCP server within the process."""

    def made(function: Any) -> Any:
        kinds = {"delete_users": {"ids": list}, "send_mail": {"to": str}, "fail": {"kind": str}}

        @tool(function.__name__, function.__doc__, kinds[function.__name__])
        async def call(arguments: dict[str, Any]) -> dict[str, Any]:
            return {"content": [{"type": "text", "text": await function(**arguments)}]}

        return call

    return create_sdk_mcp_server("shop", tools=[made(f) for f in tools(asynchronous=True)])


async def ask(model: ClaudeServer, folder: Path, hooks: Any, resume: str | None = None) -> ResultMessage:
    env = {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "sk-dummy",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "DISABLE_TELEMETRY": "1",
        "IS_SANDBOX": "1",
    }
    options = ClaudeAgentOptions(
        env=env,
        cwd=folder,
        hooks=hooks,
        max_turns=6,
        mcp_servers={"shop": shop()},
        permission_mode="bypassPermissions",
        resume=resume,
        setting_sources=[],
    )
    found = None
    stream = query(prompt="" if resume else "go", options=options)
    async with contextlib.aclosing(stream):
        async for message in stream:
            if isinstance(message, ResultMessage):
                found = found or message  # a deferred call ends the run; what follows is another
    assert found is not None
    return found


def named(turns: list[Turn]) -> list[Turn]:
    ours = {"delete_users", "send_mail", "fail"}
    return [[(f"mcp__shop__{n}" if n in ours else n, args) for n, args in turn] for turn in turns]


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        with claude(named(turns)) as model:
            run_async(client, lambda: ask(model, tmp_path, checkrein_hooks(client, **options)))
            return model.read()

    return run


@pytest.mark.parametrize("kind", ["error", "timeout"])
def test_a_tool_that_fails_is_reported(drive: Drive, server: Server, kind: str) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        drive(client, [[("fail", {"kind": kind})]])
    assert len(RAN) == len(server.outcomes) == len(server.checks()) == 1
    # What was raised is told in words only, and these say nothing of time.
    assert server.outcomes[0]["status"] == "error"
    assert "this is why" in server.outcomes[0]["error"]


# A run takes seconds, so here is one trouble of each kind.
FEW = ["down", "slow", "no JSON", "two verdicts", "401", "the check raises"]


@pytest.mark.parametrize("trouble", FEW)
def test_what_cannot_be_checked_does_not_run(drive: Drive, server: Server, trouble: str) -> None:
    does_not_run(drive, server, trouble)


@pytest.mark.parametrize("trouble", FEW)
def test_on_unreachable_allow_lets_run_only_what_it_says(drive: Drive, server: Server, trouble: str) -> None:
    runs_where_it_says_so(drive, server, trouble)


@pytest.fixture
def bash(tmp_path: Path) -> tuple[Turn, Path]:
    made = tmp_path / "made"
    return [("Bash", {"command": f"touch {made}", "description": "x"})], made


def test_its_own_tools_are_checked(drive: Drive, server: Server, bash: tuple[Turn, Path]) -> None:
    turn, made = bash
    server.will(BLOCK, ALLOW)
    with make(server) as client:
        read = drive(client, [turn])
        assert not made.exists()
        assert "NOT RUN" in read[0]
        drive(client, [turn])
    assert made.exists()
    assert server.checks()[0].body["tool"] == "Bash"
    assert server.checks()[0].body["arguments"]["command"] == turn[0][1]["command"]
    assert server.outcomes == [{"status": "ok"}]


@pytest.mark.parametrize("trouble", ["down", "the check raises"])
def test_its_own_tools_do_not_run_unchecked(
    drive: Drive, server: Server, bash: tuple[Turn, Path], trouble: str
) -> None:
    with troubled(server, trouble) as client:
        drive(client, [bash[0]])
    assert not bash[1].exists()


def test_a_hook_that_fails_itself_blocks(
    drive: Drive, server: Server, bash: tuple[Turn, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def boom(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(_Hooks, "before", boom)
    with make(server) as client:
        drive(client, [bash[0] + DELETE])
    assert not bash[1].exists()
    assert RAN == []


def test_a_hook_that_takes_too_long_blocks(
    drive: Drive, server: Server, bash: tuple[Turn, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> Any:
        await anyio.sleep(20)

    monkeypatch.setattr("checkrein.integrations.claude._CHECK", 0.5)
    monkeypatch.setattr(_Hooks, "before", slow)
    with make(server) as client:
        drive(client, [bash[0]], wait=0.5)
    assert not bash[1].exists()


@pytest.fixture
def clean(admin: Checkrein) -> Iterator[Checkrein]:
    yield admin
    for approval in admin.approvals.list("pending"):
        admin.approvals.deny(approval["id"])


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("answer", ["approve", "deny", None])
def test_a_hold_can_end_the_run_and_be_resumed(
    clean: Checkrein, tmp_path: Path, answer: str | None, restarted: bool
) -> None:
    hooks = checkrein_hooks(clean, pause=True)
    with claude(named([MAIL])) as model:
        stopped = run_async(clean, lambda: ask(model, tmp_path, hooks))
        assert stopped.deferred_tool_use is not None
        assert stopped.deferred_tool_use.input == {"to": "ada@example.com"}
        assert RAN == []
        (approval,) = clean.approvals.list("pending")
        if answer:
            getattr(clean.approvals, answer)(approval["id"], "because")
        again = checkrein_hooks(clean, pause=True) if restarted else hooks
        ended = run_async(clean, lambda: ask(model, tmp_path, again, resume=stopped.session_id))
        read = model.read()
    assert ([("send_mail", "ada@example.com")] if answer == "approve" else []) == RAN
    if answer == "deny" and not restarted:
        assert "because" in read[0]
    elif answer != "approve":
        assert ended.deferred_tool_use is not None


def test_calls_beside_a_hold_run_once(clean: Checkrein, tmp_path: Path) -> None:
    hooks = checkrein_hooks(clean, pause=True)
    other: Turn = [("send_mail", {"to": "bob@example.com"})]
    with claude(named([DELETE + MAIL + other])) as model:
        stopped = run_async(clean, lambda: ask(model, tmp_path, hooks))
        assert RAN == [("delete_users", [1, 2, 3])]
        for approval in clean.approvals.list("pending"):
            clean.approvals.approve(approval["id"])
        run_async(clean, lambda: ask(model, tmp_path, hooks, resume=stopped.session_id))
    # Claude Code resumes one deferred call of a message; the other never runs.
    assert RAN == [("delete_users", [1, 2, 3]), ("send_mail", "bob@example.com")]


def test_claudes_session_is_the_session(server: Server, tmp_path: Path) -> None:
    server.will(then=ALLOW)
    with make(server) as client, claude(named([DELETE])) as model:
        ended = run_async(client, lambda: ask(model, tmp_path, checkrein_hooks(client)))
    assert sessions(server) == [ended.session_id]


def test_the_example() -> None:
    said = run_example("claude_agent")
    assert "NOT RUN: Blocked by few" in said
    assert "3 users deleted" in said
    assert "10000 users deleted" not in said
