"""Claude Agent SDK: hooks that check every tool call, of Claude Code's own tools and of yours.

Claude Code runs a tool although its hook failed or was too slow, unless it is told to block, which
`checkrein_hooks` does.
"""

from __future__ import annotations

import threading
from typing import Any

from claude_agent_sdk import HookMatcher

from ..client import Checkrein
from ..result import AsyncCheckResult
from ._gate import WAIT, Gate, Refusal

# Seconds that a check may take besides the waiting for a person; after that Claude Code blocks the call.
_CHECK = 30.0
# Calls whose end is awaited. What is forgotten has no outcome on record.
_RUNNING = 10_000


def checkrein_hooks(
    client: Checkrein, *, session: str | None = None, pause: bool = False, wait: float = WAIT
) -> dict[str, list[Any]]:
    """What ``ClaudeAgentOptions(hooks=…)`` takes; to have hooks of your own too, extend its lists.

    A block is the tool's result, with the reason. A hold is waited for up to ``wait`` seconds; with
    ``pause=True`` it ends the run instead (``deferred_tool_use`` of its result), to be resumed later.
    ``session`` is by default the client's, else Claude's session id.
    """
    hooks = _Hooks(Gate(client, session=session, wait=0.0 if pause else wait), pause)
    return {
        "PreToolUse": [
            HookMatcher(hooks=[hooks.before], timeout=hooks.gate.wait + _CHECK, on_failure="block")
        ],
        "PostToolUse": [HookMatcher(hooks=[hooks.after])],
        "PostToolUseFailure": [HookMatcher(hooks=[hooks.failed])],
    }


class _Hooks:
    def __init__(self, gate: Gate, pause: bool) -> None:
        self.gate = gate
        self._pause = pause
        self._running: dict[str, AsyncCheckResult] = {}
        self._lock = threading.Lock()

    async def before(self, asked: Any, call: str | None, _: Any) -> dict[str, Any]:
        """An allow is no answer, so that Claude Code's own permissions still count."""
        name = str(call or asked["tool_use_id"])
        describe = self.gate.describe(
            asked["tool_name"], asked["tool_input"], self.gate.given or asked.get("session_id")
        )
        result = await self.gate.ask_async(describe, call=name)
        if result.held and self._pause:
            return _decided("defer", result.reason)
        if result.blocked:
            return _decided("deny", str(Refusal(result)))
        with self._lock:
            while len(self._running) >= _RUNNING:
                del self._running[next(iter(self._running))]
            self._running[name] = result
        return {}

    async def after(self, asked: Any, call: str | None, _: Any) -> dict[str, Any]:
        if result := self._ended(asked, call):
            await result.outcome("ok")
        return {}

    async def failed(self, asked: Any, call: str | None, _: Any) -> dict[str, Any]:
        if result := self._ended(asked, call):
            error = str(asked.get("error"))
            # Claude Code tells of a failure in words only.
            unsure = asked.get("is_interrupt") or "timed out" in error.lower() or "timeout" in error.lower()
            await result.outcome("unknown" if unsure else "error", error=error)
        return {}

    def _ended(self, asked: Any, call: str | None) -> AsyncCheckResult | None:
        with self._lock:
            return self._running.pop(str(call or asked["tool_use_id"]), None)


def _decided(decision: str, reason: str) -> dict[str, Any]:
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": decision,
            "permissionDecisionReason": reason,
        }
    }
