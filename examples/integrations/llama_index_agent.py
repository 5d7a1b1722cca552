"""A LlamaIndex agent whose every tool call is checked. `pip install './sdk/python[llama-index]'`"""

import asyncio

from checkrein import Checkrein
from checkrein.integrations.llama_index import checked_tools
from llama_index.core.agent.workflow import ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.mock import MockLLM

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
limit = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": limit})


def delete_users(ids: list[int]) -> str:
    """Delete users."""
    return f"{len(ids)} users deleted"


answers = [  # stand for a model's
    *(f'Thought: t\nAction: delete_users\nAction Input: {{"ids": {list(range(n))}}}' for n in (10_000, 3)),
    "Thought: I can answer.\nAnswer: done",
]


class Scripted(MockLLM):
    async def achat(self, messages, **_):
        return ChatResponse(message=ChatMessage(role="assistant", content=answers.pop(0)))


async def main() -> None:
    agent = ReActAgent(llm=Scripted(), tools=checked_tools([delete_users], client), streaming=False)
    async for event in agent.run("remove dormant users").stream_events():
        if isinstance(event, ToolCallResult):
            print("the model reads:", event.tool_output.content)


asyncio.run(main())
