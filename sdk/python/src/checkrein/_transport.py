"""Doing what the protocol's steps ask for, blocking and not.

On httpcore and not on httpx: a gate needs a time limit for the whole of a request, and httpx has one for each
read, which a peer that sends a byte now and then never exceeds.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
import httpcore

from ._exchange import Failure, Reply, Send, Sleep, Steps
from ._trace import traceparent

T = TypeVar("T")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Address:
    """Where the server is and how this client names itself there."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not re.fullmatch(
            r"[\w.\-:\[\]@%]+", parts.netloc, re.ASCII
        ):
            raise ValueError(f"url must look like http://127.0.0.1:7070, not {url!r}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("url must hold no user, query or fragment; the key goes into api_key")
        if not parts.hostname or parts.port == 0 or not re.fullmatch(r"[!-~]*", parts.path):
            raise ValueError(f"url must look like http://127.0.0.1:7070, not {url!r}")
        parts.hostname.encode("idna")  # raises ValueError where the resolver would, later
        self.url = url.rstrip("/")
        self._scheme, self._host = parts.scheme, parts.hostname
        self._connect = timeout
        # Raw bytes are read and counted: an answer must not unfold into more than was sent.
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"checkrein-python/{version('checkrein')}",
        }
        key = (api_key or "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError("the API key holds characters that no key has; was it copied whole?")
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def pool(self) -> dict[str, Any]:
        """How a connection pool is set up."""
        # Many threads may wait for approvals at once; each holds a connection while it does.
        return {
            "max_connections": None,
            "max_keepalive_connections": 64,
            "keepalive_expiry": 20.0,
            "proxy": self._proxy(),
        }

    def request(self, send: Send) -> dict[str, Any]:
        """What a pool's ``stream`` takes."""
        seconds = dict.fromkeys(("read", "write", "pool"), send.seconds)
        asked: dict[str, Any] = {
            "method": send.request.method,
            "url": self.url + send.request.path,
            "headers": self._headers,
            "extensions": {"timeout": seconds | {"connect": min(self._connect, send.seconds)}},
        }
        if send.request.body is not None:
            asked["content"] = json.dumps(
                send.request.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            ).encode()
            asked["headers"] = self._headers | {"content-type": "application/json"}
            if (trace := traceparent()) is not None:
                asked["headers"]["traceparent"] = trace
        return asked

    def _proxy(self) -> httpcore.Proxy | None:
        # A proxy cannot reach this machine's own loopback, and would be told the key.
        if self._host in _LOOPBACK or urllib.request.proxy_bypass(self._host):
            return None
        found = urllib.request.getproxies().get(self._scheme)
        if not found:
            return None
        parts = urlsplit(found if "://" in found else f"http://{found}")
        port = f":{parts.port}" if parts.port else ""
        auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        return httpcore.Proxy(f"{parts.scheme}://{parts.hostname}{port}", auth=auth)


class Transport:
    """Runs steps, blocking. Threads may share it, and a forked child gets connections of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._backend = _Backend()
        self._http: tuple[int, httpcore.ConnectionPool] | None = None
        #: Refuses to send anything more.
        self.closed = False

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
        self.closed = True
        if self._http is not None and self._http[0] == os.getpid():
            self._http[1].close()

    def _client(self) -> httpcore.ConnectionPool:
        if self.closed:
            raise RuntimeError("this Checkrein client is closed")
        # Two processes on one connection could read each other's decisions.
        if self._http is None or self._http[0] != os.getpid():
            self._http = (
                os.getpid(),
                httpcore.ConnectionPool(network_backend=self._backend, **self._address.pool()),
            )
        return self._http[1]

    def _send(self, send: Send) -> Reply | Failure:
        self._backend.ends.at = time.monotonic() + send.seconds
        try:
            with self._client().stream(**self._address.request(send)) as response:
                body = bytearray()
                for chunk in response.iter_stream():
                    body += chunk
                    if len(body) > send.request.room:
                        return _too_large(send)
                return _reply(response, body)
        except (httpcore.TimeoutException, TimeoutError):
            return _too_slow(send)
        except _NETWORK_ERRORS as error:
            return _failure(error)


class AsyncTransport:
    """Runs steps on an event loop. Each loop, and each forked child, gets connections of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http: anyio.lowlevel.RunVar[tuple[int, httpcore.AsyncConnectionPool]]
        self._http = anyio.lowlevel.RunVar(f"checkrein-{id(self)}")
        #: Refuses to send anything more.
        self.closed = False

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
        self.closed = True
        held = self._http.get(None)
        if held is not None and held[0] == os.getpid():
            await held[1].aclose()

    def _client(self) -> httpcore.AsyncConnectionPool:
        if self.closed:
            raise RuntimeError("this Checkrein client is closed")
        held = self._http.get(None)
        if held is None or held[0] != os.getpid():
            held = (os.getpid(), httpcore.AsyncConnectionPool(**self._address.pool()))
            self._http.set(held)
        return held[1]

    async def _send(self, send: Send) -> Reply | Failure:
        try:
            with anyio.fail_after(send.seconds):
                async with self._client().stream(**self._address.request(send)) as response:
                    body = bytearray()
                    async for chunk in response.aiter_stream():
                        body += chunk
                        if len(body) > send.request.room:
                            return _too_large(send)
                    return _reply(response, body)
        except (httpcore.TimeoutException, TimeoutError):
            return _too_slow(send)
        except _NETWORK_ERRORS as error:
            return _failure(error)


_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.ConnectionNotAvailable,
    OSError,
)


def _too_large(send: Send) -> Failure:
    return Failure(f"its answer is larger than {send.request.room // 1024 // 1024} MiB")


def _too_slow(send: Send) -> Failure:
    return Failure(f"no answer within {send.seconds:.1f} s")


def _failure(error: Exception) -> Failure:
    told = str(error)[:200]
    return Failure(f"{type(error).__name__}: {told}" if told else type(error).__name__)


def _reply(response: httpcore.Response, body: bytearray) -> Reply | Failure:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    if headers.get("content-encoding", "identity") != "identity":
        return Failure("its answer is compressed, which was not asked for")
    return Reply(response.status, headers, bytes(body))


class _Ends(threading.local):
    """When this thread's request must be over, by the monotonic clock."""

    at = float("inf")

    def left(self, error: type[httpcore.TimeoutException]) -> float:
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise error
        return seconds


class _Backend(httpcore.NetworkBackend):
    """Sockets that keep the time limit of a whole request, whatever a single read is given."""

    def __init__(self) -> None:
        self.ends = _Ends()
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.ends.left(httpcore.ConnectTimeout)
        limit = left if timeout is None else min(timeout, left)
        stream = self._inner.connect_tcp(host, port, limit, local_address, socket_options)
        return _Stream(stream, self.ends)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, ends: _Ends) -> None:
        self._inner = inner
        self._ends = ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._ends.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces, because the limit below is for each time that the socket takes some.
        for at in range(0, len(buffer), 65536):
            self._inner.write(buffer[at : at + 65536], self._ends.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._ends.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._ends)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
