"""Executions, snapshots and rollbacks: what is asked and how the answers are read, without I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from ._exchange import MAX_ROWS_ANSWER, Failure, Request, Steps
from ._json import jsonable
from ._protocol import Protocol, items, number, optional, read_decision, segment
from .errors import BadRequestError, UnreachableError
from .result import Decision
from .undo import Execution, RollbackResult, Snapshot

ON_CONFLICT: Final = ("refuse", "skip", "force")


class UndoProtocol:
    """What changes systems, keeps records of them and puts them back."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def execute(self, body: Mapping[str, Any], patience: float) -> Steps[Execution]:
        """Have statements run. Raises when nobody can tell whether they ran."""
        # The key makes a second try safe: what ran is not run again.
        request = Request("POST", "/v1/executions", body, patience=patience, room=MAX_ROWS_ANSWER)
        answer = yield from self._protocol.exchange(request)
        self._protocol.raise_for(answer)
        decision = read_decision(answer)
        if not isinstance(decision, Decision):
            raise UnreachableError(
                f"whether this ran is not known: {decision}. Ask again with idempotency_key="
                f"{body.get('idempotency_key')!r}: it does not run twice"
            )
        return _execution(decision)

    def take(self, body: Mapping[str, Any], patience: float) -> Steps[Snapshot]:
        """Take a snapshot."""
        request = Request("POST", "/v1/snapshots", body, patience=patience, repeatable=False)
        return self._snapshot((yield from self._protocol.object(request)))

    def get(self, snapshot: Any) -> Steps[Snapshot]:
        """One snapshot."""
        path = f"/v1/snapshots/{segment(snapshot_id(snapshot))}"
        return self._snapshot((yield from self._protocol.object(Request("GET", path))))

    def list(self, query: Mapping[str, str | None]) -> Steps[list[Snapshot]]:
        """Snapshots, newest first; page by page."""
        found: list[Snapshot] = []
        asked = {name: value for name, value in query.items() if value is not None}
        while True:
            path = "/v1/snapshots" + (f"?{urlencode(asked)}" if asked else "")
            page = yield from self._protocol.object(Request("GET", path))
            found += [self._snapshot(s) for s in self._protocol.in_(page, "snapshots")]
            cursor = page.get("next_cursor")
            if not isinstance(cursor, str) or cursor == asked.get("cursor"):
                return found
            asked["cursor"] = cursor

    def seal(self, snapshot: Any, patience: float) -> Steps[Snapshot]:
        """Record what the action left."""
        path = f"/v1/snapshots/{segment(snapshot_id(snapshot))}/seal"
        return self._snapshot(
            (yield from self._protocol.object(Request("POST", path, {}, patience=patience)))
        )

    def rollback(
        self, snapshot: Any, dry_run: bool, on_conflict: str, plan_digest: str | None, patience: float
    ) -> Steps[RollbackResult]:
        """Put the records of a snapshot back."""
        if on_conflict not in ON_CONFLICT:
            raise BadRequestError(f"on_conflict must be one of {ON_CONFLICT}, not {on_conflict!r}")
        path = f"/v1/snapshots/{segment(snapshot_id(snapshot))}/rollback"
        body: dict[str, Any] = {"dry_run": bool(dry_run), "on_conflict": on_conflict}
        if plan_digest is not None:
            body["plan_digest"] = jsonable(plan_digest)
        request = Request("POST", path, body, patience=patience, repeatable=bool(dry_run))
        answer = yield from self._protocol.exchange(request)
        if isinstance(answer, Failure) and not dry_run:
            raise UnreachableError(
                f"whether the rollback took place is not known ({answer.cause}); "
                f"`checkrein snapshot show {snapshot_id(snapshot)}` tells"
            )
        return _rollback(self._protocol.object_in(answer))

    def _snapshot(self, found: Mapping[str, Any]) -> Snapshot:
        if not isinstance(found.get("id"), str):
            raise UnreachableError("what answered is not Checkrein: a snapshot without an id")
        return Snapshot(
            id=found["id"],
            target=str(found.get("target", "")),
            resource=str(found.get("resource", "")),
            sealed=found.get("sealed") is True,
            records=number(found.get("records")) or 0,
            by_resource=tuple(
                (str(r.get("resource", "")), number(r.get("records")) or 0)
                for r in items(found.get("by_resource"))
            ),
            bytes=number(found.get("bytes")),
            state=str(found.get("state", "")),
            created_at=optional(found.get("created_at")),
            check_id=optional(found.get("check_id")),
            raw=found,
        )


def snapshot_id(snapshot: Any) -> str:
    """The id of what a caller gave for a snapshot: an id, a snapshot, or its JSON."""
    found = snapshot
    if isinstance(snapshot, Snapshot):
        found = snapshot.id
    elif isinstance(snapshot, Decision):
        found = snapshot.snapshot_id
    elif isinstance(snapshot, Mapping):
        found = snapshot.get("id") or snapshot.get("snapshot_id")
    if not isinstance(found, str) or not found:
        raise BadRequestError(f"{found!r} is not the id of a snapshot; it looks like snp_…")
    return found


def _execution(decision: Decision) -> Execution:
    told = decision.raw
    # What is not allowed did not run, whatever else an answer says.
    executed = decision.allowed and told.get("executed") is True
    rows = told.get("rows")
    columns = told.get("columns")
    # Not `asdict`, which would take the parts apart too.
    fields = {f.name: getattr(decision, f.name) for f in dataclasses.fields(Decision)}
    return Execution(
        **fields,
        executed=executed,
        affected=number(told.get("affected")) if executed else None,
        rows=[r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else None,
        columns=tuple(str(c) for c in columns) if isinstance(columns, list) else (),
        results=tuple(items(told.get("results"))),
    )


def _rollback(found: Mapping[str, Any]) -> RollbackResult:
    plan = found.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    notes = plan.get("notes")
    status = found.get("status")
    if not isinstance(status, str):
        raise UnreachableError("what answered is not Checkrein: a rollback without a status")
    return RollbackResult(
        status=status,
        snapshot_id=str(found.get("snapshot_id", "")),
        id=optional(found.get("id")),
        restored=number(found.get("restored")) or 0,
        by_resource=tuple(items(plan.get("by_resource"))),
        conflicts=tuple(items(plan.get("conflicts"))),
        conflict_count=number(plan.get("conflict_count")) or 0,
        digest=optional(plan.get("digest")),
        notes=tuple(str(n) for n in notes) if isinstance(notes, list) else (),
        undo_snapshot_id=optional(found.get("undo_snapshot_id")),
        raw=found,
    )
