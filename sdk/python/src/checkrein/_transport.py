"""Doing what the protocol's steps ask for, blocking and not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx

from ._exchange import MAX_ANSWER, Failure, Reply, Send, Sleep, Steps

T = TypeVar("T")

# Many threads may wait for approvals at once; each holds a connection while it does.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=20.0)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Address:
    """Where the server is and how this client names itself there."""

    def __init__(self, url: str, api_key: str | None, connect_timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must look like http://127.0.0.1:7070, not {url!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("url must hold no user, query or fragment; the key goes into api_key")
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self.connect_timeout = connect_timeout
        # Raw bytes are read and counted: an answer must not unfold into more than was sent.
        self.headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"checkrein-python/{version('checkrein')}",
        }
        key = (api_key or "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the API key holds characters that no key has; was it copied whole?")
        if key:
            self.headers["authorization"] = f"Bearer {key}"

    def options(self) -> dict[str, Any]:
        """How an httpx client is set up."""
        # A proxy from the environment can never reach this machine's own loopback, and would be told the key.
        host = f"[{self.host}]" if ":" in self.host else self.host
        mounts = {f"all://{host}": None} if self.host in _LOOPBACK else None
        return {
            "headers": self.headers,
            "limits": _LIMITS,
            "follow_redirects": False,
            "mounts": mounts,
        }

    def request(self, send: Send) -> dict[str, Any]:
        """What an httpx client's ``stream`` takes."""
        connect = min(self.connect_timeout, send.seconds)
        asked: dict[str, Any] = {
            "method": send.request.method,
            "url": self.url + send.request.path,
            "timeout": httpx.Timeout(send.seconds, connect=connect),
        }
        if send.request.body is not None:
            asked["content"] = json.dumps(
                send.request.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            ).encode()
            asked["headers"] = {"content-type": "application/json"}
        return asked


class Transport:
    """Runs steps, blocking. Threads may share it, and a forked child gets connections of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http: tuple[int, httpx.Client] | None = None
        self._closed = False

    def run(self, steps: Steps[T]) -> T:
        """Run ``steps`` to their end and answer with what they return."""
        answer: Reply | Failure | None = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Sleep):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = self._send(step)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def close(self) -> None:
        """Close the connections; the client cannot be used after."""
        self._closed = True
        if self._http is not None and self._http[0] == os.getpid():
            self._http[1].close()

    def _client(self) -> httpx.Client:
        if self._closed:
            raise RuntimeError("this Checkrein client is closed")
        # Two processes on one connection could read each other's decisions.
        if self._http is None or self._http[0] != os.getpid():
            self._http = (os.getpid(), httpx.Client(**self._address.options()))
        return self._http[1]

    def _send(self, send: Send) -> Reply | Failure:
        ends = time.monotonic() + send.seconds
        try:
            with self._client().stream(**self._address.request(send)) as response:
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        return _TOO_LARGE
                    if time.monotonic() > ends:
                        return _too_slow(send)
                return _reply(response, body)
        except (httpx.TimeoutException, TimeoutError):
            return _too_slow(send)
        except (httpx.HTTPError, OSError) as error:
            return _failure(error)


class AsyncTransport:
    """Runs steps on an event loop. Each loop, and each forked child, gets connections of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http: anyio.lowlevel.RunVar[tuple[int, httpx.AsyncClient]]
        self._http = anyio.lowlevel.RunVar(f"checkrein-{id(self)}")
        self._closed = False

    async def run(self, steps: Steps[T]) -> T:
        """Run ``steps`` to their end and answer with what they return."""
        answer: Reply | Failure | None = None
        while True:
            # `StopIteration` cannot pass through a coroutine, so it is caught at once.
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Sleep):
                await anyio.sleep(step.seconds)
                answer = None
            else:
                answer = await self._send(step)

    async def close(self) -> None:
        """Close the connections of this event loop; the client cannot be used after."""
        self._closed = True
        held = self._http.get(None)
        if held is not None and held[0] == os.getpid():
            await held[1].aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._closed:
            raise RuntimeError("this Checkrein client is closed")
        held = self._http.get(None)
        if held is None or held[0] != os.getpid():
            held = (os.getpid(), httpx.AsyncClient(**self._address.options()))
            self._http.set(held)
        return held[1]

    async def _send(self, send: Send) -> Reply | Failure:
        try:
            with anyio.fail_after(send.seconds):
                async with self._client().stream(**self._address.request(send)) as response:
                    body = bytearray()
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > MAX_ANSWER:
                            return _TOO_LARGE
                    return _reply(response, body)
        except (httpx.TimeoutException, TimeoutError):
            return _too_slow(send)
        except (httpx.HTTPError, OSError) as error:
            return _failure(error)


_TOO_LARGE = Failure(f"its answer is larger than {MAX_ANSWER // 1024 // 1024} MiB")


def _too_slow(send: Send) -> Failure:
    return Failure(f"no answer within {send.seconds:.1f} s")


def _failure(error: Exception) -> Failure:
    return Failure(
        f"{type(error).__name__}: {str(error)[:200]}" if str(error) else type(error).__name__
    )


def _reply(response: httpx.Response, body: bytearray) -> Reply | Failure:
    if response.headers.get("content-encoding", "identity") != "identity":
        return Failure("its answer is compressed, which was not asked for")
    headers: Mapping[str, str] = response.headers
    return Reply(response.status_code, headers, bytes(body))
