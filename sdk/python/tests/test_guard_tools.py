"""`guard_tools`, in a loop that calls the functions that the model names."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import make
from contract import *  # noqa: F403
from contract import RAN, Drive, Turn, delete_users, run_async, run_example, tools
from scripted import ALLOW, BLOCK, Server

from checkrein import AsyncCheckrein, Checkrein
from checkrein.integrations import Refusal, guard_tools


def sync_loop(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
    named = {t.__name__: t for t in guard_tools(tools(asynchronous=False), client, **options)}
    with ThreadPoolExecutor(8) as pool:
        return [
            text for turn in turns for text in pool.map(lambda call: str(named[call[0]](**call[1])), turn)
        ]


def async_loop(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
    named = {t.__name__: t for t in guard_tools(tools(asynchronous=True), client, **options)}

    async def run() -> list[str]:
        read: list[str] = []
        for turn in turns:
            read += await asyncio.gather(*(named[name](**args) for name, args in turn))
        return read

    return run_async(client, run)


@pytest.fixture(params=[sync_loop, async_loop])
def drive(request: pytest.FixtureRequest) -> Drive:
    found: Drive = request.param
    return found


def test_a_refusal_is_a_text_with_its_decision(server: Server, client: Checkrein) -> None:
    server.will(then=BLOCK)
    (tool,) = guard_tools([delete_users], client)
    refused = tool([1])
    assert isinstance(refused, Refusal)
    assert refused.decision.verdict == "block"
    for copied in (copy.deepcopy(refused), pickle.loads(pickle.dumps(refused))):
        assert copied == str(refused)
    assert (tool.__name__, tool.__doc__) == ("delete_users", "Delete users.")


def test_wrong_arguments_raise_what_the_function_raises(server: Server, client: Checkrein) -> None:
    (tool,) = guard_tools([delete_users], client)
    with pytest.raises(TypeError, match="ids"):
        tool(id=1)
    assert server.checks() == []


def test_arguments_that_change_during_the_check_do_not_run(server: Server, client: Checkrein) -> None:
    ids = [1]
    asked = threading.Event()

    def late(sock: Any, a: Any) -> None:
        ids.append(2)
        asked.set()
        ALLOW(sock, a)

    server.will(late)
    (tool,) = guard_tools([delete_users], client)
    assert "NOT RUN" in tool(ids)
    assert asked.is_set()
    assert RAN == []


def test_a_cancelled_call_has_an_unknown_outcome(server: Server) -> None:
    started: asyncio.Event

    async def slow() -> None:
        started.set()
        await asyncio.sleep(20)

    async def run() -> None:
        nonlocal started
        started = asyncio.Event()
        with make(server) as client:
            (tool,) = guard_tools([slow], client)
            task = asyncio.create_task(tool())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.aclose()

    server.will(ALLOW)
    asyncio.run(run())
    assert [o["status"] for o in server.outcomes] == ["unknown"]


def test_what_cannot_be_guarded_is_refused_at_once(client: Checkrein) -> None:
    with pytest.raises(TypeError, match="goes around a function"):
        guard_tools([7], client)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="give the adapter a Checkrein"):
        guard_tools([delete_users], AsyncCheckrein())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wait"):
        guard_tools([delete_users], client, wait=-1)


def test_the_example() -> None:
    said = run_example("plain_tools").splitlines()
    assert said[0].startswith("find_users: [0, 1")
    assert said[1].startswith("delete_users: NOT RUN: Blocked by few_deletes")
    assert said[2] == "delete_users: 25 users deleted"
