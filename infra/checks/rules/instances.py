"""EC2: an instance is locked down, starts only with the right program, and drains before it ends."""

import re

from model import most_drain_s


def launch(project):
    ec2 = project.templates["ec2"]
    for name, launched in ec2.of_type("AWS::EC2::LaunchTemplate").items():
        at, data = f"ec2.yaml {name}", launched["LaunchTemplateData"]
        metadata = data.get("MetadataOptions", {})
        if metadata.get("HttpTokens") != "required" or metadata.get("HttpPutResponseHopLimit") != 1:
            yield f"{at}: the metadata service answers without a token, or from further away than the instance"
        for device in data.get("BlockDeviceMappings", []) or [{}]:
            if device.get("Ebs", {}).get("Encrypted") is not True:
                yield f"{at}: a disk is not encrypted"
        if "KeyName" in data:
            yield f"{at}: KeyName lets people into an instance"
        if "sha256sum --check --strict" not in str(data["UserData"]):
            yield f"{at}: the program's digest is not checked"


def groups(project):
    ec2 = project.templates["ec2"]
    unit = project.texts["infra/systemd/toolfleet-worker.service"]
    script = project.texts["infra/systemd/drain.sh"]
    stop = re.search(r"^TimeoutStopSec=(\w+)$", unit, re.M).group(1)
    if stop != "infinity":
        yield f"infra/systemd/toolfleet-worker.service: TimeoutStopSec={stop} cuts a longer TOOLFLEET_DRAIN_MS"
    drain = ec2.parameters["DrainMs"]
    if drain["MaxValue"] / 1000 > most_drain_s():
        yield f"ec2.yaml DrainMs: may be {drain['MaxValue']}, with which no worker starts"
    beat = re.search(r'BEAT_EVERY_S:-(\d+)', script)
    if not beat or "autoscaling record-lifecycle-action-heartbeat" not in script:
        yield "infra/systemd/drain.sh: no heartbeat keeps the hook waiting while the worker drains"
    for name, group in ec2.of_type("AWS::AutoScaling::AutoScalingGroup").items():
        at = f"ec2.yaml {name}"
        hooks = [h for h in group.get("LifecycleHookSpecificationList", []) if h["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"]
        if not hooks:
            yield f"{at}: no lifecycle hook lets a worker drain before its instance ends"
        for hook in hooks:
            if beat and hook.get("HeartbeatTimeout", 0) < 3 * int(beat.group(1)):
                yield f"{at}: the hook waits {hook.get('HeartbeatTimeout')} s, less than three heartbeats of drain.sh"
            if str(ec2.value(hook["LifecycleHookName"])) + "\n" not in ec2.substituted(ec2.text):
                yield f"{at}: the drain script does not know the hook's name"
        update = ec2.resources[name].get("UpdatePolicy", {}).get("AutoScalingRollingUpdate", {})
        if update.get("WaitOnResourceSignals") is not True or update.get("MinInstancesInService") != {"Ref": "MinInstances"}:
            yield f"{at}: an update does not wait for new workers before it ends old ones"


def files(project):
    """The user data holds the files of infra/systemd as they are."""
    ec2 = project.templates["ec2"]
    text = ec2.of_type("AWS::EC2::LaunchTemplate")["WorkerTemplate"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"][0]
    for name in ("toolfleet-worker.service", "toolfleet-drain.service", "toolfleet-watch.service", "drain.sh", "ended.sh", "watch.sh"):
        if project.texts[f"infra/systemd/{name}"] not in text.replace("${!", "${"):
            yield f"ec2.yaml WorkerTemplate: its user data has another text than infra/systemd/{name}"
    if len(text) > 16_000:
        yield f"ec2.yaml WorkerTemplate: user data of {len(text)} bytes; EC2 takes 16 KB"
    watch, of_watch = project.texts["infra/systemd/watch.sh"], project.texts["infra/systemd/toolfleet-watch.service"]
    if "/health/live" not in watch or "--max-time" not in watch or "Restart=always" not in of_watch:
        yield "infra/systemd/watch.sh: does not ask whether the worker lives, or waits for ever for one that hangs"
    enabled = re.search(r"systemctl enable --now (.*)", text)
    if not enabled or set(enabled.group(1).split()) != {"toolfleet-worker", "toolfleet-drain", "toolfleet-watch"}:
        yield "ec2.yaml WorkerTemplate: starts not exactly the worker, its drain and its watch"
    unit = project.texts["infra/systemd/toolfleet-worker.service"]
    for line in ("ExecStopPost=-/bin/bash /opt/toolfleet/ended.sh", "StartLimitIntervalSec=0", "KillSignal=SIGTERM", "KillMode=mixed", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes"):
        if f"\n{line}\n" not in unit:
            yield f"infra/systemd/toolfleet-worker.service: {line} is missing"
