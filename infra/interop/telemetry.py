"""Checks a worker's telemetry with a third-party receiver (PyPI oteltap): one trace from the sender to the tool, metrics, health; and
that no call fails when the receiver is stopped or killed.

Invariant: the checks read the output of the receiver, not of the worker.
"""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
import uuid

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def telemetry(processes, check, start_worker, send, row, text, until, port, http_port, tap):
    receiver = processes.start("oteltap", [tap, "--port", port], port=port)
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
        "TOOLFLEET_HTTP_ADDR": f"127.0.0.1:{http_port}",
    }
    worker = start_worker("traced", told)

    def get(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def ask(name, **attributes):
        call_id = str(uuid.uuid4())
        body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": "fastmcp", "name": name, "arguments": {}, "timeout_ms": 30000}
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        send(json.dumps(body), attributes)
        return call_id, until(f"the end of {name}", lambda: processes.alive(worker) and row(call_id))

    call_id, item = ask("trace", traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=1")
    check("a traced call succeeds", item["outcome"]["S"] == "succeeded", item)
    seen = json.loads(text(item))
    check("the tool's server gets the sender's trace, as a header and in _meta",
          seen["header"] == seen["meta"] and seen["header"].startswith(f"00-{TRACE}-") and SPAN not in seen["header"], seen)

    printed = lambda: receiver.log_path.read_text()
    until("the spans at the receiver", lambda: all(name in printed() for name in ("process toolfleet-calls", "tools/call trace", "claim", "record")))
    out = printed()
    attempt = seen["header"].split("-")[2]
    for what in (TRACE, SPAN, attempt, "aws_sqs", "execute_tool", call_id):
        check(f"oteltap received {what}", what in out, out[-3000:])
    until("the metrics at the receiver", lambda: "mcp.client.operation.duration" in printed() and "messaging.process.duration" in printed())
    check("oteltap received the metrics of the call", "toolfleet.calls.ended" in printed(), printed()[-3000:])

    until("a worker that is ready", lambda: get("/health/ready")[0] == 200)
    check("the worker lives and is ready", get("/health/live")[0] == 200, get("/health/live"))
    metrics = get("/metrics")[1]
    wanted = ("toolfleet_calls_ended_total{", "toolfleet_store_writes_total", "toolfleet_catalog_taken_total", "toolfleet_catalog_refused_total")
    check("Prometheus reads the metrics", all(name in metrics for name in wanted), metrics[:2000])
    done = subprocess.run([worker.args[0], "health"], env={**os.environ, **told}, capture_output=True, text=True, timeout=30)
    check("`toolfleet-worker health` says so by its exit code", done.returncode == 0, done.stderr)

    os.killpg(receiver.pid, signal.SIGSTOP)
    outcomes = [ask("executions")[1]["outcome"]["S"] for _ in range(20)]
    check("a frozen receiver costs no call", outcomes == ["succeeded"] * 20, outcomes)
    os.killpg(receiver.pid, signal.SIGCONT)
    processes.end(receiver, signal.SIGKILL)
    outcomes = [ask("executions")[1]["outcome"]["S"] for _ in range(20)]
    check("a dead receiver costs no call", outcomes == ["succeeded"] * 20, outcomes)
    os.killpg(worker.pid, signal.SIGTERM)
    check("a worker whose receiver is dead still leaves cleanly", worker.wait(30) == 0, worker.log_path.read_text()[-2000:])
    processes.running.remove(worker)
