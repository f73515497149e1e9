"""The ECS service: it drains, rolls back, is locked down, and its settings are ones that a worker reads."""

import re

from model import most_drain_s, settings

STOP_S = 120
END_S = 10
FARGATE = {
    256: (512, 1024, 2048), 512: range(1024, 4097, 1024), 1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024), 4096: range(8192, 30721, 1024),
}


def services(project):
    compute = project.templates["compute"]
    for name, service in compute.of_type("AWS::ECS::Service").items():
        at = f"compute.yaml {name}"
        if "LaunchType" in service:
            yield f"{at}: LaunchType and CapacityProviderStrategy exclude each other"
        strategy = service.get("CapacityProviderStrategy", [])
        if not any(p.get("CapacityProvider") == "FARGATE" and p.get("Base") == {"Ref": "MinTasks"} for p in strategy):
            yield f"{at}: the least number of tasks does not run on FARGATE; Spot may end them all at once"
        if [p.get("CapacityProvider") for p in strategy] != ["FARGATE", "FARGATE_SPOT"] or any("Weight" not in p for p in strategy):
            yield f"{at}: its capacity providers are not FARGATE and FARGATE_SPOT, each with a weight"
        if "DesiredCount" in service:
            yield f"{at}: DesiredCount would reset what scaling has set at every update"
        deployment = service.get("DeploymentConfiguration", {})
        if deployment.get("DeploymentCircuitBreaker") != {"Enable": True, "Rollback": True}:
            yield f"{at}: the circuit breaker does not roll a broken version back"
        if deployment.get("MinimumHealthyPercent") != 100 or deployment.get("MaximumPercent", 0) <= 100:
            yield f"{at}: an update ends old workers before new ones run"
        if service.get("EnableExecuteCommand") is not False:
            yield f"{at}: EnableExecuteCommand lets people into a worker"
    for name, cluster in compute.of_type("AWS::ECS::Cluster").items():
        if {"Name": "containerInsights", "Value": "enabled"} not in cluster.get("ClusterSettings", []):
            yield f"compute.yaml {name}: scaling needs the number of running tasks from Container Insights"


def containers(project):
    compute = project.templates["compute"]
    most = compute.parameters["DrainMs"]["MaxValue"]
    for name, task in compute.of_type("AWS::ECS::TaskDefinition").items():
        at = f"compute.yaml {name}"
        for role in ("ExecutionRoleArn", "TaskRoleArn"):
            if not str(compute.value(task.get(role))).startswith("<"):
                yield f"{at}: has no {role}"
        if task.get("ExecutionRoleArn") == task.get("TaskRoleArn"):
            yield f"{at}: workers must not have the role that starts them"
        if task.get("NetworkMode") != "awsvpc":
            yield f"{at}: Fargate needs the network mode awsvpc"
        cpu, memory = int(compute.default("Cpu")), int(compute.default("Memory"))
        if memory not in FARGATE.get(cpu, ()):
            yield f"{at}: Fargate has no task of {cpu} CPU units and {memory} MiB"
        if task.get("RuntimePlatform", {}).get("CpuArchitecture") != {"Ref": "CpuArchitecture"}:
            yield f"{at}: RuntimePlatform does not take CpuArchitecture"
        for container in compute.each(task["ContainerDefinitions"]):
            yield from _container(f"{at} {container['Name']}", container, most, compute.default("DrainMs"), compute.default("ProtectAfterMs"))
        if "@sha256:" not in compute.default("CollectorImage"):
            yield "compute.yaml CollectorImage: a tag may name another image tomorrow; name its digest"
        waits = [w for c in compute.each(task["ContainerDefinitions"]) if c["Name"] == "worker" for w in compute.each(c.get("DependsOn"))]
        if waits != [{"ContainerName": "collector", "Condition": "START"}]:
            yield f"{at}: the collector stops with the worker instead of after it"


