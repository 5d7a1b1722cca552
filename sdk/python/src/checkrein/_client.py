"""What both clients have: settings, and the bodies of what they ask."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from ._exchange import Steps
from ._guard import Fields
from ._json import Opaques
from ._protocol import (
    ON_UNREACHABLE,
    STATUSES,
    OnUnreachable,
    Protocol,
    check_body,
    execution_body,
    given_body,
)
from ._transport import Address
from ._undo_protocol import UndoProtocol
from .result import Decision, Status
from .undo import Execution

#: In a guard: a text, or a function of the guarded function's arguments that gives one.
Text = str | Callable[..., str | None] | None

DEFAULT_URL: Final = "http://127.0.0.1:7070"
#: Seconds that the database may take for an execution that was approved.
EXECUTION_PATIENCE: Final = 60.0
log = logging.getLogger("checkrein")


class BaseClient:
    """What both clients have: settings, and the body of a check."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        timeout: float = 2.0,
        on_unreachable: OnUnreachable = "block",
        retries: int = 2,
    ) -> None:
        """Set up a client; nothing is sent yet.

        ``url``, ``api_key`` and ``agent`` default to the environment's CHECKREIN_URL,
        CHECKREIN_API_KEY and CHECKREIN_AGENT. ``timeout``: seconds for one try; ``retries``: tries after the
        first, all with one idempotency key. ``on_unreachable``: what a check answers when the server cannot
        be asked: ``"block"``, ``"allow_reads"`` or ``"allow"``.
        """
        if on_unreachable not in ON_UNREACHABLE:
            raise ValueError(f"on_unreachable must be one of {ON_UNREACHABLE}, not {on_unreachable!r}")
        if not 0 < timeout <= 60:
            raise ValueError(f"timeout must be over 0 and at most 60 seconds, not {timeout!r}")
        if not 0 <= retries <= 10:
            raise ValueError(f"retries must be 0 to 10, not {retries!r}")
        self.url = url or os.environ.get("CHECKREIN_URL") or DEFAULT_URL
        self.agent = agent or os.environ.get("CHECKREIN_AGENT") or None
        self.session = session
        key = api_key or os.environ.get("CHECKREIN_API_KEY")
        self._settings: dict[str, Any] = {
            "url": self.url,
            "api_key": key,
            "agent": self.agent,
            "session": session,
            "timeout": timeout,
            "on_unreachable": on_unreachable,
            "retries": retries,
        }
        self._address = Address(self.url, key, timeout)
        self._protocol = Protocol(self.url, timeout=timeout, retries=retries, on_unreachable=on_unreachable)
        self._undo = UndoProtocol(self._protocol)
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r}, agent={self.agent!r})"

    def _outcome(
        self, result: Decision, status: Status, records: int | None, error: str | None
    ) -> Steps[None] | None:
        if status not in STATUSES:
            raise ValueError(f"an outcome is one of {STATUSES}, not {status!r}")
        # What was never asked about cannot be reported on.
        if result.id is None:
            return None
        return self._protocol.outcome(result.id, status, records, error)

    def _body(self, fields: Fields, opaques: Opaques | None = None) -> dict[str, Any]:
        return check_body(self._whoever() | given(fields), opaques)

    def _whoever(self) -> dict[str, Any]:
        return {"agent": self.agent, "session": self.session}

    def _execution_body(self, target: str, fields: Fields) -> dict[str, Any]:
        return execution_body({"target": target} | self._whoever() | given(fields))

    def _snapshot_body(self, fields: Fields) -> dict[str, Any]:
        return given_body(self._whoever() | given(fields))


def given(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def decision_fields(decision: Decision) -> dict[str, Any]:
    # Not `asdict`, which would take the parts apart too.
    return {f.name: getattr(decision, f.name) for f in dataclasses.fields(Decision)}


def execution_fields(execution: Execution) -> dict[str, Any]:
    return {f.name: getattr(execution, f.name) for f in dataclasses.fields(Execution)}
