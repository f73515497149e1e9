"""Checks the product with a second implementation of AWS: data.yaml deployed to ministack, a real worker, a real MCP server.

The stack is deployed by the aws CLI, as for an account; the calls are made by the `toolfleet` command and read back by it.
Names of queues and tables come from the template and its outputs only.
"""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import yaml

import targets

ROOT, HERE = targets.ROOT, targets.HERE
TEMPLATE = ROOT / "infra" / "cloudformation" / "data.yaml"
INTEROP = ROOT / "infra" / "interop"
AWS = Path(sys.executable).parent / "aws"
TOOLFLEET = targets.TOOLFLEET
WORKER = ROOT / "target" / "debug" / "toolfleet-worker"
STACK, PREFIX = "compat", "compat"
MANY = 24


def main():
    checks = []

    def check(name, holds, detail=""):
        checks.append(name)
        print(f"{'ok  ' if holds else 'FAIL'}  {name}" + ("" if holds else f": {detail}"), flush=True)
        if not holds:
            sys.exit(1)

    with contextlib.ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        run(running, Path(folder), check)
    print(f"ministack: {len(checks)} passed, 0 failed")


def run(running, folder, check):
    port, mcp_port, late_port = (targets.free_port() for _ in range(3))
    running.enter_context(targets.ministack(port))
    endpoint = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "", **{f"AWS_ENDPOINT_URL_{service}": endpoint for service in ("SQS", "DYNAMODB", "SECRETS_MANAGER", "S3")},
    }
    outputs = deploy(env, endpoint, "data.yaml", STACK)
    check("data.yaml is deployed by `aws cloudformation deploy`", outputs["CallsTableName"] == f"{PREFIX}-calls", outputs)
    options(env, endpoint, check)
    variables = compute(env, endpoint, folder, outputs, check)
    front(env, endpoint, folder, outputs, check)
    check("time to live is set as the template says", set_time_to_live(env) == 4)

    start_mcp_server(running, mcp_port)
    catalog = folder / "catalog.json"
    servers = [{"id": i, "url": f"http://127.0.0.1:{p}/mcp", "discover": True} for i, p in (("mcp", mcp_port), ("late", late_port))]
    # Registered, so that its first attempt fails at the call itself and not while the tools are listed.
    tools = [{"id": "late-echo", "server": "late", "name": "echo", "idempotent": True, "max_attempts": 50}]
    catalog.write_text(json.dumps({"servers": servers, "tools": tools, "tenants": {"queue": ["acme"]}}))
    # The variables of the task of compute.yaml, with what is different on this machine.
    receiver = running.enter_context(metrics_receiver())
    env |= variables | {
        "TOOLFLEET_CATALOG": str(catalog), "TOOLFLEET_LEASE_MS": "5000", "TOOLFLEET_CLOCK_SKEW_MS": "500",
        "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8", "TOOLFLEET_ALLOW_HTTP": "true",
        "TOOLFLEET_HTTP_ADDR": f"127.0.0.1:{targets.free_port()}",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}/v1/metrics",
    }
    worker = running.enter_context(start_worker(folder, env))
    health = lambda: subprocess.run([WORKER, "health"], env={**os.environ, **env}, capture_output=True).returncode == 0
    check("the worker is ready with the variables of the task, as its health check says", until("readiness", health))
    fleet = Fleet(env)
    calls(fleet, check)
    retried(fleet, running, late_port, check)
    many(fleet, check)
    accounted_for(fleet, env, outputs, check)
    check("the worker sends its metrics every ten seconds", until("metrics", lambda: len(receiver.paths) > 1) and set(receiver.paths) == {"/v1/metrics"})
    scaled_by = [b"toolfleet.calls.in_hand", b"toolfleet.slots", b"toolfleet.calls.ended", b"toolfleet.outcome"]
    # The two were perhaps sent before the last call had ended.
    scaled = lambda: all(name in receiver.seen for name in scaled_by)
    check("they have what the fleet is scaled by", until("metrics of calls", scaled))
    check("the worker still runs", worker.poll() is None, worker.log_path.read_text()[-2000:])


