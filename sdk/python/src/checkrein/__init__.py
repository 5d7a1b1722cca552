"""Asks Checkrein before an AI agent's action runs.

::

    from checkrein import Checkrein

    client = Checkrein()

    @client.guard
    def delete_users(ids): ...
"""

from .client import AsyncCheckrein, Checkrein
from .errors import (
    ApprovalRequiredError,
    AuthenticationError,
    BadRequestError,
    CheckreinError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    PolicyConflictError,
    PolicyInvalidError,
    PolicyViolationError,
    RateLimitedError,
    UnreachableError,
)
from .management import Approvals, AsyncApprovals, AsyncPolicies, Policies
from .result import AsyncCheckResult, BlastRadius, CheckResult, Decision, MatchedPolicy

__all__ = [
    "ApprovalRequiredError",
    "Approvals",
    "AsyncApprovals",
    "AsyncCheckResult",
    "AsyncCheckrein",
    "AsyncPolicies",
    "AuthenticationError",
    "BadRequestError",
    "BlastRadius",
    "CheckResult",
    "Checkrein",
    "CheckreinError",
    "ConflictError",
    "Decision",
    "MatchedPolicy",
    "NotFoundError",
    "PermissionDeniedError",
    "Policies",
    "PolicyConflictError",
    "PolicyInvalidError",
    "PolicyViolationError",
    "RateLimitedError",
    "UnreachableError",
]
