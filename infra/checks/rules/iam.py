"""Roles and policies: exactly what the code calls, on exactly its resources, and nobody changes the history."""

import functools
import json
import re
import tomllib

from model import ROOT

# Actions that know no resource.
ANY_RESOURCE = {
    "ecr:GetAuthorizationToken", "application-autoscaling:DescribeScalableTargets", "autoscaling:DescribeAutoScalingGroups",
    "ec2:DescribeAvailabilityZones", "ec2:DescribeCapacityReservations", "ec2:DescribeInstances", "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
}
# The action knows no resource, but a namespace.
OF_FLEET_ALONE = {"StringEquals": {"cloudwatch:namespace": {"Fn::Sub": "toolfleet/${Prefix}"}}}
# Lambda asks for these without a resource where it connects a function to subnets. The function itself must not have them.
INTERFACES = {
    "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
}
OF_LAMBDA_ALONE = {"Null": {"lambda:SourceFunctionArn": "true"}}
# Lambda itself assumes it for the account whose capacity it manages; its documentation gives the role no condition.
NO_ACCOUNT = {"CapacityRole"}
WORKERS = {"WorkerPolicy", "TaskRole", "CollectorPolicy", "InstanceRole", "WorkerRole", "FunctionRole"}
HISTORY_READ = {"dynamodb:BatchGetItem", "dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:GetItem", "dynamodb:Query"}


def _list(value):
    return value if isinstance(value, list) else [value]


def wildcards(project):
    for template in project.templates.values():
        for at, _, statement in template.statements():
            if {"NotAction", "NotResource"} & set(statement):
                yield f"{at}: NotAction and NotResource allow what nobody thought of"
                continue
            actions = _list(statement["Action"])
            for action in actions:
                if "*" in action:
                    yield f"{at}: the action {action} has a wildcard"
            for resource in template.each(statement["Resource"]):
                text = str(template.value(resource))
                of_lambda = set(actions) <= INTERFACES and statement.get("Condition") == OF_LAMBDA_ALONE
                of_fleet = set(actions) == {"cloudwatch:PutMetricData"} and statement.get("Condition") == OF_FLEET_ALONE
                if text == "*" and not of_lambda and not of_fleet and not set(actions) <= ANY_RESOURCE:
                    yield f"{at}: every resource"
                elif re.fullmatch(r"arn:[^:]*:[^:]*:[^:]*:[^:]*:\*|arn:.*:(table|secret):?/?\*", text):
                    yield f"{at}: {text} is every resource of the service"
        for name, role in template.of_type("AWS::IAM::Role").items():
            for arn in template.each(role.get("ManagedPolicyArns", [])):
                if "iam::aws:policy/" in str(arn):
                    yield f"{template.name} {name}: {arn} is a policy of AWS, which grants more than is needed and grows"


def trust(project):
    for template in project.templates.values():
        for name, role in template.of_type("AWS::IAM::Role").items():
            at = f"{template.name} {name}"
            for statement in role["AssumeRolePolicyDocument"]["Statement"]:
                principal = statement.get("Principal", {})
                values = list(template.each(list(principal.values()) if isinstance(principal, dict) else [principal]))
                if "NotPrincipal" in statement or "*" in values:
                    yield f"{at}: everybody may assume it"
                service = principal.get("Service") if isinstance(principal, dict) else None
                account = statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
                if service == "pods.eks.amazonaws.com":
                    tags = statement.get("Condition", {}).get("StringEquals", {})
                    if set(tags) != {f"aws:RequestTag/{t}" for t in ("eks-cluster-name", "kubernetes-namespace", "kubernetes-service-account")}:
                        yield f"{at}: pods of other clusters, namespaces or service accounts may assume it"
                elif service and service != "ec2.amazonaws.com" and name not in NO_ACCOUNT and account != {"Ref": "AWS::AccountId"}:
                    yield f"{at}: {service} may assume it on behalf of another account (aws:SourceAccount)"


