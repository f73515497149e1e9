"""Queues, tables, bucket, key, secrets and logs: nothing is lost, readable by others or kept for ever."""

import re

ROW_DAYS = 60
LONGEST_RETENTION_S = 1_209_600


def queues(project):
    for template in project.templates.values():
        found = template.of_type("AWS::SQS::Queue")
        protected = {
            template.value(queue).strip("<>") for policy in template.of_type("AWS::SQS::QueuePolicy").values()
            if _tls_only(policy) for queue in policy["Queues"]
        }
        for name, queue in found.items():
            at = f"{template.name} {name}"
            if name not in protected:
                yield f"{at}: no QueuePolicy denies access without TLS"
            if queue.get("ReceiveMessageWaitTimeSeconds") != 20:
                yield f"{at}: ReceiveMessageWaitTimeSeconds is not 20; empty receives cost as much as full ones"
            if queue.get("MaximumMessageSize") != 1_048_576:
                yield f"{at}: MaximumMessageSize is not 1048576, so larger calls are refused"
            if True not in list(template.each(queue.get("SqsManagedSseEnabled"))):
                yield f"{at}: SqsManagedSseEnabled is not true without a key of the customer's"
            physical = str(template.value(queue["QueueName"]))
            yield from _redrive(template, at, queue, physical, found)
    data = project.templates["data"]
    count = data.parameters["MaxReceiveCount"]
    if count.get("MinValue", 0) < 5 or count.get("Default", 0) < 5:
        yield "data.yaml MaxReceiveCount: MinValue and Default must be 5 or more; a call that waits is received four times"
    visibility = data.parameters["VisibilityTimeoutSeconds"]
    if not 15 <= visibility.get("MinValue", 0) <= visibility["Default"] <= 120:
        yield "data.yaml VisibilityTimeoutSeconds: MinValue must be 15 or more (heartbeats come every 10 s), and Default at most 120"


def _redrive(template, at, queue, physical, found):
    policy = queue.get("RedrivePolicy")
    takes_calls = "-calls" in physical and not physical.endswith("-dlq")
    if takes_calls and not policy:
        yield f"{at}: a queue of calls needs a RedrivePolicy"
    if ("-calls" in physical) and queue.get("MessageRetentionPeriod") != LONGEST_RETENTION_S:
        yield f"{at}: MessageRetentionPeriod is not 14 days ({LONGEST_RETENTION_S})"
    if not policy:
        return
    if not takes_calls:
        yield f"{at}: only queues of calls have a RedrivePolicy"
    target = policy.get("deadLetterTargetArn")
    arn = target.get("Fn::GetAtt") if isinstance(target, dict) else None
    if not arn or arn[-1] != "Arn" or arn[0] not in found:
        yield f"{at}: deadLetterTargetArn is not the Arn of a queue of this template"
    elif not str(template.value(found[arn[0]]["QueueName"])).endswith("-dlq"):
        yield f"{at}: deadLetterTargetArn is {arn[0]}, whose name does not end in -dlq"
    if policy.get("maxReceiveCount") != {"Ref": "MaxReceiveCount"}:
        yield f"{at}: maxReceiveCount is not the parameter MaxReceiveCount"


def _tls_only(policy):
    return any(
        s.get("Effect") == "Deny" and s.get("Principal") == "*" and s.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        for s in policy["PolicyDocument"]["Statement"]
    )


