"""An agent behind LiteLLM's proxy, which asks Checkrein about every tool call. The model is scripted."""

import json
import os
import sys
from pathlib import Path

import openai
from checkrein import Checkrein

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk/python/tests"))
from litellm_proxy import MASTER_KEY, Guardrail, proxying
from model_server import modelling

few = {"name": "few", "rule": "block", "condition": {"category": "delete", "record_count_exceeds": 25}}
Checkrein().policies.create(few)


def delete_users(ids: list[int]) -> str:
    return print(f"{len(ids)} users deleted") or "ok"


def agent(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER_KEY)
    said: list[dict] = [{"role": "user", "content": "remove dormant users"}]
    while True:  # it asks for its guardrail; with `default_on: true` there is nothing of Checkrein here
        told = client.chat.completions.create(model="m", messages=said, extra_body={"guardrails": ["c"]})
        said.append(told.choices[0].message.model_dump(exclude_none=True))
        for call in told.choices[0].message.tool_calls:
            done = delete_users(**json.loads(call.function.arguments))
            said.append({"role": "tool", "tool_call_id": call.id, "content": done})


calls = [[("delete_users", {"ids": list(range(n))})] for n in (3, 10_000)]
guardrails = {"c": Guardrail(os.environ["CHECKREIN_URL"])}
with modelling(calls) as model, proxying(model.url, os.environ["CHECKREIN_API_KEY"], guardrails) as url:
    try:
        agent(url)
    except openai.BadRequestError as refused:
        print(refused.message)
