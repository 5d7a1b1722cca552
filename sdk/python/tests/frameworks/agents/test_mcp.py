"""The MCP gateway with version 2 of the official Python SDK: stateless, and with a handshake."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_contract import *  # noqa: F403
from mcp_contract import Connect


@contextlib.asynccontextmanager
async def client_of(command: list[str], env: dict[str, str], **settings: Any) -> AsyncIterator[Client]:
    async with Client(
        StdioServerParameters(command=command[0], args=command[1:], env=env), **settings
    ) as client:
        yield client


@pytest.fixture(params=["2026-07-28", "legacy"])
def connect(request: pytest.FixtureRequest) -> Connect:
    @contextlib.asynccontextmanager
    async def connected(command: list[str], env: dict[str, str]) -> AsyncIterator[Callable[..., Any]]:
        async with client_of(command, env, mode=request.param) as client:
            yield client.call_tool

    return connected