def history(project):
    """Records are inserted and read. Workers cannot even read them."""
    for template in project.templates.values():
        for at, name, statement in template.statements():
            if not any("history" in str(template.value(r)).lower() for r in template.each(statement["Resource"])):
                continue
            for action in set(_list(statement["Action"])) - HISTORY_READ - {"dynamodb:PartiQLInsert"}:
                yield f"{at}: {action} on the history; records are never changed or deleted"
            if name in WORKERS and _list(statement["Action"]) != ["dynamodb:PartiQLInsert"]:
                yield f"{at}: workers insert records and do nothing else with them"


# Beginnings of sort keys.
NO_PARTITIONS = {"attributes", "mcp", "member"}


@functools.cache
def _partitions():
    """The kinds of partition keys of the fleet table: keys of other tables begin with a tenant."""
    text = (ROOT / "shared/aws/src/keys.rs").read_text().split("#[cfg(test)]")[0]
    return set(re.findall(r"\"([a-z]+)#", text)) - NO_PARTITIONS


def leading_keys(project):
    """Who may write a part of a table, or read one tenant's, is limited by `dynamodb:LeadingKeys`."""
    data = project.templates["data"]
    wanted = {
        ("WorkerPolicy", "FleetWrite"): {"group#*", "limit#*", "rollup#*", "rollups#*", "summary", "supersede#*", "worker#*"},
        ("OperatorRole", "Switches"): {"control", "control#version"},
        ("OperatorRole", "GroupRedrives"): {"group#*"},
        ("OperatorRole", "SwitchRecords"): {"_fleet#*"},
    }
    listed = {key.split("#")[0] for key in wanted["WorkerPolicy", "FleetWrite"] | wanted["OperatorRole", "Switches"]}
    for kind in sorted(_partitions() - listed):
        yield f"shared/aws/src/keys.rs: the keys {kind}#.. are in no policy; add them to FleetWrite of data.yaml, and to this rule"
    found = {(name, statement.get("Sid")): statement for _, name, statement in data.statements()}
    for (name, sid), keys in wanted.items():
        if _keys(data, found.get((name, sid), {})) != keys:
            yield f"data.yaml {name} {sid}: dynamodb:LeadingKeys are not {sorted(keys)}"
    tenant = project.templates["tenant"]
    for at, _, statement in tenant.statements():
        resources = [str(r) for r in tenant.each(statement["Resource"])]
        if any(":dynamodb:" in r for r in resources):
            keys = _keys(tenant, statement)
            if not keys or not keys <= {"<Tenant>#*", "_message#*", "group#<Tenant>#*"}:
                yield f"{at}: dynamodb:LeadingKeys are not those of the tenant"
        for resource in (r for r in resources if ":s3:::" in r):
            if "/${Tenant}/" not in resource:
                yield f"{at}: objects of other tenants"
    for template in project.templates.values():
        for at, _, statement in template.statements():
            if {"dynamodb:Scan", "dynamodb:PartiQLSelect"} & set(_list(statement["Action"])):
                yield f"{at}: a scan reads every tenant, whatever dynamodb:LeadingKeys says"


def _keys(template, statement):
    condition = statement.get("Condition", {})
    both = {**condition.get("ForAllValues:StringLike", {}), **condition.get("ForAllValues:StringEquals", {})}
    return {str(template.value(key)) for key in template.each(both.get("dynamodb:LeadingKeys"))}


