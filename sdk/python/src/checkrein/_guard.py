"""Guards: check, run, report. A guarded function runs only after its own check was allowed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from ._json import Opaques
from .errors import PolicyViolationError
from .result import AsyncCheckResult, CheckResult, Decision, Status

if TYPE_CHECKING:
    from .async_client import AsyncCheckrein
    from .client import Checkrein

F = TypeVar("F")
#: The fields of a check; in a guard each may be a function of the guarded function's arguments.
Fields = Mapping[str, Any]
Body = dict[str, Any]
MakeBody = Callable[[Fields, Opaques], Body]

#: Time to report the outcome of a call that is being cancelled, in seconds.
LAST_WORD = 3.0


class Call:
    """How to describe one call of a function as a check."""

    def __init__(self, fn: Callable[..., Any], fields: Fields, body: MakeBody) -> None:
        self._fields = fields
        self._body = body
        self._inner, self._bound_args, self._bound_kwargs = _unwrap(fn)
        self._raw = "action" not in fields and "arguments" not in fields
        if self._raw:
            self._tool = fields.get("tool") or _name(self._inner)
            self._signature = _signature(self._inner)
            self._drops_self = _is_plain_method(self._inner, self._signature)

    def describe(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], opaques: Opaques) -> Body:
        """The check for a call with these arguments. Whatever raises here keeps the call from running."""
        fields = {
            name: value(*args, **kwargs) if callable(value) else value for name, value in self._fields.items()
        }
        if self._raw:
            fields |= {"tool": self._tool, "arguments": self._arguments(args, kwargs)}
        return self._body(fields, opaques)

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*self._bound_args, *args, **{**self._bound_kwargs, **kwargs})
        # A default says as much about the action as an argument: `def delete(table, everything=True)`.
        bound.apply_defaults()
        found = dict(bound.arguments)
        if self._drops_self:
            del found[next(iter(found))]
        # `**kwargs` are arguments like any other, so that `to=` or `sql=` is seen where it is looked for.
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD and not found[name].keys() & found.keys():
                found |= found.pop(name)
        return found


class _Guard:
    """Settings of a guard, and what both kinds share."""

    def __init__(self, fields: Fields, wait: float, body: MakeBody) -> None:
        if wait < 0:
            raise ValueError(f"wait must not be negative, not {wait!r}")
        if "action" in fields and "tool" in fields:
            raise ValueError("give a guard `action` (explicit form) or `tool` (raw form), not both")
        self._fields = fields
        self._wait = wait
        self._make_body = body
        self._entered = False

    def _enter(self) -> Body:
        if self._entered:
            raise RuntimeError("a guard guards one `with` block; make a new one for each")
        self._entered = True
        needs = [name for name, value in self._fields.items() if callable(value)]
        if needs:
            raise TypeError(f"a `with` block has no arguments to call {', '.join(needs)} with")
        if "action" not in self._fields and "tool" not in self._fields:
            raise TypeError("a `with` block has no name; say which action (or tool) it is")
        return self._make_body(self._fields, Opaques())


class Guard(_Guard):
    """Guards a function (as a decorator) or one block of code (as a context manager)."""

    def __init__(self, client: Checkrein, fields: Fields, wait: float) -> None:
        super().__init__(fields, wait, client._body)
        self._client = client

    def __call__(self, fn: F) -> F:
        """Guard ``fn``. An async one is checked without blocking its event loop."""
        if isinstance(fn, (classmethod, staticmethod)):
            return cast("F", type(fn)(self(fn.__func__)))
        function = checked(fn)
        if is_async(function):
            return AsyncGuard(self._client._for_async(), self._fields, self._wait)(fn)
        call = Call(function, self._fields, self._make_body)

        @_wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            opaques = Opaques()
            result = self._pass(lambda: call.describe(args, kwargs, opaques))
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                self._close(result, error)
                raise
            result.outcome("unknown" if is_unfinished(value) else "ok")
            return value

        return cast("F", guarded)

    def _pass(self, describe: Callable[[], Body]) -> CheckResult:
        """Return only when the action may run."""
        body = describe()
        result = self._client._check(body)
        if result.held and self._wait > 0:
            result = result.wait(self._wait)
            _still_the_same(result, body, describe)
        result.raise_if_blocked()
        return result

    def _close(self, result: CheckResult, error: BaseException) -> None:
        result.outcome(*failed(error))

    def __enter__(self) -> CheckResult:
        body = self._enter()
        self._result = self._pass(lambda: body)
        return self._result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._result._reported:
            if error is None:
                self._result.outcome("ok")
            else:
                self._close(self._result, error)


class AsyncGuard(_Guard):
    """Guards an async function (as a decorator) or one block of code (with ``async with``)."""

    def __init__(self, client: AsyncCheckrein, fields: Fields, wait: float) -> None:
        super().__init__(fields, wait, client._body)
        self._client = client

    def __call__(self, fn: F) -> F:
        """Guard ``fn``, an async function."""
        if isinstance(fn, (classmethod, staticmethod)):
            return cast("F", type(fn)(self(fn.__func__)))
        function = checked(fn)
        if not is_async(function):
            raise TypeError(
                f"{_name(function)} is not async, so an async client cannot check before it runs; "
                "guard it with Checkrein"
            )
        call = Call(function, self._fields, self._make_body)

        @_wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            opaques = Opaques()
            result = await self._pass(lambda: call.describe(args, kwargs, opaques))
            try:
                value = await function(*args, **kwargs)
            except BaseException as error:
                await self._close(result, error)
                raise
            await self._close(result, None)
            return value

        return cast("F", guarded)

    async def _pass(self, describe: Callable[[], Body]) -> AsyncCheckResult:
        """Return only when the action may run."""
        body = describe()
        result = await self._client._check(body)
        if result.held and self._wait > 0:
            result = await result.wait(self._wait)
            _still_the_same(result, body, describe)
        result.raise_if_blocked()
        return result

    async def _close(self, result: AsyncCheckResult, error: BaseException | None) -> None:
        # Also when the task is being cancelled: what happened is to be known.
        with anyio.move_on_after(LAST_WORD, shield=True):
            await (result.outcome("ok") if error is None else result.outcome(*failed(error)))

    async def __aenter__(self) -> AsyncCheckResult:
        body = self._enter()
        self._result = await self._pass(lambda: body)
        return self._result

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._result._reported:
            await self._close(self._result, error)


def _still_the_same(result: Decision, body: Body, describe: Callable[[], Body]) -> None:
    """An approval is for the action that was asked about, so it must not have changed meanwhile."""
    key = {"idempotency_key": body["idempotency_key"]}
    if result.allowed and describe() | key != body:
        raise PolicyViolationError(
            "the action changed while its approval was awaited, so it does not run; ask again",
            result,
        )


def failed(error: BaseException) -> tuple[Status, None, str]:
    """What to report of a call that raised ``error``."""
    try:
        told = f"{type(error).__name__}: {error}"
    except Exception:
        told = type(error).__name__
    # An interrupted action may have done anything, and so may one whose answer never came. Libraries have
    # time-outs of their own, that share no class. What raised anything else says that it failed.
    timed_out = any("Timeout" in kind.__name__ for kind in type(error).__mro__)
    return ("error" if isinstance(error, Exception) and not timed_out else "unknown"), None, told


def checked(fn: Any) -> Callable[..., Any]:
    """``fn``, if it is something that a check can be made before."""
    inner = _unwrap(fn)[0]
    probes = (inner, getattr(inner, "__call__", None))  # noqa: B004
    if isinstance(fn, type) or not callable(fn):
        raise TypeError(f"a guard goes around a function, not {type(fn).__name__} {fn!r}")
    if any(inspect.isgeneratorfunction(p) or inspect.isasyncgenfunction(p) for p in probes):
        raise TypeError(
            f"{_name(inner)} is a generator: it runs piece by piece, whenever it is iterated. "
            "Guard the function that consumes it, or use `with client.guard(…)` inside it"
        )
    return cast("Callable[..., Any]", fn)


def _unwrap(fn: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function in a partial, with what the partial binds: a policy must see that too."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while isinstance(fn, functools.partial):
        placeholder = getattr(functools, "Placeholder", None)
        if placeholder is not None and any(a is placeholder for a in fn.args):
            raise TypeError("a partial with placeholders cannot be guarded; guard its function")
        args, kwargs, fn = fn.args + args, {**fn.keywords, **kwargs}, fn.func
    return fn, args, kwargs


def is_async(fn: Any) -> bool:
    """Whether calling ``fn`` gives a coroutine."""
    inner = _unwrap(fn)[0]
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004
    )


def is_unfinished(value: Any) -> bool:
    """Whether ``value`` has yet to run."""
    return inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value)


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def _signature(fn: Any) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except ValueError as error:
        raise TypeError(
            f"{_name(fn)} does not tell its parameters; guard it with action=, resource= and payload="
        ) from error


def _is_plain_method(fn: Any, signature: inspect.Signature) -> bool:
    """Whether ``fn`` is being defined in a class, so that its first argument is the object."""
    scope = getattr(fn, "__qualname__", "").rpartition(".")[0]
    first = next(iter(signature.parameters), "")
    return scope != "" and not scope.endswith("<locals>") and first in ("self", "cls")


def _wraps(fn: Any) -> Callable[[F], F]:
    return cast("Callable[[F], F]", functools.wraps(fn))
