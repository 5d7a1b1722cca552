"""A Pydantic AI agent whose every tool call is checked. `pip install './sdk/python[pydantic-ai]'`"""

from checkrein import Checkrein
from checkrein.integrations.pydantic_ai import CheckreinCapability
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})
client.policies.create({"name": "ask", "rule": "require_approval", "condition": {"tool": "delete_*"}})


def says(messages, _):  # stands for a model
    if len(messages) > 1:
        return ModelResponse(parts=[TextPart("done")])
    calls = [ToolCallPart("delete_users", {"ids": list(range(n))}) for n in (10_000, 3)]
    return ModelResponse(parts=calls)


def delete_users(ids: list[int]) -> str:
    return f"{len(ids)} users deleted"


kinds = [str, DeferredToolRequests]
gate = CheckreinCapability(client)
agent = Agent(FunctionModel(says), tools=[delete_users], capabilities=[gate], output_type=kinds)
result = agent.run_sync("remove dormant users")
for call in result.output.approvals:
    question = result.output.metadata[call.tool_call_id]
    print("waits for a person:", question["reason"])
    client.approvals.approve(question["approval_id"])  # somebody else, with an operator's key
yes = DeferredToolResults(approvals={call.tool_call_id: True for call in result.output.approvals})
result = agent.run_sync(message_history=result.all_messages(), deferred_tool_results=yes)
for message in result.all_messages():
    print(*(part.content for part in message.parts if hasattr(part, "content")), sep="\n")
