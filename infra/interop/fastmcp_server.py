"""Owns a FastMCP server to run our client against: `python fastmcp_server.py PORT`, then http://127.0.0.1:PORT/mcp.

It speaks both generations of the protocol. Invariant: `executions` tells how often `count` ran, so that a lost answer
can be told from a call that never ran.
"""

import sys

from fastmcp import Context, FastMCP

server = FastMCP("interop-fastmcp")
runs = 0


@server.tool(annotations={"readOnlyHint": True})
def echo(text: str) -> str:
    """Returns its text."""
    return text


@server.tool
def count() -> int:
    """Counts its own runs."""
    global runs
    runs += 1
    return runs


@server.tool(annotations={"readOnlyHint": True})
def executions() -> int:
    """How often `count` ran."""
    return runs


@server.tool
def fail(message: str) -> str:
    """Fails with a message."""
    raise ValueError(message)


@server.tool
async def steps(n: int, ctx: Context) -> str:
    """Reports progress n times."""
    for step in range(n):
        await ctx.report_progress(step + 1, n)
    return "done"


if __name__ == "__main__":
    server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
