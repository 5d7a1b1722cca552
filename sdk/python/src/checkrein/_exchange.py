"""One request and its retries, without I/O.

Everything that Checkrein is asked is written once, as a generator that yields what it wants done (`Send`,
`Sleep`) and is sent what came of it. `_transport` does the doing, blocking or not.
"""

from __future__ import annotations

import email.utils
import json
import math
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Answers that another try may better.
RETRIED = frozenset({429, 502, 503, 504})
#: The largest answer that is read, in bytes; of an execution, which returns rows.
MAX_ANSWER = 8 * 1024 * 1024
MAX_ROWS_ANSWER = 64 * 1024 * 1024
_MAX_PAUSE = 1.0


@dataclass(frozen=True)
class Request:
    """What is asked. ``path`` begins with a slash and is already quoted."""

    method: str
    path: str
    body: Any = None
    #: Seconds that the server has been asked to take before it answers.
    patience: float = 0.0
    #: Bytes that the answer may have.
    room: int = MAX_ANSWER
    #: Doing it twice is the same as doing it once.
    repeatable: bool = True


@dataclass(frozen=True)
class Send:
    """Send ``request``; all of it, to the last byte of the answer, within ``seconds``."""

    request: Request
    seconds: float


@dataclass(frozen=True)
class Sleep:
    """Do nothing for ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """An answer, whatever it says."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; ``None`` when it is not, `AMBIGUOUS` when readers may differ about it."""
        try:
            return json.loads(
                self.body.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
            )
        except _AmbiguousError:
            return AMBIGUOUS
        except (ValueError, RecursionError):
            return None


#: JSON with two values under one key or with a number that is none: whoever else reads it may read another.
AMBIGUOUS: Final = object()


class _AmbiguousError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _AmbiguousError
    return found


def _constant(_: str) -> float:
    raise _AmbiguousError


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _AmbiguousError
    return number


@dataclass(frozen=True)
class Failure:
    """No answer; ``cause`` says why, for a person."""

    cause: str


Step = Send | Sleep
Steps = Generator[Step, "Reply | Failure | None", T]


def exchange(
    request: Request, *, timeout: float, retries: int, budget: float | None = None
) -> Steps[Reply | Failure]:
    """Ask, and ask again where that may help; the last answer or failure.

    ``timeout`` seconds for a try, over and above the request's ``patience``. All tries and pauses together
    take at most ``budget`` seconds (default: ``timeout`` for each try).
    """
    one = timeout + request.patience
    ends = time.monotonic() + (one * (retries + 1) if budget is None else budget)
    attempt = 0
    while True:
        left = ends - time.monotonic()
        answer = yield Send(request, max(min(one, left), 0.001))
        assert isinstance(answer, (Reply, Failure))
        if isinstance(answer, Reply) and answer.status not in RETRIED:
            return answer
        pause = _pause(answer, attempt)
        if attempt >= retries or pause >= ends - time.monotonic():
            return answer
        attempt += 1
        yield Sleep(pause)


def _pause(answer: Reply | Failure, attempt: int) -> float:
    if isinstance(answer, Reply):
        asked = _retry_after(answer.headers.get("retry-after"))
        if asked is not None:
            return asked
    # Jitter, so that many clients of a server that comes back do not come at once.
    return random.uniform(0.5, 1.0) * min(0.1 * 2.0**attempt, _MAX_PAUSE)


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        if value.strip().isascii() and value.strip().isdigit():
            return float(value)
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
