"""The MCP gateway with the official TypeScript SDK, its reference servers and its conformance suite."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract
import pytest
from mcp_contract import TESTS, environment, gateway, stop

from checkrein import Checkrein

real, admin = contract.real, contract.admin  # fixtures

#: Where `scripts/setup` puts the packages.
MODULES = TESTS.parents[2] / ".cache/mcp/node_modules"
SERVERS = MODULES / "@modelcontextprotocol"
EVERYTHING = str(SERVERS / "server-everything/dist/index.js")
FILES = str(SERVERS / "server-filesystem/dist/index.js")


def talk(folder: Path, version: str, target: dict[str, Any], calls: list[Any]) -> dict[str, Any]:
    """What a client gets."""
    # Node looks for packages beside the program.
    with contextlib.suppress(FileExistsError):
        (folder / "node_modules").symlink_to(MODULES)
    (folder / "client.mjs").write_text((TESTS / "mcp_client.mjs").read_text())
    command = ["node", folder / "client.mjs", version, json.dumps(target), json.dumps(calls)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def everything() -> Iterator[str]:
    """The reference server with every feature, over HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    env = os.environ | {"PORT": str(port)}
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    child = subprocess.Popen(["node", EVERYTHING, "streamableHttp"], **quiet)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        stop(child)


@contextlib.contextmanager
def fronting(admin: Checkrein, folder: Path, upstream: str) -> Iterator[str]:
    command = gateway(admin, name="everything", listen="127.0.0.1:0", upstream=upstream)[:-1]
    env = environment(admin, folder)
    child = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    try:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["listening"][0]
    finally:
        stop(child)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_server_of_files(admin: Checkrein, tmp_path: Path, version: str) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("hello")
    command = gateway(admin, "node", FILES, str(docs), name="files")
    policy = {"name": "w", "rule": "block", "condition": {"tool": "mcp__files__write_file"}}
    admin.policies.create(policy)
    try:
        read, write = talk(
            tmp_path,
            version,
            {"command": command, "env": environment(admin, tmp_path)},
            [
                ["read_text_file", {"path": str(docs / "a.txt")}],
                ["write_file", {"path": str(docs / "b.txt"), "content": "x"}],
            ],
        )["results"]
    finally:
        admin.policies.delete("w")
    assert read["content"][0]["text"] == "hello"
    assert write["isError"]
    assert "NOT RUN: Blocked by w" in write["content"][0]["text"]
    assert not (docs / "b.txt").exists()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("how", ["stdio", "http"])
def test_a_server_of_everything_is_the_same_through_the_gateway(
    admin: Checkrein, tmp_path: Path, version: str, how: str
) -> None:
    calls = [
        ["echo", {"message": "ä\u2028\U0001f600"}],
        ["get-sum", {"a": 1, "b": 2.5}],
        ["get-tiny-image", {}],
        ["trigger-long-running-operation", {"duration": 1, "steps": 4}],
        ["get-annotated-message", {"messageType": "error", "includeImage": True}],
    ]
    if how == "stdio":
        env = environment(admin, tmp_path)
        direct = talk(tmp_path, version, {"command": ["node", EVERYTHING], "env": env}, calls)
        command = gateway(admin, "node", EVERYTHING, name="everything")
        through = talk(tmp_path, version, {"command": command, "env": env}, calls)
    else:
        with everything() as upstream, fronting(admin, tmp_path, upstream) as url:
            direct = talk(tmp_path, version, {"url": upstream}, calls)
            through = talk(tmp_path, version, {"url": url}, calls)
    # The last one comes together with the result, and clients may overlook it then.
    assert through.pop("progress")[:3] == direct.pop("progress")[:3] == [1, 2, 3]
    assert through == direct
    assert "3.5" in str(through["results"][1])


def test_the_conformance_suite_finds_the_server_as_it_is(admin: Checkrein, tmp_path: Path) -> None:
    """The reference server has not what each scenario looks for; the gateway takes nothing away."""

    def verdicts(url: str) -> dict[str, str]:
        command = ["node", str(SERVERS / "conformance/dist/index.js"), "server", "--url", url]
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120, check=False)
        return {name: mark for mark, name in re.findall(r"^([✓✗]) ([\w-]+):", done.stdout, re.M)}

    with everything() as upstream, fronting(admin, tmp_path, upstream) as url:
        direct, through = verdicts(upstream), verdicts(url)
    assert list(direct.values()).count("✓") >= 10
    assert len(direct) >= 29
    # It keeps out pages of other names, which that server does not.
    assert through.pop("dns-rebinding-protection") == "✓"
    direct.pop("dns-rebinding-protection")
    assert through == direct
