"""Loops of your own over the Responses API and the Assistants API (`requires_action`), each call checked."""

import json
from types import SimpleNamespace as Has

from checkrein import Checkrein
from checkrein.integrations.openai import CheckedTools

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})


def delete_users(ids: list[int]) -> str:
    return f"{len(ids)} users deleted"


calls = [("a", json.dumps({"ids": list(range(10_000))})), ("b", '{"ids": [1, 2, 3]}')]


class Scripted:  # stands for `openai.OpenAI()`
    def create(self, **given):
        asked = [Has(type="function_call", name="delete_users", call_id=i, arguments=a) for i, a in calls]
        return Has(output=asked if len(given["input"]) == 1 else [])

    def submit_tool_outputs(self, run_id, *, thread_id, tool_outputs):
        print("submitted:", *(o["output"] for o in tool_outputs), sep="\n  ")
        return Has(status="completed")


tools, said = CheckedTools([delete_users], client), [{"role": "user", "content": "remove dormant users"}]
while answers := tools.outputs(Scripted().create(model="m", input=said)):  # openai.responses.create
    print("answers:", *(a["output"] for a in answers), sep="\n  ")
    said += answers

wanted = [Has(id=i, function=Has(name="delete_users", arguments=a)) for i, a in calls]
action = Has(submit_tool_outputs=Has(tool_calls=wanted))
run = Has(id="run_1", thread_id="thread_1", status="requires_action", required_action=action)
openai = Has(beta=Has(threads=Has(runs=Scripted())))
CheckedTools([delete_users], client).finish(openai, run)
