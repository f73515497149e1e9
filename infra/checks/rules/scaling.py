"""Scaling: steps in order, out at once, in by target tracking only, by the work that runs or could run."""

import re

from model import ROOT


def steps(project):
    for template in project.templates.values():
        policies = {**template.of_type("AWS::ApplicationAutoScaling::ScalingPolicy"), **template.of_type("AWS::AutoScaling::ScalingPolicy")}
        actions = [a for alarm in template.of_type("AWS::CloudWatch::Alarm").values() for a in template.each(alarm.get("AlarmActions"))]
        for name, policy in policies.items():
            if policy["PolicyType"] != "StepScaling":
                continue
            at = f"{template.name} {name}"
            if {"Ref": name} not in actions:
                yield f"{at}: no alarm has this policy as its action"
            configuration = policy.get("StepScalingPolicyConfiguration", policy)
            yield from _bounds(at, configuration["StepAdjustments"])
            if configuration.get("Cooldown", 0) > 120:
                yield f"{at}: Cooldown is more than two minutes"
            if configuration["AdjustmentType"] == "PercentChangeInCapacity" and configuration.get("MinAdjustmentMagnitude", 0) < 1:
                yield f"{at}: without MinAdjustmentMagnitude a percentage of few tasks adds none"


def _bounds(at, adjustments):
    before, largest = 0, 0
    for step in adjustments:
        lower, upper = step.get("MetricIntervalLowerBound"), step.get("MetricIntervalUpperBound")
        if lower is None or lower != before:
            yield f"{at}: a step begins at {lower} and must begin at {before}, where the one before it ends"
        if upper is not None and lower is not None and upper <= lower:
            yield f"{at}: the bounds {lower} and {upper} of a step are inverted"
        if step["ScalingAdjustment"] <= largest:
            yield f"{at}: a step adds {step['ScalingAdjustment']}; a higher step adds more than a lower one, and none removes"
        before, largest = upper, step["ScalingAdjustment"]
    if before is not None:
        yield f"{at}: the last step has an upper bound, above which nothing is added"


LOAD = {"wanted": "toolfleet.fleet.wanted_slots", "slots": "toolfleet.fleet.slots"}


def _load(template, at, metrics):
    """The metrics are those of the load: what runs or could run. Messages would count what is paused, and calls of milliseconds like those of
    minutes."""
    stats = {m["Id"]: m["MetricStat"]["Metric"] for m in metrics if "MetricStat" in m}
    if {name: stat["MetricName"] for name, stat in stats.items()} != LOAD:
        yield f"{at}: does not look at {sorted(LOAD.values())}, which leave paused and limited calls out"
    for name, stat in stats.items():
        if {d["Name"]: d["Value"] for d in stat.get("Dimensions", [])} != {"Fleet": {"Ref": "Prefix"}}:
            yield f"{at}: {name} is of another fleet than Prefix"
    expressions = [e for m in metrics for e in template.each(m.get("Expression"))]
    if expressions != ["100*wanted/slots"]:
        yield f"{at}: {expressions} is not 100*wanted/slots; a value in place of a missing one would look like an idle fleet, and scale in"


PAIRS = {"compute": ("MinTasks", "MaxTasks"), "ec2": ("MinInstances", "MaxInstances")}


def targets(project):
    for stem, (least, most) in PAIRS.items():
        template = project.templates[stem]
        if not template.default(least) < template.default(most):
            yield f"{template.name}: {least} is not less than {most}"
        if template.default(least) < 2:
            yield f"{template.name} {least}: fewer than two workers; an idle queue stops reporting, and one zone may fail"
        policies = {**template.of_type("AWS::ApplicationAutoScaling::ScalingPolicy"), **template.of_type("AWS::AutoScaling::ScalingPolicy")}
        tracking = {name: p for name, p in policies.items() if p["PolicyType"] == "TargetTrackingScaling"}
        if len(tracking) != 1:
            yield f"{template.name}: {len(tracking)} policies of target tracking; one, and only it, scales in"
        for name, policy in tracking.items():
            at = f"{template.name} {name}"
            configuration = policy.get("TargetTrackingScalingPolicyConfiguration") or policy["TargetTrackingConfiguration"]
            if configuration.get("DisableScaleIn") is True:
                yield f"{at}: nothing would ever scale in"
            if configuration.get("ScaleInCooldown", 300) < 180:
                yield f"{at}: ScaleInCooldown is shorter than a drain and a minute"
            metrics = list(template.each(configuration["CustomizedMetricSpecification"]["Metrics"]))
            yield from _load(template, at, metrics)
            if configuration["TargetValue"] != {"Ref": "TargetLoad"}:
                yield f"{at}: TargetValue is not TargetLoad"
    capacity = project.templates["compute"].of_type("AWS::ApplicationAutoScaling::ScalableTarget")["WorkerCapacity"]
    if (capacity["MinCapacity"], capacity["MaxCapacity"]) != ({"Ref": "MinTasks"}, {"Ref": "MaxTasks"}):
        yield "compute.yaml WorkerCapacity: MinCapacity and MaxCapacity are not MinTasks and MaxTasks"
    group = project.templates["ec2"].of_type("AWS::AutoScaling::AutoScalingGroup")["WorkerGroup"]
    if (group["MinSize"], group["MaxSize"]) != ({"Ref": "MinInstances"}, {"Ref": "MaxInstances"}):
        yield "ec2.yaml WorkerGroup: MinSize and MaxSize are not MinInstances and MaxInstances"


