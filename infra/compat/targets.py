"""Starts and stops the endpoints under test, each on a free port of 127.0.0.1.

Invariant: every started process ends with this program, and a target that does not answer fails the run.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EMULATORS = HERE / ".compat" / "emulators" / "bin"
TOOLFLEET = ROOT / "target" / "debug" / "toolfleet"
GIVE_UP_S = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def process(name, command, port, env=None):
    """A process in a group and a scratch folder of its own, from when it listens on `port` until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="toolfleet-compat-") as folder, _running(name, command, port, env, Path(folder)) as started:
        yield started


@contextlib.contextmanager
def _running(name, command, port, env, folder):
    log_path = folder / f"{name}.log"
    with open(log_path, "wb") as log:
        started = subprocess.Popen(
            [str(c) for c in command], stdout=log, stderr=log, cwd=folder, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        end = time.monotonic() + GIVE_UP_S
        while not listens(port):
            if started.poll() is not None or time.monotonic() > end:
                sys.exit(f"FAILED: {name} does not listen on {port} (exit code {started.poll()}):\n{log_path.read_text()[-3000:]}")
            time.sleep(0.05)
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(30)


def ours(port):
    ports = ["--sqs-port", port, "--dynamodb-port", 0, "--mcp-port", 0, "--gateway-port", 0, "--console-port", 0]
    return process("toolfleet", [TOOLFLEET, "dev", "--no-worker", *ports], port)


def ministack(port):
    return process("ministack", [EMULATORS / "ministack"], port, {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"})


def moto(port):
    return process("moto", [EMULATORS / "moto_server", "-H", "127.0.0.1", "-p", port], port)


TARGETS = {"ours": ours, "ministack": ministack, "moto": moto}
