"""Notes which requests to AWS each program makes, of which resource: a proxy in front of the endpoints of `toolfleet dev`.

The access key id of a request's signature says who makes it. A request is noted as the IAM actions that AWS would ask for, each with its resource and
the partition key (`dynamodb:LeadingKeys`), so that it can be compared with policies. Ids in keys become `x`.
"""

import asyncio
import contextlib
import json
import re
import threading
import urllib.parse

# What a batch is for IAM.
OF_BATCH = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage", "ChangeMessageVisibilityBatch": "ChangeMessageVisibility"}
PARTIQL = {"INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate", "DELETE": "PartiQLDelete", "SELECT": "PartiQLSelect"}
# Partition keys of the fleet table whose second part is a tenant, and those that have no ids.
OF_TENANT, WHOLE = {"group"}, {"control", "control#version", "summary"}


class Recorder:
    """What was seen: (who, resource, action, partition key)."""

    def __init__(self):
        self.seen, self.loop, self.urls = set(), asyncio.new_event_loop(), {}
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def before(self, url):
        """The address of the proxy in front of that one."""
        if url not in self.urls:
            target = urllib.parse.urlsplit(url)
            serving = asyncio.start_server(lambda r, w: self.serve(target, r, w), "127.0.0.1", 0, limit=1 << 20)
            server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)
            self.urls[url] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self.urls[url]

    async def serve(self, target, reader, writer):
        """One connection: answers are passed on as they come, requests are read."""
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        answers = asyncio.create_task(passed_on(far_reader, writer))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                far_writer.write(head)
                headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ": " in line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = await self.body(headers, reader, far_writer)
                await far_writer.drain()
                self.note(head.split(b"\r\n", 1)[0].decode("latin-1"), headers, body)
        with contextlib.suppress(ConnectionError):
            far_writer.close()
            await answers

    async def body(self, headers, reader, far_writer):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while True:
                line = await reader.readuntil(b"\r\n")
                chunk = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
                far_writer.write(line + chunk)
                if len(chunk) == 2:
                    return b"".join(parts)
                parts.append(chunk[:-2])
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        far_writer.write(body)
        return body

    def note(self, line, headers, body):
        method, path, _ = line.split(" ", 2)
        signed = re.search(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/", headers.get("authorization", ""))
        who, service = signed.groups() if signed else ("anonymous", "")
        target = headers.get("x-amz-target", "")
        if service == "s3" or not target:
            found = of_s3(method, path)
        else:
            operation = target.split(".", 1)[1]
            found = OF_SERVICE[target.split(".", 1)[0].split("_")[0]](operation, json.loads(body or b"{}"))
        self.seen |= {(who, *one) for one in found}

    def document(self):
        """By who, resource and action: the partition keys."""
        document = {}
        for who, resource, action, key in sorted(self.seen, key=lambda one: tuple(map(str, one))):
            keys = document.setdefault(who, {}).setdefault(resource, {}).setdefault(action, [])
            keys += [key] if key else []
        return document


async def passed_on(reader, writer):
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.close()


def of_s3(method, path):
    """Buckets are parts of the path. Ids of objects are left out: what is below `TENANT/in/` are arguments."""
    parsed = urllib.parse.urlsplit(path)
    bucket, _, key = urllib.parse.unquote(parsed.path).lstrip("/").partition("/")
    if not key:
        action = "GetLifecycleConfiguration" if "lifecycle" in parsed.query else "ListBucket"
        yield f"s3:{bucket}", f"s3:{action}", None
        return
    tenant, *rest = key.split("/")
    inner = "in/x" if rest[:1] == ["in"] else "x"
    yield f"s3:{bucket}/{tenant}/{inner}", "s3:PutObject" if method == "PUT" else "s3:GetObject", None


def of_sqs(operation, body):
    queue = body.get("QueueName") or (body.get("QueueUrl") or body.get("SourceArn", "").replace(":", "/")).rsplit("/", 1)[-1]
    yield f"sqs:{queue}", f"sqs:{OF_BATCH.get(operation, operation)}", None


def of_secrets(operation, body):
    yield f"secretsmanager:{body['SecretId']}", f"secretsmanager:{operation}", None


def of_dynamodb(operation, body):
    if operation == "BatchExecuteStatement":
        for statement in body["Statements"]:
            yield from of_statement(statement)
    elif operation == "ExecuteStatement":
        yield from of_statement(body)
    elif operation == "BatchGetItem":
        for table, asked in body["RequestItems"].items():
            for key in asked["Keys"]:
                yield resource(table), "dynamodb:BatchGetItem", leading(key["pk"]["S"])
    elif operation == "BatchWriteItem":
        for table, writes in body["RequestItems"].items():
            for write in writes:
                (asked,) = write.values()
                yield resource(table), "dynamodb:BatchWriteItem", leading((asked.get("Item") or asked["Key"])["pk"]["S"])
    elif operation == "TransactWriteItems":
        for item in body["TransactItems"]:
            ((kind, asked),) = item.items()
            action = "ConditionCheckItem" if kind == "ConditionCheck" else f"{kind}Item"
            yield resource(asked["TableName"]), f"dynamodb:{action}", leading((asked.get("Item") or asked["Key"])["pk"]["S"])
    elif operation == "Query":
        value = re.search(r"=\s*(:\w+)", body["KeyConditionExpression"]).group(1)
        place = resource(body["TableName"], body.get("IndexName"))
        yield place, "dynamodb:Query", leading(body["ExpressionAttributeValues"][value]["S"])
    else:
        item = body.get("Key") or body.get("Item")
        yield resource(body["TableName"], body.get("IndexName")), f"dynamodb:{operation}", leading(item["pk"]["S"]) if item else None


def of_statement(statement):
    text = statement["Statement"]
    verb, table = re.match(r'(INSERT INTO|UPDATE|DELETE FROM|SELECT .* FROM) "([^"]+)"', text).groups()
    key = re.search(r"""'pk': \?|"pk" ?= ?\?""", text)
    value = statement["Parameters"][text[: key.start()].count("?")]["S"]
    yield resource(table), f"dynamodb:{PARTIQL[verb.split()[0]]}", leading(value)


def resource(table, index=None):
    return f"dynamodb:{table}/index/{index}" if index else f"dynamodb:{table}"


def leading(key):
    """A partition key without its ids."""
    if key in WHOLE or "#" not in key:
        return key
    parts = key.split("#")
    return "#".join(parts[: 2 if parts[0] in OF_TENANT else 1]) + "#x"


OF_SERVICE = {"AmazonSQS": of_sqs, "secretsmanager": of_secrets, "DynamoDB": of_dynamodb}