def ages(project):
    """SQS counts the age of a message until it is deleted, so one long call must not add workers. Both queues that must not wait count."""
    for stem in ("compute", "ec2"):
        template = project.templates[stem]
        at, metrics = f"{template.name} AgeAlarm", list(template.each(template.of_type("AWS::CloudWatch::Alarm")["AgeAlarm"]["Metrics"]))
        for expression in (e for m in metrics for e in template.each(m.get("Expression"))):
            if "IF(FILL(visible,0)>=FILL(running,1),FILL(age,0),0)" not in expression:
                yield f"{at}: {expression} counts a call that a worker holds"
            if not expression.startswith("IF(FILL(wanted,1)>FILL(slots,0),") or not expression.endswith(",0)"):
                yield f"{at}: {expression} adds workers for a queue that is paused"
        stats = {m["Id"]: m["MetricStat"]["Metric"] for m in metrics if "MetricStat" in m}
        for name, queue in (("age", "-calls"), ("visible", "-calls"), ("agehigh", "-calls-high"), ("visiblehigh", "-calls-high")):
            if template.value(stats[name]["Dimensions"][0]["Value"]) != f"toolfleet{queue}":
                yield f"{at}: {name} is not of the queue {queue}"


def fast(project):
    """A flood adds workers within a minute: an alarm of ten seconds on what a worker writes every five."""
    lines = (ROOT / "workers/worker/src/telemetry/metric_lines.rs").read_text()
    if '"StorageResolution": 1' not in lines:
        yield "metric_lines.rs: without StorageResolution 1 an alarm of ten seconds sees a value a minute"
    for stem in PAIRS:
        template = project.templates[stem]
        at, alarm = f"{template.name} LoadAlarm", template.of_type("AWS::CloudWatch::Alarm")["LoadAlarm"]
        yield from _load(template, at, list(template.each(alarm["Metrics"])))
        if any(m["MetricStat"].get("Period") != 10 for m in alarm["Metrics"] if "MetricStat" in m):
            yield f"{at}: its periods are not ten seconds"
        if alarm["EvaluationPeriods"] > 3:
            yield f"{at}: waits for {alarm['EvaluationPeriods'] * 10} s"
        if alarm["Threshold"] != {"Ref": "ScaleOutLoad"} or not template.default("ScaleOutLoad") > template.default("TargetLoad"):
            yield f"{at}: Threshold is not ScaleOutLoad, or that is not more than TargetLoad"
        if template.value({"Ref": "ScaleWaitMs"}) > 60_000:
            yield f"{template.name} ScaleWaitMs: more than a minute is for batches"
    compute, text = project.templates["compute"], project.templates["ec2"].text
    worker = compute.of_type("AWS::ECS::TaskDefinition")["WorkerTask"]["ContainerDefinitions"][0]
    variables = {v["Name"]: v["Value"] for v in compute.each(worker["Environment"])}
    if variables.get("TOOLFLEET_METRIC_LINES") != {"Ref": "Prefix"} or variables.get("TOOLFLEET_SCALE_WAIT_MS") != {"Ref": "ScaleWaitMs"}:
        yield "compute.yaml worker: TOOLFLEET_METRIC_LINES is not Prefix, or TOOLFLEET_SCALE_WAIT_MS not ScaleWaitMs: nobody writes what scaling looks at"
    agent = re.search(r"^ +TOOLFLEET_METRIC_AGENT=(\S+)$", text, re.M)
    listens = re.search(r'"emf": \{"service_address": "udp://([^"]+)"', text)
    if not agent or not listens or agent.group(1) != listens.group(1):
        yield "ec2.yaml WorkerTemplate: the agent does not listen where the worker sends its metrics"
    for line in ("TOOLFLEET_METRIC_LINES=${Prefix}", "TOOLFLEET_SCALE_WAIT_MS=${ScaleWaitMs}"):
        if f" {line}\n" not in text:
            yield f"ec2.yaml WorkerTemplate: {line} is not in worker.env"
