"""Metrics: expressions, alarms and the dashboard name what exists, and each alarm says what to do."""

import json
import re

from model import ROOT, grafana, metric_labels, metric_names, prometheus_names, promql_selectors, runbook_anchors

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FUNCTIONS = {"FILL", "IF", "SUM", "MAX", "MIN", "AVG", "SEARCH", "RATE", "REPEAT"}
KNOWN = {
    "AWS/SQS": {
        "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed",
        "ApproximateAgeOfOldestMessage",
    },
    "AWS/DynamoDB": {"WriteThrottleEvents", "ReadThrottleEvents", "ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits"},
    "AWS/ECS": {"CPUUtilization", "MemoryUtilization"},
    "ECS/ContainerInsights": {"RunningTaskCount", "DesiredTaskCount", "PendingTaskCount"},
    "AWS/AutoScaling": {"GroupInServiceInstances", "GroupDesiredCapacity"},
    "AWS/Lambda": {"ConcurrentExecutions", "Duration", "Errors", "Invocations", "Throttles"},
    "AWS/ApplicationELB": {
        "ActiveConnectionCount", "HealthyHostCount", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count", "RequestCount",
        "TargetResponseTime",
    },
}
DIMENSIONS = {
    "AWS/SQS": {"QueueName"}, "AWS/DynamoDB": {"TableName"}, "AWS/ECS": {"ClusterName", "ServiceName"},
    "ECS/ContainerInsights": {"ClusterName", "ServiceName"}, "AWS/AutoScaling": {"AutoScalingGroupName"},
    "AWS/Lambda": {"FunctionName"},
    "AWS/ApplicationELB": {"LoadBalancer", "TargetGroup"},
}
# What the load balancer counts before it has chosen a target.
OF_LOAD_BALANCER = {"ActiveConnectionCount", "HTTPCode_ELB_5XX_Count"}
LEASTS = ("MinTasks", "MinInstances", "MinGateways", "ConsoleTasks")


def _queues_and_tables(project):
    data = project.templates["data"]
    prefix = data.default("Prefix")
    names = {str(data.value(q["QueueName"])) for q in data.of_type("AWS::SQS::Queue").values()}
    names |= {str(data.value(t["TableName"])) for t in data.of_type("AWS::DynamoDB::Table").values()}
    return {name.replace(prefix, "", 1) for name in names}


def _agent_metrics(project):
    """What the agents of EC2 instances send of themselves, and of workers that ended."""
    measured = re.findall(r'"measurement": \["(\w+)"\]', project.templates["ec2"].text)
    return {*measured, *re.findall(r'"Name":"(\w+)"', project.texts["infra/systemd/ended.sh"])}


def _check_metric(project, at, namespace, name, dimensions):
    """`dimensions`: the values by name."""
    if namespace.startswith("toolfleet/"):
        template = project.templates[at.split(".yaml")[0]]
        filters = {t["MetricName"] for f in template.of_type("AWS::Logs::MetricFilter").values() for t in f["MetricTransformations"]}
        agents = _agent_metrics(project) if template.name == "ec2.yaml" else set()
        if name not in metric_names() | filters | agents:
            yield f"{at}: no worker emits {name} (docs/reference/metrics.md), and no filter or agent of this template"
        elif name not in filters and "Fleet" not in dimensions:
            yield f"{at}: {name} has the dimension Fleet"
        elif name in filters and dimensions:
            yield f"{at}: {name} of a metric filter has no dimension"
        return
    if namespace not in KNOWN or name not in KNOWN[namespace]:
        yield f"{at}: {namespace} {name} is no metric that is known to exist"
        return
    wanted = {"LoadBalancer"} if name in OF_LOAD_BALANCER else DIMENSIONS[namespace]
    if set(dimensions) != wanted:
        yield f"{at}: {name} has the dimensions {sorted(wanted)}, not {sorted(dimensions)}"
    for value in (v for k, v in dimensions.items() if k in ("QueueName", "TableName")):
        suffix = str(value).replace("toolfleet", "", 1)
        if not str(value).startswith("<") and suffix not in _queues_and_tables(project):
            yield f"{at}: {value} is no queue or table of data.yaml"


def _dimensions(template, stat):
    return {d["Name"]: template.value(d["Value"]) for d in stat.get("Dimensions", [])}


def expressions(project):
    for template in project.templates.values():
        lists = [(n, a["Metrics"]) for n, a in template.of_type("AWS::CloudWatch::Alarm").items() if "Metrics" in a]
        for kind in ("AWS::ApplicationAutoScaling::ScalingPolicy", "AWS::AutoScaling::ScalingPolicy"):
            for name, policy in template.of_type(kind).items():
                tracking = policy.get("TargetTrackingScalingPolicyConfiguration") or policy.get("TargetTrackingConfiguration")
                if tracking and "CustomizedMetricSpecification" in tracking:
                    lists.append((name, tracking["CustomizedMetricSpecification"]["Metrics"]))
        for name, metrics in lists:
            yield from _expression(project, template, f"{template.name} {name}", list(template.each(metrics)))


