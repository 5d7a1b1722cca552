from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scripted import Server

from checkrein import AsyncCheckrein, Checkrein


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHECKREIN_URL", "CHECKREIN_API_KEY", "CHECKREIN_AGENT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()
    assert server.faults == []


@pytest.fixture
def client(server: Server) -> Iterator[Checkrein]:
    with make(server) as client:
        yield client


def make(server: Server, **changes: Any) -> Checkrein:
    """A client with short time-outs."""
    return Checkrein(**({"url": server.url, "api_key": "ck_test", "timeout": 0.4} | changes))


def make_async(server: Server, **changes: Any) -> AsyncCheckrein:
    return AsyncCheckrein(**({"url": server.url, "api_key": "ck_test", "timeout": 0.4} | changes))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
