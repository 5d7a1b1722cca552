"""CrewAI: tools that check themselves, and a hook that checks those that do not.

CrewAI runs a tool although a hook raised, and its hooks do not see ``tool.run()``. So wrap the tools
(`checked_tools`); the hook (`check_every_tool`) is for those that somebody forgot to wrap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from crewai.execution import get_execution_uuid
from crewai.hooks import (
    register_after_tool_call_hook,
    register_before_tool_call_hook,
    unregister_after_tool_call_hook,
    unregister_before_tool_call_hook,
)
from crewai.tools import BaseTool
from pydantic import PrivateAttr

from .._client import log
from ..client import Checkrein
from ..result import CheckResult
from ._gate import WAIT, Describe, Gate, Refusal, reporting, reporting_async


def checked_tools(
    tools: Iterable[BaseTool], client: Checkrein, *, session: str | None = None, wait: float = WAIT
) -> list[BaseTool]:
    """The same tools, each of which runs only if it may, however it is called.

    A block is the tool's answer, with the reason. A hold is waited for up to ``wait`` seconds. ``session`` is
    by default the client's, else CrewAI's id of the execution.
    """
    gate = Gate(client, session=session, wait=wait)
    return [_checked(tool, gate) for tool in tools]


def check_every_tool(
    client: Checkrein, *, session: str | None = None, wait: float = WAIT
) -> Callable[[], None]:
    """Check every tool of every crew in this process that is not from `checked_tools`.

    Answers with a function that ends it. Register it after all other hooks, which could change the arguments.
    """
    hook = _Hook(Gate(client, session=session, wait=wait))
    register_before_tool_call_hook(hook.before)
    register_after_tool_call_hook(hook.after)

    def end() -> None:
        unregister_before_tool_call_hook(hook.before)
        unregister_after_tool_call_hook(hook.after)

    return end


class CheckedTool(BaseTool):
    """A tool around another, which it asks Checkrein about. Made by `checked_tools`."""

    _inner: BaseTool = PrivateAttr()
    _gate: Gate = PrivateAttr()

    def _run(self, **arguments: Any) -> Any:
        result = self._gate.ask(_describe(self._gate, self.name, arguments))
        if result.blocked:
            return Refusal(result)
        with reporting(result):
            return self._inner.run(**arguments)

    async def _arun(self, **arguments: Any) -> Any:
        result = await self._gate.ask_async(_describe(self._gate, self.name, arguments))
        if result.blocked:
            return Refusal(result)
        async with reporting_async(result):
            try:
                return await self._inner.arun(**arguments)
            except NotImplementedError:
                return await asyncio.to_thread(self._inner.run, **arguments)


def _checked(tool: BaseTool, gate: Gate) -> CheckedTool:
    if not isinstance(tool, BaseTool):
        raise TypeError(f"{tool!r} is no CrewAI tool; make one of it with `crewai.tools.tool`")

    def may_be_kept(arguments: Any, result: Any) -> bool:
        # A refusal is true only now: the same call may be allowed later.
        return not isinstance(result, Refusal) and bool(tool.cache_function(arguments, result))

    checked = CheckedTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.args_schema,
        result_schema=tool.result_schema,
        result_as_answer=tool.result_as_answer,
        tool_failure_policy=tool.tool_failure_policy,
        cache_function=may_be_kept,
    )
    checked._inner, checked._gate = tool, gate
    return checked


def _describe(gate: Gate, tool: str, arguments: dict[str, Any]) -> Describe:
    return gate.describe(tool, arguments, gate.given or get_execution_uuid())


class _Hook:
    """Before and after a tool; the two are called in the same context, with one call in between."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._asked: ContextVar[CheckResult | None] = ContextVar("asked", default=None)

    def before(self, context: Any) -> bool | None:
        """``False``, and nothing else, keeps the tool from running; CrewAI swallows what is raised."""
        try:
            self._asked.set(None)
            if isinstance(getattr(context.tool, "_original_tool", context.tool), CheckedTool):
                return None
            result = self._gate.ask(_describe(self._gate, context.tool_name, context.tool_input))
            self._asked.set(result)
        except Exception as error:
            log.error("a tool call could not be checked, so it does not run: %r", error)
            return False
        return False if result.blocked else None

    def after(self, context: Any) -> str | None:
        """Tell the model why; or report the outcome, which here is only a text."""
        result = self._asked.get()
        self._asked.set(None)
        if result is None:
            return None
        if result.blocked:
            return str(Refusal(result))
        # What the tool raised is not told, only a text about it; and other hooks may have blocked the call.
        told = str(context.raw_tool_result)
        failed = told.startswith(("Error executing tool", "I encountered an error", "Tool execution blocked"))
        result.outcome("unknown" if failed else "ok", None, told if failed else None)
        return None
