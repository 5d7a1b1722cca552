"""Guards for plain functions that are a model's tools."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .._guard import Call, checked, is_async, is_unfinished
from ..client import Checkrein
from ._gate import WAIT, Describe, Gate, Refusal, reporting, reporting_async

Tool = Callable[..., Any]


def guard_tools(
    tools: Iterable[Tool], client: Checkrein, *, session: str | None = None, wait: float = WAIT
) -> list[Tool]:
    """The same functions, each of which runs only if it may; async ones stay async.

    Where ``client.guard`` raises, these return a `Refusal`: a text for the model, in the place of the result.
    A hold is waited for up to ``wait`` seconds. All share ``session``, by default the client's or a new one.
    """
    gate = Gate(client, session=session, wait=wait)
    return [guarded(tool, gate) for tool in tools]


def guarded(tool: Tool, gate: Gate) -> Tool:
    """``tool`` behind ``gate``."""
    function = checked(tool)
    call = Call(function, {"session": gate.session}, gate.client._body)

    signature = inspect.signature(function)

    def describing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Describe:
        # Wrong arguments are the caller's mistake, and raise what they would raise without a guard.
        signature.bind(*args, **kwargs)
        return lambda opaques: call.describe(args, kwargs, opaques)

    @functools.wraps(function)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        result = gate.ask(describing(args, kwargs))
        if result.blocked:
            return Refusal(result)
        with reporting(result) as run:
            value = function(*args, **kwargs)
            if is_unfinished(value):
                run.status = "unknown"
        return value

    @functools.wraps(function)
    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        result = await gate.ask_async(describing(args, kwargs))
        if result.blocked:
            return Refusal(result)
        async with reporting_async(result):
            return await function(*args, **kwargs)

    return awaiting if is_async(function) else blocking
