"""What the MCP gateway must keep: the contract of the adapters, through a real MCP client and server.

A test module gives a fixture ``connect``: how a version of the SDK connects to a gateway that is started
with a command. Tests of what only the SDK's own client decides (`on_unreachable="allow"`) are left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import contract
import pytest
from contract import RAN, Drive, Turn, does_not_run, run_async
from real_server import binary
from scripted import ALLOW, Server

from checkrein import Checkrein

TESTS = Path(__file__).resolve().parent
#: Connects to the server that a command starts; gives a coroutine function that calls a tool and answers with
#: its result.
Connect = Callable[..., AbstractAsyncContextManager[Callable[..., Any]]]


def gateway(client: Checkrein, *command: str, wait: float | None = None, **options: Any) -> list[str]:
    """The command that fronts ``command`` for the server and key of ``client``."""
    settings = client._settings
    given: dict[str, Any] = {
        "name": "shop",
        "agent": settings["agent"],
        "session": settings["session"],
        "timeout": max(1, math.ceil(settings["timeout"])),
        "wait": None if wait is None else math.ceil(wait),
        "on_unreachable": "allow-reads" if settings["on_unreachable"] == "allow_reads" else "block",
    } | options
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    return [str(binary()), "mcp", *flags, "--", *command]


def environment(client: Checkrein, folder: Path) -> dict[str, str]:
    """What the gateway is started with; the server that it starts gets no key of ours."""
    ours = {
        "CHECKREIN_URL": client.url,
        "CHECKREIN_API_KEY": client._settings["api_key"],
        "CHECKREIN_MCP_STATE": str(folder / "state"),
        "SHOP_RAN": str(folder / "ran"),
    }
    return {**{k: v for k, v in os.environ.items() if not k.startswith("CHECKREIN_")}, **ours}


@contextlib.contextmanager
def fronted(command: list[str], env: dict[str, str]) -> Iterator[str]:
    """Start the server that ``command`` fronts as one that speaks HTTP; give the address of its gateway."""
    at = command.index("--")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    quiet = {"env": env, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as running:
        server = subprocess.Popen([*command[at + 1 :], str(port)], stdout=subprocess.DEVNULL, **quiet)
        running.callback(stop, server)
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        flags = ["--listen=127.0.0.1:0", f"--upstream=http://127.0.0.1:{port}/mcp", "--json"]
        gate = subprocess.Popen([*command[:at], *flags], stdout=subprocess.PIPE, text=True, **quiet)
        running.callback(stop, gate)
        assert gate.stdout is not None
        yield json.loads(gate.stdout.readline())["listening"][0]


def stop(child: subprocess.Popen[Any]) -> None:
    child.terminate()
    child.wait(20)
    if child.stdout is not None:
        child.stdout.close()


def collect(folder: Path) -> None:
    """Add to `RAN` what ran in the server."""
    file = folder / "ran"
    if file.exists():
        RAN[:] = [(name, value) for name, value in map(json.loads, file.read_text().splitlines())]


def told(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


@pytest.fixture
def drive(connect: Connect, tmp_path: Path) -> Drive:
    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        read: list[str] = []
        command = gateway(client, sys.executable, str(TESTS / "mcp_shop.py"), **options)

        async def main() -> None:
            async with connect(command, environment(client, tmp_path)) as call:
                for turn in turns:
                    answers: dict[int, str] = {}

                    async def make(at: int, name: str, arguments: Any, answers: dict[int, str]) -> None:
                        answers[at] = told(await call(name, arguments))

                    async with anyio.create_task_group() as calls:
                        for at, (name, arguments) in enumerate(turn):
                            calls.start_soon(make, at, name, arguments, answers)
                    read.extend(answers[at] for at in range(len(turn)))
                    collect(tmp_path)

        try:
            run_async(client, main)
        finally:
            collect(tmp_path)
        return read

    return run


# A run takes seconds, so here is one trouble of each kind.
FEW = ["down", "slow", "no JSON", "500", "two verdicts", "401"]


@pytest.mark.parametrize("trouble", FEW)
def test_what_cannot_be_checked_does_not_run(drive: Drive, server: Server, trouble: str) -> None:
    does_not_run(drive, server, trouble)


def test_a_tool_that_fails_is_reported(drive: Drive, server: Server) -> None:
    server.will(then=ALLOW)
    with contract.make(server) as client:
        drive(client, [[("fail", {"kind": "error"})]])
    assert len(RAN) == len(server.outcomes) == len(server.checks()) == 1
    assert server.outcomes[0]["status"] == "error"
    assert "this is why" in server.outcomes[0]["error"]


_LEFT_OUT = {
    "test_on_unreachable_allow_lets_run_only_what_it_says",
    "test_what_cannot_be_checked_does_not_run",
    "test_a_tool_that_fails_is_reported",
}
_TAKEN = [name for name in contract.__all__ if name not in _LEFT_OUT]
globals().update({name: getattr(contract, name) for name in _TAKEN})
__all__ = [*_TAKEN, "drive", "test_a_tool_that_fails_is_reported", "test_what_cannot_be_checked_does_not_run"]
