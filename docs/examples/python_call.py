import boto3, gzip, hashlib, json, os, time, uuid

sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
tenant, call_id = "demo", str(uuid.uuid4())
sent = sqs.send_message(
    QueueUrl=os.environ["TOOLFLEET_QUEUE_URL"],
    MessageGroupId=tenant,                      # SQS fair queues
    MessageBody=json.dumps({
        "v": 1, "call_id": call_id, "tenant": tenant, "tool": "add",
        "arguments": {"a": 2, "b": 40}, "timeout_ms": 30000,
    }, allow_nan=False),                        # JSON has no NaN
)
# The call's row; and, where its message was refused before it became a call, the answer to the message.
keys = [{"pk": {"S": f"{tenant}#{call_id}"}}, {"pk": {"S": f"_message#{sent['MessageId']}"}}]
row, pause, give_up = None, 0.05, time.monotonic() + 60
while row is None and time.monotonic() < give_up:
    time.sleep(pause)
    pause = min(pause * 1.5, 1)
    read = dynamodb.batch_get_item(RequestItems={"toolfleet-calls": {"Keys": keys, "ConsistentRead": True}})
    row = next((item for item in read["Responses"].get("toolfleet-calls", []) if item["state"]["S"] == "done"), None)
if row is None:
    raise SystemExit(f"call {call_id} has not ended within a minute; it goes on, look again later")
if "result_ref" in row:                         # large results are in S3
    ref = {name: value.get("S") for name, value in row["result_ref"]["M"].items()}
    data = boto3.client("s3").get_object(Bucket=ref["bucket"], Key=ref["key"])["Body"].read()
    if hashlib.sha256(data).hexdigest() != ref["sha256"]:
        raise SystemExit(f"payload_altered: {ref['key']}")
    result = (gzip.decompress(data) if ref["encoding"] == "gzip" else data).decode()
elif "result_gz" in row:
    result = gzip.decompress(row["result_gz"]["B"]).decode()
else:
    result = row.get("result", {}).get("S")
print(row["outcome"]["S"], result or row["message"]["S"])