def _expression(project, template, at, metrics):
    ids = [metric["Id"] for metric in metrics]
    for bad in (i for i in ids if not re.fullmatch(r"[a-z][A-Za-z0-9_]*", i)):
        yield f"{at}: the id {bad} does not begin with a lower-case letter"
    if len(set(ids)) != len(ids):
        yield f"{at}: an id is used twice"
    returned = [metric["Id"] for metric in metrics if metric.get("ReturnData", True) is True]
    if len(returned) != 1:
        yield f"{at}: {len(returned)} metrics return data, and exactly one must"
    used = set()
    for metric in metrics:
        for expression in template.each(metric.get("Expression")):
            words = {word for word in WORD.findall(expression) if word not in FUNCTIONS}
            used |= words
            for unknown in words - set(ids):
                yield f"{at}: the expression names {unknown}, which is no id"
            if expression.count("(") != expression.count(")"):
                yield f"{at}: the brackets of {expression} do not match"
        if ("MetricStat" in metric) == ("Expression" in metric) or not metric.get("MetricStat", {"Stat": 1}).get("Stat"):
            yield f"{at}: {metric['Id']} is neither an expression nor a statistic of a metric"
        elif "MetricStat" in metric:
            stat = metric["MetricStat"]
            name = stat["Metric"]["MetricName"]
            namespace = str(template.value(stat["Metric"]["Namespace"]))
            yield from _check_metric(project, at, namespace, name, _dimensions(template, stat["Metric"]))
    for unused in set(ids) - used - set(returned):
        yield f"{at}: {unused} is used by no expression"
    periods = {metric["MetricStat"].get("Period") for metric in metrics if "MetricStat" in metric}
    if len(periods) > 1:
        yield f"{at}: the metrics of one expression have the periods {periods}"


def alarms(project):
    anchors = runbook_anchors()
    for template in project.templates.values():
        for name, alarm in template.of_type("AWS::CloudWatch::Alarm").items():
            at = f"{template.name} {name}"
            anchor = re.search(r"docs/reference/runbook\.md#([\w-]+)$", alarm.get("AlarmDescription", ""))
            if not anchor:
                yield f"{at}: AlarmDescription does not end with an anchor of the runbook"
            elif anchor.group(1) not in anchors:
                yield f"{at}: the runbook has no section #{anchor.group(1)}"
            if alarm.get("TreatMissingData") not in ("breaching", "notBreaching"):
                yield f"{at}: TreatMissingData must say what no data means"
            runs = any(least in str(alarm.get("Threshold")) for least in LEASTS) or name == "UnmeasuredAlarm"
            if runs != (alarm.get("TreatMissingData") == "breaching"):
                yield f"{at}: no data means that nothing waits, and for the number of what runs that none runs"
            if runs != (alarm.get("ComparisonOperator", "").startswith("LessThan")):
                yield f"{at}: ComparisonOperator {alarm.get('ComparisonOperator')} looks in the wrong direction"
            if alarm.get("DatapointsToAlarm", 1) > alarm["EvaluationPeriods"]:
                yield f"{at}: DatapointsToAlarm is more than EvaluationPeriods"
            if not alarm.get("AlarmActions"):
                yield f"{at}: it has no action"
            yield from _periods(template, at, alarm)
            if "MetricName" in alarm:
                yield from _check_metric(project, at, str(template.value(alarm["Namespace"])), alarm["MetricName"], _dimensions(template, alarm))


# What goes off where. Queues and tables are those of the data stack, wherever workers run; `infra/kubernetes/monitoring` has the alarms of pods.
ALARMS = {
    "data": {"OldestCallAlarm", "OldestHighCallAlarm", "OldestLowCallAlarm", "DeadLettersAlarm", "OldestDeadLetterAlarm", "OldestTopicNoticeAlarm"} | {f"Throttled{table}Alarm" for table in ("Calls", "History", "Fleet")},
    "compute": {"LoadAlarm", "AgeAlarm", "FewWorkersAlarm", "AtMaximumAlarm", "MemoryAlarm", "DefectsAlarm", "LostWorkersAlarm", "BehindAlarm", "UnmeasuredAlarm"},
    "ec2": {"LoadAlarm", "AgeAlarm", "FewWorkersAlarm", "AtMaximumAlarm", "MemoryAlarm", "LostWorkersAlarm", "BehindAlarm", "UnmeasuredAlarm"},
    "lambda": {"DefectAlarm", "ErrorAlarm", "ThrottleAlarm", "AtMaximumAlarm"},
}


