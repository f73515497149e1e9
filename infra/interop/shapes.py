"""Programs that behave unusually, as public ones do: each is called through SQS and a worker, or fails with the reason."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
ODD = str(HERE / "odd_program.py")


def odd_programs(python, node, everything_url):
    """Their entries for the catalog. supergateway is the real one, before a server that is bound to its session."""
    gateway = str(HERE / "node_modules/supergateway/dist/index.js")
    odd = lambda kind, *more: {"id": kind, "command": python, "args": [ODD, kind, *more], "discover": True}
    return [
        odd("chroma"), odd("bridge"), odd("hello"), odd("network", "6"),
        {**odd("network", "600"), "id": "offline", "start_timeout_ms": 1500},
        {"id": "gateway", "command": node, "args": [gateway, "--streamableHttp", everything_url], "discover": True},
        {"id": "missing", "command": "no-such-mcp-server", "discover": True},
        {"id": "openapi", "command": python, "args": [str(HERE / "openapi_server.py")], "discover": True},
    ]


def shapes(check, call, text, toolfleet):
    for server in ["chroma", "bridge", "hello", "network"]:
        item = call(server, "echo", {})
        check(f"{server}: called like any other program", item["outcome"]["S"] == "succeeded" and "says hello" in text(item), item)
    for message in ["first", "second"]:
        item = call("gateway", "echo", {"message": message})
        check(f"supergateway: the {message} call reaches the server behind it", item["outcome"]["S"] == "succeeded" and message in text(item), item)
    item = call("missing", "echo", {})
    sentence = item["message"]["S"]
    check("a missing command is told at once", item["code"]["S"] == "server_unreachable" and "no-such-mcp-server" in sentence and "PATH" in sentence, item)
    item = call("offline", "echo", {}, timeout_ms=8000)
    sentence = item["message"]["S"]
    check("a program that waits for a network too long is a server that is away", item["outcome"]["S"] in ("failed", "expired"), item)

    printed = json.loads(toolfleet("call", "--tenant", "acme", "--server", "openapi", "--operation", "tools/list", "--json"))
    names = {tool["name"] for tool in printed["content"]["tools"]}
    check("all 1,224 tools of an OpenAPI document are listed", len(names) == 1224, len(names))
