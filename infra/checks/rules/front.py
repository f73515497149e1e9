"""Gateways and consoles on ECS: only their load balancer reaches them, it waits for as long as a call, and nothing is cut by a deployment."""

import re

from model import ROOT, command_settings, drain_s, kept_s

from .compute import CREDENTIAL, FARGATE

KINDS = {"Gateway": "gateway", "Console": "console"}
CONDITIONAL = ("Route", "Targets", "Role", "Task", "Service")
PORT = 8080
END_S = 10


def wait_s():
    """How long a gateway waits for a call before it answers with a handle, in seconds."""
    text = (ROOT / "workers/gateway/src/settings.rs").read_text()
    return int(re.search(r'env = "TOOLFLEET_GATEWAY_WAIT_MS"[^\n]*?default_value = "(\d+)s"', text).group(1))


def _attributes(template, properties, field):
    return {item["Key"]: item["Value"] for item in template.each(properties.get(field, []))}


def _resource(template, name):
    return template.resources[name]["Properties"]


def services(project):
    front = project.templates["front"]
    for kind in KINDS:
        at, service = f"front.yaml {kind}Service", _resource(front, f"{kind}Service")
        if front.default(kind) != "false":
            yield f"front.yaml {kind}: runs although nobody asked for it"
        for part in CONDITIONAL:
            if front.resources[f"{kind}{part}"].get("Condition") != f"Has{kind}":
                yield f"front.yaml {kind}{part}: is there although {kind} is false"
        if front.resources[f"{kind}Service"].get("DependsOn") != f"{kind}Route":
            yield f"{at}: does not wait for {kind}Route; a target group that no listener uses takes no service"
        if "LaunchType" in service or [p["CapacityProvider"] for p in service.get("CapacityProviderStrategy", [])] != ["FARGATE"]:
            yield f"{at}: does not run on FARGATE alone; Spot may end all tasks at once"
        if front.value(service.get("ServiceName")) != f"toolfleet-{KINDS[kind]}":
            yield f"{at}: is not PREFIX-{KINDS[kind]}, which the runbook names"
        deployment = service.get("DeploymentConfiguration", {})
        if deployment.get("DeploymentCircuitBreaker") != {"Enable": True, "Rollback": True}:
            yield f"{at}: the circuit breaker does not roll a broken version back"
        if deployment.get("MinimumHealthyPercent") != 100 or deployment.get("MaximumPercent", 0) <= 100:
            yield f"{at}: an update ends old tasks before new ones run"
        if service.get("EnableExecuteCommand") is not False:
            yield f"{at}: EnableExecuteCommand lets people into a task"
        if service.get("AvailabilityZoneRebalancing") != "ENABLED" or service.get("PropagateTags") != "SERVICE":
            yield f"{at}: tasks are not spread anew after an outage of a zone, or have no tags"
        if not 30 <= service.get("HealthCheckGracePeriodSeconds", 0) <= 300:
            yield f"{at}: a task has no grace period of 30 to 300 s before its health counts"
        if (service.get("Cluster"), service.get("TaskDefinition")) != ({"Ref": "Cluster"}, {"Ref": f"{kind}Task"}):
            yield f"{at}: is not {kind}Task on Cluster"
        target = {"ContainerName": KINDS[kind], "ContainerPort": PORT, "TargetGroupArn": {"Ref": f"{kind}Targets"}}
        if service.get("LoadBalancers") != [target]:
            yield f"{at}: its tasks are not the targets of {kind}Targets on port {PORT}"
        network = service.get("NetworkConfiguration", {}).get("AwsvpcConfiguration", {})
        if [front.value(g) for g in network.get("SecurityGroups", [])] != ["<TaskSecurityGroup.GroupId>"]:
            yield f"{at}: is not in TaskSecurityGroup"
        if network.get("Subnets") != {"Ref": "SubnetIds"} or network.get("AssignPublicIp") != {"Ref": "AssignPublicIp"}:
            yield f"{at}: does not take SubnetIds and AssignPublicIp"
    if "DesiredCount" in _resource(front, "GatewayService"):
        yield "front.yaml GatewayService: DesiredCount would reset what scaling has set at every update"
    if _resource(front, "ConsoleService").get("DesiredCount") != {"Ref": "ConsoleTasks"} or front.default("ConsoleTasks") < 2:
        yield "front.yaml ConsoleService: DesiredCount is not ConsoleTasks, or that is less than two"
    cluster = _resource(front, "Cluster")
    if cluster.get("CapacityProviders") != ["FARGATE"] or front.value(cluster.get("ClusterName")) != "toolfleet-front":
        yield "front.yaml Cluster: is not PREFIX-front, which the runbook names, or has other capacity than FARGATE"
    if {"Name": "containerInsights", "Value": "enabled"} not in cluster.get("ClusterSettings", []):
        yield "front.yaml Cluster: scaling needs the number of running tasks from Container Insights"


