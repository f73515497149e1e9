"""A server on the WebSocket transport of PyPI mcp 1 for tests of our client: `python websocket_server.py PORT`, then
ws://127.0.0.1:PORT/ws. PyPI mcp 2 has no such transport any more, so that it needs `requirements-bridges.txt`.
"""

import sys

import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.websocket import websocket_server
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

server = FastMCP("interop-websocket")


@server.tool()
def echo(text: str) -> str:
    """Returns its text."""
    return text


@server.tool()
async def steps(n: int, ctx: Context) -> str:
    """Reports progress n times."""
    for step in range(n):
        await ctx.report_progress(step + 1, n)
    return "done"


async def serve(websocket):
    async with websocket_server(websocket.scope, websocket.receive, websocket.send) as (read, write):
        inner = server._mcp_server
        await inner.run(read, write, inner.create_initialization_options())


if __name__ == "__main__":
    uvicorn.run(Starlette(routes=[WebSocketRoute("/ws", serve)]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