def _container(at, container, most_drain_ms, drain_ms, protect_ms):
    worker = container["Name"] == "worker"
    if container.get("ReadonlyRootFilesystem") is not True:
        yield f"{at}: its root file system can be written"
    if container.get("Privileged") is not False:
        yield f"{at}: Privileged is not false"
    if container.get("LinuxParameters", {}).get("Capabilities") != {"Drop": ["ALL"]}:
        yield f"{at}: does not drop all capabilities"
    if "LogConfiguration" not in container:
        yield f"{at}: its log goes nowhere"
    elif container["LogConfiguration"]["Options"].get("mode") != "non-blocking":
        yield f"{at}: a slow CloudWatch would stop it"
    if container.get("Essential") is not worker:
        yield f"{at}: the worker is essential, and nothing else"
    stop = container.get("StopTimeout")
    if stop != STOP_S:
        yield f"{at}: StopTimeout is {stop}; Fargate's most is {STOP_S}, and its default of 30 cuts calls"
    if not worker:
        return
    if most_drain_ms / 1000 > most_drain_s():
        yield f"{at}: DrainMs may be {most_drain_ms}, with which no worker starts"
    if most_drain_ms / 1000 + END_S > STOP_S:
        yield f"{at}: DrainMs may be {most_drain_ms}, which leaves less than {END_S} s of StopTimeout"
    variables = {v["Name"]: v["Value"] for v in container["Environment"] if "Name" in v}
    if variables.get("TOOLFLEET_PROTECT_AFTER_MS") != {"Ref": "ProtectAfterMs"} or protect_ms >= drain_ms:
        yield f"{at}: a call that lasts longer than a drain does not protect its task from scale-in, and is cut"
    user = str(container.get("User", "0")).split(":")[0]
    if not user.isdigit() or int(user) == 0:
        yield f"{at}: runs as root"
    image = container["Image"]
    if isinstance(image, str) and (image.endswith(":latest") or ":" not in image):
        yield f"{at}: the image names no version"
    yield from _health(at, container.get("HealthCheck"))


def _health(at, check):
    if not check:
        yield f"{at}: has no HealthCheck"
        return
    if check["Command"] != ["CMD", "/toolfleet-worker", "health"]:
        yield f"{at}: HealthCheck is not `toolfleet-worker health`; the image has no shell"
    if not 5 <= check["Interval"] <= 60 or not 2 <= check["Timeout"] < check["Interval"]:
        yield f"{at}: HealthCheck looks every {check['Interval']} s and waits {check['Timeout']} s"
    if not 1 <= check["Retries"] <= 10 or check["Interval"] * check["Retries"] < 180:
        yield f"{at}: HealthCheck gives up before a short outage of SQS, or a drain, is over"
    if not 30 <= check.get("StartPeriod", 0) <= 300:
        yield f"{at}: HealthCheck has no StartPeriod of 30 to 300 s"


NEEDED = {
    "TOOLFLEET_QUEUE_URL", "TOOLFLEET_DEAD_LETTER_QUEUE_URL", "TOOLFLEET_TABLE_PREFIX", "TOOLFLEET_PAYLOAD_BUCKET", "TOOLFLEET_CATALOG",
    "TOOLFLEET_SLOTS", "TOOLFLEET_DRAIN_MS", "TOOLFLEET_HTTP_ADDR", "TOOLFLEET_LOG_FORMAT",
}
ALSO_READ = {"AWS_REGION", "OTEL_METRIC_EXPORT_INTERVAL"}
CREDENTIAL = re.compile(r"(SECRET|PASSWORD|TOKEN|ACCESS_KEY)", re.I)


def environment(project):
    """Variables that a worker does not read would have no effect."""
    compute = project.templates["compute"]
    task = compute.of_type("AWS::ECS::TaskDefinition")["WorkerTask"]
    worker = next((c for c in compute.each(task["ContainerDefinitions"]) if c["Name"] == "worker"), {})
    places = {
        "compute.yaml worker": {v["Name"]: compute.value(v["Value"]) for v in compute.each(worker["Environment"])},
        "infra/kubernetes/base/worker.env": project.env(),
        "ec2.yaml worker.env": dict(re.findall(r"^ +(TOOLFLEET_[A-Z_]+|AWS_REGION)=(.*)$", project.templates["ec2"].text, re.M)),
    }
    for at, variables in places.items():
        for name in sorted(variables.keys() - settings() - ALSO_READ):
            yield f"{at}: a worker does not read {name} (docs/reference/settings.md)"
        if str(variables.get("TOOLFLEET_ALLOW_HTTP", "false")).replace("${AllowHttp}", project.templates["ec2"].default("AllowHttp")) != "false":
            yield f"{at}: servers may be called without TLS although nobody asked for it"
        for name in sorted(NEEDED - variables.keys()):
            yield f"{at}: {name} is not set"
        for name in variables:
            if CREDENTIAL.search(name):
                yield f"{at}: {name} puts a credential into the environment"


def imports(project):
    """What one stack imports, the data stack exports, under the name of the output."""
    exported = set()
    for name, output in project.templates["data"].outputs.items():
        if "Export" in output:
            text = output["Export"]["Name"].get("Fn::Sub")
            if text != "${AWS::StackName}-" + name:
                yield f"data.yaml output {name}: is exported as {text}"
            exported.add(name)
    for template in project.templates.values():
        for text in re.findall(r"Fn::ImportValue:\s+Fn::Sub: \"\$\{DataStack\}-(\w+)\"", template.text):
            if text not in exported:
                yield f"{template.name}: imports {text}, which data.yaml does not export"
        if template.text.count("Fn::ImportValue") != len(re.findall(r"Fn::ImportValue:\s+Fn::Sub: \"\$\{DataStack\}-\w+\"", template.text)):
            yield f"{template.name}: an import does not name an output of the data stack"