def containers(project):
    front = project.templates["front"]
    for kind, command in KINDS.items():
        at, task = f"front.yaml {kind}Task", _resource(front, f"{kind}Task")
        if front.value(task.get("ExecutionRoleArn")) != "<ExecutionRole.Arn>" or front.value(task.get("TaskRoleArn")) != f"<{kind}Role.Arn>":
            yield f"{at}: its roles are not ExecutionRole and {kind}Role"
        if task.get("NetworkMode") != "awsvpc" or task.get("RequiresCompatibilities") != ["FARGATE"]:
            yield f"{at}: is no task of Fargate"
        cpu, memory = int(front.value(task["Cpu"])), int(front.value(task["Memory"]))
        if memory not in FARGATE.get(cpu, ()):
            yield f"{at}: Fargate has no task of {cpu} CPU units and {memory} MiB"
        if task.get("RuntimePlatform", {}).get("CpuArchitecture") != {"Ref": "CpuArchitecture"}:
            yield f"{at}: RuntimePlatform does not take CpuArchitecture"
        found = list(front.each(task["ContainerDefinitions"]))
        if [c["Name"] for c in found] != [command]:
            yield f"{at}: its containers are not {command} alone"
        yield from _container(front, f"{at} {command}", found[0], command)


def _container(front, at, container, command):
    if container.get("Image") != {"Ref": "Image"} or container.get("Command") != [command] or container.get("EntryPoint"):
        yield f"{at}: does not run `toolfleet {command}` of Image"
    if container.get("ReadonlyRootFilesystem") is not True or container.get("Privileged") is not False:
        yield f"{at}: its root file system can be written, or it is privileged"
    if container.get("LinuxParameters", {}).get("Capabilities") != {"Drop": ["ALL"]}:
        yield f"{at}: does not drop all capabilities"
    user = str(container.get("User", "0")).split(":")[0]
    if not user.isdigit() or int(user) == 0:
        yield f"{at}: runs as root"
    if container.get("Essential") is not True:
        yield f"{at}: is not essential"
    if not drain_s(command) + END_S <= container.get("StopTimeout", 0) <= 120:
        yield f"{at}: StopTimeout is not {drain_s(command) + END_S} to 120 s; it takes {drain_s(command)} s to end"
    if container.get("PortMappings") != [{"ContainerPort": PORT, "Protocol": "tcp"}]:
        yield f"{at}: its port is not {PORT}"
    if "HealthCheck" in container:
        yield f"{at}: the image has no program that could check it; the target group does"
    log = container.get("LogConfiguration", {})
    options = log.get("Options", {})
    if log.get("LogDriver") != "awslogs" or options.get("awslogs-group") != {"Ref": "FrontLogs"} or options.get("mode") != "non-blocking":
        yield f"{at}: does not log to FrontLogs, or a slow CloudWatch would stop it"


