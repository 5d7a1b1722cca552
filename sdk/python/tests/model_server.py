"""A model behind OpenAI's HTTP API that makes the tool calls it was told to."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Turn = list[tuple[str, dict[str, Any]]]


class ModelServer:
    """Makes the calls of each turn, one turn after the other, and then says "done"."""

    def __init__(self, turns: list[Turn]) -> None:
        self._turns = turns
        #: What was asked, in order.
        self.asked: list[dict[str, Any]] = []
        #: Seconds that an assistant's run lives.
        self.lives = 600.0
        self._submitted: dict[str, str] = {}
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self._say(model._run())

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.asked.append(asked)
                if "/threads" in self.path:
                    model._submitted |= {
                        o["tool_call_id"]: o["output"] for o in asked.get("tool_outputs", [])
                    }
                    self._say(model._run() | {"status": "in_progress"})
                else:
                    chat = self.path.endswith("/chat/completions")
                    said = model._chat(asked) if chat else model._response(asked)
                    if chat and asked.get("stream"):
                        self._send(_streamed(said), "text/event-stream")
                    else:
                        self._say(said)

            def _say(self, what: dict[str, Any]) -> None:
                self._send(json.dumps(what).encode(), "application/json")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def read(self) -> list[str]:
        """The results of all tool calls, in the order of the calls, as the model last read them."""
        found = dict(self._submitted)
        for message in (self.asked[-1].get("messages") or []) if self.asked else []:
            if message.get("role") == "tool":
                found[message["tool_call_id"]] = str(message["content"])
        items = self.asked[-1].get("input") if self.asked else []
        for item in items if isinstance(items, list) else []:
            if item.get("type") == "function_call_output":
                found[item["call_id"]] = str(item["output"])
        names = [f"c{t}-{i}" for t, turn in enumerate(self._turns) for i in range(len(turn))]
        return [found[name] for name in names if name in found]

    def _calls(self, done: int) -> list[tuple[str, str, str]]:
        turn = self._turns[done] if done < len(self._turns) else []
        return [(f"c{done}-{i}", name, json.dumps(args)) for i, (name, args) in enumerate(turn)]

    def _chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        ids = {m["tool_call_id"] for m in asked["messages"] if m.get("role") == "tool"}
        calls = self._calls(len({i.split("-")[0] for i in ids}))
        message: dict[str, Any] = {"role": "assistant", "content": None if calls else "done"}
        if calls:
            message["tool_calls"] = [
                {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
                for i, name, arguments in calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": usage,
        }  # fmt: skip

    def _run(self) -> dict[str, Any]:
        calls = self._calls(len({i.split("-")[0] for i in self._submitted}))
        needed = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, name, arguments in calls
        ]
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": needed}}
        return {
            "id": "run_1", "object": "thread.run", "created_at": 1, "thread_id": f"thread_{id(self)}",
            "assistant_id": "asst_1", "model": "m", "instructions": "", "tools": [], "metadata": {},
            "status": "requires_action" if calls else "completed",
            "expires_at": int(time.time() + self.lives), "required_action": action if calls else None,
        }  # fmt: skip

    def _response(self, asked: dict[str, Any]) -> dict[str, Any]:
        given = asked["input"] if isinstance(asked["input"], list) else []
        ids = {item["call_id"] for item in given if item.get("type") == "function_call_output"}
        calls = self._calls(len({i.split("-")[0] for i in ids}))
        text = {"type": "output_text", "text": "done", "annotations": []}
        said = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
        output = [
            {
                "type": "function_call", "id": f"f{i}", "call_id": i,
                "name": name, "arguments": arguments, "status": "completed",
            }
            for i, name, arguments in calls
        ]  # fmt: skip
        usage = {
            "input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        return {
            "id": f"resp_{len(self.asked)}", "object": "response", "created_at": 1, "status": "completed",
            "model": "m", "output": output or [said], "parallel_tool_calls": True, "tool_choice": "auto",
            "tools": [], "usage": usage,
        }  # fmt: skip


def _streamed(chat: dict[str, Any]) -> bytes:
    """The same answer, the arguments of its calls in two pieces."""
    message = chat["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": message["content"]}]
    for index, call in enumerate(message.get("tool_calls", [])):
        function = call["function"]
        deltas.append({"tool_calls": [call | {"index": index, "function": function | {"arguments": ""}}]})
        half = len(function["arguments"]) // 2
        for piece in (function["arguments"][:half], function["arguments"][half:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    reasons = [None] * len(deltas) + [chat["choices"][0]["finish_reason"]]
    events = [
        {
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        for delta, reason in zip([*deltas, {}], reasons, strict=True)
    ]  # fmt: skip
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


@contextmanager
def modelling(turns: list[Turn]) -> Iterator[ModelServer]:
    """A model server, for as long as the block runs."""
    server = ModelServer(turns)
    thread = threading.Thread(target=server._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._http.shutdown()
        thread.join()
        server._http.server_close()
