"""Pydantic AI's agents, with a function in the place of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import make
from contract import *  # noqa: F403
from contract import DELETE, MAIL, RAN, Drive, Turn, run_async, run_example, sessions, tools
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolDenied
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from scripted import ALLOW, BLOCK, Server

from checkrein import Checkrein
from checkrein.integrations.pydantic_ai import CheckreinCapability


def model(turns: list[Turn]) -> FunctionModel:
    def says(messages: list[ModelMessage], _: Any) -> ModelResponse:
        done = sum(isinstance(m, ModelResponse) for m in messages)
        if done >= len(turns):
            return ModelResponse(parts=[TextPart("done")])
        calls = enumerate(turns[done])
        return ModelResponse(parts=[ToolCallPart(n, a, tool_call_id=f"c{done}-{i}") for i, (n, a) in calls])

    return FunctionModel(says)


def agent(turns: list[Turn], *capabilities: Any, asynchronous: bool = True, **more: Any) -> Agent[Any, Any]:
    given = tools(asynchronous=asynchronous)
    return Agent(model(turns), tools=given, capabilities=list(capabilities), **more)


def read(result: Any) -> list[str]:
    returns = [p for m in result.all_messages() for p in m.parts if isinstance(p, ToolReturnPart)]
    return [str(p.content) for p in sorted(returns, key=lambda p: p.tool_call_id)]


@pytest.fixture(params=["run", "run, sync tools", "run_sync"])
def drive(request: pytest.FixtureRequest) -> Drive:
    def go(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        capability = CheckreinCapability(client, **options)
        ready = agent(turns, capability, asynchronous=request.param == "run")
        if request.param == "run_sync":
            return read(ready.run_sync("go"))
        return read(run_async(client, lambda: ready.run("go")))

    return go


@pytest.fixture
def clean(admin: Checkrein) -> Iterator[Checkrein]:
    yield admin
    for approval in admin.approvals.list("pending"):
        admin.approvals.deny(approval["id"])


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("answer", ["approve", "deny", None])
def test_a_hold_pauses_the_run(clean: Checkrein, answer: str | None, restarted: bool) -> None:
    kinds: Any = {"output_type": [str, DeferredToolRequests]}

    async def main() -> Any:
        ready = agent([DELETE + MAIL], CheckreinCapability(clean), **kinds)
        paused = await ready.run("go")
        assert RAN == [("delete_users", [1, 2, 3])]
        (call,) = paused.output.approvals
        question = paused.output.metadata[call.tool_call_id]
        assert "Held by mails" in question["reason"]
        if answer:
            getattr(clean.approvals, answer)(question["approval_id"], "because")
        if restarted:
            ready = agent([DELETE + MAIL], CheckreinCapability(clean), **kinds)
        # The framework's own yes is no approval.
        yes = DeferredToolResults(approvals={call.tool_call_id: True})
        return await ready.run(message_history=paused.all_messages(), deferred_tool_results=yes)

    ended = run_async(clean, main)
    mails = [("send_mail", "ada@example.com")] if answer == "approve" else []
    assert [("delete_users", [1, 2, 3]), *mails] == RAN
    if answer == "deny" and not restarted:
        assert "because" in read(ended)[1]
    elif answer != "approve":
        assert len(ended.output.approvals) == 1


def test_a_no_of_the_framework_holds(clean: Checkrein) -> None:
    other: Turn = [("send_mail", {"to": "carl@example.com"})]  # its approval stays unused

    async def main() -> Any:
        ready = agent([other], CheckreinCapability(clean), output_type=[str, DeferredToolRequests])
        paused = await ready.run("go")
        (call,) = paused.output.approvals
        clean.approvals.approve(paused.output.metadata[call.tool_call_id]["approval_id"])
        no = DeferredToolResults(approvals={call.tool_call_id: ToolDenied("no")})
        return await ready.run(message_history=paused.all_messages(), deferred_tool_results=no)

    assert read(run_async(clean, main)) == ["no"]
    assert RAN == []


def test_pausing_where_the_output_type_is_given_to_the_run(clean: Checkrein) -> None:
    ready = agent([MAIL], CheckreinCapability(clean, pause=True))
    kinds: Any = [str, DeferredToolRequests]
    paused = run_async(clean, lambda: ready.run("go", output_type=kinds))
    assert len(paused.output.approvals) == 1
    assert RAN == []


def test_what_another_capability_changes_is_what_is_checked(server: Server) -> None:
    class Redirect(AbstractCapability[Any]):
        async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
            return {"to": "eve@example.com"}

    server.will(BLOCK, BLOCK)
    with make(server) as client:
        for order in ((Redirect(), CheckreinCapability(client)), (CheckreinCapability(client), Redirect())):
            ready = agent([MAIL], *order)
            run_async(client, lambda ready=ready: ready.run("go"))
    assert RAN == []
    assert [a.body["arguments"] for a in server.checks()] == [{"to": "eve@example.com"}] * 2


def test_an_error_that_another_capability_mends_is_reported(server: Server) -> None:
    class Mend(AbstractCapability[Any]):
        async def on_tool_execute_error(self, ctx: Any, **_: Any) -> Any:
            return "mended"

    server.will(then=ALLOW)
    with make(server) as client:
        ready = agent([[("fail", {"kind": "error"})]], Mend(), CheckreinCapability(client))
        assert read(run_async(client, lambda: ready.run("go"))) == ["mended"]
    assert server.outcomes[0]["status"] == "error"


def test_the_session_outlives_a_run_of_a_conversation(server: Server) -> None:
    async def main() -> None:
        capability = CheckreinCapability(client)
        first = await agent([DELETE], capability).run("go")
        turns: list[Turn] = [[], [], DELETE]
        await agent(turns, capability).run("go on", message_history=first.all_messages())

    server.will(then=ALLOW)
    with make(server) as client:
        run_async(client, main)
    assert len(sessions(server)) == 2
    assert len(set(sessions(server))) == 1


def test_a_cancelled_run_has_an_unknown_outcome(server: Server) -> None:
    started: asyncio.Event

    async def slow() -> str:
        started.set()
        await asyncio.sleep(20)
        return "never"

    async def main() -> None:
        nonlocal started
        started = asyncio.Event()
        ready: Agent[Any, Any] = Agent(
            model([[("slow", {})]]), tools=[slow], capabilities=[CheckreinCapability(client)]
        )
        task = asyncio.create_task(ready.run("go"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.will(then=ALLOW)
    with make(server) as client:
        run_async(client, main)
    assert [o["status"] for o in server.outcomes] == ["unknown"]


def test_the_example() -> None:
    said = run_example("pydantic_ai_agent")
    assert "waits for a person: Held by ask" in said
    assert "3 users deleted" in said
    assert "NOT RUN: Blocked by few" in said
    assert "10000 users deleted" not in said
