"""MCP over WebSocket and over the HTTP+SSE transport of 2024-11-05: the bridges that people start in front of stdio servers
(npm supergateway, PyPI mcp-proxy), and the servers of the Python SDK and FastMCP.

`Bridges` starts them and gives their entries for the catalog; `check` calls a tool of each through SQS, with the bridge killed
between two calls and in the middle of one.
"""

import json
import shlex
import signal
import time
import uuid

SUPERGATEWAY = "node_modules/supergateway/dist/index.js"


class Bridges:
    def __init__(self, processes, here, python, node, everything, free_port):
        self.processes, self.here, self.python, self.node, self.everything = processes, here, python, node, everything
        names = ["gateway-ws", "gateway-sse", "proxy-sse", "python-ws", "python-sse", "fastmcp-sse"]
        self.ports = {name: free_port() for name in names}
        self.running = {name: self.start(name) for name in names}

    def start(self, name):
        bridged = self.here / ".interop/bridges/bin"
        program = [self.node, str(self.everything), "stdio"]
        gateway = [self.node, self.here / SUPERGATEWAY, "--stdio", shlex.join(program), "--port", self.ports[name], "--outputTransport"]
        command = {
            "gateway-ws": [*gateway, "ws", "--messagePath", "/message"],
            "gateway-sse": [*gateway, "sse"],
            "proxy-sse": [bridged / "mcp-proxy", "--port", self.ports[name], "--", *program],
            "python-ws": [bridged / "python", self.here / "websocket_server.py", self.ports[name]],
            "python-sse": [self.python, self.here / "mcp_server.py", self.ports[name], "sse"],
            "fastmcp-sse": [self.python, self.here / "fastmcp_server.py", self.ports[name], "sse"],
        }[name]
        return self.processes.start(name, command, port=self.ports[name])

    def restart(self, name):
        self.processes.end(self.running[name], signal.SIGKILL)
        self.running[name] = self.start(name)

    @property
    def servers(self):
        def entry(name, url, **more):
            return {"id": name, "url": url, "discover": True, "progress": True, **more}

        at = lambda name: f"127.0.0.1:{self.ports[name]}"
        return [
            entry("gateway-ws", f"ws://{at('gateway-ws')}/message"),
            entry("python-ws", f"ws://{at('python-ws')}/ws", transport="websocket"),
            *(entry(name, f"http://{at(name)}/sse", transport="sse") for name in ["gateway-sse", "proxy-sse", "python-sse", "fastmcp-sse"]),
            # Registered as streamable HTTP: what it speaks is found out.
            entry("found-sse", f"http://{at('proxy-sse')}/sse"),
            entry("refused-ws", f"ws://{at('python-ws')}/nowhere"),
        ]

    def check(self, check, call, text, send, row, until, long_tool):
        argument = {"gateway-ws": "message", "gateway-sse": "message", "proxy-sse": "message", "found-sse": "message"}
        for name in ["gateway-ws", "python-ws", "gateway-sse", "proxy-sse", "python-sse", "fastmcp-sse", "found-sse"]:
            for session in ["talk", "talk", None]:
                more = {"session": session} if session else {}
                item = call(name, "echo", {argument.get(name, "text"): "hello"}, **more)
                check(f"{name}: echo succeeds through SQS and a worker{', in a conversation' if session else ''}",
                      item["outcome"]["S"] == "succeeded" and "hello" in text(item), item)
        for name in ["python-ws", "python-sse", "fastmcp-sse"]:
            item = call(name, "steps", {"n": 3})
            check(f"{name}: its progress is kept with the call", item.get("progress", {}).get("N") == item.get("progress_total", {}).get("N") == "3", item)
        item = call("refused-ws", "echo", {"text": "x"})
        check("an upgrade that is refused ends the call, and says that nothing ran", item["outcome"]["S"] == "failed" and item["may_have_run"]["S"] == "no", item)

        for name in ["gateway-ws", "python-ws", "gateway-sse", "proxy-sse", "python-sse"]:
            self.restart(name)
            item = call(name, "echo", {argument.get(name, "text"): "again"}, session="talk")
            check(f"{name}: killed and started between two calls of a session, the next call succeeds", item["outcome"]["S"] == "succeeded" and "again" in text(item), item)

        for name in ["gateway-ws", "proxy-sse"]:
            for idempotent, outcome in [(True, "succeeded"), (False, "outcome_unknown")]:
                call_id = str(uuid.uuid4())
                body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": name, "name": long_tool, "timeout_ms": 60000,
                        "arguments": {"duration": 3, "steps": 2}, "session": f"kill-{idempotent}", "idempotent": idempotent}
                call(name, "echo", {"message": "open"}, session=f"kill-{idempotent}")
                send(json.dumps(body))
                time.sleep(1.5)  # It works for three seconds.
                self.restart(name)
                item = until(f"the end of a call whose bridge {name} was killed", lambda: row(call_id))
                check(f"{name}: killed in the middle of a call that is {'' if idempotent else 'not '}safe to repeat: {outcome}", item["outcome"]["S"] == outcome, item)
