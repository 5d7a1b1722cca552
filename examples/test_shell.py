"""The example of a shell script, as its user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import RealServer, serving

SCRIPT = Path(__file__).resolve().parent / "integrations/guarded.sh"
POLICIES = [
    {"name": "few", "rule": "block", "condition": {"action": "delete", "record_count_exceeds": 5}},
    {"name": "ask", "rule": "require_approval", "condition": {"action": "delete", "record_count_exceeds": 2}},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving() as server:
        file = tmp_path_factory.mktemp("policies") / "policies.json"
        file.write_text(json.dumps(POLICIES))
        assert server.command("policy", "apply", str(file)).returncode == 0
        yield server


def delete(server: RealServer, files: list[Path], **env: str) -> subprocess.CompletedProcess[str]:
    bin_folder = server.binary.parent
    env = os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "CHECKREIN_URL": server.url,
        "CHECKREIN_API_KEY": server.admin_key,
        **env,
    }
    names = "".join(f"{file}\n" for file in files)
    return subprocess.run(
        [SCRIPT], input=names, env=env, text=True, capture_output=True, timeout=60, check=False
    )


def make(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{n} 'x'.log" for n in range(count)]
    for file in files:
        file.write_text("")
    return files


def left(files: list[Path]) -> int:
    return sum(file.exists() for file in files)


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 40


def test_what_is_allowed_runs_and_what_is_blocked_does_not(server: RealServer, tmp_path: Path) -> None:
    few, many = make(tmp_path, 2), make(tmp_path, 6)
    done = delete(server, many)
    assert (done.returncode, left(many)) == (1, 6)
    assert "blocked" in done.stdout
    assert "Blocked by few" in done.stdout
    done = delete(server, few)
    assert (done.returncode, left(few)) == (0, 0), done.stderr


def test_a_hold_does_not_run_until_it_is_approved(server: RealServer, tmp_path: Path) -> None:
    files = make(tmp_path, 3)
    done = delete(server, files)
    assert (done.returncode, left(files)) == (1, 3)
    assert "waits for a person" in done.stdout

    def person() -> None:
        time.sleep(0.3)
        assert left(files) == 3
        (approval,) = json.loads(server.command("approvals", "list", "--json").stdout)["approvals"]
        server.command("approvals", "approve", approval["id"])

    thread = threading.Thread(target=person)
    thread.start()
    done = delete(server, files, WAIT="30")
    thread.join()
    assert (done.returncode, left(files)) == (0, 0), done.stdout


@pytest.mark.parametrize(
    "env",
    [{"CHECKREIN_URL": "http://127.0.0.1:9"}, {"CHECKREIN_API_KEY": "ck_agent_x"}, {"CHECKREIN_API_KEY": ""}],
)
def test_what_cannot_be_checked_does_not_run(server: RealServer, tmp_path: Path, env: dict[str, str]) -> None:
    files = make(tmp_path, 1)
    done = delete(server, files, **env)
    assert (done.returncode, left(files)) == (1, 1)
    assert "could not be checked" in done.stdout
