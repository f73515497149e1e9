"""What the runs of this folder share: the processes that they start, and waiting for something to be seen."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "infra" / "interop"
BIN = ROOT / "target" / "debug"
GIVE_UP_S = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, look, within_s=GIVE_UP_S):
    """Looks until there is something to see."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.05)
    raise SystemExit(f"FAILED: {what} not seen within {within_s} s")


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Processes:
    """Everything that was started, with its output; all of it ends with this program."""

    def __init__(self, folder):
        self.folder, self.running = Path(folder), []

    def start(self, name, command, env=None, port=None, cwd=HERE):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(
            [str(c) for c in command], stdout=log, stderr=log, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True
        )
        process.log_path, process.name = self.folder / f"{name}.log", name
        self.running.append(process)
        if port:
            until(f"{name} on port {port}", lambda: self.alive(process) and listens(port))
        return process

    @staticmethod
    def alive(process):
        if process.poll() is not None:
            raise SystemExit(f"FAILED: {process.name} ended with {process.returncode}:\n{process.log_path.read_text()[-3000:]}")
        return True

    def end(self, process, how=signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        process.wait(30)
        self.running.remove(process)

    def end_all(self):
        for process in list(self.running):
            with contextlib.suppress(Exception):
                self.end(process, signal.SIGKILL)


def exports_in(log):
    found = dict(re.findall(r"^\s*export (\w+)=[\"']?([^\"'\n]*)[\"']?$", log.read_text(), re.M))
    return found if "TOOLFLEET_QUEUE_URL" in found and "AWS_ACCESS_KEY_ID" in found else None
