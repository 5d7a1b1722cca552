"""Slack's buttons, signed by Slack's own SDK, against the real server."""

from __future__ import annotations

import http.server
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_server import RealServer, serving
from slack_sdk.signature import SignatureVerifier

from checkrein import Checkrein

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"


@dataclass
class Slack:
    """A server with Slack's buttons set up, and where it says what became of a click."""

    server: RealServer
    origin: str
    said: queue.Queue[dict[str, Any]]
    clicks: int = 0

    def form(self, approval: str, decision: str = "approve", user: str = "U1", team: str = "T1") -> str:
        """The form that Slack sends for a click."""
        self.clicks += 1
        payload = {
            "type": "block_actions",
            "user": {"id": user, "team_id": team},
            "team": {"id": team},
            "trigger_id": str(self.clicks),
            "response_url": f"{self.origin}/actions/1",
            "actions": [{"type": "button", "action_id": f"checkrein_{decision}", "value": approval}],
        }
        return urllib.parse.urlencode({"payload": json.dumps(payload)})

    def send(self, body: str, timestamp: int | None = None, secret: str = SECRET, signed: str = "") -> int:
        """Send ``body``, signed by Slack's SDK; the status."""
        at = str(int(time.time()) if timestamp is None else timestamp)
        signature = SignatureVerifier(secret).generate_signature(timestamp=at, body=signed or body)
        request = urllib.request.Request(self.server.url + "/v1/hooks/slack", data=body.encode())
        request.add_header("x-slack-request-timestamp", at)
        request.add_header("x-slack-signature", signature or "")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture
def slack(tmp_path: Path) -> Iterator[Slack]:
    said: queue.Queue[dict[str, Any]] = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{receiver.server_port}"
    (tmp_path / "secret").write_text(SECRET)
    people = ", ".join(f'U{n} = "person {n}"' for n in range(50))
    config = tmp_path / "checkrein.toml"
    config.write_text(
        f'[approvals.slack]\nsigning_secret = {{ file = "secret" }}\nworkspace = "T1"\nurl = "{origin}"\n'
        f'people = {{ {people} }}\n[[policies]]\nname = "ask"\nrule = "require_approval"\n'
        'condition = { action = "refund" }\n'
    )
    try:
        with serving(config) as server:
            yield Slack(server, origin, said)
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_fifty_clicks_signed_by_slack_are_one_decision(slack: Slack) -> None:
    with Checkrein(slack.server.url, api_key=slack.server.admin_key) as client:
        held = client.check(action="refund", resource="shop.orders", payload={"order": 7})
        assert held.held
        assert held.approval_id
        approval = held.approval_id
        forms = [slack.form(approval, "deny" if n % 2 else "approve", f"U{n}") for n in range(50)]
        with ThreadPoolExecutor(50) as pool:
            assert set(pool.map(slack.send, forms)) == {200}
        texts = {slack.said.get(timeout=30)["text"] for _ in range(50)}
        assert len(texts) == 1, texts
        shown = client.approvals.get(approval)
        assert shown["state"] in ("approved", "denied")
        assert shown["decided_by"]["via"] == "slack"
        assert shown["decided_by"]["name"] in texts.pop()
        assert held.wait(5).allowed == (shown["state"] == "approved")


def test_forged_replayed_late_and_foreign_clicks_are_refused(slack: Slack) -> None:
    with Checkrein(slack.server.url, api_key=slack.server.admin_key) as client:
        approval = client.check(action="refund", resource="shop.orders", payload={"order": 8}).approval_id
        assert approval
        now = int(time.time())
        assert slack.send(slack.form(approval), secret="another") == 401
        assert slack.send(slack.form(approval), signed=slack.form(approval)) == 401
        assert slack.send(slack.form(approval), now - 400) == 401
        assert slack.send(slack.form(approval, team="T2")) == 403
        assert client.approvals.get(approval)["state"] == "pending"
        click = slack.form(approval)
        assert slack.send(click, now) == 200
        assert slack.send(click, now) == 401, "the same click again"
        assert "Approved by person 1" in slack.said.get(timeout=30)["text"]
        assert slack.send(slack.form(approval, user="U99")) == 200
        assert slack.said.get(timeout=30)["response_type"] == "ephemeral"
