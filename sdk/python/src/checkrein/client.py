"""The blocking client."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._client import EXECUTION_PATIENCE, BaseClient, Text, decision_fields, execution_fields, given, log
from ._guard import Guard
from ._protocol import execution_body
from ._transport import Transport
from .management import Approvals, Grants, Policies
from .result import CheckResult, Decision, Status
from .undo import ExecutionResult, RollbackResult, Snapshot

if TYPE_CHECKING:
    from .async_client import AsyncCheckrein

F = TypeVar("F")


class Checkrein(BaseClient):
    """Asks Checkrein, blocking. Threads may share one; it keeps connections open between calls."""

    def _open(self) -> None:
        self._transport = Transport(self._address)
        self._async_twin: AsyncCheckrein | None = None
        self.policies = Policies(self)
        self.approvals = Approvals(self)
        self.grants = Grants(self)

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
        where: Mapping[str, Any] | None = None,
        agent: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> CheckResult:
        """Ask whether an action may run, before it runs.

        Explicit form: ``action``, ``resource``, ``payload``; raw form: ``tool``, ``arguments``. Either may
        have ``statement`` with ``params`` (SQL), and ``record_ids`` or ``where`` (column to value), which
        Checkrein counts itself on a connected target. What is no JSON is described. ``traceparent`` (W3C
        Trace Context) says where the caller stands in its own trace; by default OpenTelemetry's current span.

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
            "where": where,
            "agent": agent,
            "session": session,
            "idempotency_key": idempotency_key,
            "traceparent": traceparent,
        }
        return self._check(self._body(fields))

    def execute(
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
    ) -> ExecutionResult:
        """Have Checkrein run SQL on a connected target: measured, judged, kept, then committed.

        In one transaction: what the database says it changed (cascades and triggers too) is what the
        policies see. Blocked or held: rolled back, and ``executed`` is False. ``statements`` instead of
        ``statement``: several, each a text or ``{"statement": …, "params": […]}``, all or none.

        Raises ``StatementError`` when the database refuses the SQL, and ``UnreachableError`` when nobody can
        tell whether it ran; asking again with the same ``idempotency_key`` then never runs it twice.
        ``timeout``: seconds that the database may take.
        """
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
        return self._execute(self._execution_body(target, fields), timeout)

    def snapshot(
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
        """Keep the records ``record_ids`` of ``resource`` as they are now, to put them back later.

        Or those that ``where`` (column to value) selects, or that ``statement`` would change. With
        ``action="delete"`` also those that would follow through foreign keys. Call ``seal`` once the action
        has run, so that a rollback can tell its work from somebody else's.
        """
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
        return self._transport.run(self._undo.take(self._snapshot_body(fields), timeout))

    def seal(self, snapshot_id: str | Snapshot, *, timeout: float = 600.0) -> Snapshot:
        """Record what the action left of the snapshot's records. Doing it again changes nothing."""
        return self._transport.run(self._undo.seal(snapshot_id, timeout))

    def rollback(
        self,
        snapshot_id: str | Snapshot,
        *,
        dry_run: bool = False,
        on_conflict: str = "refuse",
        plan_digest: str | None = None,
        timeout: float = 600.0,
    ) -> RollbackResult:
        """Put the records of a snapshot back, all or none; an operator's key is needed.

        ``dry_run`` only plans. Raises ``RollbackConflictError`` when somebody has changed records since, or
        the snapshot is not sealed; ``on_conflict`` ``"skip"`` leaves such records, ``"force"`` overwrites.
        With ``plan_digest``, the ``digest`` of a plan or of such an error that a person has looked at, it
        only takes place while the conflicts are those.
        """
        steps = self._undo.rollback(snapshot_id, dry_run, on_conflict, plan_digest, timeout)
        return self._transport.run(steps)

    def get_snapshot(self, snapshot_id: str | Snapshot) -> Snapshot:
        """One snapshot."""
        return self._transport.run(self._undo.get(snapshot_id))

    def list_snapshots(self, *, agent: str | None = None, target: str | None = None) -> list[Snapshot]:
        """Snapshots, newest first; an agent's key sees its own agent's."""
        return self._transport.run(self._undo.list({"agent": agent, "target": target}))

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
        where: Any = None,
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
            "where": where,
            "agent": agent,
            "session": session,
        }
        guard = Guard(self, given(fields), wait)
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

    def _execute(self, body: Mapping[str, Any], patience: float) -> ExecutionResult:
        done = self._transport.run(self._undo.execute(body, patience))
        return ExecutionResult(**execution_fields(done), _client=self, _body=body)

    def _run_when_approved(self, held: ExecutionResult, timeout: float) -> ExecutionResult:
        settled = self._transport.run(self._protocol.wait(held, timeout))
        if settled.allowed:
            again = {name: value for name, value in held._body.items() if name != "idempotency_key"}
            return self._execute(execution_body(again), EXECUTION_PATIENCE)
        return held if settled.held else dataclasses.replace(held, verdict="block", reason=settled.reason)

    def _wait(self, held: CheckResult, timeout: float, withdraw: bool) -> CheckResult:
        try:
            decision = self._transport.run(self._protocol.wait(held, timeout))
        except BaseException:
            # Interrupted: nobody waits any more.
            if withdraw:
                self._withdraw(held)
            raise
        if decision is held:
            return self._withdraw(held) if withdraw else held
        return self._result(decision)

    def _withdraw(self, held: CheckResult) -> CheckResult:
        try:
            settled = self._transport.run(self._protocol.withdraw(held.id))
        except Exception as failure:
            log.warning("%s could not be withdrawn: %s", held.id, failure)
            return held
        reason = str(settled.get("reason") or "withdrawn")
        return dataclasses.replace(held, verdict="block", reason=reason, raw=settled)

    def _report(self, result: CheckResult, status: Status, records: int | None, error: str | None) -> bool:
        steps = self._outcome(result, status, records, error)
        if steps is None:
            return False
        result._reported.append(status)
        try:
            self._transport.run(steps)
        except Exception as failure:
            log.warning("the outcome %s of %s is not on record: %s", status, result.id, failure)
            return False
        return True

    def _for_async(self) -> AsyncCheckrein:
        # Guarded async functions must not block their event loop.
        if self._async_twin is None:
            from .async_client import AsyncCheckrein

            self._async_twin = AsyncCheckrein(**self._settings)
        return self._async_twin

    def _result(self, decision: Decision) -> CheckResult:
        if decision.degraded:
            log.warning("%s: %s", decision.verdict, decision.reason)
        return CheckResult(**decision_fields(decision), _client=self)
