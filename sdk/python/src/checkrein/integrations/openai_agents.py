"""OpenAI Agents SDK: function tools that run only if they may, and pause the run for a person.

Not an input guardrail: that is not told what came of the call, and when it raises, the run ends while the
other tools have run.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterable
from typing import Any

from agents import FunctionTool, get_current_trace
from agents.tool import maybe_invoke_function_tool_failure_error_function

from ..client import Checkrein
from ..result import AsyncCheckResult, Decision
from ._gate import WAIT, Describe, Gate, Refusal, new_session, reporting_async

#: Seconds for which the answer that `needs_approval` got is good when the tool is called.
_FRESH = 10.0


def checked_tools(
    tools: Iterable[Any],
    client: Checkrein,
    *,
    session: str | None = None,
    pause: bool = True,
    wait: float = WAIT,
) -> list[Any]:
    """The same tools, of which each function tool runs only if it may; others are as they were.

    A block is the tool's answer, with the reason. A hold pauses the run (``result.interruptions``); `held`
    tells what it waits for. With ``pause=False`` a hold is waited for up to ``wait`` seconds. ``session`` is
    by default the client's, else the id of the run's trace, else a new one for each run.
    """
    gate = Gate(client, session=session, wait=0.0 if pause else wait)
    return [_checked(tool, gate, pause) if isinstance(tool, FunctionTool) else tool for tool in tools]


def held(interruption: Any) -> Decision | None:
    """The hold behind one of ``result.interruptions``; ``None`` if Checkrein did not ask for it.

    Its ``approval_id`` is what somebody approves in Checkrein. Then approve the interruption, and resume.
    """
    for tool in getattr(interruption.agent, "tools", ()):
        checked = getattr(tool, "on_invoke_tool", None)
        if isinstance(checked, _CheckedCall) and tool.name == interruption.name:
            return checked.gate.held(interruption.call_id)
    return None


def _checked(tool: FunctionTool, gate: Gate, pause: bool) -> FunctionTool:
    checked = copy.copy(tool)
    call = _CheckedCall(tool, gate)
    checked.on_invoke_tool = call
    if pause:
        checked.needs_approval = call.needs_approval
    return checked


class _CheckedCall:
    """What a checked tool calls in the place of the tool."""

    def __init__(self, tool: FunctionTool, gate: Gate) -> None:
        self.gate = gate
        self._tool = tool
        self._asked: dict[str, tuple[float, str, AsyncCheckResult]] = {}
        # Raises what the tool raises, where the tool itself would make a text of it.
        self._plain = copy.copy(tool)
        self._plain._use_default_failure_error_function = False
        self._plain._failure_error_function = None

    async def needs_approval(self, context: Any, arguments: dict[str, Any], call: str) -> bool:
        """Whether the run pauses: the tool wants it, or Checkrein holds the call."""
        wanted = self._tool.needs_approval
        if callable(wanted):
            wanted = await wanted(context, arguments, call)
        if wanted:
            return True
        result = await self.gate.ask_async(self._describe(context, arguments), call=call)
        self._forget()
        self._asked[call] = (time.monotonic(), _key(arguments), result)
        return result.held

    async def __call__(self, context: Any, text: str) -> Any:
        arguments = _parsed(text)
        result = self._answer(context.tool_call_id, arguments)
        if result is None:
            describe = self._describe(context, arguments)
            result = await self.gate.ask_async(describe, call=context.tool_call_id)
        if result.blocked:
            return str(Refusal(result))
        try:
            async with reporting_async(result):
                return await self._plain.on_invoke_tool(context, text)
        except Exception as error:
            told = await maybe_invoke_function_tool_failure_error_function(
                function_tool=self._tool, context=context, error=error
            )
            if told is None:
                raise
            return told

    def _answer(self, call: str, arguments: Any) -> AsyncCheckResult | None:
        """What `needs_approval` was told just now about this call: one call is one check."""
        at, asked, result = self._asked.pop(call, (0.0, "", None))
        fresh = time.monotonic() - at < _FRESH and asked == _key(arguments)
        return result if fresh and result is not None and not result.held else None

    def _forget(self) -> None:
        old = time.monotonic() - _FRESH
        for call in [call for call, (at, *_) in self._asked.items() if at < old]:
            self._asked.pop(call, None)

    def _describe(self, context: Any, arguments: Any) -> Describe:
        known = self._tool.params_json_schema.get("properties") or {}
        # A default says as much about the action as an argument.
        defaults = {name: value["default"] for name, value in known.items() if "default" in value}
        told = defaults | arguments if isinstance(arguments, dict) else {"input": arguments}
        return self.gate.describe(self._tool.name, told, self.gate.given or _session(context))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


def _key(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True)


def _session(context: Any) -> str:
    trace = get_current_trace()
    if trace is not None and trace.trace_id != "no-op":
        return str(trace.trace_id)
    # One object for all calls of a run; nothing else is, when the run is not traced.
    kept: dict[str, Any] = vars(context.usage)
    return str(kept.setdefault("_checkrein_session", new_session()))
