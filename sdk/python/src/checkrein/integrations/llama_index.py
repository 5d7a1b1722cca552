"""LlamaIndex: tools that run only if they may, and can pause a workflow for a person."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

from llama_index.core.tools import BaseTool, FunctionTool, ToolOutput
from llama_index.core.tools.types import AsyncBaseTool, adapt_to_async_tool
from llama_index.core.workflow import HumanResponseEvent, InputRequiredEvent
from workflows.runtime.types.results import WaitingForEvent

from .._json import Opaques
from ..client import Checkrein
from ..result import Decision
from ._gate import WAIT, Describe, Gate, Refusal, Run, new_session, reporting, reporting_async

_CONTEXT = "checkrein_context"


def checked_tools(
    tools: Iterable[BaseTool | Callable[..., Any]],
    client: Checkrein,
    *,
    session: str | None = None,
    pause: bool = False,
    wait: float = WAIT,
) -> list[Any]:
    """The same tools (or functions, which become tools), each of which runs only if it may.

    A block is the tool's output, with the reason. A hold is waited for up to ``wait`` seconds; with
    ``pause=True`` the workflow emits an ``InputRequiredEvent`` and pauses for as long, until it gets a
    ``HumanResponseEvent`` with the same ``approval_id``; the approval itself is given in Checkrein.
    ``session`` is by default the client's, else a new one for each workflow context.
    """
    gate = Gate(client, session=session, wait=wait)
    return [CheckedTool(tool, gate, pause=pause) for tool in tools]


class CheckedTool(FunctionTool):
    """A tool around another, which it asks Checkrein about. Made by `checked_tools`."""

    def __init__(self, tool: BaseTool | Callable[..., Any], gate: Gate, *, pause: bool) -> None:
        found = tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool)
        self._inner: AsyncBaseTool = adapt_to_async_tool(found)
        self._gate = gate
        self._pause = pause
        super().__init__(fn=self.call, async_fn=self.acall, metadata=found.metadata)
        # With these two, an agent passes the context of its workflow.
        self.requires_context = True
        self.ctx_param_name = _CONTEXT

    @property
    def real_fn(self) -> Any:
        """The function that is checked, where there is one."""
        return getattr(self._inner, "real_fn", self._real_fn)

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Check, run, report, blocking."""
        context = kwargs.pop(_CONTEXT, None)
        describe = self._describe(args, kwargs, None)
        result = self._gate.ask(describe)
        if result.blocked:
            return self._refused(result, kwargs)
        with reporting(result, unknown=WaitingForEvent) as run:
            return _noted(run, self._inner.call(*args, **self._with(context, kwargs)))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Check, run, report."""
        context = kwargs.pop(_CONTEXT, None)
        describe = self._describe(args, kwargs, await self._session(context))
        pauses = self._pause and context is not None
        name = _name(describe) if pauses else None
        result = await self._gate.ask_async(describe, call=name, wait=0.0 if pauses else None)
        # Raises, to pause the workflow, which calls the tool again from the start once there is an answer.
        if result.held and pauses and await self._answered(context, result, kwargs):
            # Whatever it says: only Checkrein's approval counts.
            result = await self._gate.ask_async(describe, call=name)
        if result.blocked:
            return self._refused(result, kwargs)
        async with reporting_async(result, unknown=WaitingForEvent) as run:
            return _noted(run, await self._inner.acall(*args, **self._with(context, kwargs)))

    async def _answered(self, context: Any, held: Decision, kwargs: dict[str, Any]) -> bool:
        question = InputRequiredEvent(
            prefix=held.reason, approval_id=held.approval_id, tool=self.metadata.name, arguments=kwargs
        )
        try:
            await context.wait_for_event(
                HumanResponseEvent,
                waiter_event=question,
                waiter_id=held.approval_id,
                requirements={"approval_id": held.approval_id},
                timeout=self._gate.wait,
            )
        except (TimeoutError, asyncio.TimeoutError):
            return False
        return True

    async def _session(self, context: Any) -> str | None:
        if self._gate.given or context is None:
            return None
        async with context.store.edit_state() as state:
            kept = state.get("checkrein_session") or new_session()
            state["checkrein_session"] = kept
        return str(kept)

    def _describe(self, args: tuple[Any, ...], kwargs: dict[str, Any], session: str | None) -> Describe:
        told: dict[str, Any] = _defaults(self._inner) | kwargs
        if args:
            told["input"] = args[0] if len(args) == 1 else args
        return self._gate.describe(self.metadata.get_name(), told, session)

    def _with(self, context: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        wanted = getattr(self._inner, "ctx_param_name", None)
        return kwargs if wanted is None or context is None else kwargs | {wanted: context}

    def _refused(self, decision: Decision, kwargs: dict[str, Any]) -> ToolOutput:
        text = str(Refusal(decision))
        name = self.metadata.get_name()
        return ToolOutput(content=text, tool_name=name, raw_input=kwargs, raw_output=text, is_error=True)


def _defaults(tool: AsyncBaseTool) -> dict[str, Any]:
    """What the tool gets besides the model's arguments: it says as much about the action."""
    if not isinstance(tool, FunctionTool):
        return {}
    parameters = inspect.signature(tool.real_fn).parameters.values()
    plain = {p.name: p.default for p in parameters if p.default is not p.empty}
    return plain | tool._field_defaults | tool.partial_params


def _name(describe: Describe) -> str:
    body = {k: v for k, v in describe(Opaques()).items() if k != "idempotency_key"}
    return json.dumps(body, sort_keys=True)


def _noted(run: Run, output: ToolOutput) -> ToolOutput:
    if output.is_error:
        run.status, run.error = "error", output.content
    return output