def present(project):
    """Each template has its alarms, and notifies of each that does not scale."""
    for stem, wanted in ALARMS.items():
        template = project.templates[stem]
        found = template.of_type("AWS::CloudWatch::Alarm")
        if set(found) != wanted:
            yield f"{template.name}: has not exactly its alarms: {sorted(set(found) ^ wanted)}"
        for name, alarm in found.items():
            actions = list(template.each(alarm.get("AlarmActions")))
            if name not in ("LoadAlarm", "AgeAlarm") and actions != [{"Ref": "AlarmTopicArn"}]:
                yield f"{template.name} {name}: does not notify AlarmTopicArn"


def throttled(project):
    """Writes to each table that workers write for calls, for minutes. Each alarm is of one metric: ministack, which CI deploys data.yaml to, takes no expression."""
    data = project.templates["data"]
    found = data.of_type("AWS::CloudWatch::Alarm")
    for table in ("Calls", "History", "Fleet"):
        alarm = found[f"Throttled{table}Alarm"]
        of = {"Name": "TableName", "Value": {"Ref": f"{table}Table"}}
        if (alarm["MetricName"], alarm["Dimensions"], alarm["Statistic"]) != ("WriteThrottleEvents", [of], "Sum"):
            yield f"data.yaml Throttled{table}Alarm: does not look at the throttled writes of {table}Table"
        if alarm["EvaluationPeriods"] * alarm["Period"] < 120:
            yield f"data.yaml Throttled{table}Alarm: goes off at a rise that passes by itself"
    for name in (name for name, alarm in found.items() if "Metrics" in alarm):
        yield f"data.yaml {name}: an expression, which ministack does not deploy"


# That of the function is in functions.py.
MAXIMUMS = {"compute": ("DesiredTaskCount", "MaxTasks"), "ec2": ("GroupDesiredCapacity", "MaxInstances")}


def full(project):
    """At the maximum, and behind: what waits, in seconds of the whole fleet."""
    for stem, (metric, most) in MAXIMUMS.items():
        template = project.templates[stem]
        alarm = template.of_type("AWS::CloudWatch::Alarm")["AtMaximumAlarm"]
        if (alarm["MetricName"], alarm["Threshold"], alarm["ComparisonOperator"]) != (metric, {"Ref": most}, "GreaterThanOrEqualToThreshold"):
            yield f"{template.name} AtMaximumAlarm: does not compare {metric} with {most}"
    for stem in ("compute", "ec2"):
        template = project.templates[stem]
        at, alarm = f"{template.name} BehindAlarm", template.of_type("AWS::CloudWatch::Alarm")["BehindAlarm"]
        metrics = list(template.each(alarm["Metrics"]))
        stats = {m["Id"]: m["MetricStat"]["Metric"]["MetricName"] for m in metrics if "MetricStat" in m}
        if stats != {"waiting": "toolfleet.fleet.waiting_seconds", "slots": "toolfleet.fleet.slots"} or [m.get("Expression") for m in metrics][0] != "waiting/slots":
            yield f"{at}: is not waiting/slots, the seconds of the whole fleet that wait"
        if alarm["Threshold"] != {"Ref": "BehindSeconds"} or template.default("BehindSeconds") * 1000 <= template.default("ScaleWaitMs"):
            yield f"{at}: Threshold is not BehindSeconds, or that is not more than the wait that scaling allows (ScaleWaitMs)"
        silent = template.of_type("AWS::CloudWatch::Alarm")["UnmeasuredAlarm"]
        if (silent["MetricName"], silent["Threshold"]) != ("toolfleet.fleet.slots", 1):
            yield f"{template.name} UnmeasuredAlarm: does not look at the slots, which every summary of a fleet that lives has"


def _periods(template, at, alarm):
    stats = [m["MetricStat"] for m in alarm.get("Metrics", []) if "MetricStat" in m]
    parts = [(s["Period"], s["Metric"]["Namespace"]) for s in stats] or [(alarm["Period"], alarm["Namespace"])]
    for period, namespace in parts:
        own = str(template.value(namespace)).startswith("toolfleet/")
        if period not in ((10, 30) if own else ()) and (period % 60 or period < 60):
            yield f"{at}: a period of {period} s; metrics of AWS have one of 60 s, our own of 10, 30 or 60"
        if period * alarm["EvaluationPeriods"] > 3600:
            yield f"{at}: goes off after more than an hour"