NEEDED = {
    "gateway": {
        "TOOLFLEET_QUEUE_URL", "TOOLFLEET_TABLE_PREFIX", "TOOLFLEET_PAYLOAD_BUCKET", "TOOLFLEET_CATALOG", "TOOLFLEET_GATEWAY_LISTEN",
        "TOOLFLEET_GATEWAY_PUBLIC_URL", "TOOLFLEET_GATEWAY_KEY", "TOOLFLEET_GATEWAY_OAUTH_ISSUER", "TOOLFLEET_GATEWAY_OAUTH_TENANT_CLAIM",
    },
    "console": {
        "TOOLFLEET_QUEUE_URL", "TOOLFLEET_TABLE_PREFIX", "TOOLFLEET_CONSOLE_LISTEN", "TOOLFLEET_CONSOLE_PUBLIC_URL", "TOOLFLEET_CONSOLE_KEY",
        "TOOLFLEET_CONSOLE_TOKENS", "TOOLFLEET_HISTORY_SHARDS", "TOOLFLEET_PAYLOAD_BUCKET",
    },
}
# Optional in the template, and asked for by a parameter.
PRIORITIES = {"TOOLFLEET_QUEUE_URL_HIGH", "TOOLFLEET_QUEUE_URL_LOW"}
OPTIONAL = PRIORITIES | {
    "TOOLFLEET_GATEWAY_TENANT", "TOOLFLEET_GATEWAY_OAUTH_JWKS_URL",
    "TOOLFLEET_GATEWAY_OAUTH_AUDIENCE", "TOOLFLEET_GATEWAY_OAUTH_CLIENTS", "TOOLFLEET_GATEWAY_OAUTH_SCOPES", "TOOLFLEET_GATEWAY_OAUTH_USER_CLAIM",
    "TOOLFLEET_GATEWAY_OAUTH_ROLES_CLAIM", "TOOLFLEET_GATEWAY_SESSION", "TOOLFLEET_GATEWAY_ALLOWED_ORIGINS", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES",
    "TOOLFLEET_CONSOLE_OIDC_ISSUER", "TOOLFLEET_CONSOLE_OIDC_CLIENT_ID", "TOOLFLEET_CONSOLE_OIDC_CLIENT_SECRET",
    "TOOLFLEET_CONSOLE_OIDC_TENANT_CLAIM", "TOOLFLEET_CONSOLE_OIDC_OPERATORS",
}
SECRETS = {
    "TOOLFLEET_GATEWAY_KEY": "secret://toolfleet/gateway-key", "TOOLFLEET_CONSOLE_TOKENS": "secret://toolfleet/console-tokens",
    "TOOLFLEET_CONSOLE_KEY": "secret://toolfleet/console-key", "TOOLFLEET_CONSOLE_OIDC_CLIENT_SECRET": "secret://toolfleet/console-oidc",
}


def environment(project):
    """Variables that a gateway or a console does not read would have no effect. What is secret is named, not written."""
    front = project.templates["front"]
    for kind, command in KINDS.items():
        container = next(front.each(_resource(front, f"{kind}Task")["ContainerDefinitions"]))
        here = {v["Name"]: front.value(v["Value"]) for v in front.each(container["Environment"])}
        # Calls of a gateway have no priority, and its policy names no queue of one.
        unused = PRIORITIES if command == "gateway" else set()
        for name in sorted((OPTIONAL - unused) & command_settings(command) - here.keys()):
            yield f"front.yaml {command}: {name} is not set where its parameter asks for it"
        for name in sorted(unused & here.keys()):
            yield f"front.yaml {command}: {name} is of a queue that it may not send to"
        for at, variables in {f"front.yaml {command}": here, f"infra/kubernetes/{command}": project.env(f"{command}/{command}.env")}.items():
            for name in sorted(variables.keys() - command_settings(command) - {"AWS_REGION"}):
                yield f"{at}: `toolfleet {command}` does not read {name}"
            for name in sorted(NEEDED[command] - variables.keys()):
                yield f"{at}: {name} is not set"
            for name, value in sorted(variables.items()):
                if CREDENTIAL.search(name) and name not in SECRETS or value != SECRETS.get(name, value):
                    yield f"{at}: {name} is no secret that the policy of data.yaml lets it read, or holds a credential"
                if value in (None, "", {}) and name in NEEDED[command] - {"TOOLFLEET_GATEWAY_OAUTH_ISSUER", "TOOLFLEET_GATEWAY_OAUTH_TENANT_CLAIM"}:
                    yield f"{at}: {name} has no value"
            if variables.get(f"TOOLFLEET_{kind.upper()}_LISTEN") != f"0.0.0.0:{PORT}":
                yield f"{at}: does not listen on port {PORT} where its load balancer reaches it"
            url = str(variables.get(f"TOOLFLEET_{kind.upper()}_PUBLIC_URL"))
            if not url.startswith("https://") or url.endswith("/mcp") != (command == "gateway"):
                yield f"{at}: the public address {url} is not the one that clients use"


