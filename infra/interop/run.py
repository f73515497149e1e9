"""Runs the product as a user does, against third-party servers and clients.

One `toolfleet dev --no-worker`, one `toolfleet-worker`, MCP servers and bridges from npm, PyPI and crates.io, boto3 and the aws CLI: every
check sends a message and reads the result and the audit record back from the tables.
"""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from bridges import Bridges
from gateway_clients import gateway_clients
from lambda_functions import Functions
from oauth import Guarded
from processes import BIN, GIVE_UP_S, HERE, ROOT, Processes, exports_in, free_port, until
from shapes import odd_programs, shapes
from stdio import none_left, programs, stdio
from tasks import tasks
from telemetry import telemetry


def main():
    import boto3

    checks = []

    def check(name, holds, detail=""):
        checks.append(name)
        print(f"{'ok  ' if holds else 'FAIL'}  {name}" + ("" if holds else f": {detail}"), flush=True)
        if not holds:
            raise SystemExit(1)

    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(folder)
        try:
            run(processes, Path(folder), check, boto3)
        finally:
            processes.end_all()
    print(f"{len(checks)} passed, 0 failed")


def operations(check, asked, result):
    """Every operation beside `tools/call`, of a server with sessions and of one without."""
    for server, prompt in [("everything", None), ("fastmcp", ("greet", {"who": "Ann"}))]:
        tools, resources, prompts = (result(asked(server, f"{kind}/list", {})) for kind in ["tools", "resources", "prompts"])
        names = [tool["name"] for tool in tools.get("tools", [])]
        check(f"{server}: tools/list lists its tools", "echo" in names, tools)
        uri = next((resource["uri"] for resource in resources.get("resources", [])), "none")
        read = asked(server, "resources/read", {"uri": uri})
        check(f"{server}: resources/list and resources/read give a resource", result(read).get("contents", [{}])[0].get("uri") == uri, [resources, read])
        name, arguments = prompt or (next((p["name"] for p in prompts.get("prompts", []) if not p.get("arguments")), "none"), {})
        got = asked(server, "prompts/get", {"name": name, "arguments": arguments})
        listed = name in [p["name"] for p in prompts.get("prompts", [])]
        check(f"{server}: prompts/list and prompts/get give a prompt", listed and result(got).get("messages"), [prompts, got])
        check(f"{server}: a prompt is filled in", not prompt or "Greet Ann." in json.dumps(result(got)), got)
        missing = asked(server, "resources/read", {"uri": "nowhere://at-all"})
        check(f"{server}: a resource that is not there fails with the server's words", missing["outcome"]["S"] == "failed", missing)


def asks_and_goes_on(check, call, result, text):
    """FastMCP asks for a name; a later call brings it."""
    asks = call("fastmcp", "book", {"city": "Ulm"})
    questions = result(asks).get("inputRequests", {})
    check("fastmcp asks for input, and the call ends as input_required", asks["outcome"]["S"] == "input_required" and "who" in questions, asks)
    earlier = asks["pk"]["S"].split("#", 1)[1]
    answer = {"who": {"action": "accept", "content": {"name": "Ann"}}}
    goes_on = call("fastmcp", "book", {"city": "Ulm"}, resume={"call_id": earlier, "input_responses": answer})
    check("a later call resumes it with the answer", goes_on["outcome"]["S"] == "succeeded" and "Ulm for Ann" in text(goes_on), goes_on)
    other = call("fastmcp", "book", {"city": "Bonn"}, resume={"call_id": earlier, "input_responses": answer})
    check("other arguments cannot resume it", other["outcome"]["S"] == "refused" and other["code"]["S"] == "not_resumable", other)


