"""An MCP server of version 2025-11-25 with sessions: `python rights_server.py PORT`. `lose` forgets all sessions, so that the next call opens one anew."""

import json
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "2025-11-25"
sessions = set()


def tool(name, read_only=True):
    return {"name": name, "description": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": read_only}}


TOOLS = [tool("echo"), tool("wait"), tool("fail"), tool("limited"), tool("lose", read_only=False)]


def call(params):
    name, arguments = params["name"], params.get("arguments") or {}
    if name == "wait":
        time.sleep(arguments["seconds"])
    if name == "lose":
        sessions.clear()
    return {"content": [{"type": "text", "text": str(arguments.get("text", name))}], "isError": name == "fail"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None, session=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if session:
            self.send_header("mcp-session-id", session)
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer(405)

    def do_DELETE(self):
        sessions.discard(self.headers.get("mcp-session-id"))
        self.answer(200)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ident, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method == "initialize":
            session = str(uuid.uuid4())
            sessions.add(session)
            result = {"protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": {"name": "rights", "version": "1"}}
            return self.answer(200, {"jsonrpc": "2.0", "id": ident, "result": result}, session)
        if self.headers.get("mcp-session-id") not in sessions:
            known = self.headers.get("mcp-session-id")
            error = {"code": -32600, "message": "no such session" if known else "initialize first"}
            return self.answer(404 if known else 400, {"jsonrpc": "2.0", "id": ident, "error": error})
        if ident is None:
            return self.answer(202)
        result = {"tools/list": lambda: {"tools": TOOLS}, "tools/call": lambda: call(params), "ping": dict}[method]()
        return self.answer(200, {"jsonrpc": "2.0", "id": ident, "result": result})


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
