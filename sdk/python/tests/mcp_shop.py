"""An MCP server with the tools of the contract, on whichever version of the SDK is there.

It notes what ran in the file `$SHOP_RAN`, a JSON list a line. With a port it speaks streamable HTTP there,
else over its standard input and output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

try:
    from mcp.server.mcpserver import MCPServer  # 2.x
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer  # 1.x
    from mcp.server.fastmcp.exceptions import ToolError


def ran(*what: Any) -> None:
    with Path(os.environ["SHOP_RAN"]).open("a") as file:
        file.write(json.dumps(what) + "\n")


def shop(**settings: Any) -> MCPServer:
    server = MCPServer("shop", **settings)

    @server.tool()
    def delete_users(ids: list[int]) -> str:
        """Delete users."""
        ran("delete_users", ids)
        return f"{len(ids)} users deleted"

    @server.tool(description=os.environ.get("SHOP_SAYS", "Tell how many users there are."))
    def count_users() -> str:
        ran("count_users", None)
        return "3 users"

    @server.tool()
    def send_mail(to: str) -> str:
        """Send a mail."""
        ran("send_mail", to)
        return f"mail sent to {to}"

    @server.tool()
    def fail(kind: str) -> str:
        """Fail."""
        ran("fail", kind)
        raise ToolError("this is why")  # any other exception's text is kept from clients

    return server


if __name__ == "__main__":
    if len(sys.argv) == 1:
        shop().run()
    elif MCPServer.__name__ == "FastMCP":
        shop(port=int(sys.argv[1])).run("streamable-http")
    else:
        shop().run("streamable-http", port=int(sys.argv[1]))
