"""An MCP server on stdio that repeats an unusual behaviour of a public server; the first argument selects it.

chroma: ends at a request before `initialize`. bridge: refuses `initialize` after another request, as a bridge before a server with sessions.
network: reports on stderr for some seconds that it waits for a network. hello: prints lines on stdout that are not messages.
"""

import json
import sys
import time

kind = sys.argv[1]
spoilt = False


def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


if kind == "network":
    for n in range(7):
        print(f"waiting for the network, {n}", file=sys.stderr, flush=True)
    time.sleep(float(sys.argv[2]))
if kind == "hello":
    print("Hello World Server running on stdio\n{ not a message", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if number is None:
        continue
    if method == "server/discover":
        spoilt = True
        if kind == "chroma":
            sys.exit("RuntimeError: Received request before initialization was complete")
        say({"id": number, "error": {"code": -32601, "message": "Method not found"}})
    elif method == "initialize" and kind == "bridge" and spoilt:
        say({"id": number, "error": {"code": -32600, "message": "Bad Request: Server already initialized"}})
    elif method == "initialize":
        info = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": kind, "version": "1"}}
        say({"id": number, "result": info})
    elif method == "tools/list":
        say({"id": number, "result": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}})
    elif method == "tools/call":
        if kind == "hello":
            print("Saying hello", flush=True)
        say({"id": number, "result": {"content": [{"type": "text", "text": f"{kind} says hello"}]}})
    else:
        say({"id": number, "error": {"code": -32601, "message": "Method not found"}})
