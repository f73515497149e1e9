"""The tools, prompts and resources that the official conformance suite wants of a server, as an MCP server of version 2026-07-28:
`python gateway_tools.py PORT`.

The gateway publishes them: a scenario proves the way from the gateway through SQS and a worker to this server, and back.
"""

import base64
import contextlib
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "2026-07-28"
# One red pixel, and an empty wave.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00@\x1f\x00\x00@\x1f\x00\x00\x01\x00\x08\x00data\x00\x00\x00\x00").decode()
EMBEDDED = {"uri": "test://embedded-resource", "mimeType": "text/plain", "text": "This is an embedded resource content."}
JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def form(message, **properties):
    """A question: a form with these fields."""
    fields = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def ask(state=None, **questions):
    more = {} if state is None else {"requestState": state}
    return {"resultType": "input_required", "inputRequests": questions, **more}


def given(params, key):
    """The content of an answer."""
    return (params.get("inputResponses") or {}).get(key, {}).get("content", {})


def asks_once(key, question, done, state=None):
    """A tool that asks for one thing and then ends."""

    def run(params, _report):
        if key not in (params.get("inputResponses") or {}):
            return ask(state, **{key: question})
        if state is not None and params.get("requestState") != state:
            raise ValueError("the state is another one")
        return text(done(params))

    return run


SAMPLING = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "What is the capital of France?"}}], "maxTokens": 100},
}
ROOTS = {"method": "roots/list", "params": {}}


def sampled(params, _report):
    """What clients before 2026-07-28 are asked within their request: here, as a result that the gateway turns into one."""
    if (answer := (params.get("inputResponses") or {}).get("answer")) is None:
        says = {"role": "user", "content": {"type": "text", "text": params["arguments"]["prompt"]}}
        return ask(answer={"method": "sampling/createMessage", "params": {"messages": [says], "maxTokens": 100}})
    return text(f"LLM response: {answer['content']['text']}")


