"""A server that follows a script to the byte: real sockets, strict about what it is asked."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DECISION = {
    "id": "chk_1",
    "verdict": "allow",
    "reason": "no policy objects",
    "policies": [],
    "category": "write",
    "environment": "production",
    "blast_radius": {
        "records": 3,
        "systems": 1,
        "recipients": None,
        "basis": "declared",
        "declared": 3,
        "by_resource": [{"resource": "shop.users", "records": 3}],
    },
    "logged_at": "2026-11-22T09:10:05.123456Z",
    "a_field_of_a_later_version": {"x": 1},
}


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


#: What is done with one request; it may write anything, close, or wait.
Act = Callable[[socket.socket, Asked], None]


def reply(
    status: int, body: bytes | str | dict[str, Any], content_type: str = "application/json", **headers: str
) -> Act:
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    raw = raw.encode() if isinstance(raw, str) else raw

    def act(sock: socket.socket, _: Asked) -> None:
        head = {
            "content-type": content_type,
            "content-length": str(len(raw)),
            "x-request-id": "req_7",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        lines = "".join(f"{k}: {v}\r\n" for k, v in head.items())
        sock.sendall(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + raw)

    return act


def problem(status: int, detail: str, errors: list[dict[str, str]] | None = None, **headers: str) -> Act:
    body: dict[str, Any] = {"type": "https://x/p", "title": "T", "status": status, "detail": detail}
    if errors is not None:
        body["errors"] = errors
    return reply(status, body, "application/problem+json", **headers)


def decision(**changes: Any) -> Act:
    return reply(200, DECISION | changes)


ALLOW = decision()
BLOCK = decision(verdict="block", reason="touches 10000 records, over 25")
HOLD = decision(verdict="hold", reason="needs approval", approval_id="apr_1")
OK = reply(200, {})


def silent(sock: socket.socket, _: Asked) -> None:
    """Take the request and say nothing until the client gives up."""
    with contextlib.suppress(OSError):
        sock.settimeout(20)
        sock.recv(1)


def close(sock: socket.socket, _: Asked) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def half_closed(sock: socket.socket, _: Asked) -> None:
    """Announce more than is sent."""
    sock.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"id":"chk_1","verdict":"allow"')
    sock.shutdown(socket.SHUT_WR)


def drip(raw: bytes, every: float = 0.1) -> Act:
    """Send ``raw`` byte by byte, each soon enough for a naive read time-out."""

    def act(sock: socket.socket, _: Asked) -> None:
        with contextlib.suppress(OSError):
            for byte in raw:
                sock.sendall(bytes([byte]))
                time.sleep(every)

    return act


def raw(data: bytes) -> Act:
    def act(sock: socket.socket, asked: Asked) -> None:
        sock.sendall(data)
        close(sock, asked)

    return act


class Server:
    """Does the acts of its script in order, and `then` for all requests after."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.asked: list[Asked] = []
        self.outcomes: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.connections = 0
        self._script: list[Act] = []
        self._then: Act | None = None
        self._outcome: Act = OK
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def will(self, *acts: Act, then: Act | None = None, outcome: Act = OK) -> None:
        self._script, self._then, self._outcome = list(acts), then, outcome

    def checks(self) -> list[Asked]:
        return [a for a in self.asked if not a.path.endswith("/outcome")]

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as stream:
                while (asked := self._read(stream, connection)) is not None:
                    self._next(asked)(sock, asked)
                    if sock.fileno() < 0:
                        return
        except OSError:
            pass
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._open.discard(sock)

    def _read(self, stream: Any, connection: int) -> Asked | None:
        line = stream.readline().decode()
        if not line:
            return None
        method, path, version = line.split()
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        while (line := stream.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            assert name.lower() not in headers
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", 0))
        content = stream.read(size)
        if size:
            assert headers["content-type"] == "application/json"
        assert headers["authorization"] == "Bearer ck_test", headers
        return Asked(method, path, headers, json.loads(content) if content else None, connection)

    def _next(self, asked: Asked) -> Act:
        with self._lock:
            self.asked.append(asked)
            if asked.path.endswith("/outcome"):
                self.outcomes.append(asked.body)
                return self._outcome
            if self._script:
                return self._script.pop(0)
            assert self._then is not None, f"not in the script: {asked}"
            return self._then