def balancer(project):
    """Who waits is not cut: neither by the idle time-out nor by a deployment."""
    front = project.templates["front"]
    balancer, listener = _resource(front, "LoadBalancer"), _resource(front, "Listener")
    attributes = _attributes(front, balancer, "LoadBalancerAttributes")
    if int(attributes.get("idle_timeout.timeout_seconds", 60)) < wait_s() + 30:
        yield f"front.yaml LoadBalancer: its idle time-out is not longer than the {wait_s():.0f} s that a call is waited for, and 30"
    if int(attributes.get("idle_timeout.timeout_seconds", 60)) >= kept_s():
        yield f"front.yaml LoadBalancer: its idle time-out is not shorter than the {kept_s():.0f} s that a target keeps a connection: requests would meet one that closes"
    if attributes.get("routing.http.drop_invalid_header_fields.enabled") != "false":
        yield "front.yaml LoadBalancer: drops headers with an underscore, such as Mcp-Param-user_id, so that calls of such a tool are refused"
    if attributes.get("routing.http.desync_mitigation_mode") not in ("defensive", "strictest"):
        yield "front.yaml LoadBalancer: passes ambiguous requests on"
    logged = (attributes.get("access_logs.s3.enabled"), attributes.get("access_logs.s3.bucket"))
    if logged != ("true", {"Ref": "AccessLogBucket"}) or listener.get("LoadBalancerArn") != {"Ref": "LoadBalancer"}:
        yield "front.yaml LoadBalancer: AccessLogBucket has no effect, or Listener is not its own"
    algorithm = _attributes(front, _resource(front, "GatewayTargets"), "TargetGroupAttributes").get("load_balancing.algorithm.type")
    if algorithm != "least_outstanding_requests":
        yield "front.yaml GatewayTargets: a gateway with many requests that wait gets as many new ones as the others"
    if balancer.get("Scheme") != "internal" or balancer.get("Type") != "application":
        yield "front.yaml LoadBalancer: is not an internal one of the type application"
    if [front.value(g) for g in balancer.get("SecurityGroups", [])] != ["<LoadBalancerSecurityGroup.GroupId>"]:
        yield "front.yaml LoadBalancer: is not in LoadBalancerSecurityGroup"
    if (listener.get("Protocol"), listener.get("Port")) != ("HTTPS", 443) or "TLS13" not in listener.get("SslPolicy", ""):
        yield "front.yaml Listener: does not ask for TLS 1.2 or 1.3 on port 443"
    if listener.get("Certificates") != [{"CertificateArn": {"Ref": "CertificateArn"}}]:
        yield "front.yaml Listener: has not the certificate of the parameter"
    if [(a["Type"], a.get("FixedResponseConfig", {}).get("StatusCode")) for a in listener["DefaultActions"]] != [("fixed-response", "404")]:
        yield "front.yaml Listener: answers requests for other hosts"
    if len(front.of_type("AWS::ElasticLoadBalancingV2::Listener")) != 1:
        yield "front.yaml: more listeners than that of TLS"
    waits = {"Gateway": wait_s() + 5, "Console": 10}
    priorities = set()
    for kind in KINDS:
        rule, targets = _resource(front, f"{kind}Route"), _resource(front, f"{kind}Targets")
        hosts = [c["HostHeaderConfig"]["Values"] for c in front.each(rule["Conditions"]) if c["Field"] == "host-header"]
        if rule.get("ListenerArn") != {"Ref": "Listener"} or targets.get("VpcId") != {"Ref": "VpcId"}:
            yield f"front.yaml {kind}Route: is not of Listener, or its targets are in another network"
        if hosts != [[{"Ref": f"{kind}Host"}]] or rule["Actions"] != [{"Type": "forward", "TargetGroupArn": {"Ref": f"{kind}Targets"}}]:
            yield f"front.yaml {kind}Route: does not lead from {kind}Host to {kind}Targets"
        priorities.add(rule["Priority"])
        if (targets.get("TargetType"), targets.get("Protocol"), targets.get("Port")) != ("ip", "HTTP", PORT):
            yield f"front.yaml {kind}Targets: its targets are not addresses that speak HTTP on port {PORT}"
        health = (targets.get("HealthCheckProtocol"), targets.get("HealthCheckPath"), targets.get("HealthCheckPort", "traffic-port"))
        if health != ("HTTP", "/health", "traffic-port") or targets.get("Matcher") != {"HttpCode": "200"}:
            yield f"front.yaml {kind}Targets: its health check is not that /health answers 200"
        every, patience = targets.get("HealthCheckIntervalSeconds", 0), targets.get("HealthCheckTimeoutSeconds", 0)
        failures, successes = targets.get("UnhealthyThresholdCount", 0), targets.get("HealthyThresholdCount", 0)
        if not 5 <= every <= 15 or not 2 <= patience < every or not 20 <= every * failures <= 60 or not 2 <= successes <= 3:
            yield f"front.yaml {kind}Targets: looks at the health too rarely, or gives up at once"
        own = _attributes(front, targets, "TargetGroupAttributes")
        delay = int(own.get("deregistration_delay.timeout_seconds", 300))
        if not max(waits[kind], drain_s(KINDS[kind])) <= delay < 300:
            yield f"front.yaml {kind}Targets: its deregistration delay is less than {waits[kind]:.0f} s, for which a request may wait, or five minutes"
    if len(priorities) != len(KINDS):
        yield "front.yaml: two routes have one priority"
    paths = [c["PathPatternConfig"]["Values"] for c in front.each(_resource(front, "GatewayRoute")["Conditions"]) if c["Field"] == "path-pattern"]
    if paths != [["/mcp", "/.well-known/oauth-protected-resource*"]]:
        yield "front.yaml GatewayRoute: its paths are not the endpoint's and that of its metadata"
    sources = [c["SourceIpConfig"]["Values"] for c in front.each(_resource(front, "ConsoleRoute")["Conditions"]) if c["Field"] == "source-ip"]
    if sources != [[{"Ref": "ConsoleCidr"}]]:
        yield "front.yaml ConsoleRoute: ConsoleCidr has no effect"


