"""What operators and admins do: policies, approvals and grants."""

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

    def sample(self, approval_id: str) -> dict[str, Any]:
        """Some of the records that the action would touch, as they are now: ``resources``.

        Each has ``resource``, ``columns`` and ``rows``, without secrets. That you looked goes on record.
        Raises ``ConflictError`` when nobody is asked any more.
        """
        steps = self._client._protocol.sample(approval_id)
        return self._client._transport.run(steps)

    def approve(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Let the action run. Raises ``ConflictError`` when it is already decided or expired."""
        steps = self._client._protocol.decide(approval_id, "approve", comment)
        return self._client._transport.run(steps)

    def deny(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Do not let the action run. Raises ``ConflictError`` as ``approve`` does."""
        steps = self._client._protocol.decide(approval_id, "deny", comment)
        return self._client._transport.run(steps)

    def comment(self, approval_id: str, text: str) -> dict[str, Any]:
        """Say something about it without answering it."""
        steps = self._client._protocol.comment(approval_id, text)
        return self._client._transport.run(steps)

    def link(self, approval_id: str, person: str, lasting: str | None = None) -> dict[str, Any]:
        """Make a link by which ``person`` can answer: ``path``, and ``url`` where the server knows its own.

        Whoever has it answers in that name: send it to them alone. ``lasting``: ``"1h"``; as long as the
        approval waits, at most and if absent.
        """
        steps = self._client._protocol.link(approval_id, person, lasting)
        return self._client._transport.run(steps)


class Grants:
    """A yes beforehand, for a while; an operator's key is needed."""

    def __init__(self, client: Checkrein) -> None:
        self._client = client

    def give(
        self,
        *,
        agent: str,
        action: str,
        resource: str,
        max_records: int,
        lasting: str,
        reason: str,
        max_uses: int | None = None,
        accept_declared: bool = False,
    ) -> dict[str, Any]:
        """Let one agent do this for a while (``lasting``: ``"1h"``), to ``max_records`` records in all.

        Recipients count where they are more. A number that only the agent states is not enough, unless
        ``accept_declared``. ``action`` and ``resource`` may hold ``*``.
        """
        fields = {
            "agent": agent,
            "action": action,
            "resource": resource,
            "max_records": max_records,
            "for": lasting,
            "reason": reason,
            "max_uses": max_uses,
            "accept_declared": accept_declared or None,
        }
        return self._client._transport.run(self._client._protocol.give_grant(fields))

    def list(self, agent: str | None = None, *, is_open: bool | None = None) -> list[dict[str, Any]]:
        """Grants, newest first; ``is_open``: only those that can still be used, or that cannot."""
        return self._client._transport.run(self._client._protocol.list_grants(agent, is_open))

    def get(self, grant_id: str) -> dict[str, Any]:
        """One grant, with what was used of it."""
        return self._client._transport.run(self._client._protocol.get_grant(grant_id))

    def revoke(self, grant_id: str) -> dict[str, Any]:
        """Take it back. Raises ``ConflictError`` when it is over already."""
        return self._client._transport.run(self._client._protocol.revoke_grant(grant_id))


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

    async def sample(self, approval_id: str) -> dict[str, Any]:
        """Some of the records that the action would touch, as they are now: ``resources``.

        Each has ``resource``, ``columns`` and ``rows``, without secrets. That you looked goes on record.
        Raises ``ConflictError`` when nobody is asked any more.
        """
        steps = self._client._protocol.sample(approval_id)
        return await self._client._transport.run(steps)

    async def approve(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Let the action run. Raises ``ConflictError`` when it is already decided or expired."""
        steps = self._client._protocol.decide(approval_id, "approve", comment)
        return await self._client._transport.run(steps)

    async def deny(self, approval_id: str, comment: str | None = None) -> dict[str, Any]:
        """Do not let the action run. Raises ``ConflictError`` as ``approve`` does."""
        steps = self._client._protocol.decide(approval_id, "deny", comment)
        return await self._client._transport.run(steps)

    async def comment(self, approval_id: str, text: str) -> dict[str, Any]:
        """Say something about it without answering it."""
        steps = self._client._protocol.comment(approval_id, text)
        return await self._client._transport.run(steps)

    async def link(self, approval_id: str, person: str, lasting: str | None = None) -> dict[str, Any]:
        """Make a link by which ``person`` can answer: ``path``, and ``url`` where the server knows its own.

        Whoever has it answers in that name: send it to them alone. ``lasting``: ``"1h"``; as long as the
        approval waits, at most and if absent.
        """
        steps = self._client._protocol.link(approval_id, person, lasting)
        return await self._client._transport.run(steps)


class AsyncGrants:
    """A yes beforehand, for a while; an operator's key is needed."""

    def __init__(self, client: AsyncCheckrein) -> None:
        self._client = client

    async def give(
        self,
        *,
        agent: str,
        action: str,
        resource: str,
        max_records: int,
        lasting: str,
        reason: str,
        max_uses: int | None = None,
        accept_declared: bool = False,
    ) -> dict[str, Any]:
        """Let one agent do this for a while (``lasting``: ``"1h"``), to ``max_records`` records in all.

        Recipients count where they are more. A number that only the agent states is not enough, unless
        ``accept_declared``. ``action`` and ``resource`` may hold ``*``.
        """
        fields = {
            "agent": agent,
            "action": action,
            "resource": resource,
            "max_records": max_records,
            "for": lasting,
            "reason": reason,
            "max_uses": max_uses,
            "accept_declared": accept_declared or None,
        }
        return await self._client._transport.run(self._client._protocol.give_grant(fields))

    async def list(self, agent: str | None = None, *, is_open: bool | None = None) -> list[dict[str, Any]]:
        """Grants, newest first; ``is_open``: only those that can still be used, or that cannot."""
        return await self._client._transport.run(self._client._protocol.list_grants(agent, is_open))

    async def get(self, grant_id: str) -> dict[str, Any]:
        """One grant, with what was used of it."""
        return await self._client._transport.run(self._client._protocol.get_grant(grant_id))

    async def revoke(self, grant_id: str) -> dict[str, Any]:
        """Take it back. Raises ``ConflictError`` when it is over already."""
        return await self._client._transport.run(self._client._protocol.revoke_grant(grant_id))