CALL = re.compile(
    r"\.\s*((?:get|put|update|delete|batch|transact|head|list|send|receive|change|start|cancel|purge|create|describe|copy|execute)_[a-z0-9_]+"
    r"|query|scan|invoke)\(\)"
)
OPERATION = re.compile(
    r"(?:get|put|update|delete|batch_get|batch_write)_item|batch_execute_statement|transact_(?:get|write)_items|query|scan"
    r"|invoke|(?:get|put|head|delete|copy|list)_objects?(?:_v2)?|(?:get|put|create|describe)_secret(?:_value)?|get_caller_identity"
    r"|(?:send|delete|receive|change|purge)_(?:message|queue)[a-z_]*|get_queue_[a-z]+|(?:start|cancel|list)_message_move_tasks?|execute_statement|describe_[a-z_]+|get_bucket_[a-z_]+"
)
HELPER = re.compile(r"\b(by_keys|put_all|items_of)\(")
ACTIONS = {
    "by_keys": ["BatchGetItem"], "put_all": ["BatchWriteItem"], "items_of": ["Query"], "INSERT": ["PartiQLInsert"], "UPDATE": ["PartiQLUpdate"],
    "DELETE": ["PartiQLDelete"], "transact_write_items": ["DeleteItem", "PutItem", "UpdateItem"],
    "get_bucket_lifecycle_configuration": ["GetLifecycleConfiguration"], "change_message_visibility_batch": ["ChangeMessageVisibility"], "delete_message_batch": ["DeleteMessage"], "send_message_batch": ["SendMessage"],
}
SERVICES = {"queues": "sqs", "secrets": "secretsmanager", "PayloadsBucket": "s3"}


@functools.cache
def _table():
    return tomllib.loads((ROOT / "infra/checks/operations.toml").read_text())


@functools.cache
def _calls_of_the_source():
    """The requests to AWS of each file of shared/aws/src."""
    folder, calls = ROOT / "shared/aws/src", {}
    for path in folder.rglob("*.rs"):
        # Neither tests nor the definitions of the helpers.
        text = re.sub(r"fn (by_keys|put_all|items_of)\(", "fn (", path.read_text().split("#[cfg(test)]")[0])
        found = {name for name in CALL.findall(text) if OPERATION.fullmatch(name)} | set(HELPER.findall(text))
        verbs = {verb.split()[0] for verb in re.findall(r"(INSERT INTO|UPDATE|DELETE FROM) ?\\?\"", text)}
        found |= verbs | ({"INSERT"} if "Statement::insert" in text else set())
        if found and path.name != "statement.rs":
            calls[str(path.relative_to(folder))] = found
    return calls


@functools.cache
def _sdk_crates():
    return set(re.findall(r"^(aws-sdk-[a-z0-9]+)\b", (ROOT / "shared/aws/Cargo.toml").read_text(), re.M))


def operations(project):
    """The list of requests is that of the source, and the policies are those of the list."""
    calls, listed = _calls_of_the_source(), _table()["calls"]
    for name in sorted(calls.keys() | listed.keys()):
        seen, known = calls.get(name, set()), set(listed.get(name, {}).get("found", []))
        for call in sorted(seen - known):
            yield f"operations.toml {name}: the source calls {call}; list it, and say who needs the right"
        if name not in calls and listed[name].get("optional"):
            continue
        for call in sorted(known - seen):
            yield f"operations.toml {name}: the source does not call {call} any more"
        uses = listed.get(name, {})
        if "resource" in uses:
            given = {a for who in ("worker", "operator", "gateway", "console", "nobody") for a in uses.get(who, [])}
            needed = {a for call in known for a in ACTIONS.get(call, ["".join(w.capitalize() for w in call.split("_"))])}
            if given != needed:
                yield f"operations.toml {name}: {sorted(given ^ needed)} are rights without a call, or calls that nobody makes"
    for crate in sorted(_sdk_crates() - set(_table()["sdk_crates"])):
        yield f"operations.toml: {crate} is used, and its requests are not looked for; teach this rule its calls, and add it to sdk_crates"
    yield from _compare(project, "WorkerPolicy", "worker")
    yield from _compare(project, "OperatorRole", "operator")
    yield from _compare(project, "GatewayPolicy", "gateway")
    yield from _compare(project, "ConsolePolicy", "console")