def tables(project):
    data = project.templates["data"]
    for name, table in data.of_type("AWS::DynamoDB::Table").items():
        at = f"data.yaml {name}"
        if table.get("BillingMode") != "PAY_PER_REQUEST":
            yield f"{at}: BillingMode is not PAY_PER_REQUEST"
        if table.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled") is not True:
            yield f"{at}: point-in-time recovery is off"
        if table.get("DeletionProtectionEnabled") != {"Ref": "DeletionProtection"} or data.default("DeletionProtection") != "false":
            yield f"{at}: DeletionProtection does not decide whether it may be deleted, or a creation could not be rolled back"
        if table.get("SSESpecification", {}).get("SSEEnabled") is not True:
            yield f"{at}: SSEEnabled is not true"
        ttl = table.get("TimeToLiveSpecification", {})
        if name != "CatalogsTable" and ttl != {"AttributeName": "expires_at", "Enabled": True}:
            yield f"{at}: time to live is not on for expires_at"
        indexes = table.get("GlobalSecondaryIndexes", [])
        for part, place in [(table, at), *((index, f"{at} {index['IndexName']}") for index in indexes)]:
            cap = part.get("OnDemandThroughput")
            if not any({"Ref": "MaxWriteRequestUnits"} == v.get("MaxWriteRequestUnits") for v in data.each(cap)):
                yield f"{place}: OnDemandThroughput does not take MaxWriteRequestUnits, so the bill has no cap"
        if name in ("CallsTable", "HistoryTable", "FleetTable"):
            for part in (table, *indexes):
                if "{'Ref': 'WarmWriteUnits'}" not in str(part.get("WarmThroughput")):
                    yield f"{at} {part.get('IndexName', '')}: WarmThroughput does not take WarmWriteUnits; a full index stops writes to its table"
        yield from _keys(at, table, indexes)
    if not data.parameters["MaxWriteRequestUnits"].get("MinValue") == 0:
        yield "data.yaml MaxWriteRequestUnits: MinValue must be 0"
    warm = re.compile(data.parameters["WarmWriteUnits"].get("AllowedPattern", ""))
    if [n for n in ("0", "1", "3999", "4000", "20000", "120000") if warm.fullmatch(n)] != ["0", "4000", "20000", "120000"]:
        yield "data.yaml WarmWriteUnits: DynamoDB prepares a table that is paid by request for 4000 units at least"


INDEXES = {"HistoryTable": {"by_session": "session_pk", "by_failure": "failure_pk"}}


def _keys(at, table, indexes):
    name = at.split()[-1]
    allowed = INDEXES.get(name, {})
    seen = {index["IndexName"]: index for index in indexes}
    if set(seen) != set(allowed):
        yield f"{at}: its indexes are {sorted(seen)} and must be {sorted(allowed)}; each is paid for with every write"
    for index_name, index in seen.items():
        if index.get("Projection") != {"ProjectionType": "KEYS_ONLY"}:
            yield f"{at} {index_name}: projects more than the keys"
        keys = [key["AttributeName"] for key in index["KeySchema"]]
        if keys != [allowed.get(index_name), "sk"]:
            yield f"{at} {index_name}: its keys are {keys}"
    for schema in [table["KeySchema"], *(index["KeySchema"] for index in indexes)]:
        if [key["KeyType"] for key in schema] not in (["HASH"], ["HASH", "RANGE"]):
            yield f"{at}: a key schema is not HASH, or HASH and RANGE"
    if table["KeySchema"][0]["AttributeName"] != "pk":
        yield f"{at}: the partition key is not pk"


def buckets(project):
    data = project.templates["data"]
    policies = [p for p in data.of_type("AWS::S3::BucketPolicy").values() if _tls_only(p)]
    for name, bucket in data.of_type("AWS::S3::Bucket").items():
        at = f"data.yaml {name}"
        rules = bucket.get("LifecycleConfiguration", {}).get("Rules", [])
        enabled = [rule for rule in rules if rule.get("Status") == "Enabled"]
        days = [rule["ExpirationInDays"] for rule in enabled if "ExpirationInDays" in rule]
        if not days:
            yield f"{at}: no lifecycle rule deletes objects, so the bill grows for ever"
        elif min(days) < ROW_DAYS + 31:
            yield f"{at}: objects expire after {min(days)} days; rows live for {ROW_DAYS} and refer to objects of up to a month before"
        if not any("AbortIncompleteMultipartUpload" in rule for rule in enabled):
            yield f"{at}: unfinished uploads are kept for ever"
        block = bucket.get("PublicAccessBlockConfiguration", {})
        names = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        if not all(block.get(key) is True for key in names):
            yield f"{at}: public access is not blocked in all four ways"
        if bucket.get("OwnershipControls", {}).get("Rules") != [{"ObjectOwnership": "BucketOwnerEnforced"}]:
            yield f"{at}: access control lists are not off (BucketOwnerEnforced)"
        algorithms = [
            list(data.each(rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]))
            for rule in bucket.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
        ]
        if algorithms != [["aws:kms", "AES256"]]:
            yield f"{at}: encryption is not aws:kms with a key of the customer's, else AES256"
        if not any(data.value(policy["Bucket"]) == f"<{name}>" for policy in policies):
            yield f"{at}: no BucketPolicy denies access without TLS"