def network(project):
    """Clients reach the load balancer, and it reaches the tasks; nobody else does."""
    front = project.templates["front"]
    inward = [
        (r.get("FromPort"), r.get("ToPort"), front.value(r.get("CidrIp", r.get("SourceSecurityGroupId"))))
        for r in front.each(_resource(front, "LoadBalancerSecurityGroup").get("SecurityGroupIngress"))
    ]
    if inward != [(443, 443, ""), (443, 443, "")]:
        yield f"front.yaml LoadBalancerSecurityGroup: lets in others than ClientCidr and ClientSecurityGroupId on port 443: {inward}"
    outward = [
        (r.get("FromPort"), r.get("ToPort"), front.value(r.get("DestinationSecurityGroupId")))
        for r in front.each(_resource(front, "LoadBalancerSecurityGroup").get("SecurityGroupEgress"))
    ]
    if outward != [(PORT, PORT, "<TaskSecurityGroup.GroupId>")]:
        yield f"front.yaml LoadBalancerSecurityGroup: does not lead to port {PORT} of TaskSecurityGroup alone"
    if "SecurityGroupIngress" in _resource(front, "TaskSecurityGroup"):
        yield "front.yaml TaskSecurityGroup: lets others in than the load balancer"
    wanted = {
        "TaskIngress": ("<TaskSecurityGroup.GroupId>", PORT, PORT, "<LoadBalancerSecurityGroup.GroupId>"),
        "EndpointIngress": ("", 443, 443, "<TaskSecurityGroup.GroupId>"),
    }
    found = {
        name: (front.value(r["GroupId"]), r.get("FromPort"), r.get("ToPort"), front.value(r.get("SourceSecurityGroupId")))
        for name, r in front.of_type("AWS::EC2::SecurityGroupIngress").items()
    }
    if found != wanted:
        yield f"front.yaml: TaskIngress and EndpointIngress are not {wanted}"
    for name in ("ClientCidr", "ConsoleCidr"):
        pattern = front.parameters[name]["AllowedPattern"]
        if front.default(name) != "" or any(re.fullmatch(pattern, text) for text in ("0.0.0.0/0", "10.0.0.0/0", "128.0.0.0/1")):
            yield f"front.yaml {name}: may be everything"
    if not re.fullmatch(front.parameters["ClientCidr"]["AllowedPattern"], "10.0.0.0/8"):
        yield "front.yaml ClientCidr: refuses 10.0.0.0/8"


