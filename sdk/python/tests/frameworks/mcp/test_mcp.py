"""The MCP gateway with version 1 of the official Python SDK, and servers that others wrote."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from contract import run_example
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_contract import *  # noqa: F403
from mcp_contract import Connect


@contextlib.asynccontextmanager
async def session(command: list[str], env: dict[str, str], **callbacks: Any) -> AsyncIterator[ClientSession]:
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=env)
    async with (
        stdio_client(parameters) as (reads, writes),
        ClientSession(reads, writes, **callbacks) as client,
    ):
        await client.initialize()
        yield client


@pytest.fixture
def connect() -> Connect:
    @contextlib.asynccontextmanager
    async def connected(command: list[str], env: dict[str, str]) -> AsyncIterator[Callable[..., Any]]:
        async with session(command, env) as client:
            yield client.call_tool

    return connected


def test_the_example() -> None:
    said = run_example("mcp_gateway")
    assert said.startswith("3 users deleted\nNOT RUN: Blocked by few")