def run(processes, folder, check, boto3):
    python, node = sys.executable, "node"
    everything = HERE / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    ports = {name: free_port() for name in ["everything", "fastmcp", "python", "npm", "rmcp", "sqs", "dynamodb", "demo", "otlp", "http"]}
    start_everything = lambda: processes.start(
        "everything", [node, everything, "streamableHttp"], {"PORT": str(ports["everything"])}, ports["everything"]
    )
    everything_server = start_everything()
    processes.start("fastmcp", [python, HERE / "fastmcp_server.py", ports["fastmcp"]], port=ports["fastmcp"])
    processes.start("python", [python, HERE / "mcp_server.py", ports["python"]], port=ports["python"])
    processes.start("npm", [node, HERE / "npm_server.mjs", ports["npm"]], port=ports["npm"])
    peer = processes.start("rmcp", [BIN / "toolfleet-peer", ports["rmcp"]], port=ports["rmcp"])

    guarded = Guarded(processes, python, node, free_port)
    bridges = Bridges(processes, HERE, python, node, everything, free_port)
    functions = Functions(processes, HERE, free_port)
    servers = ["everything", "fastmcp", "python", "npm", "rmcp"]
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({
        "servers": [{"id": s, "url": f"http://127.0.0.1:{ports[s]}/mcp", "discover": True, "progress": True} for s in servers] + programs(python, node, everything, folder) + odd_programs(python, node, f"http://127.0.0.1:{ports['everything']}/mcp") + guarded.servers + bridges.servers + functions.servers,
        "tenants": {"queue": ["acme"]},
        "reply_queues": [f"http://127.0.0.1:{ports['sqs']}/000000000000/toolfleet-replies"],
    }))
    dev = processes.start("dev", [
        BIN / "toolfleet", "dev", "--no-worker", "--catalog", catalog, "--data-dir", folder / "data",
        "--sqs-port", ports["sqs"], "--dynamodb-port", ports["dynamodb"], "--mcp-port", ports["demo"], "--gateway-port", "0", "--console-port", "0",
    ], port=ports["dynamodb"])
    exports = until("the exports of `toolfleet dev`", lambda: processes.alive(dev) and exports_in(dev.log_path))
    env = {**exports, "TOOLFLEET_CATALOG": str(catalog), "TOOLFLEET_LEASE_MS": "12000", "TOOLFLEET_CLOCK_SKEW_MS": "500",
        "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8", "TOOLFLEET_ALLOW_HTTP": "true", **functions.environment}
    worker = processes.start("worker", [BIN / "toolfleet-worker"], env)

    credentials = {"aws_access_key_id": exports["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": exports["AWS_SECRET_ACCESS_KEY"], "region_name": exports["AWS_REGION"]}
    sqs = boto3.client("sqs", endpoint_url=exports["AWS_ENDPOINT_URL_SQS"], **credentials)
    dynamodb = boto3.client("dynamodb", endpoint_url=exports["AWS_ENDPOINT_URL_DYNAMODB"], **credentials)
    guarded.store(boto3.client("secretsmanager", endpoint_url=exports["AWS_ENDPOINT_URL_SECRETS_MANAGER"], **credentials))
    queue = exports["TOOLFLEET_QUEUE_URL"]

    def read(call_id):
        key = {"pk": {"S": f"acme#{call_id}"}}
        return dynamodb.get_item(TableName="toolfleet-calls", Key=key, ConsistentRead=True).get("Item", {})

    def row(call_id):
        item = read(call_id)
        return item if item.get("state", {}).get("S") == "done" else None

    def call(server, name, arguments, **more):
        call_id = str(uuid.uuid4())
        body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": server, "name": name, "arguments": arguments, "timeout_ms": 30000, **more}
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body), MessageGroupId="acme")
        return until(f"the end of {server}/{name}", lambda: processes.alive(worker) and row(call_id))

    def asked(server, operation, arguments):
        call_id = str(uuid.uuid4())
        body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": server, "operation": operation, "arguments": arguments}
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body), MessageGroupId="acme")
        return until(f"the end of {operation} of {server}", lambda: processes.alive(worker) and row(call_id))

    def result(item):
        if "result_gz" in item:
            return json.loads(gzip.decompress(bytes(item["result_gz"]["B"])))
        return json.loads(item["result"]["S"]) if "result" in item else {}

    def text(item):
        return result(item)["content"][0]["text"] if result(item) else str(item)

    for server, argument in [("everything", "message"), ("fastmcp", "text"), ("python", "text"), ("npm", "text"), ("rmcp", "text")]:
        item = call(server, "echo", {argument: "hello"})
        check(f"{server}: echo succeeds through SQS and a worker", item["outcome"]["S"] == "succeeded" and "hello" in text(item), item)

    for server in ["fastmcp", "python"]:
        item = call(server, "steps", {"n": 3})
        check(f"{server}: its progress is kept with the call", item.get("progress", {}).get("N") == item.get("progress_total", {}).get("N") == "3", item)

    guarded.check(call, text, check, until)

    first = call("everything", "echo", {"message": "one"}, session="talk")
    processes.end(everything_server)
    everything_server = start_everything()
    second = call("everything", "echo", {"message": "two"}, session="talk")
    check("server-everything restarted between two calls of a session: both succeed",
          first["outcome"]["S"] == second["outcome"]["S"] == "succeeded" and "two" in text(second), second)

    item = call("fastmcp", "no-such-tool", {})
    check("an unknown tool of a real server is refused with the list of its tools", item["code"]["S"] == "unknown_tool" and "echo" in item["message"]["S"], item)

    operations(check, asked, result)
    asks_and_goes_on(check, call, result, text)
    gateway_clients(processes, check, folder, env, catalog, "everything-stdio")

    # A worker is killed with a call under way; another one settles it within lease and skew.
    everything_tools = json.loads(toolfleet(env, "tools", "list", "--json", "--url", f"http://127.0.0.1:{ports['everything']}/mcp"))
    check("`toolfleet tools list --url` reads a real server", "echo" in json.dumps(everything_tools), everything_tools)
    long_tool = next((n for n in ("trigger-long-running-operation", "longRunningOperation") if n in json.dumps(everything_tools)), None)
    check("server-everything has its long-running tool", long_tool is not None, everything_tools)
    send = lambda body: sqs.send_message(QueueUrl=queue, MessageBody=body, MessageGroupId="acme")
    started = stdio(check, worker, call, text, send, row, until, folder, long_tool)
    bridges.check(check, call, text, send, row, until, long_tool)
    functions.check(check, call, text, asked, result)
    shapes(check, call, text, lambda *arguments: toolfleet(env, *arguments))

    call_id = str(uuid.uuid4())
    body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": "everything", "name": long_tool, "arguments": {"duration": 4, "steps": 2}, "idempotent": True}
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body), MessageGroupId="acme")
    claimed = lambda: dynamodb.get_item(TableName="toolfleet-calls", Key={"pk": {"S": f"acme#{call_id}"}}, ConsistentRead=True).get("Item")
    item = until("its progress in the row", lambda: (lambda item: item if item and "progress" in item else None)(claimed()))
    check("a running call shows its progress", item["state"]["S"] == "claimed" and item["progress_total"]["N"] == "2", item)
    processes.end(worker, signal.SIGKILL)
    until("the end of the killed worker's programs", lambda: none_left(started))
    check("programs end with their worker, even one that was killed with -9", none_left(started), started)
    worker = processes.start("worker2", [BIN / "toolfleet-worker"], env)
    item = until("the end of the call whose worker was killed", lambda: processes.alive(worker) and row(call_id))
    check("a call whose worker was killed with -9 is finished by another", item["outcome"]["S"] == "succeeded" and int(item["fence"]["N"]) == 2, item)

    worker = tasks(
        processes, check, worker, start_worker=lambda name: processes.start(name, [BIN / "toolfleet-worker"], env), peer=peer,
        queue=queue, sqs=sqs, read=read, until=until, toolfleet=lambda *arguments: toolfleet(env, *arguments),
    )

    # The guide's aws CLI lines, with the exports of `toolfleet dev` and nothing else.
    aws = [Path(sys.executable).parent / "aws", "--output", "json"]
    cli_env = {**os.environ, **exports, "AWS_PAGER": "", "AWS_DEFAULT_REGION": exports["AWS_REGION"]}
    message = json.dumps({"v": 1, "call_id": "cli-1", "tenant": "acme", "server": "npm", "name": "echo", "arguments": {"text": "from the aws CLI"}})
    subprocess.run([*map(str, aws), "sqs", "send-message", "--endpoint-url", exports["AWS_ENDPOINT_URL_SQS"], "--queue-url", queue, "--message-group-id", "acme", "--message-body", message], check=True, env=cli_env, stdout=subprocess.DEVNULL)
    item = until("the aws CLI's call", lambda: row("cli-1"))
    got = subprocess.run([*map(str, aws), "dynamodb", "get-item", "--table-name", "toolfleet-calls", "--key", '{"pk":{"S":"acme#cli-1"}}', "--consistent-read"], check=True, env=cli_env, capture_output=True)
    check("the aws CLI sends a call and reads its result", json.loads(got.stdout)["Item"]["outcome"]["S"] == "succeeded", got.stdout)

    # The toolfleet command against the same fleet.
    history = json.loads(toolfleet(env, "history", "--tenant", "acme", "--json"))
    records = history if isinstance(history, list) else history.get("records", history)
    check("`toolfleet history` accounts for every call", len(records) >= 9, len(records))
    printed = toolfleet(env, "call", "--tenant", "acme", "--server", "python", "--name", "echo", "--arguments", '{"text":"from the command line"}')
    check("`toolfleet call` prints what the tool said", "from the command line" in printed, printed)
    printed = toolfleet(env, "call", "--tenant", "acme", "--server", "fastmcp", "--operation", "resources/read", "--arguments", '{"uri":"note://greeting"}')
    check("`toolfleet call --operation resources/read` prints the resource", printed.strip() == "a note to read", printed)

    readme(processes, folder, check)

    # A second worker on the same queue, with a receiver of its traces; the first one stops so that it gets the calls.
    os.killpg(worker.pid, signal.SIGSTOP)
    telemetry(
        processes, check,
        start_worker=lambda name, more: processes.start(name, [BIN / "toolfleet-worker"], {**env, **more}),
        send=lambda body, attributes: sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes, MessageGroupId="acme"),
        row=row, text=text, until=until, port=ports["otlp"], http_port=ports["http"], tap=Path(sys.executable).parent / "oteltap",
    )
    os.killpg(worker.pid, signal.SIGCONT)

    # Stopping: SIGTERM drains the worker, and the endpoints keep what they hold.
    os.killpg(worker.pid, signal.SIGTERM)
    check("SIGTERM ends an idle worker cleanly", worker.wait(30) == 0, worker.log_path.read_text()[-2000:])
    processes.running.remove(worker)


