"""Python values as the strict JSON that the server takes.

What has no JSON form is described, never guessed: the class's name stands for an object whose ``repr``
could be huge, raise, hold a secret or query a database. What two readers could understand differently (two
keys that become one, a value that contains itself) is refused, and so is not run.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import hashlib
import math
import numbers
import pathlib
import uuid
from collections.abc import Mapping, Set
from typing import Any

from .errors import BadRequestError

#: The server's limit on nesting, less the levels that the request puts around a value.
MAX_DEPTH = 60
#: The server's limit on a list of records.
MAX_ITEMS = 100_000

_AS_TEXT = (decimal.Decimal, uuid.UUID, pathlib.PurePath, datetime.timedelta)
_AS_ISO = (datetime.datetime, datetime.date, datetime.time)
_EXACT_FLOAT = 2.0**53


def jsonable(value: Any, depth: int = 0) -> Any:
    """A copy of ``value`` that is JSON. Raises ``BadRequestError`` where there is no safe one."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return jsonable(value.value, depth + 1)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, numbers.Integral):  # also numpy's
        number = int(value)
        # A larger one would lose digits on the way.
        return number if -(2**63) <= number < 2**64 else str(number)
    if isinstance(value, numbers.Real):
        real = float(value)
        exact = math.isfinite(real) and not (real.is_integer() and abs(real) >= _EXACT_FLOAT)
        return real if exact else str(real)
    if depth >= MAX_DEPTH:
        raise BadRequestError(
            f"a value is nested deeper than {MAX_DEPTH} levels, or contains itself; "
            "send the part that describes the action"
        )
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, (bytes, bytearray, memoryview)):
        # With a digest, so that an approval is bound to these bytes and to no others.
        digest = hashlib.sha256(value).hexdigest()
        return f"<{type(value).__name__}: {memoryview(value).nbytes} bytes, sha256 {digest}>"
    if isinstance(value, (list, tuple, range, collections.deque, Set)):
        if len(value) > MAX_ITEMS:
            raise BadRequestError(
                f"a list has {len(value)} items, more than the {MAX_ITEMS} that a check takes; "
                "send its length as record_count"
            )
        return [jsonable(item, depth + 1) for item in value]
    if isinstance(value, _AS_ISO):
        return value.isoformat()
    if isinstance(value, _AS_TEXT):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: jsonable(getattr(value, f.name, None), depth + 1) for f in fields}
    kind = value if isinstance(value, type) else type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key)
        if name in entries:
            raise BadRequestError(f"two keys of one object both become {name!r} in JSON")
        entries[name] = jsonable(item, depth + 1)
    return entries


def _key(key: Any) -> str:
    plain = jsonable(key, MAX_DEPTH)
    return plain if isinstance(plain, str) else str(plain)


def text(value: str) -> str:
    """``value`` without lone surrogates, which UTF-8 cannot carry; they are written out."""
    plain = str.__str__(value)
    return plain.encode("utf-8", "backslashreplace").decode("utf-8")
