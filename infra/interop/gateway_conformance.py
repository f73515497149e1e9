"""Runs the server scenarios of the official MCP conformance suite against the gateway of a fleet.

The fleet is `toolfleet dev` without its gateway's use: queues, tables and a worker; the gateway is `toolfleet gateway`; the tools are those of
gateway_tools.py. gateway_conformance.md is the table of what runs and what does not; it must name every scenario of both packages.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import conformance
import gateway_tools

HERE = Path(__file__).parent
TOOLFLEET = HERE.parent.parent / "target" / "debug" / "toolfleet"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(stack, command, **more):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **more)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def until_listening(port):
    for _ in range(200):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def gateway(stack, folder):
    """The address of a gateway in front of a fleet."""
    port = free_port()
    start(stack, [sys.executable, HERE / "gateway_tools.py", str(port)])
    until_listening(port)
    catalog = Path(folder) / "catalog.json"
    catalog.write_text(json.dumps(gateway_tools.catalog(f"http://127.0.0.1:{port}/mcp")))
    quiet = {**os.environ, "TOOLFLEET_LOG": "error"}
    # Progress is stored ten times in a lease. A conformance scenario has ten seconds.
    quiet["TOOLFLEET_LEASE_MS"] = "10000"
    dev = start(stack, [TOOLFLEET, "dev", "--json", "--port-base", "0", "--catalog", catalog], stdout=subprocess.PIPE, env=quiet)
    fleet = json.loads(dev.stdout.readline())
    listen = f"127.0.0.1:{free_port()}"
    command = [TOOLFLEET, "gateway", "--json", "--listen", listen, "--tenant", "conformance", "--task-after", "600ms"]
    # A scenario changes a list at its server, and wants to be told within 1.5 s.
    command += ["--tools-ttl", "200ms"]
    served = start(stack, command, stdout=subprocess.PIPE, env={**quiet, **fleet["env"]})
    return json.loads(served.stdout.readline())["url"]


def run(url, package, scenario, version):
    """Runs one scenario; its output is shown where it fails."""
    versions = [] if version == "extension" else ["--spec-version", version]
    command = [conformance.NODE, conformance.PACKAGES[package], "server", "--url", url, "--scenario", scenario, *versions]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*map(str, command), "--output-dir", folder], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False
        )
        found = [json.loads(file.read_text()) for file in Path(folder).glob("**/checks.json")]
    checks = Counter(check["status"] for checks in found for check in checks)
    well = checks["SUCCESS"] > 0 and not checks["FAILURE"] and not checks["WARNING"]
    told = ", ".join(f"{count} {status.lower()}" for status, count in sorted(checks.items())) or "no check"
    print(f"{'ok  ' if well else 'FAIL'}  {package} {version} {scenario} ({told})", flush=True)
    if not well:
        wrong = [check for checks in found for check in checks if check["status"] in ("FAILURE", "WARNING")]
        print(json.dumps([{key: check.get(key) for key in ("id", "status", "errorMessage")} for check in wrong], indent=1))
        if not found:
            print(done.stdout[-2000:], done.stderr[-2000:])
    return well


def main():
    rows = conformance.table("gateway_conformance.md")
    wrong = list(conformance.differences(rows, conformance.listed("--server"), "gateway_conformance.md"))
    for difference in wrong:
        print(f"FAIL  {difference}")
    only = re.compile(sys.argv[1]) if len(sys.argv) > 1 else None
    runs = [(*key, version) for key, (_, versions, _) in rows.items() for version in versions]
    runs = [each for each in runs if only is None or only.search(" ".join(each))]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        url = gateway(stack, folder)
        failed = [each for each in runs if not run(url, *each)]
    left_out = sum(1 for _, versions, _ in rows.values() if not versions)
    print(f"{len(runs) - len(failed)} passed, {len(failed)} failed, {left_out} scenarios left out with a reason")
    sys.exit(bool(wrong or failed))


if __name__ == "__main__":
    main()
