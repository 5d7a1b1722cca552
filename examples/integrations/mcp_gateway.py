"""An MCP client and server with the gateway between them: `checkrein mcp --name shop -- COMMAND`."""

import asyncio
import os
import sys
import tempfile

from checkrein import Checkrein
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("shop")
@server.tool()
def delete_users(ids: list[int]) -> str:
    return f"{len(ids)} users deleted"
server.run()
"""
FEW = {"category": "delete", "record_count_exceeds": 25}


async def main() -> None:
    with Checkrein() as admin:
        admin.policies.apply([{"name": "few", "rule": "block", "condition": FEW}])
    with tempfile.TemporaryDirectory() as state:
        command = ["mcp", "--name", "shop", "--state", state, "--", sys.executable, "-c", SERVER]
        gateway = StdioServerParameters(
            command=os.environ.get("CHECKREIN_BIN", "checkrein"), args=command, env=dict(os.environ)
        )
        async with stdio_client(gateway) as (reads, writes), ClientSession(reads, writes) as client:
            await client.initialize()
            for ids in ([1, 2, 3], list(range(10_000))):
                result = await client.call_tool("delete_users", {"ids": ids})
                print(result.content[0].text)


asyncio.run(main())
