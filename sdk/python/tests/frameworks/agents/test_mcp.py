"""The MCP gateway with version 2 of the official Python SDK: stateless, and with a handshake."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import contract
import pytest
from conftest import make
from contract import DELETE, MAIL, Drive
from mcp import Client, StdioServerParameters
from mcp_contract import *  # noqa: F403
from mcp_contract import Connect, fronted
from scripted import ALLOW, Server


@contextlib.asynccontextmanager
async def client_of(command: list[str], env: dict[str, str], **settings: Any) -> AsyncIterator[Client]:
    async with Client(
        StdioServerParameters(command=command[0], args=command[1:], env=env), **settings
    ) as client:
        yield client


@pytest.fixture(params=["2026-07-28 stdio", "legacy stdio", "2026-07-28 http", "legacy http"])
def connect(request: pytest.FixtureRequest) -> Connect:
    mode, transport = request.param.split()

    @contextlib.asynccontextmanager
    async def connected(command: list[str], env: dict[str, str]) -> AsyncIterator[Callable[..., Any]]:
        if transport == "stdio":
            async with client_of(command, env, mode=mode) as client:
                yield client.call_tool
        else:
            with fronted(command, env) as url:
                async with Client(url, mode=mode) as client:
                    yield client.call_tool

    return connected


def test_one_session_over_a_run_and_another_over_the_next(
    drive: Drive, server: Server, request: pytest.FixtureRequest
) -> None:
    if "2026-07-28 http" not in request.node.name:
        contract.test_one_session_over_a_run_and_another_over_the_next(drive, server)
        return
    # Stateless: nothing of the protocol tells one run from another.
    server.will(then=ALLOW)
    with make(server) as client:
        drive(client, [DELETE + MAIL])
    assert [asked.body.get("session") for asked in server.checks()] == [None, None]
