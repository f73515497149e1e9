"""A client of the Python SDK v1, which has tasks of 2025-11-25, at the gateway: `python gateway_tasks.py URL`, with the packages of
requirements-bridges.txt. Prints one JSON object for each thing it saw.
"""

import asyncio
import json
import sys

from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ElicitResult


def say(what, holds, seen):
    print(json.dumps({"what": what, "holds": bool(holds), "seen": str(seen)}), flush=True)


async def error_of(waited):
    try:
        await waited
    except McpError as error:
        return error.error


async def elicit(_context, params):
    return ElicitResult(action="accept", content={"name": "Ann"}) if params.message == "For whom?" else ElicitResult(action="decline")


async def main(url):
    async with streamable_http_client(url) as (read, write, _), ClientSession(read, write, elicitation_callback=elicit) as session:
        opened = await session.initialize()
        declared = opened.capabilities.tasks
        say("the server takes tasks", declared and declared.requests.tools.call is not None and declared.list is None, declared)
        tasks = session.experimental
        created = await tasks.call_tool_as_task("every__trigger-long-running-operation", {"duration": 2, "steps": 2})
        statuses = [status.status async for status in tasks.poll_task(created.task.taskId)]
        result = await tasks.get_task_result(created.task.taskId, CallToolResult)
        say("a task is polled to its end, and its result is read", statuses[-1] == "completed" and "completed" in result.content[0].text, [statuses, result])
        booked = await session.call_tool("fastmcp__book", {"city": "Ulm"})
        say("a tool that asks its user goes on with the answer", "Ulm for Ann, asked once" in booked.content[0].text, booked)
        asking = await tasks.call_tool_as_task("fastmcp__book", {"city": "Bonn"})
        result = await tasks.get_task_result(asking.task.taskId, CallToolResult)
        say("a task that asks its user goes on with the answer", "Bonn for Ann, asked once" in result.content[0].text, result)
        failed = await tasks.call_tool_as_task("fastmcp__fail", {"message": "broken"})
        # Without polling: the request waits for the end.
        result = await tasks.get_task_result(failed.task.taskId, CallToolResult)
        say("an error of the tool is the result of its task", result.isError and "broken" in result.content[0].text, result)
        slow = await tasks.call_tool_as_task("every__trigger-long-running-operation", {"duration": 30, "steps": 3})
        cancelled = await tasks.cancel_task(slow.task.taskId)
        say("a task is cancelled", cancelled.status == "cancelled", cancelled)
        again = await error_of(tasks.cancel_task(slow.task.taskId))
        say("a task is cancelled once", again and again.code == -32602, again)
        listed = await error_of(tasks.list_tasks())
        say("tasks are not listed", listed and listed.code == -32601, listed)


asyncio.run(main(sys.argv[1]))
