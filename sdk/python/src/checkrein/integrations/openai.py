"""OpenAI's APIs without a framework: answer a model's tool calls, each checked before it runs.

For a loop of your own over the Responses API, chat completions, or the Assistants API and servers compatible
with it, whose runs wait in ``requires_action``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.to_thread

from .._guard import is_async
from ..client import Checkrein
from ._gate import WAIT, Gate
from ._tools import Tool, guarded

# Seconds that are left of a run's life for sending the outputs.
_MARGIN = 10.0
_WORKING = ("queued", "in_progress", "cancelling")


class CheckedTools:
    """Functions that a model may call by name; each call runs only if it may.

    Every call gets an answer for the model: the result, why it did not run, or what the function raised. A
    hold is waited for up to ``wait`` seconds. ``session`` is by default the client's, else a new one for each
    of these objects, so make one for each run; for an assistant it is the thread.
    """

    def __init__(
        self, tools: Iterable[Tool], client: Checkrein, *, session: str | None = None, wait: float = WAIT
    ) -> None:
        self._tools = {tool.__name__: tool for tool in tools}
        self._gate = Gate(client, session=session, wait=wait)
        for tool in self._tools.values():
            guarded(tool, self._gate)  # what cannot be guarded is refused here, not in the middle of a run

    def outputs(self, response: Any) -> list[dict[str, Any]]:
        """For the Responses API: the ``input`` items that answer the calls in ``response.output``."""
        return [_output(call, self._answer(call.name, call.arguments)) for call in _calls(response)]

    async def outputs_async(self, response: Any) -> list[dict[str, Any]]:
        """As `outputs`; all calls at once."""
        calls = _calls(response)
        texts = await self._answer_all([(c.name, c.arguments) for c in calls])
        return [_output(call, text) for call, text in zip(calls, texts, strict=True)]

    def messages(self, message: Any) -> list[dict[str, Any]]:
        """For chat completions: the messages that answer ``message.tool_calls``."""
        return [
            _message(call, self._answer(call.function.name, call.function.arguments))
            for call in message.tool_calls or ()
        ]

    async def messages_async(self, message: Any) -> list[dict[str, Any]]:
        """As `messages`; all calls at once."""
        calls = message.tool_calls or ()
        texts = await self._answer_all([(c.function.name, c.function.arguments) for c in calls])
        return [_message(call, text) for call, text in zip(calls, texts, strict=True)]

    def finish(self, openai: Any, run: Any, *, poll: float = 1.0) -> Any:
        """For an assistant: answer what ``run`` requires, again and again, until it is over; the run then.

        ``openai`` is the client that made it. A hold is not waited for longer than the run lives.
        """
        runs = openai.beta.threads.runs
        while True:
            if run.status == "requires_action":
                gate = self._gate_of(run)
                outputs = [
                    {
                        "tool_call_id": c.id,
                        "output": self._answer(c.function.name, c.function.arguments, gate),
                    }
                    for c in run.required_action.submit_tool_outputs.tool_calls
                ]
                run = runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs)
            elif run.status in _WORKING:
                time.sleep(poll)
                run = runs.retrieve(run.id, thread_id=run.thread_id)
            else:
                return run

    async def finish_async(self, openai: Any, run: Any, *, poll: float = 1.0) -> Any:
        """As `finish`, with an async client; all calls at once."""
        runs = openai.beta.threads.runs
        while True:
            if run.status == "requires_action":
                calls = run.required_action.submit_tool_outputs.tool_calls
                asked = [(c.function.name, c.function.arguments) for c in calls]
                texts = await self._answer_all(asked, self._gate_of(run))
                outputs = _tool_outputs(calls, texts)
                run = await runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs)
            elif run.status in _WORKING:
                await anyio.sleep(poll)
                run = await runs.retrieve(run.id, thread_id=run.thread_id)
            else:
                return run

    def _gate_of(self, run: Any) -> Gate:
        expires = getattr(run, "expires_at", None)
        left = self._gate.wait if expires is None else max(expires - time.time() - _MARGIN, 0.0)
        session = self._gate.given or str(run.thread_id)
        return Gate(self._gate.client, session=session, wait=min(self._gate.wait, left))

    def _answer(self, name: str, text: str, gate: Gate | None = None) -> str:
        tool = self._tools.get(name)
        if tool is not None and is_async(tool):
            raise TypeError(f"{name} is async; use the async method of CheckedTools")
        return _said(lambda: _called(tool, name, text, gate or self._gate))

    async def _answer_all(self, calls: list[tuple[str, str]], gate: Gate | None = None) -> list[str]:
        texts = [""] * len(calls)

        async def answer(at: int, name: str, text: str) -> None:
            texts[at] = await self._answer_async(name, text, gate or self._gate)

        async with anyio.create_task_group() as group:
            for at, (name, text) in enumerate(calls):
                group.start_soon(answer, at, name, text)
        return texts

    async def _answer_async(self, name: str, text: str, gate: Gate) -> str:
        tool = self._tools.get(name)
        if tool is None or not is_async(tool):
            return await anyio.to_thread.run_sync(lambda: _said(lambda: _called(tool, name, text, gate)))
        try:
            return _text(await _called(tool, name, text, gate))
        except Exception as error:
            return _failure(error)


def _called(tool: Tool | None, name: str, text: str, gate: Gate) -> Any:
    if tool is None:
        raise LookupError(f"there is no tool {name!r}")
    arguments = json.loads(text or "{}")
    if not isinstance(arguments, dict):
        raise TypeError("the arguments must be a JSON object")
    return guarded(tool, gate)(**arguments)


def _said(call: Callable[[], Any]) -> str:
    try:
        return _text(call())
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> str:
    return f"ERROR: {type(error).__name__}: {error}"


def _text(result: Any) -> str:
    return str(result) if isinstance(result, str) else json.dumps(result, default=str)


def _calls(response: Any) -> list[Any]:
    return [item for item in response.output if item.type == "function_call"]


def _output(call: Any, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def _tool_outputs(calls: list[Any], texts: list[str]) -> list[dict[str, Any]]:
    return [{"tool_call_id": c.id, "output": text} for c, text in zip(calls, texts, strict=True)]


def _message(call: Any, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": text}
