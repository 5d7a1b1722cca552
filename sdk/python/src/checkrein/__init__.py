"""Asks Checkrein before an AI agent's action runs.

::

    from checkrein import Checkrein

    client = Checkrein()

    @client.guard
    def delete_users(ids): ...
"""

from .async_client import AsyncCheckrein
from .client import Checkrein
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
    RollbackConflictError,
    StatementError,
    UnreachableError,
)
from .management import Approvals, AsyncApprovals, AsyncGrants, AsyncPolicies, Grants, Policies
from .result import AsyncCheckResult, BlastRadius, CheckResult, Decision, Drift, MatchedPolicy
from .undo import AsyncExecutionResult, Execution, ExecutionResult, RollbackResult, Snapshot

__all__ = [
    "ApprovalRequiredError",
    "Approvals",
    "AsyncApprovals",
    "AsyncCheckResult",
    "AsyncCheckrein",
    "AsyncExecutionResult",
    "AsyncGrants",
    "AsyncPolicies",
    "AuthenticationError",
    "BadRequestError",
    "BlastRadius",
    "CheckResult",
    "Checkrein",
    "CheckreinError",
    "ConflictError",
    "Decision",
    "Drift",
    "Execution",
    "ExecutionResult",
    "Grants",
    "MatchedPolicy",
    "NotFoundError",
    "PermissionDeniedError",
    "Policies",
    "PolicyConflictError",
    "PolicyInvalidError",
    "PolicyViolationError",
    "RateLimitedError",
    "RollbackConflictError",
    "RollbackResult",
    "Snapshot",
    "StatementError",
    "UnreachableError",
]
