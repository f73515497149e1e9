"""Runs every example of this folder against `toolfleet dev`, and compares the README's copy of one with the file.

Needs a debug build (`cargo build --workspace --bins --examples`) and a Python with boto3 and fastmcp:
infra/interop/run.sh makes one.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLFLEET = pathlib.Path(os.environ.get("TOOLFLEET_BIN", ROOT / "target/debug/toolfleet"))
RUST = TOOLFLEET.parent / "examples/send_and_wait"
GIVE_UP_S = 60
# How each request of requests/ ends on the demo server's tools: outcome, code, and a text of its result.
ENDS = {
    "tool": ("succeeded", None, "42"),
    "server-and-name": ("succeeded", None, "hello"),
    "idempotency-key": ("succeeded", None, "1"),
    "who-asks": ("succeeded", None, "hello"),
    "tool-error": ("tool_error", "tool_reported_error", "no such customer"),
    "refused-by-schema": ("refused", "invalid_arguments", ""),
    "deadline": ("timed_out", "deadline_exceeded", ""),
}
# The same for requests that name the server of catalog.json.
ENDS_OF_OWN = {
    "list-tools": ("succeeded", None, "order"),
}


def check(what, holds, seen=""):
    if not holds:
        sys.exit(f"FAILED: {what}\n{seen}")
    print(f"ok: {what}")


class Dev:
    """A `toolfleet dev` of its own, on free ports, with the exports that it prints."""

    def __init__(self, *arguments):
        self.log = pathlib.Path(tempfile.mkstemp(prefix="toolfleet-dev-")[1])
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [TOOLFLEET, "dev", "--port-base", "0", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PATH": path}, start_new_session=True
            )
        until = time.monotonic() + GIVE_UP_S
        while "TOOLFLEET_QUEUE_URL" not in self.exports():
            if self.process.poll() is not None or time.monotonic() > until:
                self.end()
                sys.exit(f"FAILED: toolfleet dev does not start\n{self.log.read_text()}")
            time.sleep(0.05)
        self.env = {**os.environ, **self.exports()}

    def exports(self):
        return dict(re.findall(r"^\s*export (\w+)=[\"']?([^\"'\n]*)[\"']?$", self.log.read_text(), re.M))

    def toolfleet(self, *arguments):
        """Exit code, stdout and stderr of a command that uses these endpoints."""
        done = subprocess.run([TOOLFLEET, *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=GIVE_UP_S)
        return done.returncode, done.stdout, done.stderr

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(GIVE_UP_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.log.unlink()


def readme_has_the_python_example():
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("```python\n", 1)[1].split("```", 1)[0]
    check("README.md shows docs/examples/python_call.py", shown == (HERE / "python_call.py").read_text())


def every_request_has_an_end():
    files = {file.stem for file in (HERE / "requests").glob("*.json")}
    check("every request has an expected end", files == {*ENDS, *ENDS_OF_OWN}, files)


def requests(dev, ends):
    for name, (outcome, code, text) in ends.items():
        _, out, err = dev.toolfleet("call", "--body", str(HERE / "requests" / f"{name}.json"), "--json")
        ended = json.loads(out) if out else {}
        error = ended.get("error") or {}
        holds = ended.get("outcome") == outcome and error.get("code") == code and text in out
        check(f"requests/{name}.json ends as {outcome}", holds, out + err)


def main():
    readme_has_the_python_example()
    every_request_has_an_end()
    with Dev() as dev:
        done = subprocess.run([sys.executable, HERE / "python_call.py"], env=dev.env, capture_output=True, text=True, timeout=GIVE_UP_S)
        check("python_call.py prints the result", done.stdout.startswith("succeeded") and "42" in done.stdout, done.stdout + done.stderr)
        done = subprocess.run([sys.executable, HERE / "python_group.py"], env=dev.env, capture_output=True, text=True, timeout=GIVE_UP_S)
        check("python_group.py prints the decision", done.stdout == "succeeded 3 of 3 succeeded\n", done.stdout + done.stderr)
        arguments = [dev.env["TOOLFLEET_QUEUE_URL"], "demo", "add", '{"a": 2, "b": 40}']
        done = subprocess.run([RUST, *arguments], env=dev.env, capture_output=True, text=True, timeout=GIVE_UP_S)
        check("the Rust example prints the result", done.stdout.startswith("succeeded") and "42" in done.stdout, done.stdout + done.stderr)
        requests(dev, ENDS)
    with Dev("--catalog", str(HERE / "catalog.json")) as dev:
        code, out, err = dev.toolfleet("call", "--tenant", "demo", "--tool", "quote", "--arguments", '{"item": "pen", "quantity": 3}')
        check("catalog.json: a registered tool of the program answers", code == 0 and "4.5" in out, out + err)
        arguments = ["--server", "shop", "--name", "order", "--arguments", '{"item": "pen", "quantity": 3}']
        code, out, err = dev.toolfleet("call", "--tenant", "demo", *arguments)
        check("catalog.json: a listed tool of the program answers", code == 0 and "ordered 3 of pen" in out, out + err)
        requests(dev, ENDS_OF_OWN)


main()
