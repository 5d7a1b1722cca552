"""Loops of one's own over OpenAI's APIs, with the real client and a stub of the server."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from conftest import make
from contract import *  # noqa: F403
from contract import DELETE, RAN, Drive, Turn, run_async, run_example, sessions, tools
from model_server import ModelServer, modelling
from openai import AsyncOpenAI, OpenAI
from scripted import ALLOW, HOLD, Server

from checkrein import Checkrein
from checkrein.integrations.openai import CheckedTools


def responses(openai: OpenAI, checked: CheckedTools) -> None:
    given: list[Any] = [{"role": "user", "content": "go"}]
    while True:
        response = openai.responses.create(model="m", input=given)
        outputs = checked.outputs(response)
        if not outputs:
            return
        given += [item.model_dump() for item in response.output] + outputs


def chat(openai: OpenAI, checked: CheckedTools) -> None:
    given: list[Any] = [{"role": "user", "content": "go"}]
    while True:
        message = openai.chat.completions.create(model="m", messages=given).choices[0].message
        answers = checked.messages(message)
        if not answers:
            return
        given += [message.model_dump(), *answers]


def assistant(openai: OpenAI, checked: CheckedTools) -> None:
    run = openai.beta.threads.create_and_run(assistant_id="asst_1")
    assert checked.finish(openai, run, poll=0.01).status == "completed"


async def responses_async(openai: AsyncOpenAI, checked: CheckedTools) -> None:
    given: list[Any] = [{"role": "user", "content": "go"}]
    while True:
        response = await openai.responses.create(model="m", input=given)
        outputs = await checked.outputs_async(response)
        if not outputs:
            return
        given += [item.model_dump() for item in response.output] + outputs


async def chat_async(openai: AsyncOpenAI, checked: CheckedTools) -> None:
    given: list[Any] = [{"role": "user", "content": "go"}]
    while True:
        message = (await openai.chat.completions.create(model="m", messages=given)).choices[0].message
        answers = await checked.messages_async(message)
        if not answers:
            return
        given += [message.model_dump(), *answers]


async def assistant_async(openai: AsyncOpenAI, checked: CheckedTools) -> None:
    run = await openai.beta.threads.create_and_run(assistant_id="asst_1")
    assert (await checked.finish_async(openai, run, poll=0.01)).status == "completed"


def drive_with(loop: Any, client: Checkrein, model: ModelServer, given: list[Any], **options: Any) -> None:
    checked = CheckedTools(given, client, **options)
    if not inspect.iscoroutinefunction(loop):
        with OpenAI(base_url=model.url, api_key="x", max_retries=0) as openai:
            loop(openai, checked)
        return

    async def main() -> None:
        async with AsyncOpenAI(base_url=model.url, api_key="x", max_retries=0) as openai:
            await loop(openai, checked)

    run_async(client, main)


LOOPS = [
    (responses, False), (assistant, False), (chat_async, False), (assistant_async, True)
]  # fmt: skip


@pytest.fixture(params=LOOPS, ids=lambda p: f"{p[0].__name__}{' async tools' * p[1]}")
def drive(request: pytest.FixtureRequest) -> Drive:
    loop, asynchronous = request.param

    def run(client: Checkrein, turns: list[Turn], **options: Any) -> list[str]:
        with modelling(turns) as model:
            drive_with(loop, client, model, tools(asynchronous=asynchronous), **options)
            return model.read()

    return run


@pytest.mark.parametrize("loop", [responses, responses_async, chat, assistant, assistant_async])
def test_every_call_gets_an_answer(server: Server, loop: Any) -> None:
    def rows() -> Any:
        return [{"id": 1}]

    turn: Turn = [
        ("nothing_of_ours", {}),
        ("delete_users", {"id": 1}),
        ("fail", {"kind": "error"}),
        ("rows", {}),
    ]
    server.will(then=ALLOW)
    with make(server) as client, modelling([turn]) as model:
        drive_with(loop, client, model, [*tools(asynchronous=False), rows])
        read = model.read()
    assert read[0] == "ERROR: LookupError: there is no tool 'nothing_of_ours'"
    assert "ERROR: TypeError" in read[1]
    assert read[2] == "ERROR: ValueError: this is why"
    assert read[3] == '[{"id": 1}]'
    assert RAN == [("fail", "error")]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"ids":'])
def test_arguments_that_are_none(server: Server, client: Checkrein, text: str) -> None:
    checked = CheckedTools(tools(asynchronous=False), client)
    assert checked._answer("delete_users", text).startswith("ERROR: ")
    assert RAN == []
    assert server.checks() == []


@pytest.mark.parametrize("loop", [assistant, assistant_async])
def test_a_hold_is_not_waited_for_longer_than_the_run_lives(server: Server, loop: Any) -> None:
    server.will(then=HOLD)
    with make(server) as client, modelling([DELETE]) as model:
        model.lives = 11.0
        drive_with(loop, client, model, tools(asynchronous=False), wait=300.0)
        assert "Nobody has approved it yet" in model.read()[0]
    assert RAN == []


def test_the_thread_is_the_session(server: Server) -> None:
    server.will(then=ALLOW)
    with make(server) as client, modelling([DELETE, DELETE]) as model:
        drive_with(assistant, client, model, tools(asynchronous=False))
    assert sessions(server) == [f"thread_{id(model)}"] * 2


def test_an_async_function_in_a_blocking_loop_is_refused(server: Server) -> None:
    with make(server) as client, modelling([DELETE]) as model, pytest.raises(TypeError, match="async method"):
        drive_with(responses, client, model, tools(asynchronous=True))
    assert RAN == []


def test_the_example() -> None:
    said = run_example("openai_loops")
    assert said.count("NOT RUN: Blocked by few") == 2
    assert said.count("3 users deleted") == 2
    assert "10000 users deleted" not in said
