"""Runs infra/systemd/drain.sh against a metadata service of its own: the worker is stopped before the lifecycle action is completed, and
only when the instance is about to end. Runs the user data of EC2 instances up to the start of the worker, ended.sh as systemd does after it, and watch.sh
against workers that live, hang and drain.
"""

import hashlib
import json
import http.server
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from model import ROOT, Project

# `systemctl` and `aws` of the instance: each writes what it was asked to do.
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >>"$DID"\n'
# A worker that takes several heartbeats to drain.
SLOW_STOP = STUB + 'if [ "$1" = stop ]; then until [ "$(grep -c heartbeat "$DID")" -ge 3 ]; do sleep 0.02; done; fi\n'
LIFE = "autoscaling/target-lifecycle-state"


class Metadata(http.server.BaseHTTPRequestHandler):
    """Answers to a token only, as version 2 does. `answers`: by path, what each request in turn gets; the last one stays."""

    def do_PUT(self):
        self._send(200, "token")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "token":
            return self._send(401, "")
        answers = self.server.answers.get(self.path.removeprefix("/latest/meta-data/"), [None])
        text = answers.pop(0) if len(answers) > 1 else answers[0]
        self.server.looks += 1
        return self._send(404 if text is None else 200, text or "")

    def _send(self, status, text):
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def run(answers, systemctl=STUB, beat_s="60"):
    """What the script did, and how many requests it made."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.answers, server.looks = {"instance-id": ["i-1"], **answers}, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        did = Path(folder) / "did"
        for name, stub in (("systemctl", systemctl), ("aws", STUB)):
            (Path(folder) / name).write_text(stub)
            (Path(folder) / name).chmod(0o755)
        env = {
            **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DID": str(did), "LOOK_EVERY_S": "0.05", "BEAT_EVERY_S": beat_s, "LIFECYCLE_HOOK": "hook",
            "AUTO_SCALING_GROUP": "group", "METADATA_URL": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1",
        }
        subprocess.run(["bash", ROOT / "infra/systemd/drain.sh"], env=env, check=True, capture_output=True, timeout=30)
        server.shutdown()
        return did.read_text().splitlines(), server.looks


def user_data(program, digest):
    """What the user data did with a program of that digest: the calls of its commands, the files, whether it signalled success."""
    template = Project().templates["ec2"]
    text, names = template.of_type("AWS::EC2::LaunchTemplate")["WorkerTemplate"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    lines = {"HighQueue": "TOOLFLEET_QUEUE_URL_HIGH=https://high", "LowQueue": "", "PrivateAddresses": "", "Sources": "", "TenantsOfCatalog": ""}
    text = template.substituted([text, {**names, **lines}]).replace("<WorkerSha256>", digest)
    # What is known in an account only.
    text = re.sub(r"<(AWS::\w+|Worker\w+|import \S+)>", "value", text)
    with tempfile.TemporaryDirectory() as folder:
        root, did = Path(folder) / "root", Path(folder) / "did"
        for name in ("opt", "etc/systemd/system", "bin"):
            (root / name).mkdir(parents=True)
        (root / "program").write_text(program)
        for name in ("systemctl", "curl", "sleep", "dnf", "amazon-cloudwatch-agent-ctl"):
            (root / "bin" / name).write_text(STUB)
        # `aws s3 cp` copies the program; everything else is noted.
        (root / "bin/aws").write_text(STUB + f'if [ "$1 $2" = "s3 cp" ]; then cp {root}/program "$6"; fi\n')
        for path in (root / "bin").iterdir():
            path.chmod(0o755)
        # The instance's folders are those of this root.
        text = text.replace("/opt/toolfleet", f"{root}/opt/toolfleet").replace("/etc/toolfleet", f"{root}/etc/toolfleet")
        text = text.replace("> /etc/systemd", f"> {root}/etc/systemd")
        env = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}", "DID": str(did)}
        done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, timeout=30)
        files = {str(p.relative_to(root)): p.read_text().replace(str(root), "") for p in (root / "etc").rglob("*") if p.is_file()}
        return done.returncode, did.read_text().splitlines(), files


def check_user_data():
    program = "#!/bin/sh\nexit 0\n"
    code, did, files = user_data(program, hashlib.sha256(program.encode()).hexdigest())
    signals = [line.rsplit(" ", 1)[1] for line in did if "signal-resource" in line]
    if code or signals != ["SUCCESS"] or "systemctl enable --now toolfleet-worker toolfleet-drain toolfleet-watch" not in did:
        sys.exit(f"FAIL  user data: exit code {code}, {did}")
    unit = files["etc/systemd/system/toolfleet-worker.service"]
    if unit != (ROOT / "infra/systemd/toolfleet-worker.service").read_text():
        sys.exit(f"FAIL  user data: writes another unit:\n{unit}")
    if "TOOLFLEET_QUEUE_URL_HIGH=https://high\n" not in files["etc/toolfleet/worker.env"]:
        sys.exit(f"FAIL  user data: settings are missing:\n{files['etc/toolfleet/worker.env']}")
    json.loads(files["etc/toolfleet/agent.json"])
    code, did, _ = user_data(program, "0" * 64)
    signals = [line.rsplit(" ", 1)[1] for line in did if "signal-resource" in line]
    if not code or signals != ["FAILURE"] or any("systemctl" in line for line in did):
        sys.exit(f"FAIL  user data starts a program of another digest: exit code {code}, {did}")
    print("ok    user data: starts the right program, and no other")


def told(result, agent=True):
    """What the agent was told after a worker that ended in this way, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        env = {**os.environ, "SERVICE_RESULT": result, "TOOLFLEET_METRIC_LINES": "prod"}
        if agent:
            env["TOOLFLEET_METRIC_AGENT"] = f"127.0.0.1:{listener.getsockname()[1]}"
        subprocess.run(["bash", ROOT / "infra/systemd/ended.sh"], env=env, check=True, timeout=30)
        try:
            return json.loads(listener.recv(4096))
        except BlockingIOError:
            return None


