"""Agents for the tests of the console: they use the Python SDK as any agent does."""

from __future__ import annotations

import threading
from typing import Any

import httpx
from checkrein import Checkrein
from real_server import RealServer

HOLDS = {
    "name": "refunds_need_a_person",
    "rule": "require_approval",
    "condition": {"action": "refund"},
}
BLOCKS = {
    "name": "blast_radius_limit",
    "rule": "block",
    "condition": {"action": "delete", "record_count_exceeds": 25},
}


def client(server: RealServer, key: str | None = None, **more: Any) -> Checkrein:
    return Checkrein(url=server.url, api_key=key or server.admin_key, timeout=30, **more)


def send(server: RealServer, method: str, path: str, body: Any) -> None:
    admin = {"Authorization": "Bearer " + server.admin_key}
    answer = httpx.request(method, server.url + path, json=body, headers=admin)
    assert answer.status_code == 200, answer.text


def policies(server: RealServer, *wanted: dict[str, Any]) -> None:
    send(server, "PUT", "/v1/policies", {"policies": list(wanted)})


def outcome(server: RealServer, check_id: str, **report: Any) -> None:
    send(server, "POST", f"/v1/checks/{check_id}/outcome", report)


class Waiting:
    """An agent that asks for a refund and goes on once it may."""

    def __init__(self, server: RealServer, key: str | None = None, order: int = 7, **fields: Any) -> None:
        self.client = client(server, key)
        asked = {"payload": {"order": order, "record_count": 1}, **fields}
        if key is None:
            asked.setdefault("agent", "billing-bot")
        self.result = self.client.check(action="refund", resource="shop.orders", **asked)
        assert self.result.held
        self.ran = False
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self.result = self.result.wait(timeout=60)
        if self.result.allowed:
            self.ran = True

    @property
    def approval_id(self) -> str:
        return str(self.result.approval_id)

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.client.close()
