"""An MCP server whose operator has a bad day: `python operate_server.py PORT FILE`. It writes the key of each execution to the file, which outlives it."""

import asyncio
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("crm")
executions = open(sys.argv[2], "a", buffering=1)


async def execute(tool, key):
    executions.write(f"{tool} {key}\n")
    await asyncio.sleep(0.2)
    return key


@server.tool()
async def find(key: str) -> str:
    """Finds a customer: safe to repeat."""
    return await execute("find", key)


@server.tool()
async def charge(key: str) -> str:
    """Charges a customer: not safe to repeat."""
    return await execute("charge", key)


if __name__ == "__main__":
    server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