def readme(processes, folder, check):
    """The examples of the README and the guide for callers, as they are written, with the exports of a plain `toolfleet dev`."""
    text = (ROOT / "README.md").read_text()
    guide = (ROOT / "docs/guides/callers.md").read_text()
    ports = ["--sqs-port", "0", "--dynamodb-port", "0", "--mcp-port", "0", "--gateway-port", "0", "--console-port", "0"]
    dev = processes.start("newcomer", [BIN / "toolfleet", "dev", *ports])
    exports = until("the newcomer's exports", lambda: processes.alive(dev) and exports_in(dev.log_path))
    env = {**os.environ, **exports, "AWS_PAGER": "", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run_block(document, heading, language, command):
        block = document.split(f"## {heading}", 1)[1].split(f"```{language}\n", 1)[1].split("```", 1)[0]
        done = subprocess.run([*command, block], env=env, capture_output=True, text=True, timeout=GIVE_UP_S, cwd=folder)
        return done.returncode, done.stdout + done.stderr

    code, output = run_block(text, "A call from Python", "python", [sys.executable, "-c"])
    check("the README's Python example runs and prints its result", code == 0 and "succeeded" in output and "42" in output, output)
    block = text.split("## A call from Python", 1)[1].split("```python\n", 1)[1].split("```", 1)[0]
    refused = block.replace('tenant, call_id = "demo"', 'tenant, call_id = "stranger"')
    nobody = processes.start("strict", [BIN / "toolfleet", "dev", *ports, "--catalog", strict_catalog(folder)])
    strict = until("the strict fleet's exports", lambda: processes.alive(nobody) and exports_in(nobody.log_path))
    done = subprocess.run([sys.executable, "-c", refused], env={**env, **strict}, capture_output=True, text=True, timeout=GIVE_UP_S, cwd=folder)
    check("the README's Python example ends for a tenant that is not allowed", "refused Sender" in done.stdout, done.stdout + done.stderr)

    blocks = "\n".join(part.split("```", 1)[0] for part in guide.split("```python\n")[1:])
    late = 'assert cancel(tenant, call_id) is False\nassert cancel(tenant, "ahead") and cancel(tenant, "ahead")\nprint("held")'
    done = subprocess.run([sys.executable, "-c", "\n".join([block, blocks, late])], env=env, capture_output=True, text=True, timeout=GIVE_UP_S, cwd=folder)
    check("the Python of docs/guides/callers.md runs", "held" in done.stdout, done.stdout + done.stderr)
    ahead = subprocess.run([BIN / "toolfleet", "call", "--tenant", "demo", "--tool", "echo", "--arguments", '{"text":"x"}', "--call-id", "ahead", "--json"], env={**os.environ, **exports}, capture_output=True, text=True, timeout=GIVE_UP_S)
    check("a call that Python cancelled ahead of its message ends as cancelled", json.loads(ahead.stdout)["outcome"] == "cancelled", ahead.stdout)

    code, output = run_block(guide, "From the aws CLI", "sh", ["bash", "-ec"])
    check("the guide's aws CLI example runs", code == 0 and "MessageId" in output, output)
    until("the guide's aws CLI call", lambda: "succeeded" in toolfleet(exports, "history", "--tenant", "demo"))


def strict_catalog(folder):
    """A catalog whose queue speaks for one tenant alone."""
    path = Path(folder) / "strict.json"
    path.write_text(json.dumps({"servers": [], "tools": [], "tenants": {"queue": ["demo"]}}))
    return path


def toolfleet(env, *arguments):
    done = subprocess.run([BIN / "toolfleet", *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=GIVE_UP_S)
    if done.returncode != 0:
        raise SystemExit(f"FAILED: toolfleet {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