def elicits(properties, required=()):
    """A tool that asks for these fields, and says what was answered."""

    def run(params, _report):
        if (answer := (params.get("inputResponses") or {}).get("form")) is None:
            schema = {"type": "object", "properties": properties, "required": list(required)}
            message = params.get("arguments", {}).get("message", "Please fill in the form")
            return ask(form={"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}})
        return text(f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content', {}))}")

    return run


PERSON = {"username": {"type": "string", "description": "User's response"}, "email": {"type": "string", "description": "User's email address"}}
DEFAULTS = {
    "name": {"type": "string", "description": "User name", "default": "John Doe"},
    "age": {"type": "integer", "description": "User age", "default": 30},
    "score": {"type": "number", "description": "User score", "default": 95.5},
    "status": {"type": "string", "description": "User status", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "description": "Verification status", "default": True},
}
OPTIONS = ["option1", "option2", "option3"]
TITLED = [{"const": f"value{n}", "title": f"{name} Option"} for n, name in enumerate(["First", "Second", "Third"], 1)]
ENUMS = {
    "untitledSingle": {"type": "string", "description": "Select one option", "enum": OPTIONS},
    "titledSingle": {"type": "string", "description": "Select one option with titles", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "description": "Select one option", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "description": "Select several options", "minItems": 1, "maxItems": 3, "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "description": "Select several options with titles", "minItems": 1, "maxItems": 3, "items": {"anyOf": TITLED}},
}


def multi_round(params, _report):
    rounds = {None: ("step1", "Step 1: What is your name?", "name", "round-1"), "round-1": ("step2", "Step 2: What is your favorite color?", "color", "round-2")}
    state = params.get("requestState")
    if state not in rounds:
        return text("All rounds are done.")
    key, message, field, following = rounds[state]
    return ask(following, **{key: form(message, **{field: "string"})})


def several(params, _report):
    wanted = {"user_name": form("What is your name?", name="string"), "greeting": SAMPLING, "client_roots": ROOTS}
    if wanted.keys() - (params.get("inputResponses") or {}).keys():
        return ask("several", **wanted)
    return text("Everything was given.")


def with_progress(_params, report):
    for progress in (0, 50, 100):
        report(progress, 100)
        # Workers of this test store progress once a second.
        time.sleep(1.5)
    return text("Progress was reported.")


def slow_compute(params, _report):
    seconds = float(params.get("arguments", {}).get("seconds", 1))
    time.sleep(seconds)
    return text(f"Computed for {seconds} s.")


def failing_job(_params, _report):
    time.sleep(1)
    return text("This job always fails.", isError=True)


def protocol_error_job(_params, _report):
    time.sleep(1)
    raise ValueError("the job panics")


def with_task(params, _report):
    name = given(params, "user_name").get("name")
    if name is None:
        return ask(**{"user_name": form("What is your name?", name="string")})
    time.sleep(1.5)
    return text(f"Hello, {name}!")


def multi_input(params, _report):
    """Asks for two things at once."""
    wanted = {"name": HELLO, "consent": CONFIRM}
    if wanted.keys() - (params.get("inputResponses") or {}).keys():
        time.sleep(1)
        return ask("both", **wanted)
    return text("Both were given.")


def as_declared(params, _report):
    """Asks for what the client has declared, and for nothing else."""
    declared = params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    known = {"elicitation": HELLO, "sampling": SAMPLING, "roots": ROOTS}
    wanted = {name: question for name, question in known.items() if name in declared}
    if wanted.keys() - (params.get("inputResponses") or {}).keys():
        return ask("declared", **wanted)
    return text("What was declared was given.")


def confirm_delete(params, _report):
    if "confirm" not in (params.get("inputResponses") or {}):
        time.sleep(1)
        return ask(confirm=form("Delete it?", confirm="boolean"))
    return text("Deleted.")


HELLO = form("What is your name?", name="string")
CONFIRM = form("Please confirm", ok="boolean")
NO_ARGUMENTS = {"type": "object", "properties": {}}


# How often each list was changed.
CHANGES = {"tools": 0, "prompts": 0}


def changes(what):
    """A tool that makes its server list something else: the description of one entry."""

    def run(_params, _report):
        CHANGES[what] += 1
        return text(f"The list of {what} is another one.")

    return run


def fixed(result):
    return lambda _params, _report: result


TOOLS = {
    "test_simple_text": fixed(text("This is a simple text response for testing.")),
    "test_image_content": fixed({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}]}),
    "test_audio_content": fixed({"content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]}),
    "test_embedded_resource": fixed({"content": [{"type": "resource", "resource": EMBEDDED}]}),
    "test_multiple_content_types": fixed(
        {
            "content": [
                {"type": "text", "text": "Multiple content types test:"},
                {"type": "image", "data": PNG, "mimeType": "image/png"},
                {
                    "type": "resource",
                    "resource": {"uri": "test://mixed-content-resource", "mimeType": "application/json", "text": '{"test":"data","value":123}'},
                },
            ]
        }
    ),
    "test_error_handling": fixed(text("This tool intentionally returns an error for testing", isError=True)),
    "test_tool_with_progress": with_progress,
    "json_schema_2020_12_tool": fixed(text("The schema is kept.")),
    "test_custom_headers": fixed(text("The header fits.")),
    "test_missing_capability": asks_once("capital", SAMPLING, lambda params: "done"),
    "test_input_required_result_elicitation": asks_once("user_name", HELLO, lambda params: f"Hello, {given(params, 'user_name').get('name')}!"),
    "test_input_required_result_sampling": asks_once("capital_question", SAMPLING, lambda params: "The capital is known."),
    "test_input_required_result_list_roots": asks_once("client_roots", ROOTS, lambda params: "The roots are known."),
    "test_input_required_result_request_state": asks_once("confirm", CONFIRM, lambda params: "state-ok", "the state"),
    "test_input_required_result_tampered_state": asks_once("confirm", CONFIRM, lambda params: "state-ok", "another state"),
    "test_input_required_result_multiple_inputs": several,
    "test_input_required_result_multi_round": multi_round,
    "test_streaming_elicitation": asks_once("user_name", HELLO, lambda params: "done"),
    "test_sampling": sampled,
    "test_elicitation": elicits(PERSON, PERSON),
    "test_elicitation_sep1034_defaults": elicits(DEFAULTS),
    "test_elicitation_sep1330_enums": elicits(ENUMS),
    "test_logging_tool": fixed(text("Nothing is logged.")),
    "test_trigger_tool_change": changes("tools"),
    "test_trigger_prompt_change": changes("prompts"),
    "greet": lambda params, _report: text(f"Hello, {params['arguments'].get('name')}!"),
    "slow_compute": slow_compute,
    "failing_job": failing_job,
    "protocol_error_job": protocol_error_job,
    "confirm_delete": confirm_delete,
    "multi_input": multi_input,
    "test_input_required_result_capabilities": as_declared,
    "test_tool_with_task": with_task,
}
SCHEMAS = {
    "json_schema_2020_12_tool": JSON_SCHEMA,
    "test_custom_headers": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}, "required": ["region"]},
    "test_sampling": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
    "greet": {"type": "object", "properties": {"name": {"type": "string"}}},
    "slow_compute": {"type": "object", "properties": {"seconds": {"type": "number"}, "label": {"type": "string"}}},
    "confirm_delete": {"type": "object", "properties": {"filename": {"type": "string"}}},
}

RESOURCES = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "It stays as it is."},
}
TEMPLATE = "test://template/{id}/data"


