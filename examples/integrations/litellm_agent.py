"""An agent behind LiteLLM's proxy, which asks Checkrein about every tool call. The model is scripted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import openai
from checkrein import Checkrein

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk/python/tests"))
from litellm_proxy import MASTER_KEY, Guardrail, proxying
from model_server import modelling

few = {"name": "few", "rule": "block", "condition": {"category": "delete", "record_count_exceeds": 25}}
Checkrein().policies.create(few)
create = ["keys", "create", "--role", "agent", "--name", "proxy", "--agent", "desk"]
program = os.environ.get("CHECKREIN_BIN", "checkrein")
key = subprocess.run([program, *create], check=True, stdout=-1, text=True).stdout.strip()


def delete_users(ids: list[int]) -> str:
    return print(f"{len(ids)} users deleted") or "ok"


calls = [[("delete_users", {"ids": list(range(n))})] for n in (3, 10_000)]
guardrails = {"c": Guardrail(os.environ["CHECKREIN_URL"])}
with modelling(calls) as model, proxying(model.url, key, guardrails) as url:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER_KEY)
    asked = {"model": "m", "messages": [{"role": "user", "content": "remove dormant users"}]}
    try:
        while True:  # with `default_on: true` it need not ask for its guardrail
            told = client.chat.completions.create(**asked, extra_body={"guardrails": ["c"]})
            asked["messages"].append(told.choices[0].message.model_dump(exclude_none=True))
            for call in told.choices[0].message.tool_calls:
                done = delete_users(**json.loads(call.function.arguments))
                asked["messages"].append({"role": "tool", "tool_call_id": call.id, "content": done})
    except openai.BadRequestError as refused:
        print(refused.message)
