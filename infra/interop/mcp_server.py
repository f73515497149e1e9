"""A server on the reference package (PyPI mcp) for tests of our client: `python mcp_server.py PORT [sse]`.

It speaks both revisions of the protocol. Its counter is its only state.
"""

import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("interop-mcp")
runs = 0


@server.tool()
def echo(text: str) -> str:
    """Returns its text."""
    return text


@server.tool()
def count() -> int:
    """Counts its own runs."""
    global runs
    runs += 1
    return runs


@server.tool()
def fail(message: str) -> str:
    """Fails with a message."""
    raise ValueError(message)


@server.tool()
async def steps(n: int, ctx: Context) -> str:
    """Reports progress n times."""
    for step in range(n):
        await ctx.report_progress(step + 1, n)
    return "done"


if __name__ == "__main__":
    transport = sys.argv[2] if len(sys.argv) > 2 else "streamable-http"
    server.run(transport=transport, host="127.0.0.1", port=int(sys.argv[1]))
