"""What every adapter stands on: ask about a tool call, word a refusal for the model, report what came of it.

An adapter calls `Gate.ask` (or `ask_async`) and runs the tool only if the answer is ``allowed``, inside
`reporting` (or `reporting_async`). `ask` never raises for a check that went wrong: some frameworks swallow
what a hook raises and run the tool.
"""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import anyio

from .._client import log
from .._exchange import Steps
from .._guard import LAST_WORD, Body, failed
from .._json import Opaques
from ..client import Checkrein
from ..result import AsyncCheckResult, CheckResult, Decision, Status

#: Seconds that a person has to answer a hold before the model is told that nobody has.
WAIT: Final = 300.0
# Seconds to look whether a hold, about which was asked before, has been answered meanwhile.
_LOOK = 1.0
# Holds that are remembered; what is forgotten is asked about anew.
_REMEMBERED = 10_000
_LIMIT = re.compile(r"\b(?:touches|goes to) (an unknown number of|\d+) (\w+?)s?\b[^,]*, over (\d+)")

#: Describes the call as the body of a check; asked twice, to see that it has not changed.
Describe = Callable[[Opaques], Body]


class Refusal(str):
    """What a model reads in the place of a tool's result, when the tool did not run."""

    #: Why.
    decision: Decision

    def __new__(cls, decision: Decision) -> Refusal:
        text = super().__new__(cls, _told(decision))
        text.decision = decision
        return text

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # A copy that leaves this process is only its text.
        return str, (str(self),)


@dataclass
class Run:
    """What became of a tool that did not raise; an adapter that knows better says so."""

    status: Status = "ok"
    error: str | None = None


class Gate:
    """Asks about the tool calls of one agent. Threads and event loops may share one."""

    def __init__(self, client: Checkrein, *, session: str | None = None, wait: float = WAIT) -> None:
        """``session``: names the run on record; by default the client's, else a new one."""
        if not isinstance(client, Checkrein):
            raise TypeError(
                f"give the adapter a Checkrein, which serves blocking and async calls, not {client!r}"
            )
        if not wait >= 0:
            raise ValueError(f"wait must not be negative, not {wait!r}")
        self.client = client
        self.wait = wait
        #: The session that was given, if one was.
        self.given = session or client.session
        self.session = self.given or new_session()
        self._held: dict[str, tuple[Body, Decision]] = {}
        self._lock = threading.Lock()

    def describe(self, tool: str, arguments: Any, session: str | None = None) -> Describe:
        """A call by its name and arguments, in the raw form."""
        fields = {"tool": tool, "arguments": arguments, "session": session or self.session}
        return lambda opaques: self.client._body(fields, opaques)

    def ask(self, describe: Describe, *, call: str | None = None, wait: float | None = None) -> CheckResult:
        """Whether the call may run; a hold is waited for up to ``wait`` seconds (the gate's by default).

        ``call`` is the framework's name for this call: under it a hold is remembered, so that asking again
        after a pause finds its answer, a "no" as well.
        """
        try:
            return self.client._result(self.client._transport.run(self._asking(describe, call, wait)))
        except Exception as error:
            return self.client._result(_unasked(error))

    async def ask_async(
        self, describe: Describe, *, call: str | None = None, wait: float | None = None
    ) -> AsyncCheckResult:
        """As ``ask``, without blocking the event loop."""
        client = self.client._for_async()
        try:
            return client._result(await client._transport.run(self._asking(describe, call, wait)))
        except Exception as error:
            return client._result(_unasked(error))

    def held(self, call: str) -> Decision | None:
        """The hold that is remembered under ``call``."""
        with self._lock:
            found = self._held.get(call)
        return None if found is None else found[1]

    def _asking(self, describe: Describe, call: str | None, wait: float | None) -> Steps[Decision]:
        opaques, protocol = Opaques(), self.client._protocol
        body = describe(opaques)
        before = self._recall(call, body)
        if before is not None:
            decision = yield from protocol.wait(before, _LOOK)
        else:
            decision = yield from protocol.check(body)
        patience = self.wait if wait is None else wait
        if decision.held and patience > 0:
            decision = yield from protocol.wait(decision, patience)
        if decision.allowed and not _same(describe(opaques), body):
            raise RuntimeError("the arguments changed while they were being checked")
        if decision.held and call is not None:
            self._remember(call, body, decision)
        return decision

    def _recall(self, call: str | None, body: Body) -> Decision | None:
        with self._lock:
            held = None if call is None else self._held.pop(call, None)
        return held[1] if held is not None and _same(held[0], body) else None

    def _remember(self, call: str, body: Body, decision: Decision) -> None:
        with self._lock:
            while len(self._held) >= _REMEMBERED:
                del self._held[next(iter(self._held))]
            self._held[call] = (body, decision)


