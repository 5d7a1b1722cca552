"""A Claude agent whose tool calls are checked, built-in ones too. `pip install './sdk/python[claude]'`"""

import sys
from pathlib import Path

import anyio
from checkrein import Checkrein
from checkrein.integrations.claude import checkrein_hooks
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, create_sdk_mcp_server, query, tool

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk/python/tests"))
from claude_server import claude

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"category": "delete", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})


@tool("delete_users", "Delete users.", {"ids": list})
async def delete_users(arguments):
    return {"content": [{"type": "text", "text": f"{len(arguments['ids'])} users deleted"}]}


async def main() -> None:
    options = ClaudeAgentOptions(
        hooks=checkrein_hooks(client),
        mcp_servers={"shop": create_sdk_mcp_server("shop", tools=[delete_users])},
        allowed_tools=["mcp__shop__delete_users"],
        env={"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-dummy"},
    )
    async for message in query(prompt="remove dormant users", options=options):
        if isinstance(message, ResultMessage):
            print(message.result, *model.read(), sep="\n")


calls = [("mcp__shop__delete_users", {"ids": list(range(n))}) for n in (10_000, 3)]
with claude([calls]) as model:
    anyio.run(main)
