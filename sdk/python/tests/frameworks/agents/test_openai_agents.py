"""The OpenAI Agents SDK's runner, with a model behind a stub of OpenAI's API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    RunState,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
    trace,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from conftest import make
from contract import *  # noqa: F403
from contract import DELETE, MAIL, RAN, Drive, Turn, run_async, run_example, sessions, tools
from model_server import modelling
from openai import AsyncOpenAI
from scripted import ALLOW, BLOCK, Server

from checkrein import Checkrein
from checkrein.integrations.openai_agents import checked_tools, held

set_tracing_disabled(True)

Main = Callable[[Agent[Any]], Any]


def with_agent(
    checkrein: Checkrein, turns: list[Turn], given: list[Any], main: Main, *, chat: bool = False
) -> tuple[Any, list[str]]:
    """Run ``main`` with an agent; answer with what it returns and what the model read."""

    async def run() -> Any:
        async with AsyncOpenAI(base_url=model.url, api_key="x", max_retries=0) as client:
            kind = OpenAIChatCompletionsModel if chat else OpenAIResponsesModel
            settings = ModelSettings(parallel_tool_calls=True)
            says = kind(model="m", openai_client=client)
            return await main(Agent(name="a", tools=given, model=says, model_settings=settings))

    with modelling(turns) as model:
        return run_async(checkrein, run), model.read()


def made(*, asynchronous: bool = False) -> list[FunctionTool]:
    return [function_tool(t) for t in tools(asynchronous=asynchronous)]


async def go(agent: Agent[Any]) -> Any:
    return await Runner.run(agent, "go")


@pytest.fixture(params=["sync tools", "async tools", "chat completions"])
def drive(request: pytest.FixtureRequest) -> Drive:
    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        given = checked_tools(made(asynchronous="async" in request.param), client, pause=False, **options)

        return with_agent(client, turns, given, go, chat="chat" in request.param)[1]

    return run


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("answer", ["approve", "deny", "nothing"])
def test_a_hold_pauses_the_run(admin: Checkrein, answer: str, restarted: bool) -> None:
    given = checked_tools(made(), admin)

    async def main(agent: Agent[Any]) -> Any:
        result = await Runner.run(agent, "go")
        assert sorted(RAN) == [("delete_users", [1, 2, 3])], "the call beside it ran"
        (interruption,) = result.interruptions
        decision = held(interruption)
        assert decision is not None
        if answer != "nothing":
            getattr(admin.approvals, answer)(decision.approval_id, "because")
        state = result.to_state()
        if restarted:
            agent.tools = checked_tools(made(), admin)
            state = await RunState.from_string(agent, state.to_string())
        # The framework's own yes is no approval.
        for item in state.get_interruptions():
            state.approve(item)
        return await Runner.run(agent, state)

    result, read = with_agent(admin, [DELETE + MAIL], given, main)
    assert result.interruptions == []
    assert RAN.count(("delete_users", [1, 2, 3])) == 1
    assert RAN.count(("send_mail", "ada@example.com")) == (answer == "approve")
    assert ("mail sent" in read[1]) == (answer == "approve")
    if answer == "deny" and not restarted:
        assert "because" in read[1]
    for approval in admin.approvals.list("pending"):
        admin.approvals.deny(approval["id"])


def test_one_call_is_one_check_also_when_it_could_have_paused(server: Server) -> None:
    server.will(ALLOW, BLOCK)
    with make(server) as client:
        _, read = with_agent(client, [DELETE, DELETE], checked_tools(made(), client), go)
    assert len(server.checks()) == 2
    assert len(RAN) == 1
    assert "NOT RUN" in read[1]


def test_streaming(server: Server) -> None:
    async def main() -> list[str]:
        given = checked_tools(made(), client)
        calls = [function_call(name, args, call_id=f"c{i}") for i, (name, args) in enumerate(DELETE + MAIL)]
        says = ScriptedModel([calls, [assistant_message("done")]])
        result = Runner.run_streamed(Agent(name="a", tools=given, model=says), "go")
        return [str(e.item.output) async for e in result.stream_events() if e.type == "run_item_stream_event"
                and e.name == "tool_output"]  # fmt: skip

    server.will(BLOCK, ALLOW)
    with make(server) as client:
        read = run_async(client, main)
    assert len(RAN) == 1
    assert ["NOT RUN" in text for text in read].count(True) == 1


def test_the_tools_own_approval_is_kept(server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        own = function_tool(tools(asynchronous=False)[0], needs_approval=True)
        result, _ = with_agent(client, [DELETE], checked_tools([own], client), go)
    assert len(result.interruptions) == 1
    assert held(result.interruptions[0]) is None
    assert RAN == []
    assert server.checks() == []


def test_a_time_out_of_the_tool_is_an_unknown_outcome(server: Server) -> None:
    async def slow() -> str:
        """Slow."""
        await asyncio.sleep(20)
        return "never"

    server.will(then=ALLOW)
    with make(server) as client:
        given = checked_tools([function_tool(slow, timeout=0.3)], client)
        _, read = with_agent(client, [[("slow", {})]], given, go)
    assert "timed out" in read[0]
    assert [o["status"] for o in server.outcomes] == ["unknown"]


def test_the_trace_is_the_session(server: Server) -> None:
    server.will(then=ALLOW)
    set_trace_processors([])  # nothing is sent anywhere
    set_tracing_disabled(False)
    try:
        with make(server) as client, trace("workflow", trace_id="trace_" + 32 * "7"):
            with_agent(client, [DELETE, MAIL], checked_tools(made(), client), go)
    finally:
        set_tracing_disabled(True)
    assert sessions(server) == ["trace_" + 32 * "7"] * 2


def test_run_sync(server: Server) -> None:
    server.will(ALLOW)
    with make(server) as client, modelling([DELETE]) as model:
        says = OpenAIResponsesModel("m", AsyncOpenAI(base_url=model.url, api_key="x", max_retries=0))
        Runner.run_sync(Agent(name="a", tools=checked_tools(made(), client), model=says), "go")
    assert len(RAN) == 1


def test_the_example() -> None:
    said = run_example("openai_agents")
    assert "waits for a person: Held by ask" in said
    assert "3 users deleted" in said
    assert "NOT RUN: Blocked by few" in said
    assert "10000 users deleted" not in said
