"""LangChain and LangGraph: every tool call is checked before it runs.

`CheckreinMiddleware` is for ``create_agent``; `checked_tool_node` makes the ``ToolNode`` of your own graph.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeAlias

from langchain.agents.middleware.types import AgentMiddleware, AgentState, PrivateStateAttr
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, interrupt
from typing_extensions import NotRequired

from ..client import Checkrein
from ..result import Decision
from ._gate import WAIT, Gate, Refusal, Run, new_session, reporting, reporting_async

Answer: TypeAlias = "ToolMessage | Command[Any]"
Handler: TypeAlias = Callable[[ToolCallRequest], Answer]
AsyncHandler: TypeAlias = Callable[[ToolCallRequest], Awaitable[Answer]]


class CheckedState(AgentState[Any]):
    """An agent's state with the name of its run."""

    # Where types are checked, LangChain is not there to say that this is a typed dictionary.
    checkrein_session: NotRequired[Annotated[str, PrivateStateAttr]]  # type: ignore[valid-type]


class CheckreinMiddleware(AgentMiddleware[CheckedState, Any, Any]):
    """Middleware for ``create_agent``; put it last, so that no other changes a call after its check.

    A block is a tool message with the reason. A hold pauses the graph (``interrupt``) where there is a
    checkpointer, and else is waited for up to ``wait`` seconds. ``session`` is by default the client's, else
    the thread's id, else a new one for each run.
    """

    state_schema = CheckedState

    def __init__(self, client: Checkrein, *, session: str | None = None, wait: float = WAIT) -> None:
        super().__init__()
        self._gate = Gate(client, session=session, wait=wait)

    def before_agent(self, state: CheckedState, runtime: Any) -> dict[str, Any] | None:
        """Name the run."""
        return {"checkrein_session": new_session()}

    async def abefore_agent(self, state: CheckedState, runtime: Any) -> dict[str, Any] | None:
        """Name the run."""
        return self.before_agent(state, runtime)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Answer:
        """Check, run, report."""
        return _run(self._gate, request, handler)

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncHandler) -> Answer:
        """Check, run, report."""
        return await _run_async(self._gate, request, handler)


def checked_tool_node(
    tools: Sequence[Any],
    client: Checkrein,
    *,
    session: str | None = None,
    wait: float = WAIT,
    **options: Any,
) -> ToolNode:
    """A ``ToolNode`` whose calls are checked; ``options`` are its own (``name``, ``handle_tool_errors``…).

    As `CheckreinMiddleware`, but a hold in a message with several tool calls is waited for: a graph that
    pauses in the middle of such a node would run the other calls again.
    """
    gate = Gate(client, session=session, wait=wait)

    def wrap(request: ToolCallRequest, handler: Handler) -> Answer:
        return _run(gate, request, handler)

    async def awrap(request: ToolCallRequest, handler: AsyncHandler) -> Answer:
        return await _run_async(gate, request, handler)

    return ToolNode(tools, wrap_tool_call=wrap, awrap_tool_call=awrap, **options)


def _run(gate: Gate, request: ToolCallRequest, handler: Handler) -> Answer:
    call = _Call(gate, request)
    ask = functools.partial(gate.ask, call.describe, call=call.name, wait=call.wait)
    # `interrupt` raises, to pause the graph, and returns once it is resumed. What it returns is no approval.
    while (result := ask()).held and call.pauses:
        interrupt(call.question(result))
    if result.blocked:
        return call.refusal(result)
    with reporting(result, unknown=GraphBubbleUp) as run:
        return _noted(run, handler(request))


async def _run_async(gate: Gate, request: ToolCallRequest, handler: AsyncHandler) -> Answer:
    call = _Call(gate, request)
    while (
        result := await gate.ask_async(call.describe, call=call.name, wait=call.wait)
    ).held and call.pauses:
        interrupt(call.question(result))
    if result.blocked:
        return call.refusal(result)
    # A tool that pauses the graph itself has done nobody knows how much.
    async with reporting_async(result, unknown=GraphBubbleUp) as run:
        return _noted(run, await handler(request))


class _Call:
    """One tool call, as the gate and the people who approve see it."""

    def __init__(self, gate: Gate, request: ToolCallRequest) -> None:
        self._request = request
        config: dict[str, Any] = dict(getattr(request.runtime, "config", None) or {})
        settings: dict[str, Any] = config.get("configurable") or {}
        thread = settings.get("thread_id")
        #: Unique among all threads that share the gate.
        self.name = f"{thread}/{request.tool_call['id']}"
        self.pauses = settings.get("__pregel_checkpointer") is not None and _is_alone(request, config)
        self.wait = 0.0 if self.pauses else None
        state = request.state if isinstance(request.state, dict) else {}
        session = gate.given or thread or state.get("checkrein_session")
        self._session = None if session is None else str(session)
        self._gate = gate

    def describe(self, opaques: Any) -> dict[str, Any]:
        call, tool = self._request.tool_call, self._request.tool
        known = {} if tool is None else tool.args
        # A default says as much about the action as an argument.
        defaults = {name: value["default"] for name, value in known.items() if "default" in value}
        return self._gate.describe(call["name"], defaults | call["args"], self._session)(opaques)

    def question(self, held: Decision) -> dict[str, Any]:
        call = self._request.tool_call
        return {
            "approval_id": held.approval_id,
            "reason": held.reason,
            "tool": call["name"],
            "arguments": call["args"],
            "next": f"answer with `checkrein approvals approve {held.approval_id}` (or deny), then resume",
        }

    def refusal(self, decision: Decision) -> ToolMessage:
        call = self._request.tool_call
        return ToolMessage(str(Refusal(decision)), tool_call_id=call["id"], name=call["name"], status="error")


def _is_alone(request: ToolCallRequest, config: dict[str, Any]) -> bool:
    """Whether nothing else runs in this task, which a resumed graph runs again from its start."""
    path = (config.get("metadata") or {}).get("langgraph_path") or ("",)
    if path[0] == "__pregel_push":  # `create_agent` gives each call a task of its own
        return True
    state = request.state
    messages = (
        state if isinstance(state, list) else state.get("messages") if isinstance(state, dict) else None
    )
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, AIMessage) and len(last.tool_calls) == 1


def _noted(run: Run, answer: Answer) -> Answer:
    if isinstance(answer, ToolMessage) and answer.status == "error":
        run.status, run.error = "error", str(answer.content)
    return answer
