"""A day of an operator, by the commands of docs/guides/tasks.md: start two workers, flood them, watch, scale to four, a server dies, see it, pause its
tool, mend it, send dead letters again, replace all workers. Nothing may be lost, and no charge may be made twice. Then the same flood at workers of
`toolfleet dev`, whose number `toolfleet scale` sets as it does on AWS ("By hand" of docs/guides/deploy-ecs.md).

    operate.py    needs the programs of target/debug
"""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

from processes import BIN, HERE, Processes, exports_in, free_port, until

FLOOD = 400
LATER = 60
SCALED = 30
SLOTS = 8
# How often a message is received before it is a dead letter (data.yaml).
MAX_RECEIVES = 8
# The exit code of a command that finds nothing to show.
NOTHING_YET = 3


class Day:
    def __init__(self, processes, folder):
        self.processes, self.folder, self.workers, self.sent = processes, folder, [], []
        self.port, self.executions = free_port(), folder / "executions"
        catalog = folder / "catalog.json"
        catalog.write_text(json.dumps({
            "servers": [{"id": "crm", "url": f"http://127.0.0.1:{self.port}/mcp"}],
            "tools": [{"id": "find", "server": "crm", "idempotent": True}, {"id": "charge", "server": "crm"}],
            "tenants": {"queue": ["*"]},
        }))
        home = folder / "home"
        home.mkdir()
        self.env = {**os.environ, "HOME": str(home), "TOOLFLEET_OPERATOR": "ann"}
        dev = processes.start("dev", [BIN / "toolfleet", "dev", "--no-worker", "--port-base", "0", "--catalog", catalog], env=self.env)
        exports = until("the endpoints", lambda: processes.alive(dev) and exports_in(dev.log_path))
        # Dead letters are left to the operator, as in production.
        self.env |= {**exports, "TOOLFLEET_REAP_AFTER_MS": "900000", "TOOLFLEET_SLOTS": str(SLOTS), "TOOLFLEET_LEASE_MS": "5000"}
        self.sqs = boto3.client(
            "sqs", endpoint_url=exports["AWS_ENDPOINT_URL_SQS"], region_name="us-east-1", aws_access_key_id="toolfleet", aws_secret_access_key="toolfleet"
        )
        self.queue, self.dead = exports["TOOLFLEET_QUEUE_URL"], exports["TOOLFLEET_DEAD_LETTER_QUEUE_URL"]

    def toolfleet(self, *arguments, text=False, may_be=(0,)):
        command = [BIN / "toolfleet", *arguments, *([] if text else ["--json"])]
        done = subprocess.run(command, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode not in may_be:
            raise SystemExit(f"FAILED: toolfleet {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout if text else json.loads(done.stdout)

    def start_server(self):
        command = [sys.executable, HERE / "operate_server.py", self.port, self.executions]
        self.server = self.processes.start("crm", command, port=self.port)

    def start_worker(self):
        name = f"worker-{len(self.workers)}"
        worker = self.processes.start(name, [BIN / "toolfleet-worker"], env={**self.env, "TOOLFLEET_WORKER_ID": name})
        self.workers.append(worker)

    def running(self):
        return [row["worker"]["id"] for row in self.toolfleet("workers", may_be=(0, NOTHING_YET)) if row["state"] == "running"]

    def send(self, count, tools):
        """Sends calls as their producers do, ten in a message batch."""
        new = [{"call_id": f"c{len(self.sent) + n}", "tool": tools[n % len(tools)]} for n in range(count)]
        for begin in range(0, count, 10):
            entries = [
                {"Id": call["call_id"], "MessageBody": json.dumps({"v": 1, "tenant": "acme", **call, "arguments": {"key": call["call_id"]}})}
                for call in new[begin : begin + 10]
            ]
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)
        self.sent += new
        return new

    def depth(self):
        queues = [queue for queue in self.toolfleet("status")["queues"] if not queue["dead_letter"]]
        return sum(queue["visible"] + queue["in_flight"] + queue["delayed"] for queue in queues)

    def visible(self):
        return sum(queue["visible"] for queue in self.toolfleet("status")["queues"] if not queue["dead_letter"])


def say(what):
    print(f"ok    {what}", flush=True)


def expect(what, holds, detail=None):
    if not holds:
        raise SystemExit(f"FAILED: {what}: {detail}")
    say(what)


def day(processes, folder):
    fleet = Day(processes, folder)
    fleet.start_server()
    for _ in range(2):
        fleet.start_worker()
    until("two workers", lambda: len(fleet.running()) == 2)
    checked = fleet.toolfleet("doctor")
    expect("two workers run, and doctor finds nothing wrong", not checked.get("failed"), checked)

    fleet.send(FLOOD, ["find", "charge"])
    backlog = until("a backlog", fleet.visible)
    frame = fleet.toolfleet("top", "--once", text=True)
    expect(f"the flood is seen: {backlog} calls wait", "toolfleet-calls" in frame, frame)
    for _ in range(2):
        fleet.start_worker()
    until("four workers", lambda: len(fleet.running()) == 4)
    say("four workers run")

    processes.end(fleet.server, signal.SIGKILL)
    until("the breaker of crm", lambda: any("b" in part for part in [fleet.toolfleet("servers")["servers"].get("crm", {})]))
    status = fleet.toolfleet("status", text=True)
    expect("the dead server is seen in status", "breakers" in status and "crm" in status, status)
    why = "its server is down"
    fleet.toolfleet("pause", "tool", "charge", "--why", why)
    switches = json.dumps(fleet.toolfleet("switches"))
    expect("its tool is paused, with who and why", why in switches and "ann" in switches, switches)
    last = next(call for call in reversed(fleet.sent) if call["tool"] == "charge")["call_id"]
    explained = until("what the last call waits for", lambda: waits(fleet.toolfleet("why", "acme", last, text=True)))
    expect("why says what a call waits for", "crm" in explained or why in explained, explained)

    fleet.start_server()
    fleet.toolfleet("resume", "tool", "charge", "--why", "the server is back")
    # A call that waits for a pause comes back within a minute.
    until("the end of the backlog", lambda: fleet.depth() == 0, within_s=150)
    say("the server is back, and all calls have ended")

    fleet.toolfleet("pause", "queue", "default", "--why", "dead letters for the test")
    until("the pause of the queue", lambda: not received_within(fleet, 6))
    stray(fleet)
    letters = fleet.toolfleet("dlq", "list")["dead_letters"]
    because = {letter["reason"] for letter in letters}
    expect(f"{len(letters)} dead letters say why", len(letters) > 5 and because == {"received_too_often"}, letters)
    fleet.toolfleet("resume", "queue", "default", "--why", "done")
    moved = fleet.toolfleet("dlq", "redrive", "--tool", "find", "--apply")
    until("the end of what was sent again", lambda: fleet.depth() == 0 and not fleet.toolfleet("dlq", "list")["dead_letters"])
    expect("they were sent again and ended", moved["failed"] == 0 and moved["moved"] == len(letters), moved)

    old = list(fleet.workers)
    for worker in old:
        fleet.start_worker()
        fleet.send(LATER // len(old), ["find", "charge"])
        fleet.toolfleet("drain", worker.name, "--why", "a new version")
        until(f"the end of {worker.name}", lambda: worker.poll() is not None)
        expect(f"{worker.name} drained and ended", worker.returncode == 0, worker.log_path.read_text()[-2000:])
        processes.running.remove(worker)
    until("the end of the last calls", lambda: fleet.depth() == 0)
    account(fleet)


def scaled(processes, folder):
    """The number of workers is set by `toolfleet scale`: two, four during a flood; one that is drained is replaced. No call is lost."""
    env = {**os.environ, "HOME": str(folder / "scaled"), "TOOLFLEET_OPERATOR": "ann"}
    Path(env["HOME"]).mkdir()
    dev = processes.start("scaled", [BIN / "toolfleet", "dev", "--port-base", "0", "--slots", str(SLOTS)], env=env)
    until("the fleet", lambda: processes.alive(dev) and exports_in(dev.log_path))

    def toolfleet(*arguments, may_be=(0,)):
        done = subprocess.run([BIN / "toolfleet", *arguments, "--json"], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode not in may_be:
            raise SystemExit(f"FAILED: toolfleet {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def running():
        rows = toolfleet("workers", may_be=(0, NOTHING_YET))
        return {row["worker"]["id"] for row in rows if row["state"] == "running"} if isinstance(rows, list) else set()

    toolfleet("scale", "set", "2")
    until("two workers of dev", lambda: len(running()) == 2)
    for n in range(SCALED):
        toolfleet("send", "--tenant", "acme", "--tool", "echo", "--call-id", f"s{n}", "--arguments", '{"text": "x"}')
        if n == SCALED // 2:
            toolfleet("scale", "set", "4")
    before = until("four workers of dev", lambda: len(running()) == 4 and running())
    gone = sorted(before)[-1]
    toolfleet("drain", gone, "--why", "a new version")
    after = until("a worker in its place", lambda: gone not in running() and len(running()) == 4 and running())
    expect("scale set 4 starts workers, and one that drained is replaced", len(after - before) == 1, (before, after))
    ended = lambda: [row for n in range(SCALED) if (row := toolfleet("result", "acme", f"s{n}", may_be=(0, 1, NOTHING_YET)))["state"] == "done"]
    rows = until("the end of all calls", lambda: len(found := ended()) == SCALED and found)
    expect(f"each of {SCALED} calls succeeded", {row["outcome"] for row in rows} == {"succeeded"}, rows)


def waits(explained):
    return explained if not explained.startswith("done") and "queued or running" not in explained else None


def received_within(fleet, seconds):
    """Whether a worker takes a probe from the queue in that time."""
    fleet.send(1, ["find"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fleet.visible() == 0:
            return True
        time.sleep(0.5)
    return False


def stray(fleet):
    """Somebody reads calls from the queue again and again and deletes none."""
    calls = fleet.send(5, ["find"])
    for _ in range(MAX_RECEIVES * 40):
        fleet.sqs.receive_message(QueueUrl=fleet.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        if fleet.visible() == 0:
            return
    raise SystemExit(f"FAILED: {len(calls)} messages are no dead letters")


def account(fleet):
    """Every call has one end and one record; a charge whose answer was cut off is unknown, and none was made twice."""
    runs = collections.Counter(fleet.executions.read_text().splitlines())
    twice = [run for run, count in runs.items() if run.startswith("charge ") and count > 1]
    expect("no charge was made twice", not twice, twice)
    records = {}
    for record in fleet.toolfleet("history", "acme", "--limit", "10000")["records"]:
        if record["kind"] == "call":
            records.setdefault(record["call_id"], []).append(record["outcome"])
    wrong = [call for call in fleet.sent if len(records.get(call["call_id"], [])) != 1]
    expect(f"each of {len(fleet.sent)} calls has one record", not wrong, wrong)
    outcomes = collections.Counter((call["tool"], *records[call["call_id"]]) for call in fleet.sent)
    unknown = outcomes.pop(("charge", "outcome_unknown"), 0)
    # At most what was under way at the server when it was killed.
    expect(f"{unknown} charges are unknown", unknown <= 4 * SLOTS, unknown)
    expect("all others succeeded", set(outcomes) == {("find", "succeeded"), ("charge", "succeeded")}, outcomes)
    unrun = [call for call in fleet.sent if records[call["call_id"]] == ["succeeded"] and runs[f"{call['tool']} {call['call_id']}"] == 0]
    expect("each of them ran", not unrun, unrun)
    checked = fleet.toolfleet("doctor")
    expect("doctor finds nothing wrong at the end", not checked.get("failed"), checked)
    # A worker that ends writes what it has counted since the last minute.
    for worker in fleet.workers:
        if worker.poll() is None:
            fleet.processes.end(worker)
    counted = sum(tool["calls"] for tool in fleet.toolfleet("stats", "--last", "1h")["tools"])
    expect("stats counts the same", counted == len(fleet.sent), counted)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(folder)
        begun = time.monotonic()
        try:
            day(processes, Path(folder))
            scaled(processes, Path(folder))
        finally:
            processes.end_all()
        print(f"a day of an operator: {time.monotonic() - begun:.0f} s")