def check_ended():
    for case, silent in (("a drain", told("success")), ("no agent", told("oom-kill", agent=False))):
        if silent is not None:
            sys.exit(f"FAIL  ended.sh after {case}: {silent}")
    for result in ("exit-code", "signal", "oom-kill"):
        line = told(result)
        about = (line or {}).get("_aws", {})
        (directive,) = about.get("CloudWatchMetrics", [{}])
        metric = [m["Name"] for m in directive.get("Metrics", [])]
        alarm = Project().templates["ec2"].of_type("AWS::CloudWatch::Alarm")["LostWorkersAlarm"]["MetricName"]
        if metric != [alarm] or line[alarm] != 1 or directive["Dimensions"] != [["Fleet"]] or (line["Fleet"], directive["Namespace"]) != ("prod", "toolfleet/prod"):
            sys.exit(f"FAIL  ended.sh after {result}: {line}, and the alarm is on {alarm}")
        # The rights of the instance's role, and the group of the template.
        if about["LogGroupName"] != "/toolfleet/prod/agent-metrics":
            sys.exit(f"FAIL  ended.sh after {result}: writes to {about['LogGroupName']}")
    print("ok    ended.sh: 5 cases")


TERMINATE = "systemctl kill --kill-whom=main --signal=SIGTERM toolfleet-worker"
KILL = "systemctl kill --signal=SIGKILL toolfleet-worker"
# Answers the questions of watch.sh in turn, then ends it: `y` lives, `n` does not.
ANSWERS = """#!/bin/sh
case "$*" in *" http://127.0.0.1:9464/health/live") ;; *) exit 2 ;; esac
answer=$(head -c 1 "$LIVES")
[ -n "$answer" ] || kill "$PPID"
tail -c +2 "$LIVES" >"$LIVES.rest" && mv "$LIVES.rest" "$LIVES"
[ "$answer" = y ]
"""


def watched(answers):
    """What watch.sh did with a worker that answers so."""
    with tempfile.TemporaryDirectory() as folder:
        did, lives = Path(folder) / "did", Path(folder) / "lives"
        did.touch()
        lives.write_text(answers)
        for name, stub in (("systemctl", STUB), ("curl", ANSWERS)):
            (Path(folder) / name).write_text(stub)
            (Path(folder) / name).chmod(0o755)
        env = {
            **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DID": str(did), "LIVES": str(lives), "ASK_EVERY_S": "0",
            "TOOLFLEET_HTTP_ADDR": "127.0.0.1:9464",
        }
        subprocess.run(["bash", ROOT / "infra/systemd/watch.sh"], env=env, capture_output=True, timeout=30)
        return did.read_text().splitlines()


def check_watch():
    cases = {
        "lives": ("y" * 30, []),
        "does not answer now and then": (("n" * 9 + "y") * 3, []),
        "hangs": ("n" * 20, [TERMINATE, KILL]),
        "hangs again": ("n" * 40, [TERMINATE, KILL] * 2),
        "stands still and then drains": ("n" * 10 + "y" * 30, [TERMINATE]),
    }
    for name, (answers, wanted) in cases.items():
        did = watched(answers)
        if did != wanted:
            sys.exit(f"FAIL  watch.sh with a worker that {name}: {did}, not {wanted}")
    print(f"ok    watch.sh: {len(cases)} cases")


COMPLETED = (
    "aws autoscaling complete-lifecycle-action --lifecycle-hook-name hook --auto-scaling-group-name group --instance-id i-1 "
    "--lifecycle-action-result CONTINUE"
)
BEAT = "aws autoscaling record-lifecycle-action-heartbeat --lifecycle-hook-name hook --auto-scaling-group-name group --instance-id i-1"
WANTED = ["systemctl stop toolfleet-worker", COMPLETED, "systemctl disable --now toolfleet-drain"]


def main():
    cases = {
        "a scale-in": {LIFE: ["InService", "InService", "Terminated"]},
        "a notice of Spot": {LIFE: ["InService"], "spot/instance-action": [None, None, '{"action": "terminate"}']},
        "an instance without a group, then a notice": {"spot/instance-action": [None, '{"action": "terminate"}']},
    }
    for name, answers in cases.items():
        did, looks = run(answers)
        if did != WANTED or looks < 3:
            sys.exit(f"FAIL  drain.sh after {name}: {looks} requests, then {did}")
    did, _ = run({LIFE: ["Terminated"]}, SLOW_STOP, "0.05")
    beats = [line for line in did if line.startswith(BEAT)]
    if [line for line in did if line not in beats] != WANTED or len(beats) < 3 or did.index(COMPLETED) < did.index(beats[2]):
        sys.exit(f"FAIL  drain.sh with a long call: {did}")
    print(f"ok    drain.sh: {len(cases) + 1} cases")
    check_user_data()
    check_ended()
    check_watch()


if __name__ == "__main__":
    main()
