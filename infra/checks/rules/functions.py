"""Lambda: messages of calls that wait stay in their queue, an invocation ends before Lambda gives it up, and nothing runs without a bound."""

from model import settings

from .compute import CREDENTIAL
from .iam import INTERFACES

# What is left of an invocation for its response and for calls that are handed back (workers/worker/src/services/invocations/invocation.rs), and
# the time limit of an attempt that names none (shared/catalog/src/defaults.rs).
RESERVED_S, ATTEMPT_S = 8, 30
QUEUES = {"CallsSource": ("-calls", None), "HighCallsSource": ("-calls-high", "HasPriorityQueues"), "LowCallsSource": ("-calls-low", "HasPriorityQueues")}


def sources(project):
    """Each queue of calls is an event source, whose messages are deleted one by one."""
    template = project.templates["lambda"]
    found = template.of_type("AWS::Lambda::EventSourceMapping")
    for missing in QUEUES.keys() - found.keys():
        yield f"lambda.yaml {missing}: is missing, so its calls wait for ever"
    for name, source in found.items():
        at, (queue, condition) = f"lambda.yaml {name}", QUEUES[name]
        if not str(template.value(source.get("EventSourceArn"))).endswith(f":toolfleet{queue}"):
            yield f"{at}: is not of the queue toolfleet{queue}"
        if template.resources[name].get("Condition") != condition:
            yield f"{at}: its condition is not {condition}"
        if source.get("FunctionName") != {"Ref": "WorkerFunction"}:
            yield f"{at}: does not invoke WorkerFunction"
        if source.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{at}: without ReportBatchItemFailures Lambda deletes the messages of calls that wait"
        if source.get("MaximumBatchingWindowInSeconds") != 0:
            yield f"{at}: a batching window lets calls wait that could run"
        if source.get("ScalingConfig") != {"MaximumConcurrency": {"Ref": "MaximumConcurrency"}}:
            yield f"{at}: the number of invocations at once has no bound"
        if source.get("BatchSize") != {"Ref": "BatchSize"} or template.parameters["BatchSize"].get("MaxValue") != 10:
            yield f"{at}: more than 10 messages need a batching window, and an invocation is as long as the longest of its calls"
        if source.get("Enabled") is False:
            yield f"{at}: is not enabled"


def function(project):
    """The function is the program, of the right processor, with the rights of workers, and its time-out leaves time for an attempt."""
    template = project.templates["lambda"]
    at, worker = "lambda.yaml WorkerFunction", template.of_type("AWS::Lambda::Function")["WorkerFunction"]
    wanted = {
        "Runtime": "provided.al2023", "Handler": "bootstrap", "Architectures": [{"Ref": "Architecture"}], "Timeout": {"Ref": "TimeoutSeconds"},
        "MemorySize": {"Ref": "MemorySize"}, "Role": {"Fn::GetAtt": ["FunctionRole", "Arn"]}, "LoggingConfig": {"LogGroup": {"Ref": "FunctionLogs"}},
        "Code": {"S3Bucket": {"Ref": "WorkerBucket"}, "S3Key": {"Ref": "WorkerKey"}},
    }
    for key, value in wanted.items():
        if worker.get(key) != value:
            yield f"{at}: {key} is {worker.get(key)}, not {value}"
    time_out = template.parameters["TimeoutSeconds"]
    if time_out["Default"] < ATTEMPT_S + RESERVED_S + 10 or time_out["MinValue"] < RESERVED_S + 10:
        yield f"lambda.yaml TimeoutSeconds: leaves no time for an attempt of {ATTEMPT_S} s and {RESERVED_S} s to hand back"
    network = list(template.each(worker.get("VpcConfig")))
    group = {"Fn::GetAtt": ["WorkerSecurityGroup", "GroupId"]}
    if network != [{"SubnetIds": {"Ref": "SubnetIds"}, "SecurityGroupIds": [group]}]:
        yield f"{at}: is not in SubnetIds and WorkerSecurityGroup"
    if list(template.each(worker.get("PublishToLatestPublished"))) != [True]:
        yield f"{at}: without PublishToLatestPublished an update has no effect on managed instances"
    capacity = template.of_type("AWS::Lambda::CapacityProvider")["Capacity"]
    of_function = list(template.each(worker.get("CapacityProviderConfig")))
    if [c["LambdaManagedInstancesCapacityProviderConfig"]["CapacityProviderArn"] for c in of_function] != [{"Fn::GetAtt": ["Capacity", "Arn"]}]:
        yield f"{at}: does not run on Capacity"
    if capacity.get("CapacityProviderScalingConfig", {}).get("MaxVCpuCount") != {"Ref": "MaxVCpus"}:
        yield "lambda.yaml Capacity: the number of its vCPUs has no bound"
    if capacity.get("VpcConfig") != {"SubnetIds": {"Ref": "SubnetIds"}, "SecurityGroupIds": [group]}:
        yield "lambda.yaml Capacity: its instances are not in SubnetIds and WorkerSecurityGroup"
    if capacity.get("InstanceRequirements") != {"Architectures": [{"Ref": "Architecture"}]}:
        yield "lambda.yaml Capacity: its instances have another processor than the program"
    if capacity.get("PermissionsConfig") != {"CapacityProviderOperatorRoleArn": {"Fn::GetAtt": ["CapacityRole", "Arn"]}}:
        yield "lambda.yaml Capacity: Lambda has no role to manage its instances"
    limits = {"Instances": {"ec2:ManagedResourceOperator": "scaler.lambda.amazonaws.com"}, "Images": {"ec2:Owner": "amazon"}}
    for place, owner, statement in template.statements():
        if owner == "CapacityRole" and statement["Sid"] in limits and statement.get("Condition") != {"StringEquals": limits[statement["Sid"]]}:
            yield f"{place}: Lambda may start other instances than its own, or from other images than those of Amazon"
    conditions = {"Capacity": "IsManaged", "CapacityRole": "IsManaged", "WorkerSecurityGroup": "HasVpc"}
    for name, condition in conditions.items():
        if template.resources[name].get("Condition") != condition:
            yield f"lambda.yaml {name}: its condition is not {condition}"
    yield from _created(template)


