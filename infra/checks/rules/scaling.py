"""Scaling: steps in order, out at once, in by target tracking only, and every call counted."""


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
            stats = [m["MetricStat"]["Metric"] for m in metrics if "MetricStat" in m]
            names = {stat["MetricName"] for stat in stats}
            for queue in {str(stat["Dimensions"]) for stat in stats if stat["Namespace"] == "AWS/SQS"}:
                counted = {stat["MetricName"] for stat in stats if str(stat["Dimensions"]) == queue}
                if not {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"} <= counted:
                    yield f"{at}: does not count both what waits and what is in flight of {queue}"
            if "ApproximateNumberOfMessagesVisible" not in names:
                yield f"{at}: does not look at the queue"
            if "ApproximateNumberOfMessagesDelayed" in names:
                yield f"{at}: counts delayed messages; paused and limited calls need no more workers"
            for expression in (e for m in metrics for e in template.each(m.get("Expression"))):
                if "/IF(FILL(running,0)>0,running,1)" not in expression:
                    yield f"{at}: {expression} divides by zero when nothing runs"
    capacity = project.templates["compute"].of_type("AWS::ApplicationAutoScaling::ScalableTarget")["WorkerCapacity"]
    if (capacity["MinCapacity"], capacity["MaxCapacity"]) != ({"Ref": "MinTasks"}, {"Ref": "MaxTasks"}):
        yield "compute.yaml WorkerCapacity: MinCapacity and MaxCapacity are not MinTasks and MaxTasks"
    group = project.templates["ec2"].of_type("AWS::AutoScaling::AutoScalingGroup")["WorkerGroup"]
    if (group["MinSize"], group["MaxSize"]) != ({"Ref": "MinInstances"}, {"Ref": "MaxInstances"}):
        yield "ec2.yaml WorkerGroup: MinSize and MaxSize are not MinInstances and MaxInstances"
