"""Pydantic AI: a capability that checks every tool call before it runs."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from pydantic_ai import ApprovalRequired, DeferredToolRequests
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import SkipToolExecution

from .._guard import LAST_WORD, failed
from ..client import Checkrein
from ..result import AsyncCheckResult
from ._gate import WAIT, Gate, Refusal


class CheckreinCapability(AbstractCapability[Any]):
    """For ``Agent(capabilities=[…])``.

    A block is the tool's result, with the reason. A hold pauses the run (``DeferredToolRequests``) where the
    agent's output type has it, and else is waited for up to ``wait`` seconds; ``pause`` says which where the
    output type is given to a run. ``session`` is by default the client's, else the conversation's id.
    """

    def __init__(
        self,
        client: Checkrein,
        *,
        session: str | None = None,
        pause: bool | None = None,
        wait: float = WAIT,
    ) -> None:
        self._gate = Gate(client, session=session, wait=wait)
        self._pause = pause
        self._running: dict[str, tuple[AsyncCheckResult, BaseException | None]] = {}
        self._lock = threading.Lock()

    def get_ordering(self) -> CapabilityOrdering:
        """After all others, which could change the arguments."""
        return CapabilityOrdering(position="innermost")

    async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any]) -> Any:
        """Check. Only a return lets the tool run."""
        pauses = _can_pause(ctx) if self._pause is None else self._pause
        session = self._gate.given or ctx.conversation_id or ctx.run_id
        describe = self._gate.describe(call.tool_name, args, session)
        name = _name(ctx, call)
        result = await self._gate.ask_async(describe, call=name, wait=0.0 if pauses else None)
        if result.held and pauses:
            raise ApprovalRequired(
                {"approval_id": result.approval_id, "reason": result.reason, "by": "checkrein"}
            )
        if result.blocked:
            raise SkipToolExecution(str(Refusal(result)))
        with self._lock:
            self._running[name] = (result, None)
        return args

    async def on_tool_execute_error(
        self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any], error: Exception
    ) -> Any:
        """Note what the tool raised, before another capability makes a result of it."""
        name = _name(ctx, call)
        with self._lock:
            if name in self._running:
                self._running[name] = (self._running[name][0], error)
        raise error

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any], handler: Any
    ) -> Any:
        """Report what came of the call, whatever it is."""
        raised: BaseException | None = None
        try:
            return await handler(args)
        except BaseException as error:
            raised = error
            raise
        finally:
            with self._lock:
                result, noted = self._running.pop(_name(ctx, call), (None, None))
            if result is not None:
                error_ = noted or raised
                with anyio.move_on_after(LAST_WORD, shield=True):
                    await (result.outcome("ok") if error_ is None else result.outcome(*failed(error_)))


def _name(ctx: Any, call: Any) -> str:
    return f"{ctx.conversation_id}/{call.tool_call_id}"


def _can_pause(ctx: Any) -> bool:
    outputs = getattr(ctx.agent, "output_type", None)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return any(output is DeferredToolRequests for output in outputs)
