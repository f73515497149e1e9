"""Kubernetes: pods drain, are locked down and spread, and KEDA scales them by the work that runs or could run."""

import re

from model import ROOT, drain_s, most_drain_s, prometheus_names, promql_selectors, runbook_anchors


def _deployment(project):
    _, deployment = project.manifest("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    return deployment, pod, pod["containers"][0]


def deployment(project):
    found, pod, container = _deployment(project)
    at = "infra/kubernetes Deployment"
    security, own = pod.get("securityContext", {}), container.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
        yield f"{at}: may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{at}: has no seccomp profile"
    if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"{at}: its root file system can be written, or it can gain rights"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{at}: does not drop all capabilities"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield f"{at}: shares the node's namespaces"
    probes = {"livenessProbe": "/health/live", "readinessProbe": "/health/ready", "startupProbe": "/health/ready"}
    for probe, path in probes.items():
        check = container.get(probe, {})
        if check.get("httpGet", {}).get("path") != path:
            yield f"{at}: {probe} does not ask {path}"
        if check.get("periodSeconds", 10) * check.get("failureThreshold", 3) < 30 or check.get("timeoutSeconds", 1) > check.get("periodSeconds", 10):
            yield f"{at}: {probe} gives up in less than half a minute, or waits for longer than its period"
    ports = [port["containerPort"] for port in container.get("ports", [])]
    if str(ports and ports[0]) != project.env()["TOOLFLEET_HTTP_ADDR"].rsplit(":")[-1]:
        yield f"{at}: the port is not that of TOOLFLEET_HTTP_ADDR"
    if "memory" not in container["resources"].get("limits", {}) or not {"cpu", "memory"} <= set(container["resources"].get("requests", {})):
        yield f"{at}: needs requests, and a limit of memory"
    if found["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield f"{at}: an update ends old workers before new ones run"
    if found["spec"].get("replicas", 1) < 2:
        yield f"{at}: fewer than two replicas"
    if found["spec"]["selector"]["matchLabels"].items() - found["spec"]["template"]["metadata"]["labels"].items():
        yield f"{at}: the selector does not find its own pods"


# A worker needs some seconds to end after its drain.
END_S = 10
# How long the cluster autoscaler waits for a pod unless it is told otherwise (--max-graceful-termination-sec).
AUTOSCALER_S = 600


def drain(project):
    """Whatever ends a pod, its worker has the time to finish its calls, and one setting says how long that is."""
    _, pod, container = _deployment(project)
    at, asked = "infra/kubernetes Deployment", int(project.env()["TOOLFLEET_DRAIN_MS"]) / 1000
    grace = pod.get("terminationGracePeriodSeconds", 30)
    if asked > most_drain_s():
        yield f"infra/kubernetes/base/worker.env: no worker starts with a TOOLFLEET_DRAIN_MS of {asked:.0f} s; {most_drain_s():.0f} s is the most"
    hook = container.get("lifecycle", {}).get("preStop", {})
    if hook and set(hook) != {"sleep"}:
        yield f"{at}: preStop needs a program that the image has not"
    waits = hook.get("sleep", {}).get("seconds", 0)
    if grace < waits + max(asked, most_drain_s()) + END_S:
        yield f"{at}: terminationGracePeriodSeconds of {grace} is less than preStop, the longest TOOLFLEET_DRAIN_MS and {END_S} s: calls are cut although that setting allows them"
    for probe in ("livenessProbe", "startupProbe"):
        if container.get(probe, {}).get("terminationGracePeriodSeconds", grace) > 60:
            yield f"{at}: a worker that hangs is not killed for {grace} s after its {probe} has failed"
    if asked + END_S > AUTOSCALER_S or asked < 100:
        yield f"infra/kubernetes/base/worker.env: TOOLFLEET_DRAIN_MS is {asked:.0f} s: less cuts calls, and for more the cluster autoscaler needs another setting"
    _, budget = project.manifest("PodDisruptionBudget")
    if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "infra/kubernetes PodDisruptionBudget: workers that are not ready keep their node from being drained"


def disruption(project):
    found, _, _ = _deployment(project)
    _, budget = project.manifest("PodDisruptionBudget")
    at = "infra/kubernetes PodDisruptionBudget"
    if not budget:
        yield f"{at}: is missing"
        return
    spec = budget["spec"]
    if spec.get("maxUnavailable") in (None, 0, "0%") or spec.get("minAvailable"):
        yield f"{at}: nodes could never be drained"
    if spec["selector"]["matchLabels"] != found["spec"]["selector"]["matchLabels"]:
        yield f"{at}: does not select the workers"


def network(project):
    found, _, _ = _deployment(project)
    _, policy = project.manifest("NetworkPolicy")
    at = "infra/kubernetes NetworkPolicy"
    if not policy:
        yield f"{at}: is missing"
        return
    spec = policy["spec"]
    if spec["podSelector"].get("matchLabels") != found["spec"]["selector"]["matchLabels"]:
        yield f"{at}: does not select the workers"
    if set(spec.get("policyTypes", [])) != {"Ingress", "Egress"}:
        yield f"{at}: policyTypes are not Ingress and Egress"
    for rule in spec.get("ingress", []):
        if not rule.get("from") or any("ipBlock" in peer for peer in rule["from"]):
            yield f"{at}: ingress from everywhere"
    for rule in spec.get("egress", []):
        blocks = [peer["ipBlock"] for peer in rule.get("to", [{}]) if "ipBlock" in peer]
        if not rule.get("to") or not rule.get("ports"):
            yield f"{at}: egress to everywhere"
        for block in blocks:
            if block["cidr"] == "0.0.0.0/0" and "169.254.169.254/32" not in block.get("except", []):
                yield f"{at}: pods reach the metadata of their node, and so its role"


def scaler(project):
    name, scaled = project.manifest("ScaledObject")
    at = "infra/kubernetes ScaledObject"
    if not scaled:
        yield f"{at}: is missing; a ScaledJob would end with its first message"
        return
    found, _, _ = _deployment(project)
    spec = scaled["spec"]
    if spec["scaleTargetRef"].get("name") != found["metadata"]["name"]:
        yield f"{at}: scales {spec['scaleTargetRef'].get('name')}, which is not the workers' deployment"
    if spec.get("minReplicaCount", 0) >= spec.get("maxReplicaCount", 100):
        yield f"{at}: minReplicaCount is not less than maxReplicaCount"
    if spec.get("fallback", {}).get("behavior") != "currentReplicasIfHigher":
        yield f"{at}: when the queue cannot be read, a busy fleet would shrink"
    if spec.get("cooldownPeriod", 0) < 180:
        yield f"{at}: cooldownPeriod is shorter than a drain and a minute"
    kinds = [trigger["type"] for trigger in spec["triggers"]]
    if set(kinds) != {"metrics-api", "aws-sqs-queue"} or kinds.count("metrics-api") != 1:
        yield f"{at}: its triggers are not one metrics-api, and aws-sqs-queue"
        return
    queues = [trigger for trigger in spec["triggers"] if trigger["type"] == "aws-sqs-queue"]
    urls = [value for variable, value in project.env().items() if variable.startswith("TOOLFLEET_QUEUE_URL")]
    if sorted(queue["metadata"].get("queueURL", "") for queue in queues) != sorted(urls):
        yield f"{at}: reads other queues than the workers"
    known = [d["metadata"]["name"] for d in project.manifests[name] if d["kind"] == "TriggerAuthentication"]
    for queue in queues:
        asked, authentication = queue["metadata"], queue.get("authenticationRef", {}).get("name")
        if asked.get("scaleOnInFlight") != "true" or asked.get("scaleOnDelayed") != "false":
            yield f"{at}: counts not what waits and what is in flight, or counts what is delayed"
        if asked.get("awsRegion") != project.env().get("AWS_REGION"):
            yield f"{at}: reads a queue in another region than the workers"
        if int(asked.get("queueLength", 0)) < 10_000:
            yield f"{at}: scales by messages, which may be paused, or take milliseconds; queueLength only starts the first worker"
        if authentication not in known:
            yield f"{at}: there is no TriggerAuthentication {authentication}"
    overlay = project.texts["infra/kubernetes/keda/kustomization.yaml"]
    if "path: /spec/replicas" not in overlay:
        yield "infra/kubernetes/keda: an applied number of replicas would reset KEDA's"


def priorities(project):
    """Each queue of calls of data.yaml is named where pods and KEDA are told of theirs, in a comment at least."""
    data = project.templates["data"]
    ending = {"CallsQueue": "", "HighCallsQueue": "_HIGH", "LowCallsQueue": "_LOW"}
    queues = {name: data.value(q["QueueName"]) for name, q in data.of_type("AWS::SQS::Queue").items() if name.endswith("CallsQueue")}
    places = ["base/worker.env", "console/console.env", "keda/scaledobject.yaml"]
    for name, queue in queues.items():
        for place in places:
            named = f"TOOLFLEET_QUEUE_URL{ending[name]}=" if place.endswith(".env") else "queueURL: "
            if not re.search(rf"^[# ]*{named}https://sqs\.\S+/{queue}$", project.texts[f"infra/kubernetes/{place}"], re.M):
                yield f"infra/kubernetes/{place}: does not name the queue {queue} of data.yaml, not even in a comment"


def asked(project):
    """KEDA reaches what it asks: the path of a worker, through the service, past the network policy."""
    found, pod, container = _deployment(project)
    _, scaled = project.manifest("ScaledObject")
    _, service = project.manifest("Service")
    _, policy = project.manifest("NetworkPolicy")
    at = "infra/kubernetes ScaledObject metrics-api"
    metadata = next(t["metadata"] for t in scaled["spec"]["triggers"] if t["type"] == "metrics-api")
    port = int(project.env()["TOOLFLEET_HTTP_ADDR"].rsplit(":")[-1])
    name, space = service["metadata"]["name"], project.manifest("Namespace")[1]["metadata"]["name"]
    if metadata["url"] != f"http://{name}.{space}.svc.cluster.local:{port}/scaling":
        yield f"{at}: {metadata['url']} is not /scaling of the service {name} in {space} on port {port}"
    fields = re.findall(r"^    (\w+): u\d+,$", (ROOT / "workers/worker/src/services/http.rs").read_text(), re.M)
    if metadata.get("valueLocation") != "wanted_slots" or "wanted_slots" not in fields:
        yield f"{at}: valueLocation is not wanted_slots, or /scaling does not have it"
    if not 0 < float(metadata.get("targetValue", 0)) < int(project.env()["TOOLFLEET_SLOTS"]) * 1.25:
        yield f"{at}: targetValue is not less than the slots of a worker"
    if service["spec"]["selector"] != found["spec"]["selector"]["matchLabels"]:
        yield "infra/kubernetes Service: does not select the workers"
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    if [(p["port"], ports.get(p["targetPort"])) for p in service["spec"]["ports"]] != [(port, port)]:
        yield f"infra/kubernetes Service: its port is not {port} of the workers"
    keda = project.templates["kubernetes"].default("KedaNamespace")
    allowed = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in policy["spec"]["ingress"] if any(p["port"] == port for p in rule["ports"]) for peer in rule["from"]
    ]
    if keda not in allowed:
        yield f"infra/kubernetes NetworkPolicy: KEDA in {keda} cannot ask workers what work there is"


# Of kube-state-metrics and of the kubelet.
KUBERNETES_METRICS = {
    "kube_deployment_status_replicas_ready", "kube_horizontalpodautoscaler_status_desired_replicas", "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_pod_container_status_restarts_total", "kube_pod_container_resource_limits", "container_memory_working_set_bytes",
}
ALARMS = {"FewWorkers", "AtMaximum", "Behind", "Unmeasured", "LostWorkers", "OldSwitches", "Memory"}


def alarms(project):
    """The alarms of pods: each is on metrics that there are, of this namespace, and names its section of the runbook."""
    found, pod, container = _deployment(project)
    space = project.manifest("Namespace")[1]["metadata"]["name"]
    rules = [rule for group in project.manifest("PrometheusRule")[1]["spec"]["groups"] for rule in group["rules"]]
    names = [rule.get("alert", "").removeprefix("Toolfleet") for rule in rules]
    if sorted(names) != sorted(ALARMS):
        yield f"infra/kubernetes PrometheusRule: has not exactly its alarms: {sorted(set(names) ^ ALARMS)}"
    for rule in rules:
        at = f"infra/kubernetes PrometheusRule {rule.get('alert')}"
        anchor = re.fullmatch(r"docs/reference/runbook\.md#([\w-]+)", rule.get("annotations", {}).get("runbook_url", ""))
        if not anchor or anchor.group(1) not in runbook_anchors():
            yield f"{at}: runbook_url names no section of the runbook"
        if not re.fullmatch(r"[1-9]\d*m", rule.get("for", "")) or rule.get("labels", {}).get("severity") not in ("warning", "critical"):
            yield f"{at}: goes off at a single value, or has no severity"
        try:
            selectors = promql_selectors(rule["expr"])
        except ValueError as error:
            yield f"{at}: Prometheus cannot read its expression: {error}"
            continue
        for metric, labels in selectors:
            if metric not in prometheus_names() | KUBERNETES_METRICS:
                yield f"{at}: nobody offers {metric} to Prometheus"
            wanted = {"namespace": space, "deployment": found["metadata"]["name"], "container": container["name"], "resource": "memory"}
            wanted["horizontalpodautoscaler"] = f"keda-hpa-{project.manifest('ScaledObject')[1]['metadata']['name']}"
            if "namespace" not in labels or any(labels[key] != wanted.get(key) for key in labels):
                yield f"{at}: {metric} is not of the workers' namespace, or of what there is in it: {labels}"
    few = next(rule["expr"] for rule in rules if rule.get("alert") == "ToolfleetFewWorkers")
    least = project.manifest("ScaledObject")[1]["spec"]["minReplicaCount"]
    if not few.endswith(f" < {least}") or found["spec"]["replicas"] != least or not few.startswith("(sum(") or ") or vector(0))" not in few:
        yield f"infra/kubernetes PrometheusRule ToolfleetFewWorkers: does not go off below {least}, the least of KEDA and of the base, or where nothing runs"
    monitor = project.manifest("PodMonitor")[1]["spec"]
    ports = [port["name"] for port in container["ports"]]
    if monitor["selector"]["matchLabels"] != found["spec"]["selector"]["matchLabels"] or [(e["port"] in ports, e["path"]) for e in monitor["podMetricsEndpoints"]] != [(True, "/metrics")]:
        yield "infra/kubernetes PodMonitor: does not scrape /metrics of the workers"


def identity(project):
    _, pod, _ = _deployment(project)
    template = project.templates["kubernetes"]
    accounts = {name: template.value(a["ServiceAccount"]) for name, a in template.of_type("AWS::EKS::PodIdentityAssociation").items()}
    _, account = project.manifest("ServiceAccount")
    names = {pod.get("serviceAccountName"), account.get("metadata", {}).get("name"), accounts.get("WorkerIdentity")}
    if names != {"toolfleet-worker"}:
        yield f"infra/kubernetes: pods, ServiceAccount and PodIdentityAssociation name {names}"
    if pod.get("automountServiceAccountToken") is not False or account.get("automountServiceAccountToken") is not False:
        yield "infra/kubernetes: pods have a token of the Kubernetes API, which workers do not use"
    _, space = project.manifest("Namespace")
    if space.get("metadata", {}).get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "infra/kubernetes Namespace: does not enforce the restricted pod security standard"
    if template.default("Namespace") != space.get("metadata", {}).get("name"):
        yield "kubernetes.yaml Namespace: is not that of infra/kubernetes"


FRONT = ("gateway", "console")


def front(project):
    """Gateways and consoles: locked down as workers are, at least two, and each ends within its grace period."""
    for part in FRONT:
        at = f"infra/kubernetes/{part} Deployment"
        found = project.manifest("Deployment", f"{part}/")[1]
        pod = found["spec"]["template"]["spec"]
        container, security = pod["containers"][0], pod.get("securityContext", {})
        own, labels = container.get("securityContext", {}), found["spec"]["selector"]["matchLabels"]
        sleeps = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if sleeps < 5 or pod.get("terminationGracePeriodSeconds", 30) < sleeps + drain_s(part) + 10:
            yield f"{at}: ends before proxies know of it, or terminationGracePeriodSeconds is less than that, {drain_s(part)} s to end, and 10 s"
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0 or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{at}: may run as root, or has no seccomp profile"
        if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{at}: its root file system can be written, or it can gain rights"
        if own.get("capabilities") != {"drop": ["ALL"]} or any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{at}: does not drop all capabilities, or shares the node's namespaces"
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            check = container.get(probe, {})
            if check.get("httpGet") != {"path": "/health", "port": "http"}:
                yield f"{at}: {probe} does not ask /health"
            if check.get("periodSeconds", 10) * check.get("failureThreshold", 3) < 30 or check.get("timeoutSeconds", 1) > check.get("periodSeconds", 10):
                yield f"{at}: {probe} gives up in less than half a minute, or waits for longer than its period"
        if container.get("args") != [part] or "command" in container:
            yield f"{at}: does not run `toolfleet {part}`"
        if "memory" not in container["resources"].get("limits", {}) or not {"cpu", "memory"} <= set(container["resources"].get("requests", {})):
            yield f"{at}: needs requests, and a limit of memory"
        if found["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{at}: an update ends old pods before new ones run"
        if labels.items() - found["spec"]["template"]["metadata"]["labels"].items():
            yield f"{at}: the selector does not find its own pods"
        if not any(s.get("topologyKey") == "topology.kubernetes.io/zone" for s in pod.get("topologySpreadConstraints", [])):
            yield f"{at}: its pods are not spread over zones"
        scaled = project.manifest("HorizontalPodAutoscaler", f"{part}/")[1]
        least = scaled["spec"]["minReplicas"] if scaled else found["spec"].get("replicas", 1)
        if least < 2 or (scaled and "replicas" in found["spec"]):
            yield f"{at}: fewer than two replicas, or an applied number that resets the autoscaler's"
        if scaled and scaled["spec"]["scaleTargetRef"].get("name") != found["metadata"]["name"]:
            yield f"infra/kubernetes/{part} HorizontalPodAutoscaler: scales another deployment"
        budget = project.manifest("PodDisruptionBudget", f"{part}/")[1].get("spec", {})
        if budget.get("maxUnavailable") in (None, 0, "0%") or budget.get("selector", {}).get("matchLabels") != labels:
            yield f"infra/kubernetes/{part} PodDisruptionBudget: nodes could never be drained, or it does not select the pods"
        account = project.manifest("ServiceAccount", f"{part}/")[1]
        template = project.templates["kubernetes"]
        bound = template.value(template.of_type("AWS::EKS::PodIdentityAssociation")[f"{part.capitalize()}Identity"]["ServiceAccount"])
        if {pod.get("serviceAccountName"), account["metadata"]["name"], bound} != {f"toolfleet-{part}"}:
            yield f"infra/kubernetes/{part}: pods, ServiceAccount and PodIdentityAssociation name different accounts"
        if pod.get("automountServiceAccountToken") is not False or account.get("automountServiceAccountToken") is not False:
            yield f"infra/kubernetes/{part}: pods have a token of the Kubernetes API, which they do not use"


def front_reached(project):
    """An ingress controller reaches gateways and consoles through their service, and nobody else does."""
    for part in FRONT:
        labels = project.manifest("Deployment", f"{part}/")[1]["spec"]["selector"]["matchLabels"]
        container = project.manifest("Deployment", f"{part}/")[1]["spec"]["template"]["spec"]["containers"][0]
        port = int(project.env(f"{part}/{part}.env")[f"TOOLFLEET_{part.upper()}_LISTEN"].rsplit(":")[-1])
        service, policy = (project.manifest(kind, f"{part}/")[1]["spec"] for kind in ("Service", "NetworkPolicy"))
        if [(p["name"], p["containerPort"]) for p in container["ports"]] != [("http", port)]:
            yield f"infra/kubernetes/{part} Deployment: the port is not that on which it listens"
        if service["selector"] != labels or service.get("type") != "ClusterIP" or [p["targetPort"] for p in service["ports"]] != ["http"]:
            yield f"infra/kubernetes/{part} Service: does not lead to port http of its pods alone, or leads there from outside the cluster"
        at = f"infra/kubernetes/{part} NetworkPolicy"
        if policy["podSelector"].get("matchLabels") != labels or set(policy.get("policyTypes", [])) != {"Ingress", "Egress"}:
            yield f"{at}: does not select the pods, or policyTypes are not Ingress and Egress"
        for rule in policy["ingress"]:
            if not rule.get("from") or any("namespaceSelector" not in peer or not peer["namespaceSelector"] for peer in rule["from"]):
                yield f"{at}: ingress from everywhere"
            if [p["port"] for p in rule.get("ports", [])] != [port]:
                yield f"{at}: ingress not on port {port} alone"
        for rule in policy["egress"]:
            if not rule.get("to") or not rule.get("ports"):
                yield f"{at}: egress to everywhere"
            for block in (peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer):
                if block["cidr"] == "0.0.0.0/0" and "169.254.169.254/32" not in block.get("except", []):
                    yield f"{at}: pods reach the metadata of their node, and so its role"
                if block["cidr"] == "0.0.0.0/0" and [p["port"] for p in rule["ports"]] != [443]:
                    yield f"{at}: egress to everywhere on more than port 443"
