"""A LangChain agent whose every tool call is checked. `pip install './sdk/python[langchain]'`"""

from checkrein import Checkrein
from checkrein.integrations.langchain import CheckreinMiddleware
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})
client.policies.create({"name": "ask", "rule": "require_approval", "condition": {"tool": "delete_*"}})


@tool
def delete_users(ids: list[int]) -> str:
    """Delete users."""
    return f"{len(ids)} users deleted"


class Scripted(GenericFakeChatModel):  # stands for a model
    def bind_tools(self, tools, **_):
        return self


calls = [{"name": "delete_users", "args": {"ids": list(range(n))}, "id": f"call-{n}"} for n in (3, 10_000)]
model = Scripted(messages=iter([AIMessage("", tool_calls=calls), AIMessage("done")]))
agent = create_agent(
    model, [delete_users], middleware=[CheckreinMiddleware(client)], checkpointer=InMemorySaver()
)
thread = {"configurable": {"thread_id": "ticket-17"}}
state = agent.invoke({"messages": [("user", "remove dormant users")]}, thread)
question = state["__interrupt__"][0].value
print("waits for a person:", question["reason"])
client.approvals.approve(question["approval_id"])  # somebody else, with an operator's key
for message in agent.invoke(Command(resume=True), thread)["messages"]:
    print(f"{message.type}: {message.content}")
