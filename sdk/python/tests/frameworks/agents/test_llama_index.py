"""LlamaIndex's agent workflows, with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import make
from contract import *  # noqa: F403
from contract import DELETE, MAIL, RAN, Drive, Turn, run_async, run_example, sessions, tools
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.mock import MockLLM
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent
from scripted import ALLOW, BLOCK, Server

from checkrein import Checkrein
from checkrein.integrations.llama_index import checked_tools


class Scripted(MockLLM, FunctionCallingLLM):
    turns: list[Any] = []  # noqa: RUF012  (pydantic copies it)
    done: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True)

    def _prepare_chat_with_tools(self, tools: Any, **_: Any) -> Any:
        return {}

    async def achat_with_tools(self, tools: Any, **_: Any) -> ChatResponse:
        self.done += 1
        return ChatResponse(message=ChatMessage(role="assistant", content="done"))

    def get_tool_calls_from_response(self, response: Any, *_: Any, **__: Any) -> list[ToolSelection]:
        turn = self.turns[self.done - 1] if self.done <= len(self.turns) else []
        return [
            ToolSelection(tool_id=f"c{self.done}-{i}", tool_name=name, tool_kwargs=args)
            for i, (name, args) in enumerate(turn)
        ]


def agent(turns: list[Turn], given: list[Any]) -> FunctionAgent:
    llm = Scripted()
    llm.turns = turns
    return FunctionAgent(llm=llm, tools=given, streaming=False)


async def results(handler: Any, answer: Any = None) -> list[str]:
    """What the model reads; ``answer`` is called with each question."""
    found = {}
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            found[event.tool_id] = str(event.tool_output.content)
        elif isinstance(event, InputRequiredEvent) and answer is not None:
            answer(handler, event)
    await handler
    return [found[name] for name in sorted(found)]


@pytest.fixture(params=["async tools", "sync tools"])
def drive(request: pytest.FixtureRequest) -> Drive:
    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        given = checked_tools(tools(asynchronous=request.param == "async tools"), client, **options)

        async def main() -> list[str]:
            return await results(agent(turns, given).run("go"))

        return run_async(client, main)

    return run


@pytest.fixture
def clean(admin: Checkrein) -> Iterator[Checkrein]:
    yield admin
    for approval in admin.approvals.list("pending"):
        admin.approvals.deny(approval["id"])


@pytest.mark.parametrize("answer", ["approve", "deny", None])
def test_a_hold_pauses_the_workflow(clean: Checkrein, answer: str | None) -> None:
    asked: list[Any] = []

    def respond(handler: Any, event: Any) -> None:
        assert ("send_mail", "ada@example.com") not in RAN
        asked.append(event)
        if answer:
            getattr(clean.approvals, answer)(event.approval_id, "because")
        # The framework's own yes is no approval.
        handler.ctx.send_event(HumanResponseEvent(response="yes", approval_id=event.approval_id))

    async def main() -> list[str]:
        given = checked_tools(tools(asynchronous=True), clean, pause=True, wait=2 if answer is None else 30)
        return await results(agent([DELETE + MAIL], given).run("go"), respond)

    read = run_async(clean, main)
    assert asked[0].tool == "send_mail"
    assert asked[0].arguments == {"to": "ada@example.com"}
    assert len(asked) == 1
    mails = [("send_mail", "ada@example.com")] if answer == "approve" else []
    assert [("delete_users", [1, 2, 3]), *mails] == RAN
    wanted = {"approve": "mail sent", "deny": "because", None: "Nobody has approved it yet"}
    assert wanted[answer] in read[1]


def test_a_pause_that_nobody_ends(clean: Checkrein) -> None:
    async def main() -> list[str]:
        given = checked_tools(tools(asynchronous=True), clean, pause=True, wait=1)
        return await results(agent([MAIL], given).run("go"))

    assert "Nobody has approved it yet" in run_async(clean, main)[0]
    assert RAN == []


def test_blocking_calls_outside_a_workflow(server: Server) -> None:
    server.will(ALLOW, BLOCK)
    with make(server) as client:
        delete, *_ = checked_tools(tools(asynchronous=False), client)
        assert delete.call(ids=[1]).content == "1 users deleted"
        refused = delete(ids=[2])
    assert refused.is_error
    assert "NOT RUN" in refused.content
    assert RAN == [("delete_users", [1])]


def test_what_the_model_does_not_say_is_told_too(server: Server) -> None:
    def purge(table: str, schema: str, everything: bool = True) -> str:
        """Purge."""
        return f"{schema}.{table}"

    server.will(ALLOW)
    with make(server) as client:
        inner = FunctionTool.from_defaults(purge, partial_params={"schema": "production"})
        (checked,) = checked_tools([inner], client)
        assert checked.call(table="users").content == "production.users"
        assert checked.metadata.to_openai_tool() == inner.metadata.to_openai_tool()
    told = {"table": "users", "schema": "production", "everything": True}
    assert server.checks()[0].body["arguments"] == told


def test_a_tool_that_wants_the_context_gets_it(server: Server) -> None:
    async def note(ctx: Context, text: str) -> str:
        """Note."""
        await ctx.store.set("note", text)
        return f"noted {text}"

    note.__annotations__["ctx"] = Context  # not a text, as LlamaIndex wants it
    server.will(then=ALLOW)
    with make(server) as client:
        given = checked_tools([FunctionTool.from_defaults(async_fn=note)], client)

        async def main() -> list[str]:
            return await results(agent([[("note", {"text": "x"})]], given).run("go"))

        assert run_async(client, main) == ["noted x"]
    assert server.checks()[0].body["arguments"] == {"text": "x"}


def test_one_set_of_tools_names_each_run(server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        given = checked_tools(tools(asynchronous=True), client)

        async def main() -> None:
            for _ in range(2):
                await results(agent([DELETE + MAIL], given).run("go"))

        run_async(client, main)
    one, two = sessions(server)[:2], sessions(server)[2:]
    assert len(set(one)) == len(set(two)) == 1
    assert one[0] != two[0]


def test_a_cancelled_call_has_an_unknown_outcome(server: Server) -> None:
    started: asyncio.Event

    async def slow() -> str:
        """Slow."""
        started.set()
        await asyncio.sleep(20)
        return "never"

    async def main() -> None:
        nonlocal started
        started = asyncio.Event()
        (checked,) = checked_tools([slow], client)
        task = asyncio.create_task(checked.acall())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.will(then=ALLOW)
    with make(server) as client:
        run_async(client, main)
    assert [o["status"] for o in server.outcomes] == ["unknown"]


def test_the_example() -> None:
    said = run_example("llama_index_agent")
    assert "NOT RUN: Blocked by few" in said
    assert "3 users deleted" in said
    assert "10000 users deleted" not in said
