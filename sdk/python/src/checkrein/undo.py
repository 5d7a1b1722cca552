"""What Checkrein runs, keeps and takes back: executions, snapshots, rollbacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .result import Decision

if TYPE_CHECKING:
    from .async_client import AsyncCheckrein
    from .client import Checkrein

Row = dict[str, Any]


@dataclass(frozen=True)
class Execution(Decision):
    """What became of a statement that Checkrein was asked to run. True exactly if it ran."""

    #: It ran and is committed. Never true for what is blocked or held.
    executed: bool = False
    #: Records that it changed, as the database measured them, cascades and triggers included.
    affected: int | None = None
    #: What the last statement that returned rows returned; ``None`` when the answer is a repeated one.
    rows: list[Row] | None = None
    #: The columns of ``rows``, in order.
    columns: tuple[str, ...] = ()
    #: Each statement's answer, where there were several.
    results: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return self.executed

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows or ())


@dataclass(frozen=True)
class ExecutionResult(Execution):
    """As `Execution`; a hold can be waited for."""

    _client: Checkrein | None = field(default=None, repr=False, compare=False)
    _body: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def wait(self, timeout: float = 300.0) -> ExecutionResult:
        """Wait up to ``timeout`` seconds for a person; once approved, run it.

        It is held again when the records that it would touch have changed since it was approved.
        """
        if not self.held or self._client is None or self.id is None:
            return self
        return self._client._run_when_approved(self, timeout)


@dataclass(frozen=True)
class AsyncExecutionResult(Execution):
    """As `ExecutionResult`, for async code."""

    _client: AsyncCheckrein | None = field(default=None, repr=False, compare=False)
    _body: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    async def wait(self, timeout: float = 300.0) -> AsyncExecutionResult:
        """As ``ExecutionResult.wait``."""
        if not self.held or self._client is None or self.id is None:
            return self
        return await self._client._run_when_approved(self, timeout)


@dataclass(frozen=True)
class Snapshot:
    """What Checkrein keeps of some records, so that they can be put back."""

    id: str
    #: The target's name.
    target: str
    #: What it was taken of.
    resource: str
    #: It holds what the action left, too: a rollback can tell the action's work from somebody else's.
    sealed: bool
    #: Records in it.
    records: int
    #: Records by resource, those that follow through foreign keys included.
    by_resource: tuple[tuple[str, int], ...] = ()
    #: Its size on disk.
    bytes: int | None = None
    #: ``live``, or ``removed`` by retention.
    state: str = "live"
    #: When it was taken, RFC 3339.
    created_at: str | None = None
    #: The check that it was taken for.
    check_id: str | None = None
    #: The whole answer, as the server sent it.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def snapshot_id(self) -> str:
        """The same as ``id``."""
        return self.id

    def __str__(self) -> str:
        return self.id

    def __getitem__(self, name: str) -> Any:
        return self.id if name == "snapshot_id" else self.raw[name]


@dataclass(frozen=True)
class RollbackResult:
    """What a rollback did, or would do."""

    #: ``done``, ``nothing`` (all is as it was) or ``planned`` (a dry run).
    status: str
    #: The snapshot that was rolled back.
    snapshot_id: str
    #: ``rbk_…``; absent for a dry run.
    id: str | None = None
    #: Records restored.
    restored: int = 0
    #: By resource: records to ``insert``, ``update``, ``delete``, ``keep``, and ``conflicts``.
    by_resource: tuple[Mapping[str, Any], ...] = ()
    #: Records that somebody changed since; each with ``before``, ``after`` and ``now``.
    conflicts: tuple[Mapping[str, Any], ...] = ()
    #: All of them; ``conflicts`` shows the first.
    conflict_count: int = 0
    #: Names all conflicts as they are, for ``plan_digest`` of the rollback itself.
    digest: str | None = None
    #: What else a person should know.
    notes: tuple[str, ...] = ()
    #: The snapshot that undoes this rollback.
    undo_snapshot_id: str | None = None
    #: The whole answer, as the server sent it.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
