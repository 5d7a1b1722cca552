"""An OpenAI agent whose tool calls are checked. `pip install './sdk/python[openai-agents]'`"""

import asyncio

from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from checkrein import Checkrein
from checkrein.integrations.openai_agents import checked_tools, held

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})
client.policies.create({"name": "ask", "rule": "require_approval", "condition": {"tool": "delete_*"}})


@function_tool
def delete_users(ids: list[int]) -> str:
    """Delete users."""
    return f"{len(ids)} users deleted"


calls = [function_call("delete_users", {"ids": list(range(n))}, call_id=f"c{n}") for n in (10_000, 3)]
model = ScriptedModel([calls, [assistant_message("done")]])  # stands for a model


async def main() -> None:
    agent = Agent(name="cleaner", model=model, tools=checked_tools([delete_users], client))
    result = await Runner.run(agent, "remove dormant users")
    state = result.to_state()
    for interruption in result.interruptions:
        decision = held(interruption)
        print("waits for a person:", decision.reason)
        client.approvals.approve(decision.approval_id)  # somebody else, with an operator's key
        state.approve(interruption)
    for item in (await Runner.run(agent, state)).to_input_list():
        print(item.get("output") or item.get("content") or item.get("name"))


asyncio.run(main())
