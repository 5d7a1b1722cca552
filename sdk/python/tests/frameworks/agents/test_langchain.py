"""LangChain's agents and LangGraph's `ToolNode`, with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import make
from contract import *  # noqa: F403
from contract import DELETE, MAIL, RAN, Drive, Person, Turn, run_async, run_example, sessions, tools
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from scripted import ALLOW, Server

from checkrein import Checkrein
from checkrein.integrations.langchain import CheckreinMiddleware, checked_tool_node


class Model(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self


def model(turns: list[Turn], start: int = 0) -> Model:
    says = [
        AIMessage(
            "",
            tool_calls=[
                {"name": name, "args": args, "id": f"c{start + t}-{i}"} for i, (name, args) in enumerate(turn)
            ],
        )
        for t, turn in enumerate(turns)
    ]
    return Model(messages=iter([*says, AIMessage("done")]))


def agent(
    client: Checkrein, turns: list[Turn], *, asynchronous: bool, saver: Any = None, **options: Any
) -> Any:
    middleware = CheckreinMiddleware(client, **options)
    given = [tool(t) for t in tools(asynchronous=asynchronous)]
    return create_agent(model(turns), given, middleware=[middleware], checkpointer=saver)


def graph(
    client: Checkrein, turns: list[Turn], *, asynchronous: bool, saver: Any = None, **options: Any
) -> Any:
    says = model(turns)
    built = StateGraph(MessagesState)
    built.add_node("model", lambda state: {"messages": [says.invoke(state["messages"])]})
    given = [tool(t) for t in tools(asynchronous=asynchronous)]
    built.add_node("tools", checked_tool_node(given, client, **options))
    built.add_edge(START, "model")
    built.add_conditional_edges(
        "model", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    built.add_edge("tools", "model")
    return built.compile(checkpointer=saver)


GO: dict[str, Any] = {"messages": [("user", "go")]}


def read(state: dict[str, Any]) -> list[str]:
    return [str(m.content) for m in state["messages"] if isinstance(m, ToolMessage)]


@pytest.fixture(params=["agent", "agent async", "ToolNode", "ToolNode async"])
def drive(request: pytest.FixtureRequest) -> Drive:
    build: Callable[..., Any] = agent if request.param.startswith("agent") else graph

    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        if request.param.endswith("async"):
            ready = build(client, turns, asynchronous=True, **options)
            return read(run_async(client, lambda: ready.ainvoke(GO)))
        return read(build(client, turns, asynchronous=False, **options).invoke(GO))

    return run


class Paused:
    """An agent with a checkpointer, blocking or not."""

    def __init__(self, kind: str) -> None:
        self.build: Callable[..., Any] = agent if kind.startswith("agent") else graph
        self.asynchronous = kind.endswith("async")
        self.saver = InMemorySaver()
        self.config = {"configurable": {"thread_id": "t1"}}

    def start(self, client: Checkrein, turns: list[Turn]) -> None:
        self.client = client
        self.ready = self.build(client, turns, asynchronous=self.asynchronous, saver=self.saver)

    def invoke(self, given: Any) -> Any:
        if self.asynchronous:
            return run_async(self.client, lambda: self.ready.ainvoke(given, self.config))
        return self.ready.invoke(given, self.config)

    def resume(self, state: Any, answer: Any = "go on") -> Any:
        return self.invoke(Command(resume={i.id: answer for i in state["__interrupt__"]}))


@pytest.fixture(params=["agent", "agent async", "ToolNode", "ToolNode async"])
def paused(request: pytest.FixtureRequest) -> Paused:
    return Paused(request.param)


def test_a_hold_pauses_the_graph_and_runs_once_when_approved(paused: Paused, admin: Checkrein) -> None:
    paused.start(admin, [MAIL])
    state = paused.invoke(GO)
    (question,) = (i.value for i in state["__interrupt__"])
    assert RAN == []
    assert question["tool"] == "send_mail"
    assert question["arguments"] == {"to": "ada@example.com"}
    # What the graph is resumed with is no approval, whoever sends it.
    state = paused.resume(state, {"approved": True})
    assert RAN == []
    assert state["__interrupt__"][0].value["approval_id"] == question["approval_id"]
    admin.approvals.approve(question["approval_id"])
    assert "mail sent" in read(paused.resume(state))[0]
    assert RAN == [("send_mail", "ada@example.com")]


def test_a_denied_hold_tells_the_model_why(paused: Paused, admin: Checkrein) -> None:
    paused.start(admin, [MAIL])
    state = paused.invoke(GO)
    admin.approvals.deny(state["__interrupt__"][0].value["approval_id"], "no mails today")
    assert "no mails today" in read(paused.resume(state))[0]
    assert RAN == []


def test_an_approval_is_found_by_another_process(paused: Paused, admin: Checkrein) -> None:
    paused.start(admin, [MAIL])
    state = paused.invoke(GO)
    admin.approvals.approve(state["__interrupt__"][0].value["approval_id"])
    # Another agent with another gate, which remembers nothing, on the same checkpoints.
    paused.start(admin, [])
    assert "mail sent" in read(paused.resume(state))[0]
    assert RAN == [("send_mail", "ada@example.com")]


@pytest.mark.parametrize("kind", ["agent", "agent async"])
def test_calls_beside_a_hold_run_once(kind: str, admin: Checkrein) -> None:
    paused = Paused(kind)
    other = {"to": "bob@example.com"}
    paused.start(admin, [[*DELETE, *MAIL, ("send_mail", other), ("delete_users", {"ids": [9]})]])
    state = paused.invoke(GO)
    assert sorted(RAN) == [("delete_users", [1, 2, 3]), ("delete_users", [9])]
    questions = [i.value for i in state["__interrupt__"]]
    assert len(questions) == 2
    for question in questions:
        answer = admin.approvals.deny if question["arguments"] == other else admin.approvals.approve
        answer(question["approval_id"])
    texts = read(paused.resume(state))
    assert len(RAN) == 3
    assert RAN.count(("send_mail", "ada@example.com")) == 1
    assert len(texts) == 4


@pytest.mark.parametrize("kind", ["ToolNode", "ToolNode async"])
def test_a_tool_node_with_several_calls_waits_and_runs_each_once(kind: str, admin: Checkrein) -> None:
    paused = Paused(kind)
    paused.start(admin, [DELETE + MAIL])
    person = Person(admin, "approve")
    state = paused.invoke(GO)
    person.join()
    assert "__interrupt__" not in state
    assert sorted(RAN) == [("delete_users", [1, 2, 3]), ("send_mail", "ada@example.com")]


def test_one_middleware_names_each_run(server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        middleware = CheckreinMiddleware(client)
        for _ in range(2):
            says = model([DELETE, DELETE + MAIL])
            create_agent(says, [tool(t) for t in tools(asynchronous=False)], middleware=[middleware]).invoke(
                GO
            )
    one, two = sessions(server)[:3], sessions(server)[3:]
    assert len(set(one)) == len(set(two)) == 1
    assert one[0] != two[0]


def test_the_thread_is_the_session(server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client:
        paused = Paused("agent")
        paused.start(client, [DELETE])
        paused.invoke(GO)
    assert sessions(server) == ["t1"]


def test_defaults_are_told(server: Server) -> None:
    @tool
    def purge(table: str, everything: bool = True) -> str:
        """Purge."""
        return "purged"

    server.will(then=ALLOW)
    with make(server) as client:
        middleware = CheckreinMiddleware(client)
        create_agent(model([[("purge", {"table": "x"})]]), [purge], middleware=[middleware]).invoke(GO)
    assert server.checks()[0].body["arguments"] == {"table": "x", "everything": True}


def test_a_cancelled_run_has_an_unknown_outcome(server: Server) -> None:
    started: asyncio.Event

    @tool
    async def slow() -> str:
        """Slow."""
        started.set()
        await asyncio.sleep(20)
        return "never"

    async def run() -> None:
        nonlocal started
        started = asyncio.Event()
        ready = create_agent(model([[("slow", {})]]), [slow], middleware=[CheckreinMiddleware(client)])
        task = asyncio.create_task(ready.ainvoke(GO))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.will(then=ALLOW)
    with make(server) as client:
        run_async(client, run)
    assert [o["status"] for o in server.outcomes] == ["unknown"]


def test_the_example() -> None:
    said = run_example("langchain_agent")
    assert "waits for a person: Held by ask" in said
    assert "tool: 3 users deleted" in said
    assert "tool: NOT RUN: Blocked by few" in said
    assert "10000 users deleted" not in said
