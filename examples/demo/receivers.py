"""Where the messages of this demonstration go: what answers like Slack's webhook and PagerDuty's Events API.

Both on a free port of this machine, in this process: no account to have, nothing to tidy up.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receivers:
    """Takes what is sent to Slack and to PagerDuty, and keeps it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._hook = f"/services/T00000000/B00000000/{secrets.token_hex(12)}"
        self._routing_key = secrets.token_hex(16)
        self._news = threading.Condition()
        self._got: dict[str, list[dict[str, Any]]] = {"slack": [], "pagerduty": []}
        #: For the server: where both are. Their addresses are private, which a sink must allow.
        self.config = f"""
[sinks.team]
kind = "slack"
webhook_url = {{ env = "SLACK_WEBHOOK_URL" }}
allow_private = true

[sinks.oncall]
kind = "pagerduty"
routing_key = {{ env = "PD_KEY" }}
url = "{url}"
allow_private = true
"""

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the server finds what does not stand in its configuration."""
        return {"SLACK_WEBHOOK_URL": self._url + self._hook, "PD_KEY": self._routing_key}

    def first(
        self, where: str, fits: Callable[[dict[str, Any]], bool], seconds: float
    ) -> dict[str, Any] | None:
        """The first message at ``where`` that fits, as sent; ``None`` if none comes in ``seconds``."""
        with self._news:
            return self._news.wait_for(lambda: next(filter(fits, self._got[where]), None), seconds)

    def answer(self, path: str, body: bytes) -> tuple[int, str, str]:
        """Status, content type and text, as Slack and PagerDuty answer."""
        try:
            message = json.loads(body)
        except ValueError:
            return 400, "text/plain", "invalid_payload"
        if path == self._hook:
            if not message.get("text"):
                return 400, "text/plain", "no_text"
            self._keep("slack", message)
            return 200, "text/plain", "ok"
        if path == "/v2/enqueue":
            if message.get("routing_key") != self._routing_key:
                said = {
                    "status": "invalid event",
                    "message": "Event object is invalid",
                    "errors": ["routing_key"],
                }
                return 400, "application/json", json.dumps(said)
            self._keep("pagerduty", message)
            said = {"status": "success", "message": "Event processed", "dedup_key": message.get("dedup_key")}
            return 202, "application/json", json.dumps(said)
        return 404, "text/plain", "no_service"

    def _keep(self, where: str, message: dict[str, Any]) -> None:
        with self._news:
            self._got[where].append(message)
            self._news.notify_all()


@contextlib.contextmanager
def receiving() -> Iterator[Receivers]:
    """Listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, kind, text = receivers.answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Says nothing: the screen is the demonstration's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receivers = Receivers(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receivers
        finally:
            server.shutdown()
            thread.join()
