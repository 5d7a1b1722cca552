"""The client for async code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, overload

import anyio

from ._client import EXECUTION_PATIENCE, BaseClient, Text, decision_fields, execution_fields, given, log
from ._guard import AsyncGuard
from ._protocol import execution_body
from ._transport import AsyncTransport
from .management import AsyncApprovals, AsyncGrants, AsyncPolicies
from .result import AsyncCheckResult, Decision, Status
from .undo import AsyncExecutionResult, RollbackResult, Snapshot

F = TypeVar("F")

#: Seconds that a cancelled wait takes at most to say so.
_WITHDRAWAL = 5.0


class AsyncCheckrein(BaseClient):
    """As `Checkrein`, for async code: asyncio or trio, on any number of event loops."""

    def _open(self) -> None:
        self._transport = AsyncTransport(self._address)
        self.policies = AsyncPolicies(self)
        self.approvals = AsyncApprovals(self)
        self.grants = AsyncGrants(self)

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
        where: Mapping[str, Any] | None = None,
        agent: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
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
            "where": where,
            "agent": agent,
            "session": session,
            "idempotency_key": idempotency_key,
            "traceparent": traceparent,
        }
        return await self._check(self._body(fields))

    async def execute(
        self,
        target: str,
        statement: str | None = None,
        params: Sequence[Any] | None = None,
        *,
        statements: Iterable[Any] | None = None,
        record_count: int | None = None,
        agent: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        timeout: float = 60.0,
    ) -> AsyncExecutionResult:
        """As `Checkrein.execute`."""
        fields = {
            "statement": statement,
            "params": params,
            "statements": statements,
            "record_count": record_count,
            "agent": agent,
            "session": session,
            "idempotency_key": idempotency_key,
            "traceparent": traceparent,
        }
        return await self._execute(self._execution_body(target, fields), timeout)

    async def snapshot(
        self,
        resource: str,
        record_ids: Iterable[Any] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        statement: str | None = None,
        params: Sequence[Any] | None = None,
        action: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        timeout: float = 600.0,
    ) -> Snapshot:
        """As `Checkrein.snapshot`."""
        fields = {
            "resource": resource,
            "record_ids": record_ids,
            "where": where,
            "statement": statement,
            "params": params,
            "action": action,
            "agent": agent,
            "session": session,
        }
        return await self._transport.run(self._undo.take(self._snapshot_body(fields), timeout))

    async def seal(self, snapshot_id: str | Snapshot, *, timeout: float = 600.0) -> Snapshot:
        """As `Checkrein.seal`."""
        return await self._transport.run(self._undo.seal(snapshot_id, timeout))

    async def rollback(
        self,
        snapshot_id: str | Snapshot,
        *,
        dry_run: bool = False,
        on_conflict: str = "refuse",
        plan_digest: str | None = None,
        timeout: float = 600.0,
    ) -> RollbackResult:
        """As `Checkrein.rollback`."""
        steps = self._undo.rollback(snapshot_id, dry_run, on_conflict, plan_digest, timeout)
        return await self._transport.run(steps)

    async def get_snapshot(self, snapshot_id: str | Snapshot) -> Snapshot:
        """One snapshot."""
        return await self._transport.run(self._undo.get(snapshot_id))

    async def list_snapshots(self, *, agent: str | None = None, target: str | None = None) -> list[Snapshot]:
        """Snapshots, newest first; an agent's key sees its own agent's."""
        return await self._transport.run(self._undo.list({"agent": agent, "target": target}))

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
        where: Any = None,
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
        where: Any = None,
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
            "where": where,
            "agent": agent,
            "session": session,
        }
        guard = AsyncGuard(self, given(fields), wait)
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

    async def _execute(self, body: Mapping[str, Any], patience: float) -> AsyncExecutionResult:
        done = await self._transport.run(self._undo.execute(body, patience))
        return AsyncExecutionResult(**execution_fields(done), _client=self, _body=body)

    async def _run_when_approved(self, held: AsyncExecutionResult, timeout: float) -> AsyncExecutionResult:
        settled = await self._transport.run(self._protocol.wait(held, timeout))
        if settled.allowed:
            again = {name: value for name, value in held._body.items() if name != "idempotency_key"}
            return await self._execute(execution_body(again), EXECUTION_PATIENCE)
        return held if settled.held else dataclasses.replace(held, verdict="block", reason=settled.reason)

    async def _wait(self, held: AsyncCheckResult, timeout: float, withdraw: bool) -> AsyncCheckResult:
        try:
            decision = await self._transport.run(self._protocol.wait(held, timeout))
        except BaseException:
            # Cancelled: nobody waits any more. It must be said although this task is to end.
            if withdraw:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_WITHDRAWAL):
                    await self._withdraw(held)
            raise
        if decision is held:
            return await self._withdraw(held) if withdraw else held
        return self._result(decision)

    async def _withdraw(self, held: AsyncCheckResult) -> AsyncCheckResult:
        try:
            settled = await self._transport.run(self._protocol.withdraw(held.id))
        except Exception as failure:
            log.warning("%s could not be withdrawn: %s", held.id, failure)
            return held
        reason = str(settled.get("reason") or "withdrawn")
        return dataclasses.replace(held, verdict="block", reason=reason, raw=settled)

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
            log.warning("the outcome %s of %s is not on record: %s", status, result.id, failure)
            return False
        return True

    def _result(self, decision: Decision) -> AsyncCheckResult:
        if decision.degraded:
            log.warning("%s: %s", decision.verdict, decision.reason)
        return AsyncCheckResult(**decision_fields(decision), _client=self)