def deploy(env, endpoint, template, stack, *parameters):
    """Deploys a template as for an account. Returns the outputs of its stack."""
    aws = [AWS, "--endpoint-url", endpoint, "--output", "json", "cloudformation"]
    overrides = ["--capabilities", "CAPABILITY_IAM", "--parameter-overrides", f"Prefix={PREFIX}", *parameters]
    tool(env, *aws, "deploy", "--template-file", TEMPLATE.parent / template, "--stack-name", stack, *overrides)
    (found,) = json.loads(tool(env, *aws, "describe-stacks", "--stack-name", stack))["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def options(env, endpoint, check):
    """Everything that can be asked for, in a stack of its own, and the stack of a tenant."""
    asked = ["Prefix=full", "PriorityQueues=true", "CustomerKey=true", "MaxWriteRequestUnits=4000", "WarmWriteUnits=5000", "ReplyTopic=true"]
    full = deploy(env, endpoint, "data.yaml", "full", *asked)
    names = {"HighCallsQueueUrl", "LowCallsQueueUrl", "TopicRepliesQueueUrl", "ReplyTopicArn", "EncryptionKeyArn", "OperatorRoleArn"}
    check("data.yaml is deployed with all of its options", names <= full.keys() and ":sns:" in full["ReplyTopicArn"], full)
    sqs, dynamodb, iam = (client(env, service) for service in ("sqs", "dynamodb", "iam"))
    shown = sqs.get_queue_attributes(QueueUrl=full["CallsQueueUrl"], AttributeNames=["All"])["Attributes"]
    key = full["EncryptionKeyArn"]
    check("its queues take the customer's key", shown.get("KmsMasterKeyId") == key and shown.get("SqsManagedSseEnabled") == "false", shown)
    plain = sqs.get_queue_attributes(QueueUrl=full["CallsQueueUrl"].replace("full-calls", f"{PREFIX}-calls"), AttributeNames=["All"])["Attributes"]
    check("without one, they take that of SQS", plain.get("SqsManagedSseEnabled") == "true" and not plain.get("KmsMasterKeyId"), plain)
    indexes = dynamodb.describe_table(TableName="full-history")["Table"]["GlobalSecondaryIndexes"]
    check("its history has both indexes", {i["IndexName"] for i in indexes} == {"by_session", "by_failure"}, indexes)
    version = iam.get_policy(PolicyArn=full["WorkerPolicyArn"])["Policy"]["DefaultVersionId"]
    policy = iam.get_policy_version(PolicyArn=full["WorkerPolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
    queues = next(s for s in policy["Statement"] if s["Sid"] == "Queues")["Resource"]
    check("the workers' policy names its four queues", sorted(q.rsplit(":")[-1] for q in queues) == [
        "full-calls", "full-calls-dlq", "full-calls-high", "full-calls-low"], queues)
    tenant = deploy(env, endpoint, "tenant.yaml", "acme", "Tenant=acme.eu", "CancelCalls=true")
    deployed = tenant["RepliesQueueUrl"].endswith(f"/{PREFIX}-replies-acme-eu") and "AuditorRoleArn" in tenant
    check("tenant.yaml is deployed", deployed, tenant)


# What ministack does not know. The checks of infra/checks look at these.
UNKNOWN = ("AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy", "AWS::IAM::RolePolicy",
           "AWS::EC2::SecurityGroupIngress")


def compute(env, endpoint, folder, outputs, check):
    """The rest of compute.yaml: its imports and references resolve, and the worker's settings are the outputs of the data stack."""
    template = yaml.safe_load((TEMPLATE.parent / "compute.yaml").read_text())
    resources = template["Resources"]
    for name, resource in list(resources.items()):
        if resource["Type"] in UNKNOWN or "Metrics" in resource["Properties"]:
            del resources[name]
        elif resource["Type"] == "AWS::CloudWatch::Alarm":
            resource["Properties"].pop("AlarmActions")
    # It compares the text of a parameter with a number there.
    resources["WorkerService"]["Properties"].pop("CapacityProviderStrategy")
    (folder / "compute.yaml").write_text(yaml.safe_dump(template))
    parameters = ["Image=registry/toolfleet-worker:1", "VpcId=vpc-1", "SubnetIds=subnet-1,subnet-2", f"DataStack={STACK}"]
    deploy(env, endpoint, folder / "compute.yaml", "workers", *parameters)
    ecs = client(env, "ecs")
    (task,) = ecs.list_task_definitions(familyPrefix=f"{PREFIX}-worker")["taskDefinitionArns"]
    worker, collector = ecs.describe_task_definition(taskDefinition=task)["taskDefinition"]["containerDefinitions"]
    variables = {v["name"]: v["value"] for v in worker["environment"]}
    wanted = {
        "TOOLFLEET_QUEUE_URL": outputs["CallsQueueUrl"], "TOOLFLEET_DEAD_LETTER_QUEUE_URL": outputs["CallsDeadLetterQueueUrl"],
        "TOOLFLEET_PAYLOAD_BUCKET": outputs["PayloadsBucketName"], "TOOLFLEET_TABLE_PREFIX": PREFIX, "TOOLFLEET_CATALOG": f"secret://{PREFIX}/catalog",
    }
    check("compute.yaml gives workers the outputs of the data stack", wanted.items() <= variables.items(), variables)
    configuration = yaml.safe_load({v["name"]: v["value"] for v in collector["environment"]}["AOT_CONFIG_CONTENT"])
    exporter = configuration["exporters"]["awsemf"]["namespace"]
    check("the collector's configuration is YAML for this fleet", exporter == f"toolfleet/{PREFIX}", configuration)
    body = json.loads(client(env, "cloudwatch").get_dashboard(DashboardName=PREFIX)["DashboardBody"])
    check("the dashboard is JSON with its metrics", len(body["widgets"]) > 8 and "${" not in json.dumps(body), body)
    return variables


def front(env, endpoint, folder, outputs, check):
    """front.yaml: gateways and consoles get the outputs of the data stack, and roles with the policies of the data stack."""
    template = yaml.safe_load((TEMPLATE.parent / "front.yaml").read_text())
    resources = template["Resources"]
    for name, resource in list(resources.items()):
        if resource["Type"] in UNKNOWN or "Metrics" in resource["Properties"]:
            del resources[name]
        elif resource["Type"] == "AWS::CloudWatch::Alarm":
            resource["Properties"].pop("AlarmActions")
    # It takes the text of a parameter for a number there.
    resources["ConsoleService"]["Properties"].pop("DesiredCount")
    (folder / "front.yaml").write_text(yaml.safe_dump(template))
    parameters = [
        "Gateway=true", "Console=true", "Image=registry/toolfleet:1", "VpcId=vpc-1", "SubnetIds=subnet-1,subnet-2", f"DataStack={STACK}",
        "CertificateArn=arn:aws:acm:us-east-1:000000000000:certificate/1", "ClientCidr=10.0.0.0/8", "GatewayHost=tools.example.com",
        "ConsoleHost=console.example.com", "OauthIssuer=https://login.example.com/", "OauthTenantClaim=tenant",
    ]
    deployed = deploy(env, endpoint, folder / "front.yaml", "front", *parameters)
    check("front.yaml is deployed", {"GatewayRoleId", "LoadBalancerDnsName", "ConsoleAddress"} <= deployed.keys(), deployed)
    ecs, iam = client(env, "ecs"), client(env, "iam")
    shared = {
        "TOOLFLEET_QUEUE_URL": outputs["CallsQueueUrl"], "TOOLFLEET_PAYLOAD_BUCKET": outputs["PayloadsBucketName"], "TOOLFLEET_TABLE_PREFIX": PREFIX,
    }
    own = {
        "gateway": {"TOOLFLEET_CATALOG": f"secret://{PREFIX}/catalog", "TOOLFLEET_GATEWAY_KEY": f"secret://{PREFIX}/gateway-key"},
        "console": {"TOOLFLEET_CONSOLE_TOKENS": f"secret://{PREFIX}/console-tokens", "TOOLFLEET_CONSOLE_KEY": f"secret://{PREFIX}/console-key"},
    }
    for kind in ("gateway", "console"):
        (task,) = ecs.list_task_definitions(familyPrefix=f"{PREFIX}-{kind}")["taskDefinitionArns"]
        definition = ecs.describe_task_definition(taskDefinition=task)["taskDefinition"]
        variables = {v["name"]: v["value"] for v in definition["containerDefinitions"][0]["environment"]}
        check(f"a {kind} gets the outputs of the data stack", (shared | own[kind]).items() <= variables.items(), variables)
        role = definition["taskRoleArn"].rsplit("/")[-1]
        attached = [p["PolicyArn"] for p in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]]
        check(f"the role of a {kind} has its policy and no other", attached == [outputs[f"{kind.capitalize()}PolicyArn"]], attached)


def client(env, service):
    return boto3.client(service, endpoint_url=env["AWS_ENDPOINT_URL_SQS"], region_name=env["AWS_REGION"],
                        aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"])


def set_time_to_live(env):
    """ministack leaves TimeToLiveSpecification out of the stack; the same values are set through the API. How many tables have it."""
    dynamodb, resources = client(env, "dynamodb"), yaml.safe_load(TEMPLATE.read_text())["Resources"].values()
    enabled = 0
    for properties in (r["Properties"] for r in resources if r["Type"] == "AWS::DynamoDB::Table"):
        if "TimeToLiveSpecification" not in properties:
            # Catalogs stay until somebody takes them out.
            continue
        name = properties["TableName"]["Fn::Sub"].replace("${Prefix}", PREFIX)
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])
        shown = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        enabled += shown == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    return enabled


def start_mcp_server(running, port):
    python = INTEROP / ".interop" / "venv" / "bin" / "python"
    running.enter_context(targets.process(f"fastmcp-{port}", [python, INTEROP / "fastmcp_server.py", port], port))


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes whatever is sent by OTLP."""

    def do_POST(self):
        self.server.seen += self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def metrics_receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.paths, server.seen = [], b""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@contextlib.contextmanager
def start_worker(folder, env):
    log_path = folder / "worker.log"
    with open(log_path, "wb") as log:
        worker = subprocess.Popen([WORKER], env={**os.environ, **env}, stdout=log, stderr=log)
    worker.log_path = log_path
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait(30)


class Fleet:
    """The `toolfleet` command."""

    def __init__(self, env):
        self.env = env

    def run(self, *arguments):
        return json.loads(tool(self.env, TOOLFLEET, "--json", *arguments, allowed=(0, 1)))

    def call(self, name, arguments=None, server="mcp", *more):
        words = ["call", "--tenant", "acme", "--server", server, "--name", name, "--arguments", json.dumps(arguments or {}), *more]
        return self.run(*words)

    def history(self, *more):
        return self.run("history", "--tenant", "acme", *more)["records"]


def tool(env, *command, allowed=(0,)):
    done = subprocess.run([str(c) for c in command], env={**os.environ, **env}, capture_output=True, text=True, timeout=90)
    if done.returncode not in allowed:
        sys.exit(f"FAILED: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def until(what, look):
    end = time.monotonic() + targets.GIVE_UP_S
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    sys.exit(f"FAILED: {what} not seen within {targets.GIVE_UP_S} s")


def calls(fleet, check):
    seen = fleet.call("echo", {"text": "hello"}, "mcp", "--session", "talk")
    check("a call succeeds", seen["outcome"] == "succeeded" and "hello" in json.dumps(seen), seen)
    seen = fleet.call("fail", {"message": "it is broken"})
    check("a tool's own error is a result of the call", seen["outcome"] == "tool_error" and "it is broken" in json.dumps(seen), seen)
    seen = fleet.call("no-such-tool")
    check("an unknown tool is refused", (seen["outcome"], seen.get("error", {}).get("code")) == ("refused", "unknown_tool"), seen)
    once = [fleet.call("count", {}, "mcp", "--call-id", "once") for _ in range(3)]
    runs = fleet.call("executions")
    check("a call sent three times runs once and has one result", once[0] == once[1] == once[2] and '"1"' in json.dumps(runs), [once, runs])
    other = fleet.call("echo", {}, "mcp", "--call-id", "once")
    check("another question under a used id gets no answer of its own", other == once[0], other)
    fleet.run("send", "--tenant", "stranger", "--server", "mcp", "--name", "echo")
    refused = until("the refusal", lambda: fleet.run("history", "--tenant", "_tenant_not_allowed")["records"])
    check("a tenant that may not use the queue is refused", refused[0]["code"] == "tenant_not_allowed", refused)


def retried(fleet, running, port, check):
    """The server comes up only after the call has been given back to the queue. Tries that execute nothing are no attempts."""
    fleet.run("send", "--tenant", "acme", "--tool", "late-echo", "--arguments", '{"text":"at last"}', "--call-id", "patient")
    dynamodb, key = client(fleet.env, "dynamodb"), {"pk": {"S": "acme#patient"}}
    row = lambda: dynamodb.get_item(TableName=f"{PREFIX}-calls", Key=key, ConsistentRead=True).get("Item", {})
    until("the row of a call that waits for a server that is down", lambda: "held_reason" in row())
    start_mcp_server(running, port)
    seen = until("the end of the call that waited", lambda: ended(fleet, "patient"))
    check("a call to a server that is down waits until it is up", (seen["outcome"], seen["attempts"]) == ("succeeded", 1), seen)


def ended(fleet, call_id):
    done = subprocess.run([TOOLFLEET, "--json", "result", "acme", call_id], env={**os.environ, **fleet.env}, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout else None


def many(fleet, check):
    ids = [f"many-{n}" for n in range(MANY)]
    for call_id in ids:
        arguments = json.dumps({"text": call_id})
        fleet.run("send", "--tenant", "acme", "--server", "mcp", "--name", "echo", "--arguments", arguments, "--call-id", call_id)
    results = [until(f"the end of {call_id}", lambda: ended(fleet, call_id)) for call_id in ids]
    right = [r["outcome"] == "succeeded" and f'"{call_id}"' in json.dumps(r) for call_id, r in zip(ids, results)]
    check(f"{MANY} calls each get their own result", all(right), results)


def accounted_for(fleet, env, outputs, check):
    records = until("the whole history", lambda: (lambda r: len(r) >= MANY + 7 and r)(fleet.history("--limit", "100")))
    by_id = [record["call_id"] for record in records]
    check("the history has a record of every call", {f"many-{n}" for n in range(MANY)} | {"once", "patient"} <= set(by_id), by_id)
    failed = fleet.history("--failed")
    check("the failed calls are found by their index", {r["outcome"] for r in failed} >= {"tool_error", "refused"}, failed)
    talk = fleet.history("--session", "talk")
    check("the calls of a session are found by their index", len(talk) == 1 and talk[0]["outcome"] == "succeeded", talk)
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = client(env, "sqs")
    left = lambda url: sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values())
    until("the empty queue", lambda: left(outputs["CallsQueueUrl"]) == 0)
    check("nothing is left in the queue or its dead-letter queue", left(outputs["CallsDeadLetterQueueUrl"]) == 0)


if __name__ == "__main__":
    main()
