"""What operators and admins do: policies and approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ._exchange import Steps
from ._protocol import policy_error
from .errors import CheckreinError

if TYPE_CHECKING:
    from .async_client import AsyncCheckrein
    from .client import Checkrein

T = TypeVar("T")


class Policies:
    """The policies; an admin's key is needed to change them."""

    def __init__(self, client: Checkrein) -> None:
        self._client = client

    def create(self, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Create a policy. The same one again is no error; another under its name is.

        Raises ``PolicyConflictError``, or ``PolicyInvalidError`` with every problem found.
        """
        return self._run(self._client._protocol.create_policy(policy))

    def apply(self, policies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Put these in the place of all policies that came through the API: all of them, or none."""
        return self._run(self._client._protocol.apply_policies(policies))

    def list(self) -> list[dict[str, Any]]:
        """All policies."""
        return self._run(self._client._protocol.list_policies())

    def get(self, name: str) -> dict[str, Any]:
        """The policy of this name. Raises ``NotFoundError``."""
        return self._run(self._client._protocol.get_policy(name))

    def delete(self, name: str) -> None:
        """Remove the policy of this name. Raises ``NotFoundError``."""
        self._run(self._client._protocol.delete_policy(name))

    def _run(self, steps: Steps[T]) -> T:
        try:
            return self._client._transport.run(steps)
        except CheckreinError as error:
            raise policy_error(error) from None


class Approvals:
    """Answers to holds; an operator's key is needed."""

    def __init__(self, client: Checkrein) -> None:
        self._client = client

    def list(self, state: str | None = None) -> list[dict[str, Any]]:
        """Approvals; ``state``: pending, approved, denied, expired or withdrawn."""
        steps = self._client._protocol.list_approvals(state)
        return self._client._transport.run(steps)

    def get(self, approval_id: str) -> dict[str, Any]:
        """One approval, with the action that it is for."""
        steps = self._client._protocol.get_approval(approval_id)
        return self._client._transport.run(steps)

    def approve(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Let the action run. Raises ``ConflictError`` when it is already decided or expired."""
        steps = self._client._protocol.decide(approval_id, "approve", comment)
        return self._client._transport.run(steps)

    def deny(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Do not let the action run. Raises ``ConflictError`` as ``approve`` does."""
        steps = self._client._protocol.decide(approval_id, "deny", comment)
        return self._client._transport.run(steps)


class AsyncPolicies:
    """The policies; an admin's key is needed to change them."""

    def __init__(self, client: AsyncCheckrein) -> None:
        self._client = client

    async def create(self, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Create a policy. The same one again is no error; another under its name is.

        Raises ``PolicyConflictError``, or ``PolicyInvalidError`` with every problem found.
        """
        return await self._run(self._client._protocol.create_policy(policy))

    async def apply(self, policies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Put these in the place of all policies that came through the API: all of them, or none."""
        return await self._run(self._client._protocol.apply_policies(policies))

    async def list(self) -> list[dict[str, Any]]:
        """All policies."""
        return await self._run(self._client._protocol.list_policies())

    async def get(self, name: str) -> dict[str, Any]:
        """The policy of this name. Raises ``NotFoundError``."""
        return await self._run(self._client._protocol.get_policy(name))

    async def delete(self, name: str) -> None:
        """Remove the policy of this name. Raises ``NotFoundError``."""
        await self._run(self._client._protocol.delete_policy(name))

    async def _run(self, steps: Steps[T]) -> T:
        try:
            return await self._client._transport.run(steps)
        except CheckreinError as error:
            raise policy_error(error) from None


class AsyncApprovals:
    """Answers to holds; an operator's key is needed."""

    def __init__(self, client: AsyncCheckrein) -> None:
        self._client = client

    async def list(self, state: str | None = None) -> list[dict[str, Any]]:
        """Approvals; ``state``: pending, approved, denied, expired or withdrawn."""
        steps = self._client._protocol.list_approvals(state)
        return await self._client._transport.run(steps)

    async def get(self, approval_id: str) -> dict[str, Any]:
        """One approval, with the action that it is for."""
        steps = self._client._protocol.get_approval(approval_id)
        return await self._client._transport.run(steps)

    async def approve(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Let the action run. Raises ``ConflictError`` when it is already decided or expired."""
        steps = self._client._protocol.decide(approval_id, "approve", comment)
        return await self._client._transport.run(steps)

    async def deny(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Do not let the action run. Raises ``ConflictError`` as ``approve`` does."""
        steps = self._client._protocol.decide(approval_id, "deny", comment)
        return await self._client._transport.run(steps)
