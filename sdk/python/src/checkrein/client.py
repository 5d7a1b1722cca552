"""The clients."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from ._exchange import Steps
from ._guard import AsyncGuard, Fields, Guard
from ._json import Opaques
from ._protocol import ON_UNREACHABLE, STATUSES, OnUnreachable, Protocol, check_body
from ._transport import Address, AsyncTransport, Transport
from .management import Approvals, AsyncApprovals, AsyncPolicies, Policies
from .result import AsyncCheckResult, CheckResult, Decision, Status

F = TypeVar("F")

#: In a guard: a text, or a function of the guarded function's arguments that gives one.
Text = str | Callable[..., str | None] | None

DEFAULT_URL: Final = "http://127.0.0.1:7070"
_log = logging.getLogger("checkrein")


class _Client:
    """What both clients have: settings, and the body of a check."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        timeout: float = 2.0,
        on_unreachable: OnUnreachable = "block",
        retries: int = 2,
    ) -> None:
        """Set up a client; nothing is sent yet.

        ``url``, ``api_key`` and ``agent`` default to the environment's CHECKREIN_URL,
        CHECKREIN_API_KEY and CHECKREIN_AGENT. ``timeout``: seconds for one try; ``retries``: tries after the
        first, all with one idempotency key. ``on_unreachable``: what a check answers when the server cannot
        be asked: ``"block"``, ``"allow_reads"`` or ``"allow"``.
        """
        if on_unreachable not in ON_UNREACHABLE:
            raise ValueError(f"on_unreachable must be one of {ON_UNREACHABLE}, not {on_unreachable!r}")
        if not 0 < timeout <= 60:
            raise ValueError(f"timeout must be over 0 and at most 60 seconds, not {timeout!r}")
        if not 0 <= retries <= 10:
            raise ValueError(f"retries must be 0 to 10, not {retries!r}")
        self.url = url or os.environ.get("CHECKREIN_URL") or DEFAULT_URL
        self.agent = agent or os.environ.get("CHECKREIN_AGENT") or None
        self.session = session
        key = api_key or os.environ.get("CHECKREIN_API_KEY")
        self._settings: dict[str, Any] = {
            "url": self.url,
            "api_key": key,
            "agent": self.agent,
            "session": session,
            "timeout": timeout,
            "on_unreachable": on_unreachable,
            "retries": retries,
        }
        self._address = Address(self.url, key, timeout)
        self._protocol = Protocol(self.url, timeout=timeout, retries=retries, on_unreachable=on_unreachable)
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r}, agent={self.agent!r})"

    def _outcome(
        self, result: Decision, status: Status, records: int | None, error: str | None
    ) -> Steps[None] | None:
        if status not in STATUSES:
            raise ValueError(f"an outcome is one of {STATUSES}, not {status!r}")
        # What was never asked about cannot be reported on.
        if result.id is None:
            return None
        return self._protocol.outcome(result.id, status, records, error)

    def _body(self, fields: Fields, opaques: Opaques | None = None) -> dict[str, Any]:
        return check_body({"agent": self.agent, "session": self.session} | _given(fields), opaques)


class Checkrein(_Client):
    """Asks Checkrein, blocking. Threads may share one; it keeps connections open between calls."""

    def _open(self) -> None:
        self._transport = Transport(self._address)
        self._async_twin: AsyncCheckrein | None = None
        self.policies = Policies(self)
        self.approvals = Approvals(self)

    def check(
        self,
        *,
        action: str | None = None,
        resource: str | None = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: str | None = None,
        params: Any = None,
        record_ids: Iterable[Any] | None = None,
        agent: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
    ) -> CheckResult:
        """Ask whether an action may run, before it runs.

        Explicit form: ``action``, ``resource``, ``payload``; raw form: ``tool``, ``arguments``. Either may
        have ``statement`` with ``params`` (SQL) and ``record_ids``. What is no JSON is described.

        When the server cannot be asked this does not raise: it answers as ``on_unreachable`` says, with
        ``degraded`` set. It raises ``AuthenticationError``, ``PermissionDeniedError`` or
        ``BadRequestError`` when the key or the request is wrong.
        """
        fields = {
            "action": action,
            "resource": resource,
            "payload": payload,
            "tool": tool,
            "arguments": arguments,
            "statement": statement,
            "params": params,
            "record_ids": record_ids,
            "agent": agent,
            "session": session,
            "idempotency_key": idempotency_key,
        }
        return self._check(self._body(fields))

    @overload
    def guard(self, fn: F, /) -> F: ...
    @overload
    def guard(
        self,
        /,
        *,
        action: str | None = None,
        resource: Text = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: Text = None,
        params: Any = None,
        record_ids: Any = None,
        agent: Text = None,
        session: Text = None,
        wait: float = 0.0,
    ) -> Guard: ...
    def guard(
        self,
        fn: Any = None,
        /,
        *,
        action: str | None = None,
        resource: Text = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: Text = None,
        params: Any = None,
        record_ids: Any = None,
        agent: Text = None,
        session: Text = None,
        wait: float = 0.0,
    ) -> Any:
        """Run something only if it may: check, run, report the outcome.

        ``@client.guard`` asks in the raw form: the function's name and its arguments. With ``action=`` and
        ``resource=`` it asks in the explicit form; every field but ``action`` and ``tool`` may be a
        function of the guarded function's arguments. ``with client.guard(action=…) as check:`` guards a
        block.

        A block raises ``PolicyViolationError``. A hold is waited for up to ``wait`` seconds, and raises
        ``ApprovalRequiredError`` when it is not settled by then.
        """
        fields = {
            "action": action,
            "resource": resource,
            "payload": payload,
            "tool": tool,
            "arguments": arguments,
            "statement": statement,
            "params": params,
            "record_ids": record_ids,
            "agent": agent,
            "session": session,
        }
        guard = Guard(self, _given(fields), wait)
        return guard if fn is None else guard(fn)

    def close(self) -> None:
        """Close the connections; the client cannot be used after."""
        self._transport.close()
        if self._async_twin is not None:
            self._async_twin._transport.closed = True

    async def aclose(self) -> None:
        """As ``close``, and close what guarded async functions have opened on this event loop."""
        self.close()
        if self._async_twin is not None:
            await self._async_twin.aclose()

    def __enter__(self) -> Checkrein:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, body: Mapping[str, Any]) -> CheckResult:
        return self._result(self._transport.run(self._protocol.check(body)))

    def _wait(self, held: CheckResult, timeout: float) -> CheckResult:
        decision = self._transport.run(self._protocol.wait(held, timeout))
        return held if decision is held else self._result(decision)

    def _report(self, result: CheckResult, status: Status, records: int | None, error: str | None) -> bool:
        steps = self._outcome(result, status, records, error)
        if steps is None:
            return False
        result._reported.append(status)
        try:
            self._transport.run(steps)
        except Exception as failure:
            _log.warning("the outcome %s of %s is not on record: %s", status, result.id, failure)
            return False
        return True

    def _for_async(self) -> AsyncCheckrein:
        # Guarded async functions must not block their event loop.
        if self._async_twin is None:
            self._async_twin = AsyncCheckrein(**self._settings)
        return self._async_twin

    def _result(self, decision: Decision) -> CheckResult:
        if decision.degraded:
            _log.warning("%s: %s", decision.verdict, decision.reason)
        return CheckResult(**_fields(decision), _client=self)


