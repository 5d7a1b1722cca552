"""LiteLLM's proxy, asked by OpenAI's client, with a scripted model behind it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from contract import run_example
from litellm_proxy import MASTER_KEY, Guardrail, free_port, proxying
from model_server import ModelServer, Turn, modelling
from real_server import RealServer, serving
from scripted import Act, Server, close, half_closed, raw, reply, silent

POLICIES = [
    {"name": "few", "rule": "block", "condition": {"category": "delete", "record_count_exceeds": 25}},
    {"name": "ask_first", "rule": "require_approval", "condition": {"action": "send"}},
]
DELETE: Turn = [("delete_users", {"ids": [1, 2, 3]})]
BULK: Turn = [("delete_users", {"ids": list(range(1000))})]
MAIL: Turn = [("send_mail", {"to": "ada@example.com"})]


def of_the_page() -> str:
    """The guardrail that the page shows, but for its address, and as one that has to be asked for."""
    page = (Path(__file__).resolve().parents[5] / "docs/integrations/litellm.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (guardrail,) = yaml.safe_load(shown)["guardrails"]
    params = guardrail["litellm_params"]
    assert params.pop("guardrail") == "generic_guardrail_api"
    assert params.pop("mode") == "post_call"
    assert params.pop("default_on") is True
    assert params["api_key"] == "os.environ/CHECKREIN_API_KEY"
    del params["api_base"]
    return str(yaml.safe_dump(params)).rstrip()


class Bench:
    """Everything that a conversation needs; the model's turns change with each test."""

    def __init__(self, url: str, checkrein: RealServer, model: ModelServer, scripted: Server) -> None:
        self.url, self.checkrein, self.model, self.scripted = url, checkrein, model, scripted
        self.ran: list[tuple[str, Any]] = []

    def converse(self, turns: list[Turn], guardrail: str, *, stream: bool = False) -> str:
        """An agent's loop: what the model says in the end."""
        self.model._turns = turns
        said: list[Any] = [{"role": "user", "content": "go"}]
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
            while True:
                ask: dict[str, Any] = {"model": "m", "messages": said}
                ask["extra_body"] = {"guardrails": [guardrail]}
                if stream:
                    with client.chat.completions.stream(**ask) as events:
                        message = events.get_final_completion().choices[0].message
                else:
                    message = client.chat.completions.create(**ask).choices[0].message
                said.append(message.model_dump(exclude_none=True))
                if not message.tool_calls:
                    return str(message.content)
                for call in message.tool_calls:
                    self.ran.append((call.function.name, json.loads(call.function.arguments)))
                    said.append({"role": "tool", "tool_call_id": call.id, "content": "ok"})

    def refused(self, turns: list[Turn], guardrail: str = "checkrein", *, stream: bool = False) -> str:
        with pytest.raises(openai.APIError) as raised:
            self.converse(turns, guardrail, stream=stream)
        assert self.ran == []
        return str(raised.value)

    def checks(self) -> list[dict[str, Any]]:
        lines = self.checkrein.command("log", "export").stdout.splitlines()
        return [entry["body"] for entry in map(json.loads, lines) if entry["kind"] == "check"]

    def pending(self) -> str:
        for _ in range(400):
            found = json.loads(self.checkrein.command("approvals", "list", "--json").stdout)["approvals"]
            if found:
                return str(found[0]["id"])
            time.sleep(0.05)
        raise AssertionError("nobody was asked")

    def answer(self, answer: str) -> None:
        done = self.checkrein.command("approvals", answer, self.pending(), "--comment", "because")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    scripted = Server()
    as_scripted = 'headers: {Authorization: "Bearer ck_test"}\ntimeout: 2'
    with serving() as checkrein, modelling([]) as model:
        policies = tmp_path_factory.mktemp("policies") / "policies.json"
        policies.write_text(json.dumps(POLICIES))
        assert checkrein.command("policy", "apply", str(policies)).returncode == 0
        made = checkrein.command("keys", "create", "--role", "agent", "--name", "l", "--agent", "desk")
        own = Guardrail(checkrein.url)
        guardrails = {
            "checkrein": own,
            "patient": Guardrail(checkrein.url, of_the_page()),
            "scripted": Guardrail(scripted.url, as_scripted),
            "gone": Guardrail(f"http://127.0.0.1:{free_port()}"),
            "nobody": Guardrail(checkrein.url, "api_key: ck_agent_of_nobody"),
        }
        with proxying(model.url, made.stdout.strip(), guardrails) as url:
            yield Bench(url, checkrein, model, scripted)
    scripted.stop()


