"""Gives a `toolfleet dev` something to show in its console: calls that end in every way, some that wait, a group, a dead letter.

Usage: console_data.py TOOLFLEET READY_JSON [quick], the command and the document that `toolfleet dev --json` prints; `quick` does not wait for the
counts of a minute.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request

TOOLFLEET = sys.argv[1]
READY = json.load(open(sys.argv[2], encoding="utf-8"))
ENV = {**os.environ, **READY["env"]}
MARKUP = 'an order with <b>markup</b>, "quotes" & a long name'


def send(queue: str, body: dict | str) -> None:
    """One message; the local endpoints check no signature."""
    text = body if isinstance(body, str) else json.dumps(body)
    request = urllib.request.Request(READY["sqs_url"], json.dumps({"QueueUrl": queue, "MessageBody": text}).encode(), {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "AmazonSQS.SendMessage",
        "authorization": "AWS4-HMAC-SHA256 Credential=x/20261130/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=x",
    })
    urllib.request.urlopen(request).close()


def call(call_id: str, tool: str, arguments: dict, tenant: str = "demo", **more: object) -> None:
    body = {"v": 1, "call_id": call_id, "tenant": tenant, "tool": tool, "arguments": arguments, **more}
    send(ENV["TOOLFLEET_QUEUE_URL"], body)


def toolfleet(*arguments: str) -> str:
    ran = subprocess.run([TOOLFLEET, *arguments, "--json"], env=ENV, check=True, capture_output=True, text=True)
    return ran.stdout


def until(arguments: list[str], fits) -> None:
    """Asks until the answer fits; workers report every five seconds, and write a minute's counts within two minutes after it."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        ran = subprocess.run([TOOLFLEET, *arguments, "--json"], env=ENV, capture_output=True, text=True)
        if ran.stdout and fits(json.loads(ran.stdout)):
            return
        time.sleep(1)
    sys.exit(f"{arguments} never shows what was sent")


toolfleet("pause", "tool", "slow", "--why", "INC-42: it drops orders", "--by", "ann")
toolfleet("limit", "set", "tool:add", "--rate", "1/s", "--why", "their quota", "--by", "ann")
time.sleep(5)  # Workers take a setting within five seconds.
call("c-paused", "slow", {"ms": 10})
call("c-fail", "fail", {"message": MARKUP}, session="s-1", user={"id": "ann"}, agent="planner")
call("c-none", "no_such_tool", {})
for number in range(90):
    tenant = ("demo", "acme", "globex")[number % 3]
    call(f"e-{number}", "echo", {"text": MARKUP}, tenant, session=f"s-{number % 4}")
    if number % 5 == 0:
        call(f"f-{number}", "flaky", {"key": f"k{number}", "failures": number // 5 % 4})
        call(f"x-{number}", "fail", {"message": MARKUP}, tenant)
    if number % 3 == 0:
        call(f"a-{number}", "add", {"a": number, "b": 1}, "acme")
for index, (tool, arguments) in enumerate([("echo", {"text": "x"}), ("echo", {"text": "y"}), ("fail", {"message": "z"})]):
    call(f"m-{index}", tool, arguments, group={"id": "turn-1", "index": index, "size": 3})
send(ENV["TOOLFLEET_DEAD_LETTER_QUEUE_URL"], "not a request")
until(["group", "show", "demo", "turn-1"], lambda group: group.get("decision"))
if sys.argv[3:] != ["quick"]:
    until(["stats", "--last", "1h"], lambda stats: len(stats["tools"]) >= 3)
    until(["status"], lambda status: status["fleet"].get("tools"))