def keys(project):
    for template in project.templates.values():
        for name, key in template.of_type("AWS::KMS::Key").items():
            at = f"{template.name} {name}"
            if key.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT" or key.get("KeyUsage", "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT":
                yield f"{at}: queues, tables and buckets need a symmetric key to encrypt and decrypt"
            if key.get("EnableKeyRotation") is not True:
                yield f"{at}: the key is not rotated"
            if key.get("PendingWindowInDays", 30) < 30:
                yield f"{at}: PendingWindowInDays is less than 30; a key that is deleted by mistake must be found out in time"
            for statement in key["KeyPolicy"]["Statement"]:
                principal = statement["Principal"]
                account = statement.get("Condition", {}).get("StringEquals", {}).get("kms:CallerAccount")
                if principal in ("*", {"AWS": "*"}) and account != {"Ref": "AWS::AccountId"}:
                    yield f"{at}: the key may be used by every account"


def secrets(project):
    for template in project.templates.values():
        for name, secret in template.of_type("AWS::SecretsManager::Secret").items():
            text = str(secret.get("SecretString", ""))
            if any(word in text.lower() for word in ("password", "token", "api_key", "bearer", "aws_secret")):
                yield f"{template.name} {name}: a template must not hold a credential"


def batches(project):
    """A function that reads a queue says which messages of a batch failed; else one failure repeats all of them."""
    for template in project.templates.values():
        for name, mapping in template.of_type("AWS::Lambda::EventSourceMapping").items():
            if "ReportBatchItemFailures" not in mapping.get("FunctionResponseTypes", []):
                yield f"{template.name} {name}: FunctionResponseTypes has no ReportBatchItemFailures"


def logs(project):
    for template in project.templates.values():
        for name, group in template.of_type("AWS::Logs::LogGroup").items():
            if "RetentionInDays" not in group:
                yield f"{template.name} {name}: no RetentionInDays, so the log is kept and paid for, for ever"


KEPT = ("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::SecretsManager::Secret")


def kept(project):
    for name, resource in project.templates["data"].resources.items():
        policies = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        if resource["Type"] in KEPT and policies != ("RetainExceptOnCreate", "Retain"):
            yield f"data.yaml {name}: DeletionPolicy is not RetainExceptOnCreate, or UpdateReplacePolicy not Retain"


def again(project):
    """What stays when its stack is deleted has no fixed name in a stack that is created again: the name would be taken."""
    for stem in ("compute", "ec2", "front", "kubernetes", "lambda"):
        template = project.templates[stem]
        for name, resource in template.resources.items():
            named = any(key.endswith("Name") for key in resource.get("Properties", {}))
            if named and str(resource.get("DeletionPolicy")).startswith("Retain"):
                yield f"{template.name} {name}: stays when the stack is deleted, and its fixed name stops the next deployment"


def sizes(project):
    """CloudFormation takes a template of at most 51,200 bytes; a larger one has to be in a bucket first."""
    for name, text in project.texts.items():
        if name.startswith("infra/cloudformation/") and len(text.encode()) > 51_200:
            yield f"{name}: has {len(text.encode())} bytes; `aws cloudformation deploy` takes 51,200 without a bucket"
