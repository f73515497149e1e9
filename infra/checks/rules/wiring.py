"""Parts that belong together and that CloudFormation would deploy without each other."""

from model import ROOT

from .iam import INTERFACES

KMS_ACTIONS = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
KMS_SERVICES = ["dynamodb", "s3", "secretsmanager", "sns", "sqs"]
# The policies of data.yaml that roles of other templates have: all that they have, beside a policy of the operator's own.
ATTACHED = {
    ("lambda", "FunctionRole"): "WorkerPolicyArn",
    ("compute", "TaskRole"): "WorkerPolicyArn", ("ec2", "InstanceRole"): "WorkerPolicyArn", ("kubernetes", "WorkerRole"): "WorkerPolicyArn",
    ("front", "GatewayRole"): "GatewayPolicyArn", ("kubernetes", "GatewayRole"): "GatewayPolicyArn",
    ("front", "ConsoleRole"): "ConsolePolicyArn", ("kubernetes", "ConsoleRole"): "ConsolePolicyArn",
}
ROLE_ACTIONS = {
    ("compute", "ExecutionRole"): {
        "logs:CreateLogStream", "logs:PutLogEvents", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken",
    },
    ("compute", "TaskRole"): {"ecs:UpdateTaskProtection"},
    ("compute", "CollectorPolicy"): {"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"},
    ("compute", "ScalePolicy"): {
        "ecs:DescribeServices", "ecs:UpdateService", "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:RegisterScalableTarget",
    },
    ("ec2", "InstanceRole"): {
        "s3:GetObject", "autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat", "cloudformation:SignalResource", "cloudwatch:PutMetricData",
        "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents",
    },
    ("ec2", "ScalePolicy"): {"autoscaling:DescribeAutoScalingGroups", "autoscaling:SetDesiredCapacity", "autoscaling:UpdateAutoScalingGroup"},
    ("front", "ExecutionRole"): {
        "logs:CreateLogStream", "logs:PutLogEvents", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken",
    },
    ("lambda", "FunctionRole"): {"logs:CreateLogStream", "logs:PutLogEvents"} | INTERFACES,
    # Those of AWSLambdaManagedEC2ResourceOperator.
    ("lambda", "CapacityRole"): {
        "ec2:AttachNetworkInterface", "ec2:CreateNetworkInterface", "ec2:CreateTags", "ec2:DescribeAvailabilityZones", "ec2:DescribeCapacityReservations",
        "ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes",
        "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:RunInstances",
    },
    ("front", "GatewayRole"): set(),
    ("front", "ConsoleRole"): set(),
    ("kubernetes", "GatewayRole"): set(),
    ("kubernetes", "ConsoleRole"): set(),
    ("kubernetes", "WorkerRole"): set(),
    ("kubernetes", "ScalerRole"): {"sqs:GetQueueAttributes"},
    ("data", "ReplyPipeRole"): {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sns:Publish"},
    ("data", "AuditorRole"): {"dynamodb:BatchGetItem", "dynamodb:Query"},
    ("tenant", "PollerRole"): {
        "dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query", "s3:GetObject", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage",
        "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage",
    },
    ("tenant", "ProducerRole"): {
        "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage", "s3:PutObject", "dynamodb:GetItem", "dynamodb:PartiQLInsert",
        "dynamodb:PartiQLUpdate", "dynamodb:UpdateItem",
    },
    ("tenant", "AuditorRole"): {"dynamodb:BatchGetItem", "dynamodb:Query"},
}


def roles(project):
    """Each role has the rights that are listed here, and those of workers, gateways and consoles their policy besides."""
    for (stem, name), wanted in ROLE_ACTIONS.items():
        template = project.templates[stem]
        given = set()
        for _, owner, statement in template.statements():
            if owner == name:
                given |= set(statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
        if given != wanted:
            yield f"{template.name} {name}: has not exactly its rights: {sorted(given ^ wanted)}"
    for (stem, name), policy in ATTACHED.items():
        template = project.templates[stem]
        attached = [str(template.value(arn)) for arn in template.each(template.resources[name]["Properties"].get("ManagedPolicyArns"))]
        if [arn.rsplit("-")[-1] for arn in attached if arn.startswith("<import")] != [f"{policy}>"]:
            yield f"{template.name} {name}: {policy} is not attached, or is not the only one of the data stack"
    for template in project.templates.values():
        for name, role in template.of_type("AWS::IAM::Role").items():
            statements = role["AssumeRolePolicyDocument"]["Statement"]
            actions = [a for s in statements for a in (s.get("Action") if isinstance(s.get("Action"), list) else [s.get("Action")])]
            principals = [p for s in statements for p in s.get("Principal", {}).values()]
            if not principals or "sts:AssumeRole" not in actions or any(s.get("Effect") != "Allow" for s in statements):
                yield f"{template.name} {name}: nobody can assume it"
        for at, _, statement in template.statements():
            if statement.get("Effect") != "Allow" or not list(template.each(statement["Resource"])):
                yield f"{at}: allows nothing"


def encryption(project):
    """Whatever holds data takes the customer's key if there is one, and the key serves all of them."""
    data = project.templates["data"]
    parts = {
        "AWS::SQS::Queue": lambda p: p.get("KmsMasterKeyId"),
        "AWS::SNS::Topic": lambda p: p.get("KmsMasterKeyId"),
        "AWS::DynamoDB::Table": lambda p: p["SSESpecification"].get("KMSMasterKeyId"),
        "AWS::SecretsManager::Secret": lambda p: p.get("KmsKeyId"),
        "AWS::S3::Bucket": lambda p: [
            r["ServerSideEncryptionByDefault"].get("KMSMasterKeyID") for r in p["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        ],
    }
    for kind, look in parts.items():
        for name, properties in data.of_type(kind).items():
            if "<EncryptionKey.Arn>" not in [data.value(key) for key in data.each(look(properties))]:
                yield f"data.yaml {name}: does not take the customer's key"
    key = data.of_type("AWS::KMS::Key")["EncryptionKey"]
    statements = {s.get("Sid"): s for s in key["KeyPolicy"]["Statement"]}
    admin, services = statements["AccountAdministers"], statements["ServicesOnBehalfOfCallers"]
    if (admin["Effect"], admin["Action"], admin["Resource"]) != ("Allow", "kms:*", "*") or not admin["Principal"]["AWS"]:
        yield "data.yaml EncryptionKey: nobody could change the key's policy any more"
    via = [data.value(v) for v in services["Condition"]["StringEquals"]["kms:ViaService"]]
    if via != [f"{name}.<AWS::Region>.<AWS::URLSuffix>" for name in KMS_SERVICES]:
        yield f"data.yaml EncryptionKey: may not be used through exactly {KMS_SERVICES}"
    if (services["Effect"], services["Action"], services["Resource"], services["Principal"]) != ("Allow", KMS_ACTIONS, "*", {"AWS": "*"}):
        yield f"data.yaml EncryptionKey: callers of the services need {KMS_ACTIONS}"


POLICIES = {
    "AWS::SQS::QueuePolicy": ("Queues", "sqs:*", "AWS::SQS::Queue"), "AWS::S3::BucketPolicy": ("Bucket", "s3:*", "AWS::S3::Bucket"),
    "AWS::SNS::TopicPolicy": ("Topics", "sns:Publish", "AWS::SNS::Topic"),
}


def resource_policies(project):
    """A policy of a queue, bucket or topic names that queue, bucket or topic, and denies without TLS."""
    for template in project.templates.values():
        for kind, (field, action, of) in POLICIES.items():
            bound = set()
            for name, policy in template.of_type(kind).items():
                targets = {str(template.value(t)).strip("<>") for t in template.each(policy.get(field))}
                statement = policy["PolicyDocument"]["Statement"][0]
                arns = [str(template.value(arn)) for arn in template.each(statement.get("Resource"))]
                resources = {arn.strip("<>").split(".")[0].split("/")[0].rstrip(">") for arn in arns}
                if statement.get("Action") != action or resources != targets or statement.get("Effect") != "Deny":
                    yield f"{template.name} {name}: does not deny {action} on exactly {sorted(targets)}"
                if kind == "AWS::S3::BucketPolicy" and len(list(template.each(statement["Resource"]))) != 2:
                    yield f"{template.name} {name}: names not both the bucket and its objects"
                if statement.get("Condition") != {"Bool": {"aws:SecureTransport": "false"}} or statement.get("Principal") != "*":
                    yield f"{template.name} {name}: does not deny everybody without TLS"
                bound |= targets
            for missing in set(template.of_type(of)) - bound:
                yield f"{template.name} {missing}: has no {kind}"
        for name, queue in template.of_type("AWS::SQS::Queue").items():
            if "-calls" in str(template.value(queue["QueueName"])) and queue.get("VisibilityTimeout") != {"Ref": "VisibilityTimeoutSeconds"}:
                yield f"{template.name} {name}: VisibilityTimeout is not the parameter"
            if "MessageRetentionPeriod" not in queue:
                yield f"{template.name} {name}: MessageRetentionPeriod is not set"


def service(project):
    """The ECS service runs the workers' task, in their group, in the subnets; scaling sets its number."""
    compute = project.templates["compute"]
    worker = compute.of_type("AWS::ECS::Service")["WorkerService"]
    network = worker.get("NetworkConfiguration", {}).get("AwsvpcConfiguration", {})
    if [compute.value(g) for g in network.get("SecurityGroups", [])] != ["<WorkerSecurityGroup.GroupId>"]:
        yield "compute.yaml WorkerService: is not in WorkerSecurityGroup"
    if network.get("Subnets") != {"Ref": "SubnetIds"} or network.get("AssignPublicIp") != {"Ref": "AssignPublicIp"}:
        yield "compute.yaml WorkerService: does not take SubnetIds and AssignPublicIp"
    if (worker.get("Cluster"), worker.get("TaskDefinition")) != ({"Ref": "Cluster"}, {"Ref": "WorkerTask"}):
        yield "compute.yaml WorkerService: is not WorkerTask on Cluster"
    if worker.get("AvailabilityZoneRebalancing") != "ENABLED" or worker.get("PropagateTags") != "SERVICE":
        yield "compute.yaml WorkerService: tasks are not spread anew after an outage of a zone, or have no tags"
    if compute.of_type("AWS::ECS::Cluster")["Cluster"].get("CapacityProviders") != ["FARGATE", "FARGATE_SPOT"]:
        yield "compute.yaml Cluster: its capacity providers are not FARGATE and FARGATE_SPOT"
    task = compute.of_type("AWS::ECS::TaskDefinition")["WorkerTask"]
    if task.get("RequiresCompatibilities") != ["FARGATE"] or task.get("Cpu") != {"Ref": "Cpu"} or task.get("Memory") != {"Ref": "Memory"}:
        yield "compute.yaml WorkerTask: is no task of Fargate of the size Cpu and Memory"
    containers = list(compute.each(task["ContainerDefinitions"]))
    if [c["Name"] for c in containers] != ["worker", "collector"]:
        yield "compute.yaml WorkerTask: its containers are not worker and collector"
    for variable in compute.each(containers[0]["Environment"]):
        if variable.get("Value") in (None, "", {}):
            yield f"compute.yaml WorkerTask: {variable['Name']} has no value"
    names = {v["Name"] for v in compute.each(containers[0]["Environment"])}
    optional = {
        "TOOLFLEET_QUEUE_URL_HIGH", "TOOLFLEET_QUEUE_URL_LOW", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "TOOLFLEET_HISTORY_SHARDS",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRIC_EXPORT_INTERVAL",
    }
    for name in sorted(optional - names):
        yield f"compute.yaml WorkerTask: {name} is not set where its parameter asks for it"
    for container in containers:
        options = container["LogConfiguration"]["Options"]
        if container["LogConfiguration"].get("LogDriver") != "awslogs" or options.get("awslogs-group") != {"Ref": "WorkerLogs"}:
            yield f"compute.yaml {container['Name']}: does not log to WorkerLogs"
    target = compute.of_type("AWS::ApplicationAutoScaling::ScalableTarget")["WorkerCapacity"]
    dimension = (target.get("ServiceNamespace"), target.get("ScalableDimension"), compute.value(target.get("ResourceId")))
    if dimension != ("ecs", "ecs:service:DesiredCount", "service/<Cluster>/<WorkerService.Name>"):
        yield "compute.yaml WorkerCapacity: does not scale WorkerService"
    for name, policy in compute.of_type("AWS::ApplicationAutoScaling::ScalingPolicy").items():
        if policy.get("ScalingTargetId") != {"Ref": "WorkerCapacity"}:
            yield f"compute.yaml {name}: does not scale WorkerCapacity"


def alarm_parts(project):
    """An alarm compares a statistic of a metric with a threshold."""
    for template in project.templates.values():
        for name, alarm in template.of_type("AWS::CloudWatch::Alarm").items():
            at = f"{template.name} {name}"
            if ("MetricName" in alarm) == ("Metrics" in alarm):
                yield f"{at}: has no metric, or two"
            of_metric = ["Statistic", "Namespace"] if "MetricName" in alarm else []
            for key in ("AlarmName", "ComparisonOperator", "Threshold", "EvaluationPeriods", *of_metric):
                if alarm.get(key) in (None, ""):
                    yield f"{at}: has no {key}"
            metrics = [m for m in template.each(alarm.get("Metrics")) if "Expression" not in m]
            if any("Stat" not in m.get("MetricStat", {}) for m in metrics):
                yield f"{at}: a metric has no statistic"
            if name == "BehindAlarm" and alarm.get("DatapointsToAlarm", 1) < 2:
                yield f"{at}: one value alone would be enough"


def log_codes(project):
    """The codes that make the alarm of defects go off are codes of log lines."""
    known = (ROOT / "docs/reference/runbook.md").read_text()
    for stem, log in (("compute", "WorkerLogs"), ("lambda", "FunctionLogs")):
        template = project.templates[stem]
        for name, found in template.of_type("AWS::Logs::MetricFilter").items():
            codes = [part for part in found["FilterPattern"].split('"') if part.islower() and " " not in part]
            if not codes or found["LogGroupName"] != {"Ref": log}:
                yield f"{template.name} {name}: looks for no code, or not in the workers' log"
            for code in codes:
                if f"| `{code}` |" not in known:
                    yield f"{template.name} {name}: no worker logs {code}"


def pipe(project):
    data = project.templates["data"]
    for name, found in data.of_type("AWS::Pipes::Pipe").items():
        ends = tuple(data.value(found.get(key)) for key in ("Source", "Target", "RoleArn"))
        if ends != ("<TopicRepliesQueue.Arn>", "<ReplyTopicOfFleet>", "<ReplyPipeRole.Arn>"):
            yield f"data.yaml {name}: does not lead from TopicRepliesQueue to ReplyTopicOfFleet"
        if found.get("TargetParameters", {}).get("InputTemplate") != "<$.body>":
            yield f"data.yaml {name}: publishes more than the notice"


def versions(project):
    """A policy without a version is one of 2008, in which variables are texts."""
    for template in project.templates.values():
        for name, resource in template.resources.items():
            for document in _documents(resource.get("Properties", {})):
                if document.get("Version") != "2012-10-17":
                    yield f"{template.name} {name}: a policy has no Version 2012-10-17"
                for statement in template.each(document["Statement"]):
                    if resource["Type"] != "AWS::IAM::Role" and "Sid" not in statement:
                        yield f"{template.name} {name}: a statement has no Sid"


def _documents(value):
    """Every mapping with a Statement."""
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        for inner in value.values():
            yield from _documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _documents(inner)


def values(project):
    """Nothing of a resource is empty: a name without a value deploys, and has no effect."""
    for template in project.templates.values():
        for name, resource in template.resources.items():
            for path in _empty(resource.get("Properties", {}), ""):
                yield f"{template.name} {name}: {path} has no value"


def _empty(value, path):
    if value in (None, {}, []):
        yield path.removeprefix(".")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _empty(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _empty(inner, f"{path}.{place}")


QUEUES = {"<CallsQueue.Arn>", "<HighCallsQueue.Arn>", "<LowCallsQueue.Arn>"}
SECRET = "arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:toolfleet/"
HISTORY = {"<HistoryTable.Arn>", "<HistoryTable.Arn>/index/*"}
EXACTLY = {
    ("WorkerPolicy", "Queues"): QUEUES | {"<CallsDeadLetterQueue.Arn>"},
    ("WorkerPolicy", "Notices"): {"arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:toolfleet-replies*"},
    ("WorkerPolicy", "Secrets"): {
        "<CatalogSecret>", "arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:toolfleet/servers/*",
    },
    ("OperatorRole", "Queues"): QUEUES,
    ("OperatorRole", "DeadLetters"): {"<CallsDeadLetterQueue.Arn>"},
    ("OperatorRole", "History"): HISTORY,
    ("AuditorRole", "History"): HISTORY,
    # Its calls have no priority.
    ("GatewayPolicy", "Queues"): {"<CallsQueue.Arn>"},
    ("GatewayPolicy", "Arguments"): {"<PayloadsBucket.Arn>/*/in/*"},
    ("GatewayPolicy", "Secrets"): {"<CatalogSecret>", f"{SECRET}gateway-key-??????"},
    ("ConsolePolicy", "Queues"): QUEUES,
    ("ConsolePolicy", "DeadLetters"): {"<CallsDeadLetterQueue.Arn>"},
    ("ConsolePolicy", "History"): HISTORY,
    ("ConsolePolicy", "Secrets"): {f"{SECRET}console-tokens-??????", f"{SECRET}console-key-??????", f"{SECRET}console-oidc-??????"},
}
NEEDS = {
    ("WorkerPolicy", "Queues"): 5, ("WorkerPolicy", "Notices"): 1, ("OperatorRole", "Queues"): 3, ("OperatorRole", "DeadLetters"): 8,
    ("GatewayPolicy", "Queues"): 1, ("ConsolePolicy", "Queues"): 1, ("ConsolePolicy", "DeadLetters"): 4,
}


def resources(project):
    """Statements on queues, the history and secrets name each of their resources, and have as many actions as those need."""
    data = project.templates["data"]
    found = {(name, statement.get("Sid")): statement for _, name, statement in data.statements()}
    for key, wanted in EXACTLY.items():
        given = {str(data.value(r)) for r in data.each(found.get(key, {}).get("Resource"))}
        if given != wanted:
            yield f"data.yaml {' '.join(key)}: has not exactly its resources: {sorted(given ^ wanted)}"
    for key, count in NEEDS.items():
        actions = found.get(key, {}).get("Action")
        if len(actions if isinstance(actions, list) else [actions]) != count:
            yield f"data.yaml {' '.join(key)}: has not {count} actions"


def names(project):
    """Names by which one part of the templates finds another."""
    data, compute, ec2 = (project.templates[stem] for stem in ("data", "compute", "ec2"))
    wanted = {
        (data, "PayloadsBucket", "BucketName"): "toolfleet-payloads-<AWS::AccountId>-<AWS::Region>",
        (data, "CatalogSecret", "Name"): "toolfleet/catalog",
        (compute, "MetricLogs", "LogGroupName"): "/toolfleet/toolfleet/metrics",
        (project.templates["lambda"], "FunctionLogs", "LogGroupName"): "/toolfleet/toolfleet/lambda",
        (ec2, "WorkerGroup", "AutoScalingGroupName"): "toolfleet-worker",
        (ec2, "MetricLogs", "LogGroupName"): "/toolfleet/toolfleet/agent-metrics",
    }
    for (template, resource, field), name in wanted.items():
        if template.value(template.resources[resource]["Properties"].get(field)) != name:
            yield f"{template.name} {resource}: {field} is not {name}"
    if compute.of_type("AWS::IAM::RolePolicy")["CollectorPolicy"].get("RoleName") != {"Ref": "TaskRole"}:
        yield "compute.yaml CollectorPolicy: is not of TaskRole"
    for name, table in data.of_type("AWS::DynamoDB::Table").items():
        keys = [key["AttributeName"] for key in table["KeySchema"]]
        if keys != (["pk"] if name in ("CallsTable", "CatalogsTable") else ["pk", "sk"]):
            yield f"data.yaml {name}: its keys are {keys}"


UNIQUE = {"AWS::CloudWatch::Alarm": "AlarmName", "AWS::CloudWatch::Dashboard": "DashboardName", "AWS::Logs::LogGroup": "LogGroupName"}


def unique(project):
    """Workers may run on ECS, EC2 and Lambda side by side, so that no two templates create one name."""
    seen = {}
    for template in project.templates.values():
        for name, resource in template.resources.items():
            named = template.value(resource.get("Properties", {}).get(UNIQUE.get(resource["Type"])))
            place = seen.setdefault((resource["Type"], named), f"{template.name} {name}") if named else None
            if place not in (None, f"{template.name} {name}"):
                yield f"{template.name} {name}: {named} is the name of {place}, too"
