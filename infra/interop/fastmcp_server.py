"""A FastMCP server for tests of our client: `python fastmcp_server.py PORT [sse]`, then http://127.0.0.1:PORT/mcp.

It speaks both revisions of the protocol. `executions` returns how often `count` ran, which distinguishes a lost answer from a
call that never ran.
"""

import json
import sys

from fastmcp import Context, FastMCP
from fastmcp.server.dependencies import get_http_headers
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

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


@server.tool(annotations={"readOnlyHint": True})
def trace(ctx: Context) -> str:
    """The trace context of its own call: as a header, and in the request's _meta."""
    meta = ctx.request_context.meta
    meta = meta.model_dump() if hasattr(meta, "model_dump") else dict(meta or {})
    return json.dumps({"header": get_http_headers().get("traceparent"), "meta": meta.get("traceparent")})


@server.tool
async def steps(n: int, ctx: Context) -> str:
    """Reports progress n times."""
    for step in range(n):
        await ctx.report_progress(step + 1, n)
    return "done"


@server.tool
def book(city: str, ctx: Context) -> str | InputRequiredResult:
    """Asks for whom before it books."""
    answer = (ctx.input_responses or {}).get("who")
    if answer is None:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        question = ElicitRequest(params=ElicitRequestFormParams(message="For whom?", requested_schema=schema))
        return InputRequiredResult(input_requests={"who": question}, request_state="asked once")
    return f"{city} for {answer.content['name']}, {ctx.request_state}"


@server.resource("note://greeting")
def greeting() -> str:
    """A note."""
    return "a note to read"


@server.prompt
def greet(who: str) -> str:
    """A prompt."""
    return f"Greet {who}."


if __name__ == "__main__":
    transport = sys.argv[2] if len(sys.argv) > 2 else "http"
    server.run(transport=transport, host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
