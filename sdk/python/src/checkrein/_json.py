"""Python values as the strict JSON that the server takes.

What has no JSON form is described, never guessed, and without running code of its class: its ``repr`` could
be huge, raise, hold a secret or query a database. What two readers could understand differently (two keys
that become one, a value that contains itself) is refused, and so is not run.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import hashlib
import ipaddress
import json
import math
import numbers
import pathlib
import secrets
import uuid
from collections.abc import Mapping, Set
from typing import Any

from ._objects import class_name, is_importable, is_url, named_fields, parts
from .errors import BadRequestError

#: The server's limit on nesting, less the levels that the request puts around a value.
MAX_DEPTH = 60
#: The server's limit on a list of records.
MAX_ITEMS = 100_000
#: Objects within objects, and fields of all objects together, that are shown; those beyond are opaque.
MAX_OBJECT_DEPTH = 8
MAX_FIELDS = 10_000

_AS_TEXT = (
    decimal.Decimal,
    uuid.UUID,
    pathlib.PurePath,
    datetime.timedelta,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_AS_ISO = (datetime.datetime, datetime.date, datetime.time)
_EXACT_FLOAT = 2.0**53


class Opaques:
    """The names of what one call holds and nobody can see into.

    Each name is new, so that an approval for one such value never fits another. Within one call a value keeps
    its name, so that describing the call again after an approval gives the same.
    """

    def __init__(self) -> None:
        # The value is held as well: an id is only good for as long as the value lives.
        self._names: dict[int, tuple[Any, str]] = {}

    def name(self, value: Any) -> str:
        """``<module.Class #nonce>``."""
        if id(value) not in self._names:
            kind = value if issubclass(type(value), type) else type(value)
            self._names[id(value)] = value, f"<{class_name(kind)} #{secrets.token_hex(8)}>"
        return self._names[id(value)][1]


def jsonable(value: Any, opaques: Opaques | None = None) -> Any:
    """A copy of ``value`` that is JSON. Raises ``BadRequestError`` where there is no safe one."""
    return _Describing(opaques or Opaques()).json(value, 0)


class _Describing:
    def __init__(self, opaques: Opaques) -> None:
        self._opaques = opaques
        self._open: set[int] = set()
        self._fields = 0

    def json(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self._member(value, depth)
        if isinstance(value, str):
            return text(value)
        if isinstance(value, numbers.Real):
            return _number(value)
        if isinstance(value, _AS_ISO):
            return value.isoformat()
        if isinstance(value, _AS_TEXT) or is_url(value):
            return str(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            # With a digest, so that an approval is bound to these bytes and to no others.
            digest = hashlib.sha256(value).hexdigest()
            return f"<{type(value).__name__}: {memoryview(value).nbytes} bytes, sha256 {digest}>"
        if issubclass(type(value), type):
            return f"<{class_name(value)}>" if is_importable(value) else self._opaques.name(value)
        if isinstance(value, Mapping):
            _within(depth)
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, range, collections.deque, Set)) and not named_fields(value):
            _within(depth)
            return self._list(value, depth)
        return self._object(value, depth)

    def _member(self, member: enum.Enum, depth: int) -> Any:
        plain = member._value_
        if isinstance(plain, (str, numbers.Real)):
            return self.json(plain, depth + 1)
        return f"<{class_name(type(member))}.{member._name_}>"

    def _list(self, value: Any, depth: int) -> list[Any]:
        if len(value) > MAX_ITEMS:
            raise BadRequestError(
                f"a list has {len(value)} items, more than the {MAX_ITEMS} that a check takes; "
                "send its length as record_count"
            )
        items = [self.json(item, depth + 1) for item in value]
        # The order of a set is another in each process; what is the same is to look the same.
        return sorted(items, key=lambda i: json.dumps(i, sort_keys=True)) if isinstance(value, Set) else items

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key)
            if name in entries:
                raise BadRequestError(f"two keys of one object both become {name!r} in JSON")
            entries[name] = self.json(item, depth + 1)
        return entries

    def _key(self, key: Any) -> str:
        plain = self.json(key, MAX_DEPTH)
        return plain if isinstance(plain, str) else str(plain)

    def _object(self, value: Any, depth: int) -> Any:
        """The fields of an object and its class: equal fields of two classes may mean opposite things."""
        if id(value) in self._open or len(self._open) >= MAX_OBJECT_DEPTH or depth >= MAX_DEPTH:
            return self._opaques.name(value)
        self._open.add(id(value))
        try:
            found = parts(value)
            if found is None:
                return self._opaques.name(value)
            kind = f"<{class_name(type(value))}>"
            if not found.fields and not found.hidden:
                return kind
            self._fields += len(found.fields)
            if self._fields > MAX_FIELDS:
                return self._opaques.name(value)
            shown = self._mapping(found.fields, depth)
            return shown | {"__class__": self._opaques.name(value) if found.hidden else kind}
        except Exception:
            # What is in a field cannot be shown, and so neither can the object.
            return self._opaques.name(value)
        finally:
            self._open.discard(id(value))


def _within(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise BadRequestError(
            f"a value is nested deeper than {MAX_DEPTH} levels, or contains itself; "
            "send the part that describes the action"
        )


def _number(value: numbers.Real) -> int | float | str:
    if isinstance(value, numbers.Integral):  # also numpy's
        number = int(value)
        # A larger one would lose digits on the way.
        return number if -(2**63) <= number < 2**64 else str(number)
    if isinstance(value, numbers.Rational):
        return f"{int(value.numerator)}/{int(value.denominator)}"
    real = float(value)
    exact = math.isfinite(real) and not (real.is_integer() and abs(real) >= _EXACT_FLOAT)
    return real if exact else str(real)


def text(value: str) -> str:
    """``value`` without lone surrogates, which UTF-8 cannot carry; they are written out."""
    plain = str.__str__(value)
    return plain.encode("utf-8", "backslashreplace").decode("utf-8")