def new_session() -> str:
    """A name for a run that has none."""
    return f"run-{uuid.uuid4().hex[:16]}"


@contextlib.contextmanager
def reporting(
    result: CheckResult, *, unknown: type[BaseException] | tuple[type[BaseException], ...] = ()
) -> Iterator[Run]:
    """Around a tool that may run: its outcome goes on record. ``unknown``: exceptions that tell of none."""
    run = Run()
    try:
        yield run
    except BaseException as error:
        result.outcome(*_came_of(run, error, unknown))
        raise
    result.outcome(*_came_of(run, None, unknown))


@contextlib.asynccontextmanager
async def reporting_async(
    result: AsyncCheckResult, *, unknown: type[BaseException] | tuple[type[BaseException], ...] = ()
) -> AsyncIterator[Run]:
    """As ``reporting``; also when the task is being cancelled."""
    run, error = Run(), None
    try:
        yield run
    except BaseException as raised:
        error = raised
        raise
    finally:
        with anyio.move_on_after(LAST_WORD, shield=True):
            await result.outcome(*_came_of(run, error, unknown))


def _came_of(
    run: Run, error: BaseException | None, unknown: type[BaseException] | tuple[type[BaseException], ...]
) -> tuple[Status, None, str | None]:
    if error is None:
        return run.status, None, run.error
    return ("unknown", None, type(error).__name__) if isinstance(error, unknown) else failed(error)


def _same(one: Body, other: Body) -> bool:
    key = "idempotency_key"
    return {k: v for k, v in one.items() if k != key} == {k: v for k, v in other.items() if k != key}


def _unasked(error: Exception) -> Decision:
    # `repr`, because the text may come from the agent.
    log.error("a tool call could not be checked, so it does not run: %r", error)
    return Decision("block", f"the check failed: {type(error).__name__}", degraded=True)


def _told(decision: Decision) -> str:
    """A refusal in words that a model can act on: why, and what would be allowed. No internals."""
    if decision.degraded or decision.raw.get("verdict", decision.verdict) != decision.verdict:
        # Nobody judged it, or nobody here understands how. The reason is for whoever runs the agent: it has
        # addresses and settings in it.
        return (
            "NOT RUN: this call could not be checked, and nothing runs unchecked. Nothing was changed. "
            "Do not try to reach the same effect in another way; say that it could not be done now."
        )
    if decision.held:
        return (
            f"NOT RUN: {decision.reason} Nobody has approved it yet ({decision.approval_id}). Nothing was "
            "changed. Once it is approved, make exactly the same call again; any other is a new question."
        )
    return " ".join(
        [
            f"NOT RUN: {decision.reason} Nothing was changed.",
            *_limits(decision),
            "Do not try to reach the same effect in another way.",
        ]
    )


def _limits(decision: Decision) -> Iterator[str]:
    told = set()
    for policy in decision.policies:
        if policy.rule != "block" or policy.mode != "enforce" or policy.exempted_by:
            continue
        for count, thing, limit in _LIMIT.findall(policy.reason):
            told.add(f"At most {limit} {thing}s at a time would be allowed.")
            if not count.isdigit():
                told.add(f"Name the {thing}s, so that they can be counted.")
    yield from sorted(told)
