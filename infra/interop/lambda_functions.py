"""Lambda functions as awslabs' own libraries make them of MCP servers (PyPI `run-mcp-servers-with-aws-lambda` and `awslabs.mcp-lambda-handler`),
behind an endpoint that invokes them as Lambda does.

`python lambda_functions.py PORT` is the endpoint, `python lambda_functions.py stdio` the MCP server that is wrapped; both need
`requirements-bridges.txt`. `Functions` starts it for `run.py`, gives the entries for the catalog, and has the checks.
"""

import json
import sys
import urllib.parse

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000:function"
# Each function: the payload form, and whether it keeps sessions.
FUNCTIONS = {"message": "mcp", "rest": "api-gateway", "http": "api-gateway", "handler": "api-gateway", "sessions": "api-gateway"}


class Functions:
    def __init__(self, processes, here, free_port):
        self.port = free_port()
        python = here / ".interop/bridges/bin/python"
        processes.start("lambda", [python, here / "lambda_functions.py", self.port], port=self.port)

    @property
    def environment(self):
        return {"AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{self.port}"}

    @property
    def servers(self):
        entry = lambda name, form: {"id": f"lambda-{name}", "lambda": f"{ACCOUNT}:{name}", "payload": form, "discover": True}
        return [entry(name, form) for name, form in FUNCTIONS.items()]

    def check(self, check, call, text, asked, result):
        for name in FUNCTIONS:
            server = f"lambda-{name}"
            # Each event starts a Python program, which takes seconds on a busy machine. The list of tools has a third of a lease (run.py), and is asked
            # for again if it comes late.
            item = call(server, "echo", {"text": "hello"}, session="talk", timeout_ms=120_000)
            check(f"{server}: a function of awslabs' library is called", item["outcome"]["S"] == "succeeded" and "hello" in text(item), item)
            tools = [tool["name"] for tool in result(asked(server, "tools/list", {})).get("tools", [])]
            check(f"{server}: its tools are listed", "echo" in tools, tools)
        counts = [text(call("lambda-sessions", "count", {}, session=session)) for session in ["talk", "talk", "other"]]
        check("lambda-sessions: a function keeps what a session has, and nothing for another one", counts == ["1", "2", "1"], counts)


def stdio_server():
    from mcp.server.fastmcp import FastMCP

    server = FastMCP("wrapped")

    @server.tool()
    def echo(text: str) -> str:
        return text

    server.run()


def handlers():
    """What each function does with an event."""
    from awslabs.mcp_lambda_handler import MCPLambdaHandler
    from awslabs.mcp_lambda_handler.session import SessionStore
    from mcp.client.stdio import StdioServerParameters
    from mcp_lambda import APIGatewayProxyEventHandler, APIGatewayProxyEventV2Handler, StdioServerAdapterRequestHandler, stdio_server_adapter

    wrapped = StdioServerParameters(command=sys.executable, args=[__file__, "stdio"])
    requests = StdioServerAdapterRequestHandler(wrapped)

    class Memory(SessionStore):
        def __init__(self):
            self.sessions = {}

        def create_session(self, session_data=None):
            session_id = f"session-{len(self.sessions)}"
            self.sessions[session_id] = session_data or {}
            return session_id

        def get_session(self, session_id):
            return self.sessions.get(session_id)

        def update_session(self, session_id, session_data):
            self.sessions[session_id] = session_data
            return True

        def delete_session(self, session_id):
            return self.sessions.pop(session_id, None) is not None

    def of_handler(store):
        handler = MCPLambdaHandler(name="handler", version="1", session_store=store)

        @handler.tool()
        def echo(text: str) -> str:
            """Says it again."""
            return text

        @handler.tool()
        def count() -> str:
            """How often the session has counted."""
            session = handler.get_session()
            session.set("n", session.get("n", 0) + 1)
            handler.set_session(session.raw())
            return str(session.get("n"))

        return handler.handle_request

    return {
        "message": lambda event, context: stdio_server_adapter(wrapped, event, context),
        "rest": APIGatewayProxyEventHandler(requests).handle,
        "http": APIGatewayProxyEventV2Handler(requests).handle,
        "handler": of_handler(None),
        "sessions": of_handler(Memory()),
    }


def endpoint(port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    functions = handlers()

    class Lambda(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            arn = urllib.parse.unquote(self.path.split("/")[3])
            event = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers, answer = {}, b""
            if self.headers.get("x-amz-invocation-type") != "DryRun":
                try:
                    answer = json.dumps(functions[arn.split(":")[6]](json.loads(event), None)).encode()
                except Exception as error:
                    headers = {"x-amz-function-error": "Unhandled"}
                    answer = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()
            self.send_response(200)
            for name, value in {**headers, "content-type": "application/json", "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

    ThreadingHTTPServer(("127.0.0.1", port), Lambda).serve_forever()


if __name__ == "__main__":
    stdio_server() if sys.argv[1] == "stdio" else endpoint(int(sys.argv[1]))
