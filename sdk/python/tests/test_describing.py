"""What the server is told about values: two different requests never look alike."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import io
import ipaddress
import pathlib
import random
import re
import struct
import threading
import types
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest
import scripted
from conftest import make_async
from scripted import HOLD, Server

from checkrein import BadRequestError, Checkrein, PolicyViolationError
from checkrein._json import MAX_FIELDS, MAX_OBJECT_DEPTH, Opaques, jsonable

APPROVED = scripted.decision(reason="approved by ada")
HERE = "test_describing"


def refuse(*_: Any) -> Any:
    raise AssertionError("no code of the class may run")


class Colour(enum.Enum):
    RED = "red"
    ODD = (1, 2)


class Secret:
    __repr__ = __str__ = __eq__ = __reduce__ = __getstate__ = refuse  # type: ignore[assignment]


@dataclasses.dataclass
class Point:
    x: int
    secret: Any


@dataclasses.dataclass(frozen=True)
class Hidden:
    x: int
    _y: int = dataclasses.field(default=0, repr=False, compare=False)
    kind: str = dataclasses.field(default="drop", init=False)
    more: dataclasses.InitVar[Any] = None

    def __post_init__(self, more: Any) -> None:
        if more is not None:
            object.__setattr__(self, "_more", more)


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: int


@attrs.define
class Row:
    table: str
    _token: str = attrs.field(repr=False, default="t")


@attrs.define(slots=False)
class LooseRow:
    table: str


class Show(NamedTuple):
    table: str


class Drop(NamedTuple):
    table: str


class Plain:
    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


class OtherPlain(Plain):
    pass


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a


class PrivateSlots:
    __slots__ = ("__x", "a")

    def __init__(self, x: Any) -> None:
        self.__x = x
        self.a = 1


class Same(Slots):
    """Keeps two values under one name."""

    __slots__ = ("a",)

    def __init__(self, hidden: Any) -> None:
        Slots.a.__set__(self, hidden)  # type: ignore[attr-defined]
        self.a = 1


class Lookup:
    """Answers something else than it keeps."""

    def __init__(self) -> None:
        self.a = 1

    def __getattribute__(self, name: str) -> Any:
        return Lookup if name == "__class__" else refuse()  # `isinstance` asks for that


class Collection:
    def __init__(self) -> None:
        self.a = 1

    __iter__ = __len__ = refuse


class Buffer(io.BytesIO):
    pass


class Broken(Exception):
    def __init__(self, a: int) -> None:
        self.a = a


class User(pydantic.BaseModel):
    name: str
    age: int | None = None


class Admin(User):
    level: int = 1


class Team(pydantic.BaseModel):
    lead: User
    key: pydantic.SecretStr | None = None
    excluded: int = pydantic.Field(default=0, exclude=True)
    site: pydantic.HttpUrl | None = None

    @pydantic.field_serializer("excluded", "lead", "key")
    def _never(self, _: Any) -> Any:
        return refuse()


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Keeps(pydantic.BaseModel):
    a: int
    _private: int = pydantic.PrivateAttr(default=0)

    def __init__(self, a: int, private: int) -> None:
        super().__init__(a=a)
        self._private = private


def of(name: str) -> str:
    return f"<{HERE}.{name}>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**70), str(-(2**70))),
        (1.5, 1.5),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (fractions.Fraction(1, 3), "1/3"),
        ("a\ud800b", "a\\ud800b"),
        (Colour.RED, "red"),
        (Colour.ODD, of("Colour.ODD")),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2026, 11, 22), "2026-11-22"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (b"secret", f"<bytes: 6 bytes, sha256 {hashlib.sha256(b'secret').hexdigest()}>"),
        (b"secres", f"<bytes: 6 bytes, sha256 {hashlib.sha256(b'secres').hexdigest()}>"),
        ((1, {2}), [1, [2]]),
        ({"b", "a", "d", "c"}, ["a", "b", "c", "d"]),
        (range(3), [0, 1, 2]),
        (collections.deque([1]), [1]),
        ({1: "a", None: "b", Colour.RED: "c"}, {"1": "a", "None": "b", "red": "c"}),
        (types.MappingProxyType({"a": Secret()}), {"a": of("Secret")}),
        (Point(1, Secret()), {"x": 1, "secret": of("Secret"), "__class__": of("Point")}),
        (Hidden(1, 2), {"x": 1, "_y": 2, "kind": "drop", "__class__": of("Hidden")}),
        (Slotted(1), {"x": 1, "__class__": of("Slotted")}),
        (Row("t", "s"), {"table": "t", "_token": "s", "__class__": of("Row")}),
        (LooseRow("t"), {"table": "t", "__class__": of("LooseRow")}),
        (Show("t"), {"table": "t", "__class__": of("Show")}),
        (Plain(a=1, b=[Plain()]), {"a": 1, "b": [of("Plain")], "__class__": of("Plain")}),
        (Slots(1), {"a": 1, "__class__": of("Slots")}),
        (
            User(name="a"),
            {"name": "a", "age": None, "__class__": of("User"), "__fields_set__": ["name"]},
        ),
        (User(name="a", age=None), {"name": "a", "age": None, "__class__": of("User")}),
        (Open(a=1, b=2), {"a": 1, "b": 2, "__class__": of("Open")}),
        (pydantic.HttpUrl("https://a.example/b"), "https://a.example/b"),
        (Secret, of("Secret")),
        (int, "<builtins.int>"),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected
    assert type(jsonable(value)) is type(expected)


def test_values_that_two_readers_could_understand_differently_are_refused() -> None:
    nested: Any = 1
    for _ in range(70):
        nested = [nested]
    for value in ({1: "a", "1": "b"}, nested, range(10**12)):
        with pytest.raises(BadRequestError):
            jsonable(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (User(name="a"), User(name="b")),
        (User(name="a"), User(name="a", age=None)),
        (User(name="a", age=1), Admin(name="a", age=1)),
        (Team(lead=Admin(name="a", level=1)), Team(lead=Admin(name="a", level=2))),
        (Team(lead=User(name="a"), excluded=1), Team(lead=User(name="a"), excluded=2)),
        (Team(lead=User(name="a"), key="k1"), Team(lead=User(name="a"), key="k2")),
        (Team(lead=User(name="a"), site="http://a.x"), Team(lead=User(name="a"), site="http://b.x")),
        (Open(a=1, b=1), Open(a=1, b=2)),
        (Keeps(1, 1), Keeps(1, 2)),
        (Hidden(1, 1), Hidden(1, 2)),
        (Hidden(1, more=1), Hidden(1, more=2)),
        (Row("t", "a"), Row("t", "b")),
        (Show("t"), Drop("t")),
        (Plain(a=1), Plain(a=2)),
        (Plain(a=1), OtherPlain(a=1)),
        (Plain(_a=1), Plain(_a=2)),
        (Slots(1), Slots(2)),
        (PrivateSlots(1), PrivateSlots(2)),
        (Same(1), Same(2)),
        (Buffer(b"a"), Buffer(b"b")),
        (Broken(1), Broken(1)),
        (re.compile("a"), re.compile("b")),
        # What C code keeps, in classes that look like Python's own.
        (struct.Struct("i"), struct.Struct("q")),
        (random.Random(1), random.Random(2)),
        (functools.partial(int, "1"), functools.partial(int, "2")),
        (lambda: 1, lambda: 2),
        ((i for i in [1]), (i for i in [2])),
        (object(), object()),
        (threading.local(), threading.local()),
        (Collection(), Collection()),
        (Lookup(), Lookup()),
        (type("Local", (), {}), type("Local", (), {})),
        ({object(): 1}, {object(): 1}),
        (fractions.Fraction(1, 3), fractions.Fraction(10**20, 3 * 10**20 + 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_two_different_objects_look_different(one: Any, other: Any) -> None:
    opaques = Opaques()
    assert jsonable(one, opaques) != jsonable(other, opaques)
    assert jsonable(one) != jsonable(other)


OPAQUE: list[Callable[[], Any]] = [
    object,
    Collection,
    Lookup,
    lambda: Buffer(b"a"),
    lambda: Plain(_a=1),
    lambda: PrivateSlots(1),
    lambda: Same(1),
    lambda: Broken(1),
    lambda: pydantic.SecretStr("hunter2"),
    lambda: refuse,
]


@pytest.mark.parametrize("make", OPAQUE)
def test_what_is_opaque_has_a_name_of_its_own_for_each_call(make: Callable[[], Any]) -> None:
    value = make()
    shown = jsonable(value)
    # In the form that the server takes for a value that nobody can see into.
    assert re.fullmatch(r"<[A-Za-z_][\w.]+ #[0-9a-f]{16}>", shown)
    assert "hunter2" not in shown
    assert jsonable(value) != shown, "another call"
    opaques = Opaques()
    assert jsonable([value, value], opaques) == [jsonable(value, opaques)] * 2, "the same call"


@pytest.mark.parametrize("value", [Hidden(1, more=1), Keeps(1, 1)])
def test_what_is_partly_opaque_shows_the_rest(value: Any) -> None:
    shown = jsonable(value)
    name = type(value).__name__
    assert re.fullmatch(rf"<{HERE}\.{name} #[0-9a-f]{{16}}>", shown["__class__"])
    assert 1 in (shown.get("x"), shown.get("a"))


def test_cycles_and_size_of_objects_are_bounded() -> None:
    parent = Plain(name="p")
    parent.child = Plain(parent=parent)  # type: ignore[attr-defined]
    shown = jsonable(parent)
    assert shown["name"] == "p"
    assert shown["child"]["parent"].startswith(f"<{HERE}.Plain #")
    chain: Any = Plain()
    for _ in range(200):
        chain = Plain(next=chain)
    shown, depth = jsonable(chain), 0
    while isinstance(shown, dict):
        shown, depth = shown["next"], depth + 1
    assert depth == MAX_OBJECT_DEPTH
    assert " #" in shown
    assert " #" in jsonable(Plain(**{f"f{i}": i for i in range(MAX_FIELDS + 1)}))
    assert " #" in jsonable(Plain(items=range(10**12))), "what a field may not hold makes the object opaque"
    shared: Any = Plain(a=1)
    for _ in range(7):
        shared = Plain(**{f"f{i}": shared for i in range(10)})
    assert len(str(jsonable(shared))) < 100 * MAX_FIELDS


@pytest.mark.skipif("sys.version_info >= (3, 14)", reason="pydantic.v1 does not support it")
def test_models_of_pydantic_1() -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        a: int
        b: int = 0
        _p: int = v1.PrivateAttr(default=0)

        def dict(self, **_: Any) -> Any:
            return refuse()

    class Older(v1.BaseModel):
        a: int
        b: int = 0

    assert jsonable(Older(a=1))["__fields_set__"] == ["a"]
    assert jsonable(Older(a=1, b=2)).items() >= {"a": 1, "b": 2}.items()
    assert " #" not in str(jsonable(Older(a=1)))
    assert jsonable(Older(a=1)) != jsonable(Older(a=2))
    one, other = Old(a=1), Old(a=1)
    other._p = 7
    assert jsonable(one) != jsonable(other)


@pytest.mark.parametrize("value", [object(), Keeps(1, 1), User(name="a"), {"x": [Plain(_p=1)]}])
def test_an_approved_call_is_still_the_same_call(server: Server, client: Checkrein, value: Any) -> None:
    server.will(HOLD, APPROVED, HOLD, APPROVED)
    assert client.guard(wait=5)(lambda v: v)(value) is value
    assert client.guard(action="a", payload=lambda v: {"v": v}, wait=5)(lambda v: v)(value) is value


@pytest.mark.anyio
async def test_an_approved_async_call_is_still_the_same_call(server: Server) -> None:
    async def run(value: Any) -> Any:
        return value

    server.will(HOLD, APPROVED)
    async with make_async(server) as client:
        value = object()
        assert await client.guard(wait=5)(run)(value) is value


def test_an_approval_is_not_for_a_model_that_changes_meanwhile(server: Server, client: Checkrein) -> None:
    user = User(name="a")

    def change(sock: Any, asked: scripted.Asked) -> None:
        user.name = "b"
        APPROVED(sock, asked)

    server.will(HOLD, change)
    with pytest.raises(PolicyViolationError, match="changed"):
        client.guard(wait=5)(lambda user: pytest.fail("ran"))(user)


def test_two_calls_with_one_opaque_object_are_two_requests(server: Server, client: Checkrein) -> None:
    server.will(then=scripted.ALLOW)
    value = object()
    run = client.guard(lambda v: None)
    run(value)
    run(value)
    first, second = (asked.body["arguments"]["v"] for asked in server.checks())
    assert first != second
