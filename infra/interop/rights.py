"""Who asks AWS for what: each role of infra/cloudformation does once whatever it is for, through a proxy that notes its requests (recorder.py).

    rights.py            compares what was seen with infra/checks/recorded.json; the checks of the templates compare that file with the policies
    rights.py --write    writes it anew: look at the difference, it is what roles need

Needs the programs of target/debug. A request that is there in some runs only is listed in infra/checks/unrecorded.toml, with the reason.
"""

import base64
import fnmatch
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.parse
import urllib.request
from pathlib import Path

import boto3

from processes import BIN, GIVE_UP_S, HERE, ROOT, Processes, exports_in, free_port, until
from recorder import Recorder

RECORDED, UNRECORDED = ROOT / "infra/checks/recorded.json", ROOT / "infra/checks/unrecorded.toml"
ENDPOINTS = ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_S3"]
TOKEN = "rights-0123456789abcdef0123456789"
# A text that neither fits a message nor a row.
LARGE = base64.b64encode(random.Random(1).randbytes(900_000)).decode()
PAGES = [
    "/", "/servers", "/server?id=crm", "/tools?last=7d", "/tool?name=crm/echo", "/history?tenant=acme", "/history?tenant=acme&failed=1",
    "/history?tenant=acme&session=s1", "/call?tenant=acme&call=large", "/call?tenant=acme&call=held&look=1", "/dead-letters", "/group?tenant=acme&group=g1",
]


# A call that is waited for long is looked for by its message, too.
SOMETIMES = {("operator", "dynamodb:toolfleet-calls", "dynamodb:BatchGetItem", "_message#x")}


