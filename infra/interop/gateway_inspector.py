"""The command line of the MCP inspector (npm `@modelcontextprotocol/inspector`) as a client of the gateway, in both generations: it lists, calls,
reads and gets. Each run is a process and a connection of its own.
"""

import json
import os
import subprocess

from processes import GIVE_UP_S, HERE

# The inspector needs Node 22.
NODE = HERE / "node_modules/.bin/node"
INSPECTOR = HERE / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"


def inspector(check, url, folder):
    for era, version in [("legacy", "2025-11-25"), ("modern", "2026-07-28")]:
        run = lambda *arguments, exits=0: cli(url, era, folder, *arguments, exits=exits)
        name = f"MCP inspector, {era}"
        opened = run("--method", "initialize")["result"]
        check(f"{name}: it speaks {version}", opened["protocolVersion"] == version, opened)
        tools = [tool["name"] for tool in run("--method", "tools/list")["result"]["tools"]]
        check(f"{name}: tools are listed", {"get_result", "fastmcp__echo", "every__echo"} <= set(tools), tools)
        called = run("--method", "tools/call", "--tool-name", "fastmcp__echo", "--tool-arg", "text=hello")["result"]
        check(f"{name}: a tool is called", called["content"][0]["text"] == "hello", called)
        failed = run("--method", "tools/call", "--tool-name", "fastmcp__fail", "--tool-arg", "message=broken", exits=5)["result"]
        check(f"{name}: an error of a tool is shown", failed["isError"] and "broken" in json.dumps(failed), failed)
        resources = [one["uri"] for one in run("--method", "resources/list")["result"]["resources"]]
        note = next((uri for uri in resources if "fastmcp~" in uri), "none")
        read = run("--method", "resources/read", "--uri", note)["result"]["contents"][0]
        check(f"{name}: a resource is listed and read", read["uri"] == note and read["text"] == "a note to read", [resources, read])
        templates = run("--method", "resources/templates/list")["result"]["resourceTemplates"]
        check(f"{name}: templates are listed", any("every~" in one["uriTemplate"] for one in templates), templates)
        prompts = [one["name"] for one in run("--method", "prompts/list")["result"]["prompts"]]
        got = run("--method", "prompts/get", "--prompt-name", "fastmcp__greet", "--prompt-args", "who=Ann")["result"]
        check(f"{name}: a prompt is listed and filled in", "fastmcp__greet" in prompts and "Greet Ann." in json.dumps(got), [prompts, got])


def cli(url, era, folder, *arguments, exits=0):
    command = [NODE, INSPECTOR, "--cli", url, "--transport", "http", "--protocol-era", era, "--quiet", "--format", "json", *arguments]
    # It keeps a catalog and tokens in the home folder.
    env = {**os.environ, "HOME": str(folder), "MCP_STORAGE_DIR": str(folder / "inspector")}
    done = subprocess.run(
        [*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GIVE_UP_S, check=False, env=env, cwd=folder
    )
    if done.returncode != exits:
        raise SystemExit(f"FAILED: the inspector ended with {done.returncode}: {arguments}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)