def dashboards(project):
    for template in project.templates.values():
        for name, dashboard in template.of_type("AWS::CloudWatch::Dashboard").items():
            at = f"{template.name} {name}"
            try:
                body = json.loads(template.value(dashboard["DashboardBody"]))
            except ValueError as error:
                yield f"{at}: DashboardBody is not JSON: {error}"
                continue
            for widget in body["widgets"]:
                yield from _widget(project, f"{at} {widget['properties'].get('title', widget['type'])}", widget)


def _widget(project, at, widget):
    if widget["x"] + widget["width"] > 24:
        yield f"{at}: is wider than the dashboard's 24 columns"
    if widget["type"] == "text":
        return
    ids, expressions_used = set(), ""
    for metric in widget["properties"]["metrics"]:
        options = metric[-1] if isinstance(metric[-1], dict) else {}
        ids.add(options.get("id"))
        expressions_used += " " + options.get("expression", "")
        if "expression" not in options:
            parts = [part for part in metric if not isinstance(part, dict)]
            yield from _check_metric(project, at, parts[0], parts[1], dict(zip(parts[2::2], parts[3::2])))
    for namespace, dimensions, name in re.findall(r"SEARCH\('\{(AWS/[^,]+),([^}]+)\} MetricName=\"(\w+)\"", expressions_used):
        yield from _check_metric(project, at, namespace, name, dict.fromkeys(dimensions.split(",")))
    if "SEARCH" not in expressions_used:
        for unknown in set(WORD.findall(expressions_used)) - FUNCTIONS - ids:
            yield f"{at}: an expression names {unknown}, which is no id"
    if "region" not in widget["properties"]:
        yield f"{at}: has no region"


def collector(project):
    """The metrics that the collector forwards exist, and are those that alarms and dashboard read."""
    compute = project.templates["compute"]
    text = compute.text
    selected = {name.replace("\\", "") for name in re.findall(r"- \^([a-z_.\\]+)\$$", text, re.M)}
    for unknown in selected - metric_names():
        yield f"compute.yaml collector: no worker emits {unknown}"
    read = set(re.findall(r"(toolfleet\.[a-z_.]+[a-z])\\*\"", text)) | set(re.findall(r"MetricName: (toolfleet\.\S+)", text))
    lines = set(re.findall(r'"(toolfleet\.[a-z_.]+)", "', (ROOT / "workers/worker/src/telemetry/metric_lines.rs").read_text()))
    for unknown in lines - metric_names():
        yield f"metric_lines.rs: {unknown} is not in docs/reference/metrics.md"
    for missing in (read & metric_names()) - selected - lines:
        yield f"compute.yaml collector: does not forward {missing}, which an alarm or the dashboard reads"
    for twice in selected & lines:
        yield f"compute.yaml collector: forwards {twice}, which a worker writes to its log already"
    if "key: aws.emf.storage_resolution" not in text:
        yield "compute.yaml collector: without aws.emf.storage_resolution an alarm of ten seconds sees a value a minute"
    if "retain_initial_value_of_delta_metric: true" not in text:
        yield "compute.yaml collector: drops the first value of each counter: what happens once is never shown"
    if 'OTEL_METRIC_EXPORT_INTERVAL\n                  Value: "10000"' not in text:
        yield "compute.yaml worker: OTEL_METRIC_EXPORT_INTERVAL is not ten seconds"


SELECTOR = re.compile(r"\b([a-z][a-z0-9_]*_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
NO_METRICS = {"histogram_quantile", "label_replace", "label_values", "rate_interval"}


def grafana_dashboard(project):
    """Each panel of the Grafana dashboard asks for metrics and labels that a worker offers."""
    names, labels = prometheus_names(), metric_labels() | {"le", "job", "instance"}
    body = grafana(project)
    if not body.get("panels"):
        yield "infra/grafana/toolfleet.json: has no panels"
    for panel in body.get("panels", []):
        at = f"infra/grafana/toolfleet.json {panel['title']}"
        if not panel.get("targets"):
            yield f"{at}: asks for nothing"
        if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
            yield f"{at}: is wider than 24 columns"
        for target in panel.get("targets", []):
            try:
                promql_selectors(target["expr"].replace("$__rate_interval", "5m"))
            except ValueError as error:
                yield f"{at}: Prometheus cannot read {target['expr']}: {error}"
            found = {name for name, _ in SELECTOR.findall(target["expr"])} - NO_METRICS - labels
            for unknown in found - names:
                yield f"{at}: no worker offers {unknown} to Prometheus (docs/reference/metrics.md)"
            if not found & names:
                yield f"{at}: asks for no metric"
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                for unknown in {label.strip() for label in group.split(",")} - labels:
                    yield f"{at}: no metric has the label {unknown}"