def scaling(project):
    front = project.templates["front"]
    capacity = _resource(front, "GatewayCapacity")
    if (capacity["MinCapacity"], capacity["MaxCapacity"]) != ({"Ref": "MinGateways"}, {"Ref": "MaxGateways"}):
        yield "front.yaml GatewayCapacity: MinCapacity and MaxCapacity are not MinGateways and MaxGateways"
    if front.value(capacity["ResourceId"]) != "service/<Cluster>/<GatewayService.Name>" or capacity["ScalableDimension"] != "ecs:service:DesiredCount":
        yield "front.yaml GatewayCapacity: does not scale GatewayService"
    if not 2 <= front.parameters["MinGateways"]["MinValue"] <= front.default("MinGateways") < front.default("MaxGateways"):
        yield "front.yaml MinGateways: may be fewer than two, in two zones, or is not less than MaxGateways"
    policies = front.of_type("AWS::ApplicationAutoScaling::ScalingPolicy")
    if set(policies) != {"FollowConnections", "FollowCpu"}:
        yield "front.yaml: its policies are not FollowConnections and FollowCpu"
    for name, policy in policies.items():
        tracking = policy["TargetTrackingScalingPolicyConfiguration"]
        if policy.get("ScalingTargetId") != {"Ref": "GatewayCapacity"} or policy["PolicyType"] != "TargetTrackingScaling":
            yield f"front.yaml {name}: does not track a target for GatewayCapacity"
        if tracking.get("ScaleInCooldown", 0) < 180 or tracking.get("DisableScaleIn") or not 0 < tracking.get("ScaleOutCooldown", 0) <= 120:
            yield f"front.yaml {name}: scales in at once, or never, or scales out late"
    cpu = policies["FollowCpu"]["TargetTrackingScalingPolicyConfiguration"]
    if cpu["PredefinedMetricSpecification"] != {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"} or not 30 <= cpu["TargetValue"] <= 80:
        yield "front.yaml FollowCpu: does not keep the CPU between 30 and 80 percent"
    tracking = policies["FollowConnections"]["TargetTrackingScalingPolicyConfiguration"]
    metrics = list(front.each(tracking["CustomizedMetricSpecification"]["Metrics"]))
    # A missing value of an idle load balancer would stop every scale-in: the policies must agree.
    if [m["Expression"] for m in metrics if "Expression" in m] != ["FILL(connections,0)/IF(FILL(running,0)>0,running,1)"]:
        yield "front.yaml FollowConnections: is not connections/running, without a value where there is none"
    stats = {m["Id"]: (m["MetricStat"]["Metric"]["MetricName"], m["MetricStat"]["Stat"]) for m in metrics if "MetricStat" in m}
    if stats != {"connections": ("ActiveConnectionCount", "Sum"), "running": ("RunningTaskCount", "Average")}:
        yield "front.yaml FollowConnections: does not look at open connections and running gateways"
    most = int(re.search(r'env = "TOOLFLEET_GATEWAY_MAX_REQUESTS".*?default_value = "(\d+)"', (ROOT / "workers/gateway/src/settings.rs").read_text(), re.S).group(1))
    if tracking["TargetValue"] != {"Ref": "GatewayConnections"} or front.parameters["GatewayConnections"]["MaxValue"] > 1.6 * most:
        yield f"front.yaml FollowConnections: may wait until gateways refuse requests ({most} at once, two connections each)"