@pytest.fixture
def bench(everything: Bench) -> Bench:
    everything.ran.clear()
    return everything


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_allowed_runs_once(bench: Bench, stream: bool) -> None:
    before = len(bench.checks())
    assert bench.converse([DELETE], "checkrein", stream=stream) == "done"
    assert bench.ran == DELETE
    (check,) = bench.checks()[before:]
    assert check["check"]["tool"] == "delete_users"
    assert check["check"]["session"], "LiteLLM's trace"


def test_words_alone_are_not_checked(bench: Bench) -> None:
    before = len(bench.checks())
    assert bench.converse([], "checkrein") == "done"
    assert len(bench.checks()) == before


def test_what_is_blocked_does_not_run(bench: Bench) -> None:
    said = bench.refused([BULK])
    assert "NOT RUN: Blocked by few" in said


def test_what_stands_beside_it_does_not_run_either(bench: Bench) -> None:
    said = bench.refused([[*DELETE, *BULK]])
    assert "NOT RUN: Blocked by few" in said


def test_a_hold_runs_once_after_its_approval(bench: Bench) -> None:
    assert "Nobody has approved it yet" in bench.refused([MAIL])
    bench.answer("approve")
    assert bench.converse([MAIL], "checkrein") == "done", "what ran stays in the conversation"
    assert bench.ran == MAIL
    bench.ran.clear()
    assert "Nobody has approved it yet" in bench.refused([MAIL])
    bench.answer("deny")


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_hold_is_waited_for(bench: Bench, answer: str) -> None:
    person = threading.Thread(target=bench.answer, args=[answer])
    person.start()
    if answer == "approve":
        assert bench.converse([MAIL], "patient") == "done"
        assert bench.ran == MAIL
    else:
        assert "because" in bench.refused([MAIL], "patient")
    person.join()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_other_apis_of_the_proxy_are_guarded(bench: Bench, path: str) -> None:
    words: dict[str, Any] = {"input": "go"}
    if path == "/v1/messages":
        words = {"max_tokens": 9, "messages": [{"role": "user", "content": "go"}]}
    for turns, status in ([DELETE], 200), ([BULK], 400):
        bench.model._turns = turns
        answer = httpx.post(
            bench.url + path,
            headers={"authorization": f"Bearer {MASTER_KEY}"},
            json={"model": "m", "guardrails": ["checkrein"], **words},
            timeout=30,
        )
        assert answer.status_code == status, answer.text
        assert ("ids" in answer.text) == (status == 200)
        assert ("NOT RUN" in answer.text) == (status == 400)


def test_a_stream_ends_in_an_error(bench: Bench) -> None:
    """The calls have been streamed by then; OpenAI's client raises before it gives them to anybody."""
    assert "NOT RUN: Blocked by few" in bench.refused([BULK], stream=True)


TROUBLES: dict[str, Act] = {
    "500": reply(500, {}),
    "503": reply(503, {"detail": "the disk is full"}, "application/problem+json"),
    "a page": reply(200, "<html>Sign in</html>", "text/html"),
    "a list": reply(200, "[1]"),
    "cut off": half_closed,
    "hung up": close,
    "no HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "slow": silent,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_checked_does_not_run(bench: Bench, trouble: str) -> None:
    none = reply(200, {"action": "NONE"})
    # What the model was asked is fine; nobody can tell of its answer.
    bench.scripted.will(none, then=TROUBLES[trouble])
    bench.refused([DELETE], "scripted")
    bench.scripted.will(then=TROUBLES[trouble])
    bench.refused([DELETE], "scripted")
    bench.scripted.will(then=none)
    assert bench.converse([DELETE], "scripted") == "done"
    assert bench.ran == DELETE


@pytest.mark.parametrize("guardrail", ["gone", "nobody"])
def test_without_server_or_key_nothing_runs(bench: Bench, guardrail: str) -> None:
    bench.refused([DELETE], guardrail)


def test_the_example() -> None:
    said = run_example("litellm_agent")
    assert "3 users deleted" in said
    assert "NOT RUN: Blocked by few" in said
    assert "10000 users deleted" not in said
