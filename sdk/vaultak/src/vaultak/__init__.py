"""Checkrein's Python SDK under the names of the article that it grew from.

New code imports ``checkrein``; this is the same, class for class.
"""

from checkrein import (
    ApprovalRequiredError,
    AsyncCheckrein,
    Checkrein,
    CheckreinError,
    CheckResult,
    PolicyConflictError,
    PolicyInvalidError,
    PolicyViolationError,
    RollbackConflictError,
    RollbackResult,
    Snapshot,
)

VaultakClient = Checkrein
AsyncVaultakClient = AsyncCheckrein

__all__ = [
    "ApprovalRequiredError",
    "AsyncVaultakClient",
    "CheckResult",
    "CheckreinError",
    "PolicyConflictError",
    "PolicyInvalidError",
    "PolicyViolationError",
    "RollbackConflictError",
    "RollbackResult",
    "Snapshot",
    "VaultakClient",
]