class Fleet:
    def __init__(self, processes, folder):
        self.processes, self.folder, self.recorder = processes, folder, Recorder()
        self.port = free_port()
        processes.start("crm", [sys.executable, HERE / "rights_server.py", self.port], port=self.port)
        ports = {name: free_port() for name in ("sqs", "dynamodb", "mcp")}
        self.catalog = json.dumps(self.catalog_of(f"http://127.0.0.1:{ports['sqs']}/000000000000"))
        catalog = folder / "catalog.json"
        catalog.write_text(self.catalog)
        home = folder / "home"
        home.mkdir()
        command = [BIN / "toolfleet", "dev", "--no-worker", "--catalog", catalog, "--gateway-port", "0", "--console-port", "0"]
        command += [word for name, port in ports.items() for word in (f"--{name}-port", port)]
        dev = processes.start("dev", command, env={"HOME": str(home)})
        self.exports = until("the endpoints", lambda: processes.alive(dev) and exports_in(dev.log_path))
        (folder / "large.json").write_text(json.dumps({"text": LARGE}))

    def catalog_of(self, queues):
        crm = {"id": "crm", "url": f"http://127.0.0.1:{self.port}/mcp", "discover": True, "auth": {"type": "bearer", "token": "secret://toolfleet/servers/crm"}}
        return {
            "servers": [crm],
            "tools": [{"id": "limited", "server": "crm", "limits": {"concurrency": 2}}],
            "tenants": {"queue": ["*"], "fleet": ["worker", "operator"], "sessions": {"acme": "open"}},
            "reply_queues": [f"{queues}/toolfleet-replies"],
            "publish": "*",
        }

    def environment(self, who):
        proxied = {name: self.recorder.before(self.exports[name]) for name in ENDPOINTS if name in self.exports}
        home = self.folder / who
        home.mkdir(exist_ok=True)
        return {**os.environ, **self.exports, **proxied, "AWS_ACCESS_KEY_ID": who, "HOME": str(home), "TOOLFLEET_OPERATOR": "ann",
            "TOOLFLEET_CATALOG": "table://main", "TOOLFLEET_LEASE_MS": "6000", "TOOLFLEET_REAP_AFTER_MS": "900000"}

    def does(self, who, *arguments, may_be=(0, 1, 3)):
        """A command of that role. How the call ended, or that nothing is known of it, does not matter here."""
        done = subprocess.run([BIN / "toolfleet", *arguments, "--json"], env=self.environment(who), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode not in may_be:
            raise SystemExit(f"FAILED: {who}: toolfleet {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout else None

    def sends(self, call_id, name, *more, who="producer", arguments="{}"):
        target = ("--tool", name) if name == "limited" else ("--server", "crm", "--name", name)
        self.does(who, "send", "--tenant", "acme", *target, "--call-id", call_id, "--arguments", arguments, *more)

    def ended(self, call_id):
        row = self.does("poller", "result", "acme", call_id)
        return row if row and row.get("state") == "done" else None

    def ends(self, *call_ids):
        for call_id in call_ids:
            until(f"the end of {call_id}", lambda: self.ended(call_id))

    def start_worker(self, name, catalog):
        env = {**self.environment("worker"), "TOOLFLEET_WORKER_ID": name, "TOOLFLEET_CATALOG": catalog}
        return self.processes.start(name, [BIN / "toolfleet-worker"], env=env)

    def serve(self, command, **settings):
        """A gateway or a console; its address."""
        env = {**self.environment(command), **settings}
        prefix = f"TOOLFLEET_{command.upper()}"
        name = f"{command}-{len(self.processes.running)}"
        process = self.processes.start(name, [BIN / "toolfleet", command, "--json"], env={**env, f"{prefix}_LISTEN": "127.0.0.1:0"})
        ready = until(f"the {command}", lambda: self.processes.alive(process) and next((line for line in process.log_path.read_text().splitlines() if '"ready":true' in line), None))
        return json.loads(ready)["url"]


def prepare(fleet):
    """What is there before: catalog, secrets, and messages that nobody can read. Nobody's rights are of interest here."""
    exports = fleet.exports
    client = lambda service, name: boto3.client(service, endpoint_url=exports[name], region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="x")
    table = client("dynamodb", "AWS_ENDPOINT_URL_DYNAMODB")
    table.put_item(TableName="toolfleet-catalogs", Item={"pk": {"S": "main"}, "text": {"S": fleet.catalog}})
    secrets = client("secretsmanager", "AWS_ENDPOINT_URL_SECRETS_MANAGER")
    key = base64.b64encode(bytes(range(32))).decode()
    tokens = json.dumps({"tokens": [{"name": "ann", "token": TOKEN, "tenants": ["*"]}]})
    for name, text in {"toolfleet/catalog": fleet.catalog, "toolfleet/servers/crm": "t0ken", "toolfleet/gateway-key": key, "toolfleet/console-key": key,
            "toolfleet/console-tokens": tokens}.items():
        try:
            secrets.create_secret(Name=name, SecretString=text)
        except secrets.exceptions.ResourceExistsException:
            secrets.put_secret_value(SecretId=name, SecretString=text)
    return client("sqs", "AWS_ENDPOINT_URL_SQS")


def callers(fleet, sqs):
    """What senders and pollers of a tenant do, and what workers do of it."""
    queue, dead = fleet.exports["TOOLFLEET_QUEUE_URL"], fleet.exports["TOOLFLEET_DEAD_LETTER_QUEUE_URL"]
    replies = f"{queue.rsplit('/', 1)[0]}/toolfleet-replies"
    fleet.sends("large", "echo", "--idempotent", arguments=f"@{fleet.folder}/large.json")
    fleet.sends("session", "echo", "--session", "s1")
    for priority in ("high", "low"):
        fleet.sends(priority, "echo", "--priority", priority)
    fleet.sends("limited", "limited")
    fleet.sends("newest", "echo", "--supersede", "k1")
    fleet.sends("newer", "echo", "--supersede", "k1")
    fleet.sends("late", "echo", "--in", "1h")
    for index in range(3):
        fleet.sends(f"m{index}", "fail" if index else "echo", "--group", f"g1/{index}/3", "--idempotent")
    body = {"v": 1, "call_id": "told", "tenant": "acme", "server": "crm", "name": "echo", "arguments": {}, "reply": {"sqs_queue_url": replies}}
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    sqs.send_message(QueueUrl=queue, MessageBody="no request")
    # A dead letter whose time is over: a worker ends it.
    body = {"v": 1, "call_id": "reaped", "tenant": "acme", "server": "crm", "name": "echo", "arguments": {}, "timeout_ms": 1_000}
    sqs.send_message(QueueUrl=dead, MessageBody=json.dumps(body))
    fleet.sends("long", "wait", arguments='{"seconds": 4}')
    fleet.ends("large", "session", "high", "low", "limited", "newer", "m0", "m1", "m2", "told", "reaped", "long")
    # The server has forgotten the session: the worker opens one anew.
    fleet.sends("lose", "lose", "--session", "s1")
    fleet.ends("lose")
    fleet.sends("again", "echo", "--session", "s1")
    fleet.ends("again")
    fleet.does("producer", "cancel", "acme", "never-sent")
    fleet.sends("stopped", "wait", arguments='{"seconds": 3}')
    until("a call that runs", lambda: (fleet.does("poller", "result", "acme", "stopped") or {}).get("state") == "claimed")
    fleet.does("producer", "cancel", "acme", "stopped")
    fleet.does("producer", "group", "cancel", "acme", "never-sent", "--apply")
    fleet.does("poller", "group", "show", "acme", "g1")


def auditors(fleet):
    for who in ("auditor", "fleet-auditor"):
        for which in ([], ["--session", "s1"], ["--failed"], ["--tool", "crm/echo", "--read-at-most", "100"]):
            fleet.does(who, "history", "acme", *which)


def operators(fleet, sqs):
    """The tasks of docs/guides/tasks.md."""
    does = lambda *arguments: fleet.does("operator", *arguments)
    until("the workers", lambda: does("workers"))
    for read in (["status"], ["servers"], ["stats", "--last", "1h"], ["switches"], ["queue", "status"], ["history", "acme"], ["history", "acme", "--failed"],
            ["history", "acme", "large"], ["result", "acme", "large"], ["why", "acme", "large"], ["group", "show", "acme", "g1"]):
        does(*read)
    does("doctor")
    does("pause", "tool", "crm/echo", "--why", "test")
    # A worker that has not read of the pause yet starts calls: it holds within 5 s.
    time.sleep(6)
    fleet.sends("held", "echo")
    until("a call that waits for the pause", lambda: (does("why", "acme", "held").get("place") == "held"))
    does("cancel", "acme", "held")
    does("cancel", "acme", "not-received")
    does("strike", "--like", "acme", "limited", "--why", "test")
    does("limit", "set", "server:crm", "--concurrency", "8", "--why", "test")
    does("weight", "acme", "2", "--why", "test")
    does("resume", "tool", "crm/echo", "--why", "done")
    does("cancel", "--tool", "crm/echo", "--older-than", "1h", "--why", "test", "--apply")
    for change in (["create", "--grant", "*"], ["show"], ["grant", "--grant", "crm"], ["expire", "--ends-in", "2h"], ["revoke"]):
        verb, *more = change
        does("sessions", verb, "acme", "s1" if verb == "revoke" else "s2", *more, *([] if verb == "show" else ["--apply"]))
    members = fleet.folder / "members.jsonl"
    members.write_text("".join(json.dumps({"v": 1, "call_id": f"m{i}", "tenant": "acme", "server": "crm", "name": "fail" if i else "echo", "arguments": {}, "idempotent": True,
        "group": {"id": "g1", "index": i, "size": 3}}) + "\n" for i in range(3)))
    does("group", "redrive", "acme", "g1", "--requests", str(members), "--apply")
    # One that is known, and one that is not.
    fleet.sends("m9", "echo", "--group", "g2/0/2")
    until("an open group", lambda: does("group", "show", "acme", "g2"))
    does("group", "cancel", "acme", "g2", "--apply")
    does("group", "cancel", "acme", "g3", "--apply")
    dead = fleet.exports["TOOLFLEET_DEAD_LETTER_QUEUE_URL"]
    body = {"v": 1, "call_id": "letter", "tenant": "acme", "server": "crm", "name": "echo", "arguments": {}, "timeout_ms": 900_000}
    sqs.send_message(QueueUrl=dead, MessageBody=json.dumps(body))
    does("dlq", "list")
    does("dlq", "redrive", "--apply")
    does("call", "--tenant", "acme", "--server", "crm", "--name", "echo")
    for priority in ("high", "low"):
        fleet.sends(f"operator-{priority}", "echo", "--priority", priority, who="operator")
    does("tools", "list", "--catalog", "secret://toolfleet/catalog")


def gateway(fleet):
    """An MCP client calls, waits and cancels. A catalog is a row or a secret."""
    fleet.serve("gateway", TOOLFLEET_CATALOG="table://main", TOOLFLEET_GATEWAY_TENANT="acme")
    url = fleet.serve("gateway", TOOLFLEET_CATALOG="secret://toolfleet/catalog", TOOLFLEET_GATEWAY_KEY="secret://toolfleet/gateway-key", TOOLFLEET_GATEWAY_TENANT="acme")
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}

    def post(method, params=None, ident=1):
        message = {"jsonrpc": "2.0", "method": method, **({} if ident is None else {"id": ident}), **({} if params is None else {"params": params})}
        request = urllib.request.Request(url, json.dumps(message).encode(), headers)
        with urllib.request.urlopen(request, timeout=2 * GIVE_UP_S) as answer:
            text = answer.read().decode()
            return answer.headers.get("mcp-session-id"), text

    session, _ = post("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "rights", "version": "1"}})
    headers |= {"mcp-protocol-version": "2025-11-25", **({"mcp-session-id": session} if session else {})}
    post("notifications/initialized", ident=None)
    listed = until("the tools of the gateway", lambda: "crm__echo" in (answer := post("tools/list", {})[1]) and answer)
    for text in ("x", LARGE):
        _, answer = post("tools/call", {"name": "crm__echo", "arguments": {"text": text}}, ident=2)
        if text[:40] not in answer:
            raise SystemExit(f"FAILED: the gateway answered {answer[:500]}, and lists {listed[:500]}")
    # One that has not begun is cancelled, and one that runs.
    fleet.does("operator", "pause", "server", "crm", "--why", "test")
    cancelled(fleet, post, 7, lambda _: time.sleep(2))
    fleet.does("operator", "resume", "server", "crm", "--why", "done")
    cancelled(fleet, post, 8, lambda _: time.sleep(4))


def cancelled(fleet, post, ident, until_then):
    """A request that its client cancels while it is open."""
    call = threading.Thread(target=lambda: post("tools/call", {"name": "crm__wait", "arguments": {"seconds": 8}}, ident=ident), daemon=True)
    call.start()
    until_then(fleet)
    post("notifications/cancelled", {"requestId": ident, "reason": "test"}, ident=None)
    call.join(30)


def console(fleet):
    """A visitor opens each page."""
    url = fleet.serve("console", TOOLFLEET_CONSOLE_TOKENS="secret://toolfleet/console-tokens", TOOLFLEET_CONSOLE_KEY="secret://toolfleet/console-key").rstrip("/")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    form = urllib.parse.urlencode({"token": TOKEN, "next": "/"}).encode()
    opener.open(urllib.request.Request(f"{url}/login", form, {"origin": url}), timeout=2 * GIVE_UP_S).read()
    for page in PAGES:
        opener.open(f"{url}{page}", timeout=2 * GIVE_UP_S).read()


def always(seen, unrecorded):
    """What was seen without what is seen in some runs only."""
    listed = lambda who, resource: {action for pattern, actions in unrecorded["unseen"].get(who, {}).items() if fnmatch.fnmatchcase(resource, pattern) for action in actions}
    kept = {who: {resource: {action: keys for action, keys in actions.items() if action not in listed(who, resource)} for resource, actions in resources.items()}
        for who, resources in seen.items()}
    return {who: {resource: actions for resource, actions in resources.items() if actions} for who, resources in kept.items()}


def differences(seen, known):
    """What was seen and is not known, and the other way round."""
    flat = lambda document: {(who, resource, action, key) for who, resources in document.items() for resource, actions in resources.items()
        for action, keys in actions.items() for key in keys or [None]}
    seen, known = flat(seen), flat(known)
    shown = lambda one: " ".join(filter(None, one))
    yield from (f"{shown(one)}: was seen, and is not in {RECORDED.name}" for one in sorted(seen - known, key=shown))
    yield from (f"{shown(one)}: is in {RECORDED.name}, and was not seen" for one in sorted(known - seen - SOMETIMES, key=shown))


def main():
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(folder)
        try:
            fleet = Fleet(processes, Path(folder))
            sqs = prepare(fleet)
            workers = [fleet.start_worker("w-table", "table://main"), fleet.start_worker("w-secret", "secret://toolfleet/catalog")]
            callers(fleet, sqs)
            auditors(fleet)
            operators(fleet, sqs)
            # Another worker, which does not remember the session: the call is refused, and what the session has at its server is closed.
            for worker in workers:
                processes.end(worker)
            fleet.start_worker("w-last", "table://main")
            fleet.sends("refused", "echo", "--session", "s1")
            fleet.ends("refused")
            gateway(fleet)
            console(fleet)
        finally:
            processes.end_all()
    seen = {who: uses for who, uses in fleet.recorder.document().items() if who not in ("nobody", "anonymous")}
    seen = always(seen, tomllib.loads(UNRECORDED.read_text()))
    count = sum(len(actions) for resources in seen.values() for actions in resources.values())
    print(f"{count} rights of {len(seen)} roles recorded in {time.monotonic() - begun:.0f} s")
    if "--write" in sys.argv:
        RECORDED.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
        return
    found = list(differences(seen, json.loads(RECORDED.read_text())))
    if found:
        raise SystemExit("\n".join([*found, "FAILED: look at each, then `infra/interop/rights.py --write`, and change the policies, or list it in infra/checks/unrecorded.toml"]))


if __name__ == "__main__":
    main()
