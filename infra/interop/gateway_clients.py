"""Real clients at the gateway, with real servers behind it: prompts, resources, templates, completions and tools.

The clients are those of the Python SDK (2026-07-28, and 2025-11-25 with its handshake) and of the TypeScript SDK v2, the command line of the MCP
inspector, and those of the Python and TypeScript SDKs v1, which have the tasks of 2025-11-25. The gateway publishes
server-everything (with sessions, and as a program) and FastMCP; each request goes through SQS and a worker. The Python client is told of the
updates that the program simulates, and of a catalog that is exchanged.
"""

import asyncio
import json
import subprocess

from gateway_inspector import NODE, inspector
from processes import BIN, GIVE_UP_S, HERE, free_port, until

PUBLISHED = {"everything": "every", "fastmcp": True}
# Its updates are simulated for the connection on which a tool is called.
PROGRAM = "every-program"
# The Python SDK v1.
PYTHON_1 = HERE / ".interop/bridges/bin/python"


def gateway_clients(processes, check, folder, env, catalog, program):
    """Starts a gateway in front of the fleet of that environment, and connects the clients to it."""
    parts = {part: PUBLISHED | {program: PROGRAM} for part in ["servers", "prompts", "resources"]}
    of_gateway = folder / "gateway.json"

    def publish(description):
        """One more tool, of which only the gateway knows."""
        tool = {"id": "changing", "server": "fastmcp", "name": "executions", "description": description}
        more = {"tools": [tool], "publish": {**parts, "tools": {"changing": True}, "subscriptions": [program, "everything"]}}
        written = folder / "gateway.json.new"
        written.write_text(json.dumps(json.loads(catalog.read_text()) | more))
        written.rename(of_gateway)

    publish("At first.")
    listen = f"127.0.0.1:{free_port()}"
    command = [BIN / "toolfleet", "gateway", "--json", "--listen", listen, "--tenant", "acme"]
    gateway = processes.start("gateway", command, {**env, "TOOLFLEET_CATALOG": str(of_gateway), "TOOLFLEET_CATALOG_REFRESH_MS": "1000"}, port=int(listen.rsplit(":", 1)[1]))
    for mode in ["auto", "legacy"]:
        asyncio.run(python_client(check, f"http://{listen}/mcp", mode, publish))
    lines_of(check, "TypeScript SDK v2", ["node", HERE / "gateway_client.mjs", f"http://{listen}/mcp"])
    inspector(check, f"http://{listen}/mcp", folder)
    lines_of(check, "TypeScript SDK v1", [NODE, HERE / "gateway_tasks.mjs", f"http://{listen}/mcp"])
    lines_of(check, "Python SDK v1", [PYTHON_1, HERE / "gateway_tasks.py", f"http://{listen}/mcp"])
    until("the gateway", lambda: processes.alive(gateway))
    processes.end(gateway)


async def python_client(check, url, mode, publish):
    from mcp import Client
    from mcp.types import ElicitResult, PromptReference, ResourceTemplateReference

    told, lists = asyncio.Queue(), asyncio.Queue()

    async def hear(message):
        match getattr(message, "method", None):
            case "notifications/resources/updated":
                told.put_nowait(str(message.params.uri))
            case "notifications/tools/list_changed":
                lists.put_nowait(message)

    async def elicit(_context, params):
        return ElicitResult(action="accept", content={"name": "Ann"}) if params.message == "For whom?" else ElicitResult(action="decline")

    async with Client(url, mode=mode, message_handler=hear, elicitation_callback=elicit) as client:
        name = f"Python SDK, {client.protocol_version}"
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        check(f"{name}: prompts of both servers are listed", "fastmcp__greet" in prompts and any(one.startswith("every__") for one in prompts), prompts)
        prompt = await client.get_prompt("fastmcp__greet", {"who": "Ann"})
        check(f"{name}: a prompt is filled in", "Greet Ann." in prompt.model_dump_json(), prompt)
        resources = (await client.list_resources()).resources
        note = next((str(one.uri) for one in resources if "fastmcp~" in str(one.uri)), "none")
        text = (await client.read_resource(note)).contents[0].text
        check(f"{name}: a resource is read by its published address", text == "a note to read", [note, text])
        static = next(str(one.uri) for one in resources if "every~" in str(one.uri))
        contents = (await client.read_resource(static)).contents[0]
        check(f"{name}: the answer has the address that was asked for", str(contents.uri) == static, [static, contents])
        templates = [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
        template = next((one for one in templates if "every~" in one and "text" in one), "none")
        read = await client.read_resource(template.replace("{resourceId}", "1"))
        check(f"{name}: an address that a template gives is read", "every~" in str(read.contents[0].uri), [templates, read])
        completed = await client.complete(ResourceTemplateReference(type="ref/resource", uri=template), {"name": "resourceId", "value": "1"})
        check(f"{name}: an argument of a template is completed", completed.completion.values, completed)
        completed = await client.complete(PromptReference(type="ref/prompt", name="fastmcp__greet"), {"name": "who", "value": "A"})
        check(f"{name}: a server without completions suggests nothing", completed.completion.values == [], completed)
        try:
            missing = await client.read_resource("note://fastmcp~/none")
        except Exception as error:  # noqa: BLE001: each SDK has its own error types
            missing = error
        check(f"{name}: a resource that is not there is an error", isinstance(missing, Exception), missing)
        booked = await client.call_tool("fastmcp__book", {"city": "Ulm"})
        check(f"{name}: a tool that asks its user goes on with the answer", "Ulm for Ann, asked once" in booked.model_dump_json(), booked)
        linked = await client.call_tool("every__get-resource-links", {"count": 2})
        links = [str(block.uri) for block in linked.content if block.type == "resource_link"]
        reads = [(await client.read_resource(link)).contents[0] for link in links]
        check(f"{name}: the links of a tool's result are read", len(links) == 2 and len(reads) == 2, linked)
        watched = next(str(one.uri) for one in resources if f"{PROGRAM}~" in str(one.uri))
        toggle = lambda: client.call_tool(f"{PROGRAM}__toggle-subscriber-updates", {})
        if mode == "legacy":
            await client.subscribe_resource(watched)
            await toggle()
            seen = await asyncio.wait_for(told.get(), 30)
            await client.unsubscribe_resource(watched)
        else:
            async with client.listen(resource_subscriptions=[watched]) as subscription:
                await toggle()
                seen = await asyncio.wait_for(anext(aiter(subscription)), 30)
        await toggle()
        check(f"{name}: it is told of an update of a resource", watched in str(seen), seen)
        if mode == "legacy":
            publish("As an older client sees it.")
            heard = await asyncio.wait_for(lists.get(), 30)
        else:
            async with client.listen(tools_list_changed=True) as subscription:
                publish("As a client of 2026-07-28 sees it.")
                heard = await asyncio.wait_for(anext(aiter(subscription)), 30)
        tools = {tool.name: tool.description for tool in (await client.list_tools()).tools}
        check(f"{name}: it is told of another list of tools, and finds it", tools.get("changing", "").endswith("sees it."), [heard, tools.get("changing")])


def lines_of(check, name, command):
    """Runs a client that prints what it sees."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=GIVE_UP_S, check=False, stdin=subprocess.DEVNULL)
    check(f"{name}: the client ends well", done.returncode == 0, done.stdout + done.stderr)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        of = f"{name}, {found['mode']}" if "mode" in found else name
        check(f"{of}: {found['what']}", found["holds"], found)
