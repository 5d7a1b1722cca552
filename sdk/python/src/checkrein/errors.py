"""What can go wrong, as exceptions. Whenever one is raised, the action has not run
(an `UnreachableError` of ``execute`` or ``rollback`` says when that is not known).

::

    CheckreinError
    ├── PolicyViolationError       the action may not run
    │   └── ApprovalRequiredError  … until a person approves it
    ├── UnreachableError           the server could not be asked, or its answer was no answer
    ├── RateLimitedError           429
    ├── AuthenticationError        401: no key, or one that the server does not know
    ├── PermissionDeniedError      403: the key may not do this
    ├── NotFoundError              404
    ├── ConflictError              409
    │   ├── PolicyConflictError    another policy has this name
    │   └── RollbackConflictError  somebody changed these records since; nothing was restored
    └── BadRequestError            any other 4xx: the request itself is wrong
        ├── PolicyInvalidError     422: the policy does not compile
        └── StatementError         422: the database refused the SQL

``check`` raises neither ``PolicyViolationError`` nor ``UnreachableError``: it answers with a result
that is blocked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Decision


class CheckreinError(Exception):
    """The base of everything that this package raises on purpose."""

    #: The HTTP status, where the server answered.
    status: int | None = None
    #: The stable ``type`` of the server's problem document.
    type: str | None = None
    #: The request's id, for the server's log.
    request_id: str | None = None
    #: The single problems that the server found, as it sent them.
    problems: Sequence[Mapping[str, Any]] = ()


class PolicyViolationError(CheckreinError):
    """The action may not run."""

    #: The decision, where there is one.
    result: Decision | None

    def __init__(self, reason: str = "", result: Decision | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = result


class ApprovalRequiredError(PolicyViolationError):
    """The action waits for a person's approval; ``result.approval_id`` names it."""


class UnreachableError(CheckreinError):
    """The server could not be asked, or what came back was not an answer of Checkrein."""


class RateLimitedError(CheckreinError):
    """The key has asked too often (429), and the retries were used up."""


class AuthenticationError(CheckreinError):
    """There is no key, or the server does not know it (401)."""


class PermissionDeniedError(CheckreinError):
    """The key may not do this (403)."""


class NotFoundError(CheckreinError):
    """There is no such thing (404)."""


class ConflictError(CheckreinError):
    """It does not fit what is there (409), e.g. an approval that is already decided."""


class PolicyConflictError(ConflictError):
    """Another policy has this name, with other content."""


class RollbackConflictError(ConflictError):
    """Somebody changed records since the action, or the snapshot was never sealed. Nothing was restored.

    Look at ``conflicts``, then roll back with ``on_conflict`` ``"skip"`` (leave these) or ``"force"``
    (overwrite), and with ``plan_digest`` set to ``digest``: it then concerns these conflicts and no others.
    """

    #: The first ones; each has ``resource``, ``key``, ``kind``, ``before``, ``after`` and ``now``.
    conflicts: Sequence[Mapping[str, Any]] = ()
    #: All of them.
    conflict_count: int = 0
    #: Names all of them as they are, for ``plan_digest``.
    digest: str | None = None


class BadRequestError(CheckreinError):
    """The request is wrong, and would be wrong again (400, 413, 422 and other 4xx)."""


class PolicyInvalidError(BadRequestError):
    """The policy does not compile (422); the message names every problem found."""


class StatementError(BadRequestError):
    """The database refused a statement of an execution (422). Nothing was changed."""
