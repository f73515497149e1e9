import boto3, json, os, time, uuid

sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
tenant, group = "demo", f"turn-{uuid.uuid4()}"
questions = [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]
for index, arguments in enumerate(questions):
    sqs.send_message(
        QueueUrl=os.environ["TOOLFLEET_QUEUE_URL"],
        MessageGroupId=tenant,                  # SQS fair queues
        MessageBody=json.dumps({
            "v": 1, "call_id": f"{group}-{index}", "tenant": tenant, "tool": "add", "arguments": arguments, "timeout_ms": 30000,
            "group": {"id": group, "index": index, "size": len(questions), "policy": "all"},
        }),
    )
# The group's row; an orchestrator with a queue of its own names it in `group.reply` and waits for one notice instead.
key = {"pk": {"S": f"group#{tenant}#{group}#1"}, "sk": {"S": "group"}}
decision, pause, give_up = None, 0.05, time.monotonic() + 60
while decision is None and time.monotonic() < give_up:
    time.sleep(pause)
    pause = min(pause * 1.5, 1)
    row = dynamodb.get_item(TableName="toolfleet-fleet", Key=key, ConsistentRead=True).get("Item", {})
    decision = row.get("decision", {}).get("M")
if decision is None:
    raise SystemExit(f"group {group} was not decided within a minute; it goes on, look again later")
print(decision["result"]["S"], f"{decision['succeeded']['N']} of {len(questions)} succeeded")
