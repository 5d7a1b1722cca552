"""The answer to a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .errors import ApprovalRequiredError, PolicyViolationError

if TYPE_CHECKING:
    from .async_client import AsyncCheckrein
    from .client import Checkrein

Verdict = Literal["allow", "hold", "block"]
Status = Literal["ok", "error", "unknown"]


@dataclass(frozen=True)
class MatchedPolicy:
    """A policy that matched."""

    name: str
    #: ``block``, ``require_approval``, ``alert`` or ``allow``.
    rule: str
    #: ``enforce`` or ``shadow`` (reported, without effect).
    mode: str
    #: Why it matched, for a person.
    reason: str
    #: The ``allow`` policy that took its effect away.
    exempted_by: str | None = None


@dataclass(frozen=True)
class BlastRadius:
    """How much the action affects. ``None``: nobody can know, which counts as too many."""

    records: int | None
    systems: int | None
    recipients: int | None
    #: ``declared``, ``counted`` or ``measured``.
    basis: str
    #: The number of records that the caller stated, if it stated one.
    declared: int | None
    #: Records by resource, largest first.
    by_resource: tuple[tuple[str, int | None], ...] = ()
    #: The caller stated far fewer records than were counted.
    understated: bool = False
    #: ``declared`` is the number of ids that were given: it says nothing about what follows from them.
    declared_ids: bool = False


@dataclass(frozen=True)
class Drift:
    """How far the action departs from what its agent normally does."""

    #: How rare this is, in powers of ten: 5 to 12.
    score: float
    #: ``notice``, ``warning`` or ``critical``.
    severity: str
    #: ``rate``, ``burst``, ``loop``, ``novelty``, ``sequence``, ``mix``, ``records`` or ``errors``.
    channel: str
    #: One sentence for a person.
    reason: str
    #: What is normal: a count, or a share for ``mix`` and ``errors``.
    expected: float
    #: What was seen instead, in the same unit.
    seen: float
    #: Where it is seen of all agents of a key together: the pattern that the key stands for.
    agents: str | None = None


@dataclass(frozen=True)
class Decision:
    """Whether the action may run, and why. True exactly if it may."""

    verdict: Verdict
    #: One sentence for a person: why, and what to do next.
    reason: str
    #: ``chk_…``; ``None`` when the server could not be asked.
    id: str | None = None
    #: Every policy that matched, those that decided first.
    policies: tuple[MatchedPolicy, ...] = ()
    #: ``read``, ``write``, ``delete``, ``outbound``, ``execute`` or ``admin``.
    category: str | None = None
    #: ``production``, ``staging`` or ``sandbox``.
    environment: str | None = None
    blast_radius: BlastRadius | None = None
    #: The departure from what is normal, if it is one that somebody should know of.
    drift: Drift | None = None
    #: ``closed``, ``open`` or ``half_open``: the breaker that concerns the agent; ``None`` when the server
    #: could not be asked.
    breaker: str | None = None
    #: ``apr_…``: the approval that a hold waits for.
    approval_id: str | None = None
    #: ``snp_…``: what Checkrein kept of the records, so that they can be rolled back.
    snapshot_id: str | None = None
    #: ``chk_…``: the other check that used the approval of this hold. That one was let through; this one must
    #: not run.
    used_by: str | None = None
    #: When it was put on record, RFC 3339.
    logged_at: str | None = None
    #: The server could not be asked or not be understood; ``on_unreachable`` decided.
    degraded: bool = False
    #: The whole answer, as the server sent it.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def allowed(self) -> bool:
        """The action may run."""
        return self.verdict == "allow"

    @property
    def blocked(self) -> bool:
        """The action must not run, now: it is blocked or held."""
        return self.verdict != "allow"

    @property
    def held(self) -> bool:
        """The action waits for a person's approval; see ``wait``."""
        return self.verdict == "hold"

    def __bool__(self) -> bool:
        # So that `if client.check(…): run()` does not run what is blocked.
        return self.allowed

    def raise_if_blocked(self) -> None:
        """Raise ``ApprovalRequiredError`` for a hold, ``PolicyViolationError`` for a block."""
        if self.held:
            raise ApprovalRequiredError(self.reason, self)
        if self.blocked:
            raise PolicyViolationError(self.reason, self)


@dataclass(frozen=True)
class CheckResult(Decision):
    """A decision that can be waited for and reported on."""

    _client: Checkrein | None = field(default=None, repr=False, compare=False)
    _reported: list[Status] = field(default_factory=list, repr=False, compare=False)

    def wait(self, timeout: float = 300.0, *, withdraw: bool = False) -> CheckResult:
        """Wait up to ``timeout`` seconds for a person to settle a hold.

        Answers with the decision as it then stands: allowed once approved, blocked once denied or expired,
        still held (and so still ``blocked``) when nobody answered or the server went away.

        With ``withdraw`` the request for approval is taken back when time is up or the wait is interrupted,
        so that nobody answers what nobody waits for. It is not by default: a hold that was not answered can
        be waited for again, also by another process that asks for the same action.
        """
        if not self.held or self._client is None or self.id is None:
            return self
        return self._client._wait(self, timeout, withdraw)

    def outcome(self, status: Status, records: int | None = None, error: str | None = None) -> bool:
        """Report what became of the action; ``records``: how many were really affected.

        The action is over, so this does not raise when the report cannot be delivered: it logs a warning
        and returns False.
        """
        if self._client is None:
            return False
        return self._client._report(self, status, records, error)


@dataclass(frozen=True)
class AsyncCheckResult(Decision):
    """A decision that can be waited for and reported on, for async code."""

    _client: AsyncCheckrein | None = field(default=None, repr=False, compare=False)
    _reported: list[Status] = field(default_factory=list, repr=False, compare=False)

    async def wait(self, timeout: float = 300.0, *, withdraw: bool = False) -> AsyncCheckResult:
        """As ``CheckResult.wait``; interrupted is cancelled, here."""
        if not self.held or self._client is None or self.id is None:
            return self
        return await self._client._wait(self, timeout, withdraw)

    async def outcome(self, status: Status, records: int | None = None, error: str | None = None) -> bool:
        """As ``CheckResult.outcome``."""
        if self._client is None:
            return False
        return await self._client._report(self, status, records, error)