def _created(template):
    """CreateFunction checks that the role may connect the function to its subnets. What is no part of the role may be created after the function."""
    policies = template.of_type("AWS::IAM::Role")["FunctionRole"]["Policies"]
    in_vpc = [one["Fn::If"][1] for one in policies if isinstance(one, dict) and one.get("Fn::If", [None])[0] == "IsInVpc"]
    granted = {action for policy in in_vpc for statement in policy["PolicyDocument"]["Statement"] for action in statement["Action"]}
    if granted != INTERFACES:
        yield f"lambda.yaml FunctionRole: CreateFunction in a VPC needs exactly {sorted(INTERFACES)} in the role itself, under IsInVpc"


def full(project):
    """The invocations of all queues are compared with what all queues may have: Lambda counts those of the function."""
    template = project.templates["lambda"]
    at, alarm = "lambda.yaml AtMaximumAlarm", template.of_type("AWS::CloudWatch::Alarm")["AtMaximumAlarm"]
    stats = [m["MetricStat"]["Metric"]["MetricName"] for m in alarm["Metrics"] if "MetricStat" in m]
    expressions = [m["Expression"] for m in alarm["Metrics"] if "Expression" in m]
    if stats != ["ConcurrentExecutions"] or (alarm["Threshold"], alarm["ComparisonOperator"]) != ({"Ref": "MaximumConcurrency"}, "GreaterThanOrEqualToThreshold"):
        yield f"{at}: does not compare ConcurrentExecutions with MaximumConcurrency"
    if expressions != [{"Fn::If": ["HasPriorityQueues", f"running/{len(QUEUES)}", "running"]}]:
        yield f"{at}: {len(QUEUES)} queues may have MaximumConcurrency invocations each; with one queue, that one"


NEEDED = {
    "TOOLFLEET_QUEUE_URL", "TOOLFLEET_QUEUE_URL_HIGH", "TOOLFLEET_QUEUE_URL_LOW", "TOOLFLEET_DEAD_LETTER_QUEUE_URL", "TOOLFLEET_TABLE_PREFIX",
    "TOOLFLEET_PAYLOAD_BUCKET", "TOOLFLEET_CATALOG", "TOOLFLEET_SLOTS", "TOOLFLEET_LOG_FORMAT",
}
# Nothing reaches an environment to ask it.
NEVER = {"TOOLFLEET_HTTP_ADDR", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY", "TOOLFLEET_WORKER_ID"}


def environment(project):
    template = project.templates["lambda"]
    variables = template.of_type("AWS::Lambda::Function")["WorkerFunction"]["Environment"]["Variables"]
    for name in sorted(variables.keys() - settings()):
        yield f"lambda.yaml WorkerFunction: a worker does not read {name} (docs/reference/settings.md)"
    for name in sorted(NEEDED - variables.keys()):
        yield f"lambda.yaml WorkerFunction: {name} is not set"
    for name in sorted(NEVER & variables.keys()):
        yield f"lambda.yaml WorkerFunction: {name} is not to be set in a function"
    if variables.get("TOOLFLEET_ALLOW_HTTP") != {"Ref": "AllowHttp"} or template.default("AllowHttp") != "false":
        yield "lambda.yaml WorkerFunction: servers may be called without TLS although nobody asked for it"
    for name in variables:
        if CREDENTIAL.search(name):
            yield f"lambda.yaml WorkerFunction: {name} puts a credential into the environment"