CLIENT_CALL = re.compile(r"\b(?:client|controls|dead)(?:\(\))?\s*\.\s*([a-z_]+)\(")
STORE_CALL = re.compile(r"\bstores\.([a-z_]+)\(|\b(Texts)::read\(")


def clients(project):
    """Gateways and consoles have the rights of the methods of the client that their source calls, and no others."""
    table = _table()
    for who, folder in (("gateway", "workers/gateway/src"), ("console", "workers/console/src")):
        texts = [path.read_text().split("#[cfg(test)]")[0] for path in sorted((ROOT / folder).rglob("*.rs"))]
        texts.append((ROOT / f"workers/cli/src/commands/{who}.rs").read_text())
        text = re.sub(r"^\s*//.*$", "", "\n".join(texts), flags=re.M)
        methods = set(CLIENT_CALL.findall(text)) | {one or two for one, two in STORE_CALL.findall(text)}
        needed = {}
        for method in sorted(methods - set(table["local"]["methods"])):
            if method not in table["methods"]:
                yield f"operations.toml methods: {folder} calls {method}; say which requests it makes"
            for name, actions in table["methods"].get(method, {}).items():
                needed.setdefault(name, set()).update(actions)
        for name in sorted(needed.keys() | {name for name, uses in table["calls"].items() if uses.get(who)}):
            listed = set(table["calls"].get(name, {}).get(who, []))
            for action in sorted(listed ^ needed.get(name, set())):
                yield f"operations.toml {name}: {action} of the {who} is listed and not called, or called and not listed"


def doctor(project):
    """The rights that `toolfleet doctor` asks IAM for are those that workers need."""
    path = ROOT / "workers/cli/src/commands/doctor/worker_rights.json"
    asked = {resource: set(actions) for resource, actions in json.loads(path.read_text()).items()}
    # The bucket, and the objects in it.
    asked["PayloadsBucket"] = asked.get("PayloadsBucket", set()) | asked.pop("objects", set())
    # They are queues, too, and only sent to.
    if asked.pop("replies", None) != {"sqs:SendMessage"}:
        yield f"{path.name}: sqs:SendMessage on replies, the queue of notices, is not asked for"
    needed = _needed("worker")
    for resource in sorted(needed.keys() | asked.keys()):
        service = SERVICES.get(resource, "dynamodb")
        wanted = {f"{service}:{action}" for action in needed.get(resource, set())}
        for action in sorted(wanted ^ asked.get(resource, set())):
            yield f"{path.name}: {action} on {resource} is needed and not asked for, or asked for and not needed"


def _needed(who):
    """The actions of somebody's calls, by resource."""
    needed = {}
    for uses in _table()["calls"].values():
        for resource in _list(uses.get("resource", [])) if uses.get(who) else []:
            needed.setdefault(resource, set()).update(uses[who])
    for resource, actions in _table()["also"][who].items():
        needed.setdefault(resource, set()).update(actions)
    return needed


def _compare(project, name, who):
    data = project.templates["data"]
    needed, given = _needed(who), {}
    for _, owner, statement in data.statements():
        if owner == name:
            for resource in data.each(statement["Resource"]):
                given.setdefault(_resource(data.value(resource)), set()).update(_list(statement["Action"]))
    for resource in sorted(needed.keys() | given.keys()):
        service = SERVICES.get(resource, "dynamodb")
        wanted = {f"{service}:{action}" for action in needed.get(resource, set())}
        for action in sorted(wanted - given.get(resource, set())):
            yield f"data.yaml {name}: {action} on {resource} is missing; the code calls it"
        for action in sorted(given.get(resource, set()) - wanted):
            yield f"data.yaml {name}: {action} on {resource} is granted, and no code calls it"


def _resource(text):
    text = str(text)
    if "Queue" in text or ":sqs:" in text:
        return "queues"
    if "Secret" in text or ":secretsmanager:" in text:
        return "secrets"
    return re.sub(r"[<>]|\.Arn|/.*", "", text)
