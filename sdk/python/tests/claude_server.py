"""A model behind Anthropic's HTTP API that makes the tool calls it was told to; it streams."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Turn = list[tuple[str, dict[str, Any]]]


class ClaudeServer:
    """Makes the calls of each turn, one turn after the other, and then says "done"."""

    def __init__(self, turns: list[Turn]) -> None:
        self._turns = turns
        self._results: dict[str, str] = {}
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_HEAD(self) -> None:
                self._say(b"", "text/plain")

            def do_GET(self) -> None:
                self._say(b'{"data":[]}', "application/json")

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                if "count_tokens" in self.path or "messages" not in asked:
                    self._say(b'{"input_tokens":1}', "application/json")
                elif asked.get("stream"):
                    self._say(model._stream(asked), "text/event-stream")
                else:
                    self._say(json.dumps(model._message(asked)).encode(), "application/json")

            def _say(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def read(self) -> list[str]:
        """The results of all tool calls, in the order of the calls."""
        names = [f"toolu_{t}_{i}" for t, turn in enumerate(self._turns) for i in range(len(turn))]
        return [self._results[name] for name in names if name in self._results]

    def _blocks(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        said = [m["content"] for m in asked["messages"] if isinstance(m["content"], list)]
        results = [b for blocks in said for b in blocks if b.get("type") == "tool_result"]
        self._results |= {b["tool_use_id"]: json.dumps(b["content"]) for b in results}
        done = len({b["tool_use_id"].split("_")[1] for b in results})
        # It asks for titles and the like without tools.
        if not asked.get("tools") or done >= len(self._turns):
            return [{"type": "text", "text": "done"}]
        return [
            {"type": "tool_use", "id": f"toolu_{done}_{i}", "name": name, "input": args}
            for i, (name, args) in enumerate(self._turns[done])
        ]

    def _message(self, asked: dict[str, Any]) -> dict[str, Any]:
        blocks = self._blocks(asked)
        reason = "tool_use" if blocks[0]["type"] == "tool_use" else "end_turn"
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"],
            "content": blocks, "stop_reason": reason, "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip

    def _stream(self, asked: dict[str, Any]) -> bytes:
        message = self._message(asked)
        events = [("message_start", {"message": message | {"content": [], "stop_reason": None}})]
        for i, block in enumerate(message["content"]):
            if block["type"] == "text":
                empty, delta = {"text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                empty = {"input": {}}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events += [
                ("content_block_start", {"index": i, "content_block": block | empty}),
                ("content_block_delta", {"index": i, "delta": delta}),
                ("content_block_stop", {"index": i}),
            ]
        ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events += [("message_delta", {"delta": ended, "usage": {"output_tokens": 1}}), ("message_stop", {})]
        return b"".join(
            f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode() for kind, data in events
        )


@contextmanager
def claude(turns: list[Turn]) -> Iterator[ClaudeServer]:
    """A model server, for as long as the block runs."""
    server = ClaudeServer(turns)
    thread = threading.Thread(target=server._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._http.shutdown()
        thread.join()
        server._http.server_close()