def read(uri):
    """The result of resources/read."""
    if (found := re.fullmatch("test://template/([^/]+)/data", uri)) is not None:
        contents = {"mimeType": "application/json", "text": json.dumps({"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"})}
    elif uri in RESOURCES:
        contents = RESOURCES[uri]
    else:
        raise ValueError(f"Resource not found: {uri}")
    return {"contents": [{"uri": uri, **contents}], "ttlMs": 1000, "cacheScope": "public"}


def message(content):
    return {"role": "user", "content": content}


def says(words):
    return message({"type": "text", "text": words})


def embedding(arguments):
    resource = {"uri": arguments["resourceUri"], "mimeType": "text/plain", "text": "Embedded resource content for testing."}
    return [message({"type": "resource", "resource": resource}), says("Please process the embedded resource above.")]


PROMPTS = {
    "test_simple_prompt": ([], lambda _: [says("This is a simple prompt for testing.")]),
    "test_prompt_with_arguments": (["arg1", "arg2"], lambda given: [says(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]),
    "test_prompt_with_embedded_resource": (["resourceUri"], embedding),
    "test_prompt_with_image": (
        [],
        lambda _: [message({"type": "image", "data": PNG, "mimeType": "image/png"}), says("Please analyze the image above.")],
    ),
    "test_input_required_result_prompt": ([], lambda _: [says("The context is known.")]),
}


def prompt(params):
    """The result of prompts/get."""
    name = params["name"]
    if name not in PROMPTS:
        raise ValueError(f"Unknown prompt: {name}")
    if name == "test_input_required_result_prompt" and "user_context" not in (params.get("inputResponses") or {}):
        return ask(user_context=form("What context should the prompt use?", context="string"))
    return {"messages": PROMPTS[name][1](params.get("arguments") or {})}


def listed_prompts():
    """The entries of prompts/list."""
    described = lambda name: {"name": name, "description": f"The argument {name}.", "required": True}
    return [
        {"name": name, "description": f"The prompt {name} of the conformance suite, {CHANGES['prompts']}.", "arguments": [described(one) for one in arguments]}
        for name, (arguments, _) in PROMPTS.items()
    ]


def listed_resources():
    """The entries of resources/list."""
    return [
        {"uri": uri, "name": uri.removeprefix("test://"), "description": "A resource of the conformance suite.", "mimeType": contents["mimeType"]}
        for uri, contents in RESOURCES.items()
    ]


READS = {
    "resources/list": lambda _: {"resources": listed_resources(), "ttlMs": 1000, "cacheScope": "public"},
    "resources/templates/list": lambda _: {
        "resourceTemplates": [{"uriTemplate": TEMPLATE, "name": "template", "mimeType": "application/json"}],
        "ttlMs": 1000,
        "cacheScope": "public",
    },
    "resources/read": lambda params: read(params["uri"]),
    "prompts/list": lambda _: {"prompts": listed_prompts(), "ttlMs": 1000, "cacheScope": "public"},
    "prompts/get": prompt,
    "completion/complete": lambda params: {"completion": {"values": [params["argument"]["value"] + "-completed"], "total": 1, "hasMore": False}},
}


def listed():
    """The entries of tools/list."""
    return [{"name": name, "description": f"The tool {name} of the conformance suite, {CHANGES['tools']}.", "inputSchema": SCHEMAS.get(name, NO_ARGUMENTS)} for name in TOOLS]


def catalog(url):
    """The catalog in which these tools are registered and published under their own names, and the prompts and resources."""
    tools = [{"id": name, "server": "conformance", "progress": name == "test_tool_with_progress"} for name in TOOLS]
    return {
        "servers": [{"id": "conformance", "url": url, "discover": True}],
        "tools": tools,
        "tenants": {"queue": ["*"]},
        "publish": {"tools": dict.fromkeys(TOOLS, True), "prompts": {"conformance": ""}, "resources": {"conformance": True}, "subscriptions": ["conformance"]},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        params, method = message.get("params", {}), message["method"]
        if method == "tools/list":
            return self.answer(message, {"resultType": "complete", "tools": listed(), "ttlMs": 1000, "cacheScope": "public"})
        if method == "server/discover":
            result = {"resultType": "complete", "supportedVersions": [VERSION], "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}, "ttlMs": 1000, "cacheScope": "public"}
            return self.answer(message, result)
        if method == "subscriptions/listen":
            return self.listen(message)
        if method in READS:
            try:
                return self.answer(message, {"resultType": "complete", **READS[method](params)})
            except ValueError as error:
                return self.send(200, {"error": {"code": -32602, "message": str(error)}}, message)
        if method != "tools/call":
            return self.send(404, {"error": {"code": -32601, "message": "Method not found"}}, message)
        token = params.get("_meta", {}).get("progressToken")
        if token is not None:
            return self.stream(message, token)
        try:
            return self.answer(message, {"resultType": "complete", **TOOLS[params["name"]](params, lambda *_: None)})
        except ValueError as error:
            return self.send(200, {"error": {"code": -32602, "message": str(error)}}, message)

    def answer(self, message, result):
        self.send(200, {"result": result}, message)

    def send(self, status, what, message):
        body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), **what}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def listen(self, message):
        """A subscription: nothing is ever updated."""
        meta = {"io.modelcontextprotocol/subscriptionId": message["id"]}
        wanted = message["params"]["notifications"].get("resourceSubscriptions", [])
        notifications = {"resourceSubscriptions": [uri for uri in wanted if uri in RESOURCES]}
        told = {"method": "notifications/subscriptions/acknowledged", "params": {"notifications": notifications, "_meta": meta}}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        text = f"data: {json.dumps({'jsonrpc': '2.0', **told})}\n\n"
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(text.encode())
                self.wfile.flush()
                text = ": nothing\n\n"
                time.sleep(1)

    def stream(self, message, token):
        """An event stream with progress and the answer."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

        def event(body):
            self.wfile.write(f"data: {json.dumps({'jsonrpc': '2.0', **body})}\n\n".encode())
            self.wfile.flush()

        def report(progress, total):
            event({"method": "notifications/progress", "params": {"progressToken": token, "progress": progress, "total": total}})

        params = message["params"]
        event({"id": message["id"], "result": {"resultType": "complete", **TOOLS[params["name"]](params, report)}})


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