class AsyncCheckrein(_Client):
    """As `Checkrein`, for async code: asyncio or trio, on any number of event loops."""

    def _open(self) -> None:
        self._transport = AsyncTransport(self._address)
        self.policies = AsyncPolicies(self)
        self.approvals = AsyncApprovals(self)

    async def check(
        self,
        *,
        action: str | None = None,
        resource: str | None = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: str | None = None,
        params: Any = None,
        record_ids: Iterable[Any] | None = None,
        agent: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncCheckResult:
        """As `Checkrein.check`."""
        fields = {
            "action": action,
            "resource": resource,
            "payload": payload,
            "tool": tool,
            "arguments": arguments,
            "statement": statement,
            "params": params,
            "record_ids": record_ids,
            "agent": agent,
            "session": session,
            "idempotency_key": idempotency_key,
        }
        return await self._check(self._body(fields))

    @overload
    def guard(self, fn: F, /) -> F: ...
    @overload
    def guard(
        self,
        /,
        *,
        action: str | None = None,
        resource: Text = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: Text = None,
        params: Any = None,
        record_ids: Any = None,
        agent: Text = None,
        session: Text = None,
        wait: float = 0.0,
    ) -> AsyncGuard: ...
    def guard(
        self,
        fn: Any = None,
        /,
        *,
        action: str | None = None,
        resource: Text = None,
        payload: Any = None,
        tool: str | None = None,
        arguments: Any = None,
        statement: Text = None,
        params: Any = None,
        record_ids: Any = None,
        agent: Text = None,
        session: Text = None,
        wait: float = 0.0,
    ) -> Any:
        """As `Checkrein.guard`, for async functions and `async with`."""
        fields = {
            "action": action,
            "resource": resource,
            "payload": payload,
            "tool": tool,
            "arguments": arguments,
            "statement": statement,
            "params": params,
            "record_ids": record_ids,
            "agent": agent,
            "session": session,
        }
        guard = AsyncGuard(self, _given(fields), wait)
        return guard if fn is None else guard(fn)

    async def aclose(self) -> None:
        """Close this event loop's connections; the client cannot be used after."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncCheckrein:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _check(self, body: Mapping[str, Any]) -> AsyncCheckResult:
        return self._result(await self._transport.run(self._protocol.check(body)))

    async def _wait(self, held: AsyncCheckResult, timeout: float) -> AsyncCheckResult:
        decision = await self._transport.run(self._protocol.wait(held, timeout))
        return held if decision is held else self._result(decision)

    async def _report(
        self, result: AsyncCheckResult, status: Status, records: int | None, error: str | None
    ) -> bool:
        steps = self._outcome(result, status, records, error)
        if steps is None:
            return False
        result._reported.append(status)
        try:
            await self._transport.run(steps)
        except Exception as failure:
            _log.warning("the outcome %s of %s is not on record: %s", status, result.id, failure)
            return False
        return True

    def _result(self, decision: Decision) -> AsyncCheckResult:
        if decision.degraded:
            _log.warning("%s: %s", decision.verdict, decision.reason)
        return AsyncCheckResult(**_fields(decision), _client=self)


def _given(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _fields(decision: Decision) -> dict[str, Any]:
    # Not `asdict`, which would take the parts apart too.
    return {f.name: getattr(decision, f.name) for f in dataclasses.fields(Decision)}
