"""Tasks of a third-party server (rmcp): polled by delayed messages, continued after a worker was killed, cancelled."""

import json
import signal
import uuid


def tasks(processes, check, worker, start_worker, peer, queue, sqs, read, until, toolfleet):
    """Kills `worker` during a task; returns the worker that continued. `read` returns a call's row, ended or not."""

    def send(label, ms, asks=None, **more):
        arguments = {"label": label, "ms": ms, "poll_ms": 1000} | ({"asks": asks} if asks else {})
        body = {"v": 1, "call_id": str(uuid.uuid4()), "tenant": "acme", "server": "rmcp", "name": "build", "arguments": arguments, **more}
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body), MessageGroupId="acme")
        return body["call_id"]

    def waiting(call_id, questions):
        """The row between two questions, after so many of them."""
        item = read(call_id)
        return item if item and item["state"]["S"] == "waiting_task" and int(item["fence"]["N"]) > questions else None

    def end(label, call_id):
        def look():
            item = processes.alive(worker) and read(call_id)
            return item if item and item["state"]["S"] == "done" else None
        return until(f"the end of task `{label}`", look)

    def told(word, label):
        return peer.log_path.read_text().splitlines().count(f"{word} {label}")

    item = end("brief", send("brief", 100))
    check("rmcp: a task ends as its call's result", item["outcome"]["S"] == "succeeded" and "brief" in str(item["result"]) and "task" not in item, item)

    call_id = send("long", 6000)

    def in_the_queue():
        depth = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        return (depth["ApproximateNumberOfMessagesDelayed"], depth["ApproximateNumberOfMessagesNotVisible"]) == ("1", "0")

    until("the message of a task that is delayed and not in flight", in_the_queue)
    check("rmcp: between two questions the call waits in the queue and holds nothing in flight", True)
    before = until("the second question", lambda: waiting(call_id, 2))
    processes.end(worker, signal.SIGKILL)
    worker = start_worker("tasks-worker")
    item = end("long", call_id)
    check("rmcp: a worker is killed with -9 between two questions, another one asks on, and the tool ran once",
          item["outcome"]["S"] == "succeeded" and int(item["fence"]["N"]) > int(before["fence"]["N"])
          and item["worker"]["S"] != before["worker"]["S"] and item["attempts"]["N"] == "1" and told("began", "long") == 1, item)

    asking = send("signed", 100, asks="By whom?")
    item = end("signed", asking)
    check("rmcp: a task that asks ends its call as input_required", item["outcome"]["S"] == "input_required" and "By whom?" in str(item["result"]), item)
    resume = {"call_id": asking, "input_responses": {"name": {"action": "accept", "content": {"name": "Ann"}}}}
    item = end("signed", send("signed", 100, asks="By whom?", resume=resume))
    check("rmcp: a later call brings the answer, the task goes on, and the tool ran once",
          item["outcome"]["S"] == "succeeded" and "signed for Ann" in str(item["result"]) and (told("began", "signed"), told("answered", "signed")) == (1, 1), item)

    call_id = send("endless", 600_000)
    until("the endless task", lambda: waiting(call_id, 0))
    toolfleet("cancel", "--tenant", "acme", "--call-id", call_id)
    item = end("endless", call_id)
    until("tasks/cancel at the server", lambda: told("cancelled", "endless") == 1)
    check("rmcp: cancelling a call cancels its task", item["outcome"]["S"] == "cancelled", item)

    item = end("late", send("late", 600_000, timeout_ms=3000))
    until("tasks/cancel at the deadline", lambda: told("cancelled", "late") == 1)
    check("rmcp: at its deadline a call has timed out and its task is cancelled", item["outcome"]["S"] == "timed_out", item)
    return worker
