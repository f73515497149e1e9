"""Runs infra/systemd/drain.sh against a metadata service of its own: the worker is stopped before the lifecycle action is completed, and
only when the instance is about to end.
"""

import http.server
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from model import ROOT

# `systemctl` and `aws` of the instance: each writes what it was asked to do.
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >>"$DID"\n'
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


def run(answers):
    """What the script did, and how many requests it made."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.answers, server.looks = {"instance-id": ["i-1"], **answers}, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        did = Path(folder) / "did"
        for name in ("systemctl", "aws"):
            (Path(folder) / name).write_text(STUB)
            (Path(folder) / name).chmod(0o755)
        env = {
            **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DID": str(did), "LOOK_EVERY_S": "0.05", "LIFECYCLE_HOOK": "hook",
            "AUTO_SCALING_GROUP": "group", "METADATA_URL": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1",
        }
        subprocess.run(["bash", ROOT / "infra/systemd/drain.sh"], env=env, check=True, capture_output=True, timeout=30)
        server.shutdown()
        return did.read_text().splitlines(), server.looks


COMPLETED = "aws autoscaling complete-lifecycle-action --lifecycle-hook-name hook --auto-scaling-group-name group --instance-id i-1 --lifecycle-action-result CONTINUE"
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
    print(f"ok    drain.sh: {len(cases)} cases")


if __name__ == "__main__":
    main()
