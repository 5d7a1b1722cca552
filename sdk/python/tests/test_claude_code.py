"""Claude Code's own program with the hook that `checkrein hook claude-code --install` writes."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import claude_code
import pytest
from claude_server import Turn
from contract import run_example
from real_server import RealServer, binary, serving
from scripted import OK, Act, Server, close, half_closed, raw, reply, silent

POLICIES = [
    {
        "name": "no_secrets",
        "rule": "block",
        "condition": {"category": "write", "resource_pattern": "*/secret*"},
    },
    {"name": "ask_first", "rule": "require_approval", "condition": {"action": "bash"}},
]


@pytest.fixture(scope="module")
def checkrein() -> Iterator[RealServer]:
    with serving() as server:
        policies = server.data.parent / "policies.json"
        policies.write_text(json.dumps(POLICIES))
        done = server.command("policy", "apply", str(policies))
        assert done.returncode == 0, done.stderr
        yield server


@pytest.fixture(scope="module")
def key(checkrein: RealServer) -> str:
    return new_key(checkrein)


def new_key(checkrein: RealServer) -> str:
    made = checkrein.command("keys", "create", "--role", "agent", "--name", "c", "--agent", "coder")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def install(folder: Path, url: str, *flags: str) -> None:
    done = subprocess.run(
        [binary(), "hook", "claude-code", "--install", "--url", url, *flags],
        cwd=folder,
        env=claude_code.environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "careful" not in done.stderr, "this Claude Code is new enough"


@pytest.fixture
def project(tmp_path: Path, checkrein: RealServer) -> Path:
    """A project with the hook, which waits for nobody."""
    install(tmp_path, checkrein.url, "--wait", "0")
    return tmp_path


def write(path: Path) -> Turn:
    return [("Write", {"file_path": str(path), "content": "x"})]


def shell(folder: Path) -> Turn:
    """Leaves a line for every time that it ran."""
    return [("Bash", {"command": f"echo ran >> {folder}/ran", "description": "Run"})]


def times(folder: Path) -> int:
    ran = folder / "ran"
    return len(ran.read_text().splitlines()) if ran.exists() else 0


def on_record(checkrein: RealServer, kind: str) -> list[dict[str, Any]]:
    """The content of all entries of this kind."""
    lines = checkrein.command("log", "export").stdout.splitlines()
    return [entry["body"] for entry in map(json.loads, lines) if entry["kind"] == kind]


def asked(checkrein: RealServer, path: Path) -> list[dict[str, Any]]:
    """The checks of what was to be done to ``path``."""
    checks = on_record(checkrein, "check")
    return [c for c in checks if c["check"]["arguments"].get("file_path") == str(path)]


def outcome(checkrein: RealServer, path: Path) -> str:
    """What became of the one call that was to be made on ``path``."""
    (check,) = asked(checkrein, path)
    (found,) = [o for o in on_record(checkrein, "outcome") if o["check_id"] == check["decision"]["id"]]
    return str(found["status"])


def pending(checkrein: RealServer) -> str:
    for _ in range(400):
        found = json.loads(checkrein.command("approvals", "list", "--json").stdout)["approvals"]
        if found:
            return str(found[0]["id"])
        time.sleep(0.05)
    raise AssertionError("nobody was asked")


def test_what_is_allowed_runs_once_and_is_reported(checkrein: RealServer, key: str, project: Path) -> None:
    assert "created" in claude_code.run(project, [write(project / "plain")], key)[0]
    assert (project / "plain").read_text() == "x"
    (check,) = asked(checkrein, project / "plain")
    assert check["decision"]["verdict"] == "allow"
    assert outcome(checkrein, project / "plain") == "ok"


def test_what_is_blocked_does_not_run(key: str, project: Path) -> None:
    # Both ways of writing it are one path.
    paths = [project / "secret.txt", project / "x/../secret2"]
    read = claude_code.run(project, [write(paths[0]) + write(paths[1]) + write(project / "plain")], key)
    assert "NOT RUN" in read[0]
    assert "no_secrets" in read[0]
    assert "NOT RUN" in read[1]
    assert sorted(p.name for p in project.iterdir() if p.is_file() and p.name[0] != ".") == ["plain"]


def test_a_hold_runs_once_after_its_approval(checkrein: RealServer, key: str, project: Path) -> None:
    run = shell(project)
    read = claude_code.run(project, [run, run], key)
    assert all("Nobody has approved it yet" in result for result in read)
    assert times(project) == 0
    approval = pending(checkrein)
    assert approval in read[0]
    assert checkrein.command("approvals", "approve", approval).returncode == 0
    read = claude_code.run(project, [run, run], key)
    assert "NOT RUN" not in read[0]
    assert "NOT RUN" in read[1]
    assert times(project) == 1
    assert checkrein.command("approvals", "deny", pending(checkrein)).returncode == 0


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_hold_is_waited_for(checkrein: RealServer, key: str, tmp_path: Path, answer: str) -> None:
    install(tmp_path, checkrein.url, "--wait", "60")
    before: list[int] = []

    def person() -> None:
        approval = pending(checkrein)
        time.sleep(0.3)  # long enough for a tool that does not wait
        before.append(times(tmp_path))
        checkrein.command("approvals", answer, approval, "--comment", "because")

    thread = threading.Thread(target=person)
    thread.start()
    read = claude_code.run(tmp_path, [shell(tmp_path)], key)
    thread.join()
    assert before == [0]
    assert times(tmp_path) == (1 if answer == "approve" else 0)
    assert ("because" in read[0]) == (answer == "deny")


def test_an_allow_does_not_stand_for_claude_codes_own_permissions(key: str, project: Path) -> None:
    claude_code.run(project, [write(project / "plain")], key, mode="default")
    assert not (project / "plain").exists()


def test_a_tool_that_fails_is_reported(checkrein: RealServer, key: str, project: Path) -> None:
    claude_code.run(project, [[("Read", {"file_path": str(project / "missing")})]], key)
    assert outcome(checkrein, project / "missing") == "error"


def test_subagents_are_checked(checkrein: RealServer, key: str, project: Path) -> None:
    # The model makes the same calls as the subagent that it starts.
    start: Turn = [("Agent", {"description": "d", "prompt": "p", "subagent_type": "general-purpose"})]
    claude_code.run(project, [start + write(project / "secret")], key)
    assert len(asked(checkrein, project / "secret")) > 1
    assert not (project / "secret").exists()


def test_two_settings_with_the_hook_ask_once(checkrein: RealServer, key: str, project: Path) -> None:
    settings = (project / claude_code.SETTINGS).read_text()
    # At another address, or Claude Code itself would take the two for one.
    local = settings.replace('claude-code"', 'claude-code?wait=0s"')
    (project / claude_code.SETTINGS).with_name("settings.local.json").write_text(local)
    claude_code.run(project, [write(project / "plain")], key)
    assert (project / "plain").exists()
    assert len(asked(checkrein, project / "plain")) == 1


@pytest.mark.parametrize("which", [None, "", "ck_agent_of_nobody", "admin"])
def test_without_an_agents_key_nothing_runs(checkrein: RealServer, project: Path, which: str | None) -> None:
    read = claude_code.run(
        project, [write(project / "plain")], checkrein.admin_key if which == "admin" else which
    )
    assert not (project / "plain").exists()
    assert "agent's key" in read[0] if which == "admin" else "HTTP 401" in read[0]


# An answer that Claude Code does not understand, or none.
TROUBLES: dict[str, Act] = {
    "500": reply(500, {}),
    "503": reply(503, {"detail": "the disk is full"}, "application/problem+json"),
    "404": reply(404, {}),
    "moved": reply(307, {}, location="http://127.0.0.1:9/"),
    "a page": reply(200, "<html>Sign in</html>", "text/html"),
    "a list": reply(200, "[1]"),
    "another word": reply(
        200, {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "yes"}}
    ),
    "cut off": half_closed,
    "hung up": close,
    "no HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "slow": silent,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_checked_does_not_run(server: Server, tmp_path: Path, trouble: str) -> None:
    install(tmp_path, server.url, "--wait", "0")
    claude_code.change(tmp_path, timeout=2)
    server.will(then=TROUBLES[trouble])
    read = claude_code.run(tmp_path, [write(tmp_path / "plain") + shell(tmp_path)], "ck_test")
    assert not (tmp_path / "plain").exists()
    assert times(tmp_path) == 0
    assert all("onFailure" in result for result in read)
    # The same server, had it answered.
    server.will(then=OK)
    claude_code.run(tmp_path, [write(tmp_path / "plain")], "ck_test")
    assert (tmp_path / "plain").exists()
    server.faults.clear()  # of connections that it hung up itself


def test_a_server_that_is_gone_lets_nothing_run(key: str, project: Path) -> None:
    with serving() as gone:
        pass
    claude_code.change(project, url=f"{gone.url}/v1/hooks/claude-code")
    read = claude_code.run(project, [write(project / "plain")], key)
    assert not (project / "plain").exists()
    assert "ECONNREFUSED" in read[0]


def test_a_denial_needs_no_help_of_the_settings(tmp_path: Path) -> None:
    """Where `onFailure` is missing, what the server answers itself still stops a call."""
    (tmp_path / ".checkrein.toml").write_text('[limits]\nbody = "16KiB"')
    strange: Turn = [
        ("Write", {"file_path": f"{tmp_path}/zero\u200bwidth", "content": "x"}),
        ("Write", {"file_path": f"{tmp_path}/surrogate", "content": "\ud800"}),
        ("Write", {"file_path": f"{tmp_path}/large", "content": "x" * 20_000}),
        ("Write", {"file_path": f"{tmp_path}/{'long/' * 120}", "content": "x"}),
        ("Bash", {"command": f"touch {tmp_path}/number", "timeout": 1e300}),
    ]
    with serving(tmp_path / ".checkrein.toml") as server:
        install(tmp_path, server.url)
        claude_code.change(tmp_path, onFailure=None)
        read = claude_code.run(tmp_path, [strange + write(tmp_path / "plain")], new_key(server))
    assert all("NOT RUN" in result for result in read[:-1]), read
    assert [p.name for p in tmp_path.iterdir() if p.name[0] != "."] == ["plain"]


def test_check_knows_this_program(checkrein: RealServer, key: str, project: Path) -> None:
    done = subprocess.run(
        [binary(), "hook", "claude-code", "--check", "--url", checkrein.url],
        cwd=project,
        env=claude_code.environment(project, CHECKREIN_API_KEY=key),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Claude Code: 2." in done.stdout


def test_once_it_is_out_nobody_is_asked(checkrein: RealServer, project: Path) -> None:
    done = subprocess.run(
        [binary(), "hook", "claude-code", "--uninstall"], cwd=project, capture_output=True, check=True
    )
    assert b"no longer" in done.stdout
    claude_code.run(project, [write(project / "secret")], None)
    assert (project / "secret").exists()
    assert asked(checkrein, project / "secret") == []


def test_the_example() -> None:
    said = run_example("claude_code_hook")
    assert "NOT RUN: Blocked by no_secrets" in said
    assert "written: ['notes']" in said
