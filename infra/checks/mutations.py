"""Mistakes that were made in other people's templates, one for each line: what it is, the file, the text, what replaces it.

The text must be in the file. Its first occurrence is replaced, or the first one after the text `after`.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    after: str = ""


DATA, COMPUTE, EC2 = (f"infra/cloudformation/{name}.yaml" for name in ("data", "compute", "ec2"))
TENANT, EKS = (f"infra/cloudformation/{name}.yaml" for name in ("tenant", "kubernetes"))
DEPLOYMENT, POLICY = "infra/kubernetes/base/deployment.yaml", "infra/kubernetes/base/networkpolicy.yaml"
BUDGET, SCALER = "infra/kubernetes/base/poddisruptionbudget.yaml", "infra/kubernetes/keda/scaledobject.yaml"
M = Mutation

MUTATIONS = [
    # ---------------------------------------------------------------- queues
    M("dead letters go to the queue itself", DATA, "Fn::GetAtt: [CallsDeadLetterQueue, Arn]", "Fn::GetAtt: [CallsQueue, Arn]", "\n  CallsQueue:\n"),
    M("the dead-letter target is a URL", DATA, "          Fn::GetAtt: [CallsDeadLetterQueue, Arn]", "          Ref: CallsDeadLetterQueue", "\n  CallsQueue:\n"),
    M("three receives, then the dead-letter queue", DATA, "Default: 8", "Default: 3"),
    M("MaxReceiveCount may be one", DATA, "MinValue: 5", "MinValue: 1"),
    M("calls are kept for four days", DATA, "MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600"),
    M("a retention beyond what SQS has", DATA, "MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 1309600"),
    M("a misspelt property of a queue", DATA, "ReceiveMessageWaitTimeSeconds", "RecieveMessageWaitTimeSeconds"),
    M("short polling", DATA, "ReceiveMessageWaitTimeSeconds: 20", "ReceiveMessageWaitTimeSeconds: 0"),
    M("a queue without encryption", DATA, "Fn::If: [HasCustomerKey, false, true]", "Fn::If: [HasCustomerKey, false, false]"),
    M("a queue that may be used without TLS", DATA, "        - Ref: RepliesQueue", "        - Ref: CallsQueue", "\n  RepliesQueueTlsOnly:\n"),
    M("TLS is asked of nobody", DATA, '"aws:SecureTransport": "false"', '"aws:SecureTransport": "true"'),
    M("the calls queue goes with its stack", DATA, "DeletionPolicy: Retain", "DeletionPolicy: Delete", "\n  CallsQueue:\n"),
    M("visibility of ten minutes", DATA, "Default: 30\n    MinValue: 15", "Default: 600\n    MinValue: 15"),
    # ---------------------------------------------------------------- tables
    M("the calls table is replaced and deleted", DATA, "UpdateReplacePolicy: Retain", "UpdateReplacePolicy: Delete", "\n  CallsTable:\n"),
    M("no recovery of the history", DATA, "PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false", "\n  HistoryTable:\n"),
    M("rows that never expire", DATA, "        Enabled: true\n", "        Enabled: false\n", "\n  CallsTable:\n"),
    M("time to live on another attribute", DATA, "AttributeName: expires_at", "AttributeName: expiresAt", "\n  SessionsTable:\n"),
    M("a table without a cap on the bill", DATA, "OnDemandThroughput:", "Unused:", "\n  CallsTable:\n"),
    M("an index without a cap on the bill", DATA, "MaxWriteRequestUnits:\n                  Ref: MaxWriteRequestUnits", "MaxReadRequestUnits:\n                  Ref: MaxWriteRequestUnits", "IndexName: by_session"),
    M("a table that is not prepared", DATA, "- IsWarm\n          - ReadUnitsPerSecond", "- IsWarm\n          - ReadUnitPerSecond", "\n  CallsTable:\n"),
    M("an index that copies every record", DATA, "ProjectionType: KEYS_ONLY", "ProjectionType: ALL", "IndexName: by_failure"),
    M("an index on an attribute that is not declared", DATA, "AttributeName: session_pk\n              KeyType", "AttributeName: session\n              KeyType"),
    M("provisioned capacity without a capacity", DATA, "BillingMode: PAY_PER_REQUEST", "BillingMode: PROVISIONED"),
    M("the partition key is a range key", DATA, "KeyType: HASH", "KeyType: RANGE", "\n  FleetTable:\n"),
    # ---------------------------------------------------------------- bucket, key, secret
    M("no lifecycle of payloads", DATA, "      LifecycleConfiguration:\n        Rules:\n", "      Tags: []\n      Unused:\n        Rules:\n"),
    M("payloads expire before their rows", DATA, "ExpirationInDays: 100", "ExpirationInDays: 30"),
    M("the lifecycle rule is off", DATA, "Status: Enabled\n            ExpirationInDays", "Status: Disabled\n            ExpirationInDays"),
    M("a public policy is possible", DATA, "BlockPublicPolicy: true", "BlockPublicPolicy: false"),
    M("unfinished uploads are kept", DATA, "AbortIncompleteMultipartUpload:\n              DaysAfterInitiation: 1", "ExpirationInDays: 200"),
    M("a key to sign", DATA, "KeySpec: SYMMETRIC_DEFAULT", "KeySpec: RSA_2048"),
    M("the key is never rotated", DATA, "EnableKeyRotation: true", "EnableKeyRotation: false"),
    M("the key may be used by every account", DATA, '"kms:CallerAccount":\n                  Ref: AWS::AccountId', '"kms:EncryptionContext:x":\n                  Ref: AWS::AccountId'),
    M("the key is deleted with the stack", DATA, "DeletionPolicy: Retain", "DeletionPolicy: Delete", "\n  EncryptionKey:\n"),
    M("a credential in the template", DATA, '{"servers": [],', '{"servers": [{"id": "a", "auth": {"token": "abc"}}],'),
    # ---------------------------------------------------------------- rights
    M("workers may change the history", DATA, "Action: dynamodb:PartiQLInsert", "Action: [dynamodb:PartiQLInsert, dynamodb:PartiQLUpdate]", "Sid: History\n"),
    M("workers may delete records", DATA, "Action: dynamodb:PartiQLInsert", "Action: [dynamodb:PartiQLInsert, dynamodb:DeleteItem]", "Sid: History\n"),
    M("auditors may delete records", DATA, "- dynamodb:BatchGetItem", "- dynamodb:DeleteItem", "PolicyName: audit"),
    M("workers may do everything with queues", DATA, "- sqs:ReceiveMessage", '- "sqs:*"', "Sid: Queues"),
    M("workers may use every table", DATA, "              Fn::GetAtt: [SessionsTable, Arn]", '              "*"', "Sid: Sessions"),
    M("workers may not extend visibility", DATA, "              - sqs:ChangeMessageVisibility\n", "", "Sid: Queues"),
    M("workers may purge queues", DATA, "- sqs:SendMessage", "- sqs:SendMessage\n              - sqs:PurgeQueue", "Sid: Queues"),
    M("workers may write every secret", DATA, "Action: secretsmanager:GetSecretValue", "Action: [secretsmanager:GetSecretValue, secretsmanager:PutSecretValue]"),
    M("workers may write the catalog", DATA, "Action: dynamodb:GetItem", "Action: [dynamodb:GetItem, dynamodb:PutItem]", "Sid: Catalogs"),
    M("workers may set switches", DATA, '- "group#*"', '- "group#*"\n                  - "control*"', "Sid: FleetWrite"),
    M("operators may write all of the fleet table", DATA, "                Condition:\n                  ForAllValues:StringEquals:\n                    \"dynamodb:LeadingKeys\":\n                      - control\n                      - \"control#version\"\n", "", "Sid: Switches"),
    M("a misspelt action", DATA, "dynamodb:PartiQLInsert", "dynamodb:PartiQlInserts", "Sid: Calls"),
    M("everybody may be an operator", DATA, "                  - Fn::Sub: \"arn:${AWS::Partition}:iam::${AWS::AccountId}:root\"", '                  - "*"', "\n  OperatorRole:\n"),
    M("a poller reads all tenants", TENANT, '- Fn::Sub: "${Tenant}#*"\n                      - "_message#*"', '- "*"'),
    M("an auditor without leading keys", TENANT, "                Condition:\n                  ForAllValues:StringLike:\n                    \"dynamodb:LeadingKeys\":\n                      - Fn::Sub: \"${Tenant}#*\"\n", "", "PolicyName: audit"),
    M("a producer writes results", TENANT, "/${Tenant}/in/*", "/*"),
    M("a poller scans", TENANT, "- dynamodb:BatchGetItem", "- dynamodb:Scan", "Sid: Answers"),
    M("a service may act for another account", COMPUTE, '                "aws:SourceAccount":\n                  Ref: AWS::AccountId', '                "aws:RequestedRegion":\n                  Ref: AWS::Region'),
    M("every pod of the cluster may be a worker", EKS, '                "aws:RequestTag/kubernetes-service-account": toolfleet-worker\n', ""),
    M("an import of what is not exported", EKS, "${DataStack}-WorkerPolicyArn", "${DataStack}-WorkersPolicyArn"),
    # ---------------------------------------------------------------- parts without each other
    M("workers without their policy", COMPUTE, '        - Fn::ImportValue:\n            Fn::Sub: "${DataStack}-WorkerPolicyArn"\n', ""),
    M("a service without the security group", COMPUTE, "            - Fn::GetAtt: [WorkerSecurityGroup, GroupId]\n", "", "\n  WorkerService:\n"),
    M("a task that may not write its log", COMPUTE, "                  - logs:PutLogEvents\n", "", "\n  ExecutionRole:\n"),
    M("a queue that does not take the customer's key", DATA, "          - Fn::GetAtt: [EncryptionKey, Arn]\n          - Ref: AWS::NoValue", "          - Ref: AWS::NoValue\n          - Ref: AWS::NoValue", "\n  RepliesQueue:\n"),
    M("the key does not serve SQS", DATA, '                  - Fn::Sub: "sqs.${AWS::Region}.${AWS::URLSuffix}"\n', ""),
    M("nobody may change the key's policy", DATA, '            Action: "kms:*"', "            Action: kms:DescribeKey"),
    M("TLS is asked for the bucket and not its objects", DATA, '              - Fn::Sub: "${PayloadsBucket.Arn}/*"\n', "", "\n  PayloadsBucketTlsOnly:\n"),
    M("workers may not read dead letters", DATA, "              - Fn::GetAtt: [CallsDeadLetterQueue, Arn]\n", "", "\n  WorkerPolicy:\n"),
    M("operators may not read indexes of the history", DATA, '                  - Fn::Sub: "${HistoryTable.Arn}/index/*"\n', "", "\n  OperatorRole:\n"),
    M("an alarm of a code that nobody logs", COMPUTE, 'code = "internal_error"', 'code = "internal-error"'),
    M("a policy of 2008", DATA, '        Version: "2012-10-17"\n', "", "\n  WorkerPolicy:\n"),
    M("a metric without its statistic", COMPUTE, "                Stat: Average\n", "", "Id: running"),
    M("scaling of another service", COMPUTE, "service/${Cluster}/${WorkerService.Name}", "service/${Cluster}/worker"),
    # ---------------------------------------------------------------- ECS
    M("a launch type beside capacity providers", COMPUTE, "      CapacityProviderStrategy:\n", "      LaunchType: FARGATE\n      CapacityProviderStrategy:\n"),
    M("all tasks on Spot", COMPUTE, "          Base:\n            Ref: MinTasks\n", ""),
    M("no execution role", COMPUTE, "      ExecutionRoleArn:\n        Fn::GetAtt: [ExecutionRole, Arn]\n", ""),
    M("workers have the execution role", COMPUTE, "Fn::GetAtt: [TaskRole, Arn]", "Fn::GetAtt: [ExecutionRole, Arn]", "TaskRoleArn:"),
    M("the default stop time-out", COMPUTE, "          StopTimeout: 120\n", ""),
    M("a drain longer than the stop time-out", COMPUTE, "MaxValue: 110000", "MaxValue: 300000"),
    M("a health check every ten minutes", COMPUTE, "Interval: 30", "Interval: 600"),
    M("a health check that waits longer than its interval", COMPUTE, "Timeout: 5", "Timeout: 60"),
    M("a health check that needs a shell", COMPUTE, "[CMD, /toolfleet-worker, health]", '[CMD-SHELL, "curl -f localhost:9464/health/ready"]'),
    M("two failures end a worker", COMPUTE, "Retries: 10", "Retries: 2"),
    M("the worker runs as root", COMPUTE, '          User: "65532:65532"\n', ""),
    M("a writable root file system", COMPUTE, "ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false"),
    M("no circuit breaker", COMPUTE, "          Enable: true\n", "          Enable: false\n"),
    M("an update stops all workers first", COMPUTE, "MinimumHealthyPercent: 100", "MinimumHealthyPercent: 0"),
    M("an update resets the number of tasks", COMPUTE, "      AvailabilityZoneRebalancing", "      DesiredCount: 2\n      AvailabilityZoneRebalancing"),
    M("a task size that Fargate does not have", COMPUTE, 'Default: "2048"', 'Default: "512"'),
    M("a misspelt setting", COMPUTE, "Name: TOOLFLEET_DRAIN_MS", "Name: TOOLFLEET_DRAIN_MILLIS"),
    M("no dead-letter queue", COMPUTE, "Name: TOOLFLEET_DEAD_LETTER_QUEUE_URL", "Name: TOOLFLEET_QUEUE_URL_LOW"),
    M("a credential in the environment", COMPUTE, "            - Name: TOOLFLEET_LOG_FORMAT\n", "            - Name: AWS_SECRET_ACCESS_KEY\n              Value: x\n            - Name: TOOLFLEET_LOG_FORMAT\n"),
    M("the log is kept for ever", COMPUTE, "      RetentionInDays:\n        Ref: LogRetentionDays\n", ""),
    M("a log that can stop a worker", COMPUTE, "mode: non-blocking", "mode: blocking"),
    M("a batch that is repeated for one failure", COMPUTE, "\n  Cluster:\n", "\n  Mapping:\n    Type: AWS::Lambda::EventSourceMapping\n    Properties:\n      FunctionName: f\n      BatchSize: 10\n\n  Cluster:\n"),
    # ---------------------------------------------------------------- network
    M("open ingress", COMPUTE, "          SourceSecurityGroupId:\n            Fn::GetAtt: [WorkerSecurityGroup, GroupId]\n", "          CidrIp: 0.0.0.0/0\n"),
    M("egress by every protocol", COMPUTE, "          IpProtocol: tcp\n          FromPort: 443", "          IpProtocol: \"-1\"\n          FromPort: 443"),
    M("a misspelt endpoint", COMPUTE, "com.amazonaws.${AWS::Region}.secretsmanager", "com.amazonaws.${AWS::Region}.secretmanager"),
    M("an endpoint of another region", COMPUTE, 'Fn::Sub: "com.amazonaws.${AWS::Region}.sqs"', 'Fn::Sub: "com.amazonaws.us-east-1.sqs"'),
    M("S3 by an interface endpoint", COMPUTE, "VpcEndpointType: Gateway", "VpcEndpointType: Interface"),
    # ---------------------------------------------------------------- scaling, metrics
    M("inverted bounds of a step", COMPUTE, "MetricIntervalLowerBound: 0\n            MetricIntervalUpperBound: 15", "MetricIntervalLowerBound: 15\n            MetricIntervalUpperBound: 0"),
    M("a gap between steps", COMPUTE, "          - MetricIntervalLowerBound: 15\n", "          - MetricIntervalLowerBound: 20\n"),
    M("a step that removes tasks", COMPUTE, "ScalingAdjustment: 25", "ScalingAdjustment: -25"),
    M("a policy that no alarm starts", COMPUTE, "        - Ref: ScaleOutBusy", "        - Ref: ScaleOutAge"),
    M("nothing scales in", COMPUTE, "ScaleInCooldown: 300", "DisableScaleIn: true\n        ScaleInCooldown: 300"),
    M("what is in flight is not counted", COMPUTE, "MetricName: ApproximateNumberOfMessagesNotVisible", "MetricName: ApproximateNumberOfMessagesVisible"),
    M("division by zero", COMPUTE, "/IF(FILL(running,0)>0,running,1)\n            -", "/running\n            -"),
    M("an id that begins with a capital", COMPUTE, "Id: inflight\n", "Id: InFlight\n"),
    M("an expression of an unknown id", COMPUTE, '"100*FILL(inhand,0)/slots"', '"100*FILL(in_hand,0)/slots"'),
    M("two metrics return data", COMPUTE, "        - Id: inhand\n          ReturnData: false\n", "        - Id: inhand\n          ReturnData: true\n"),
    M("a metric that nobody emits", COMPUTE, "MetricName: toolfleet.calls.in_hand", "MetricName: toolfleet.calls.inhand"),
    M("a metric of AWS that does not exist", COMPUTE, "MetricName: ApproximateAgeOfOldestMessage", "MetricName: AgeOfOldestMessage"),
    M("a queue that does not exist", COMPUTE, '            Fn::Sub: "${Prefix}-calls"\n      Statistic', '            Fn::Sub: "${Prefix}-call"\n      Statistic'),
    M("an alarm of ten seconds on a metric of a minute", COMPUTE, "Period: 60", "Period: 10", "\n  AgeAlarm:\n"),
    M("an alarm without a section of the runbook", COMPUTE, "runbook.md#alarm-throttled", "runbook.md#alarm-throttling"),
    M("an alarm that looks the wrong way", COMPUTE, "ComparisonOperator: LessThanThreshold", "ComparisonOperator: GreaterThanThreshold"),
    M("no workers, no alarm", COMPUTE, "TreatMissingData: breaching", "TreatMissingData: notBreaching"),
    M("a dashboard that is not JSON", COMPUTE, '"widgets": [', '"widgets": [,'),
    M("a dashboard of a metric that does not exist", COMPUTE, '"ApproximateNumberOfMessagesDelayed"', '"ApproximateNumberOfMessagesParked"'),
    M("the least is more than the most", COMPUTE, "Default: 20\n", "Default: 1\n"),
    M("metrics of a minute for alarms of ten seconds", COMPUTE, "aws.emf.storage_resolution", "aws.emf.resolution"),
    # ---------------------------------------------------------------- EC2
    M("metadata without a token", EC2, "HttpTokens: required", "HttpTokens: optional"),
    M("a disk that is not encrypted", EC2, "Encrypted: true", "Encrypted: false"),
    M("scale-in does not wait for the drain", EC2, "      LifecycleHookSpecificationList:\n", "      Unused:\n"),
    M("a hook at the start instead of the end", EC2, "EC2_INSTANCE_TERMINATING", "EC2_INSTANCE_LAUNCHING"),
    M("a hook shorter than a drain", EC2, "HeartbeatTimeout: 180", "HeartbeatTimeout: 60"),
    M("any program is started", EC2, "sha256sum --check --strict", "cat"),
    M("a unit that differs from its file", EC2, "TimeoutStopSec=120", "TimeoutStopSec=10"),
    M("a unit that is killed while it drains", "infra/systemd/toolfleet-worker.service", "TimeoutStopSec=120", "TimeoutStopSec=30"),
    # ---------------------------------------------------------------- Kubernetes
    M("the default grace period", DEPLOYMENT, "      terminationGracePeriodSeconds: 120\n", ""),
    M("a misspelt field", DEPLOYMENT, "readinessProbe:", "readynessProbe:"),
    M("liveness asks for readiness", DEPLOYMENT, "path: /health/live", "path: /health/ready"),
    M("pods may gain rights", DEPLOYMENT, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
    M("pods run as root", DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false"),
    M("a selector of other pods", DEPLOYMENT, "app.kubernetes.io/name: toolfleet-worker", "app.kubernetes.io/name: toolfleet"),
    M("nodes can never be drained", BUDGET, "maxUnavailable: 1", "maxUnavailable: 0"),
    M("a budget of other pods", BUDGET, "toolfleet-worker\n  #", "toolfleet\n  #"),
    M("pods reach the metadata of their node", POLICY, "            except: [169.254.169.254/32]\n", ""),
    M("egress is not limited", POLICY, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]"),
    M("KEDA does not count what is in flight", SCALER, 'scaleOnInFlight: "true"', 'scaleOnInFlight: "false"'),
    M("a busy fleet shrinks when the queue cannot be read", SCALER, "    behavior: currentReplicasIfHigher\n", ""),
    M("KEDA reads another queue", SCALER, "123456789012/toolfleet-calls\n", "123456789012/toolfleet-replies\n"),
    M("a job instead of workers", SCALER, "kind: ScaledObject", "kind: ScaledJob"),
]
