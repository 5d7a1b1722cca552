"""What an object consists of, read without running code of its class.

Serializers (``model_dump``, ``asdict``) are not asked: they run code, and leave out what their author did not
want to see (excluded fields, secrets, what a subclass adds), so that two different objects would look alike.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

#: A class with one of these is more than its fields: a collection, a query, a proxy.
_ACTIVE = ("__iter__", "__next__", "__len__", "__getitem__", "__call__", "__getattr__", "__getattribute__")
_POINTER = struct.calcsize("P")
_HEAP_TYPE = 1 << 9


@dataclasses.dataclass(frozen=True)
class Parts:
    """``fields`` of an object by name; ``hidden``: it consists of more than them."""

    fields: dict[str, Any]
    hidden: bool


def parts(value: Any) -> Parts | None:
    """The parts of ``value``; None where it is opaque.

    Shown are the declared fields of a dataclass, an attrs class, a pydantic model and a named tuple, and what
    a plain object keeps under public names, if that is all it keeps.
    """
    if names := named_fields(value):
        return Parts(dict(zip(names, tuple.__iter__(value), strict=True)), hidden=_has_more(value))
    mro = type(value).__mro__
    state = _state(value)
    if _is_model(mro):
        return _model(state)
    declared = _declared(mro)
    if declared is None:
        plain = not state.hidden and not any(_active(k) for k in mro) and not any(map(_private, state.fields))
        return state if plain else None
    hidden, fields = state.hidden, dict(state.fields)
    for name in declared - fields.keys():
        # A default may stay in the class; a descriptor keeps the value who knows where.
        default = next((vars(k)[name] for k in mro if name in vars(k)), None)
        if isinstance(default, types.MemberDescriptorType):
            continue  # a slot without a value
        if hasattr(type(default), "__get__"):
            hidden = True
        else:
            fields[name] = default
    shown = {name: item for name, item in fields.items() if name in declared or not _private(name)}
    return Parts(shown, hidden or len(shown) < len(fields))


def named_fields(value: Any) -> tuple[str, ...]:
    """The names of a named tuple's fields; none where ``value`` is no named tuple."""
    names = getattr(type(value), "_fields", None)
    if not isinstance(value, tuple) or not isinstance(names, tuple) or len(names) != tuple.__len__(value):
        return ()
    return names if all(type(name) is str for name in names) else ()


def class_name(kind: type) -> str:
    """``module.Class``, of characters that keep the description recognisable as one."""
    name = f"{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__qualname__')}"
    return "".join(c if c.isalnum() or c in "._<>" else "_" for c in name)


def is_importable(kind: type) -> bool:
    """Whether the name of ``kind`` leads to it, and so stands for it and for no other."""
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, (type, types.ModuleType)) else None
    return found is kind


def is_url(value: Any) -> bool:
    """Whether ``value`` is a URL of pydantic's, whose text is all of it."""
    return any(
        k.__module__ in ("pydantic.networks", "pydantic_core._pydantic_core")
        and k.__name__ in ("_BaseUrl", "_BaseMultiHostUrl", "Url", "MultiHostUrl")
        for k in type(value).__mro__
    )


def _state(value: Any) -> Parts:
    """What is in the object's ``__dict__`` and slots."""
    fields: dict[str, Any] = {}
    mro, hidden = type(value).__mro__, not _is_all_python(type(value))
    for name, item in _kept(value, mro):
        # A slot that a subclass has again keeps two values under one name.
        hidden |= type(name) is not str or name in fields
        if type(name) is str:
            fields.setdefault(name, item)
    return Parts(fields, hidden)


def _kept(value: Any, mro: Iterable[type]) -> Iterator[tuple[Any, Any]]:
    for kind in mro:
        for name, slot in vars(kind).items():
            if isinstance(slot, types.MemberDescriptorType) and "__slots__" in vars(kind):
                try:
                    item = slot.__get__(value, kind)
                except AttributeError:
                    continue  # not set
                yield name, item
    holders = (vars(kind)["__dict__"] for kind in mro if "__dict__" in vars(kind))
    for holder in holders:
        if isinstance(holder, types.GetSetDescriptorType):
            yield from dict.items(holder.__get__(value, type(value)))
            return


def _is_all_python(kind: type) -> bool:
    """Whether an instance has room for its slots and nothing else; what C code keeps is out of sight."""
    bases = [k for k in kind.__mro__ if k is not object]
    slots = sum(
        isinstance(slot, types.MemberDescriptorType)
        for k in bases
        if "__slots__" in vars(k)
        for slot in vars(k).values()
    )
    room = object.__basicsize__ + _POINTER * (
        slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    )
    return (
        all(k.__flags__ & _HEAP_TYPE for k in bases)
        and bool(bases)
        and kind.__itemsize__ == 0
        and kind.__basicsize__ <= room
    )


def _has_more(value: tuple[Any, ...]) -> bool:
    return any(True for _ in _kept(value, type(value).__mro__))


def _declared(mro: tuple[type, ...]) -> set[str] | None:
    """The names that a dataclass or an attrs class declares."""
    kind = mro[0]
    if dataclasses.is_dataclass(kind):
        return {f.name for f in dataclasses.fields(kind)}
    if isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        return {a.name for a in attributes}
    return None


def _is_model(mro: tuple[type, ...]) -> bool:
    return any(
        k.__name__ == "BaseModel" and k.__module__ in ("pydantic.main", "pydantic.v1.main") for k in mro
    )


def _model(state: Parts) -> Parts:
    """A pydantic model, version 1 or 2: its fields lie in its ``__dict__``, the rest in slots."""
    shown = {name: item for name, item in state.fields.items() if not _private(name)}
    rest = {name: item for name, item in state.fields.items() if _private(name)}
    given = rest.pop("__pydantic_fields_set__", None) or rest.pop("__fields_set__", None) or set()
    extra = rest.pop("__pydantic_extra__", None) or {}
    private = rest.pop("__pydantic_private__", None) or {}
    hidden = state.hidden or bool(private) or bool(rest) or bool(extra.keys() & shown.keys())
    shown |= extra
    # "Set it to nothing" and "leave it as it is" are two requests, told apart by this alone.
    if given != shown.keys():
        shown["__fields_set__"] = given
    return Parts(shown, hidden)


def _active(kind: type) -> bool:
    return kind is not object and any(name in vars(kind) for name in _ACTIVE)


def _private(name: str) -> bool:
    return name.startswith("_")
