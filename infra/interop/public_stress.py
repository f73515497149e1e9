"""What public servers are put through beside single calls: many calls in two conversations, a server that is killed in mid-call, large and
odd contents, lists that change, requests to the client, tools with unusual schemas."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CALLS = 50


def children_of(pid):
    """All processes below one, and their command lines."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    below, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in below} - below
        below, grown = below | more, bool(more)
    return below - {pid}


def named(pids, text):
    found = []
    for pid in pids:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in line and "launch-program" not in line:
            found.append(pid)
    return found


def conversations(fleet, check):
    """Two conversations write to one graph at the same time; each has its own process."""
    one_entity = lambda n: {"entities": [{"name": f"e{n}", "entityType": "number", "observations": [f"é {n}"]}]}
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda n: fleet.call("everything", "--session", f"s{n % 2}", "--name", "get-sum", "--arguments", json.dumps({"a": n, "b": 1}), timeout="60s"), range(CALLS)))
    right = [n for n, end in enumerate(ends) if end["outcome"] == "succeeded" and str(n + 1) in json.dumps(end["content"])]
    check(f"{CALLS} calls of a program in two conversations each get their own answer", len(right) == CALLS, [end for end in ends if end["outcome"] != "succeeded"][:3])
    ends = [fleet.call("memory", "--session", "graph", "--name", "create_entities", "--arguments", json.dumps(one_entity(n)), timeout="60s") for n in range(5)]
    graph = fleet.call("memory", "--session", "graph", "--name", "read_graph", timeout="60s")
    check("what a conversation has stored is there for its next call", all(f"é {n}" in json.dumps(graph["content"], ensure_ascii=False) for n in range(5)), [*ends, graph])


def killed(fleet, check):
    """The server's process is killed with -9 while a call runs."""
    for idempotent, outcome in [(True, "succeeded"), (False, "outcome_unknown")]:
        session = f"kill-{idempotent}"
        fleet.call("everything", "--session", session, "--name", "echo", "--arguments", '{"message": "x"}', timeout="60s")
        ended = []
        more = ["--idempotent"] if idempotent else []
        arguments = ["--session", session, "--name", "trigger-long-running-operation", "--arguments", '{"duration": 4, "steps": 4}', *more]
        caller = threading.Thread(target=lambda: ended.append(fleet.call("everything", *arguments, timeout="60s")))
        caller.start()
        time.sleep(1.5)  # It works for four seconds.
        for pid in named(children_of(fleet.dev.pid), "mcp-server-everything"):
            os.kill(pid, signal.SIGKILL)
        caller.join()
        check(f"a public server killed with -9 in a call that is {'' if idempotent else 'not '}safe to repeat: {outcome}", ended[0]["outcome"] == outcome, ended)
    again = fleet.call("everything", "--session", "kill-False", "--name", "echo", "--arguments", '{"message": "again"}', timeout="60s")
    check("the next call of that conversation starts another", again["outcome"] == "succeeded", again)


def contents(fleet, check):
    """Large, binary and non-ASCII contents come as they are."""
    folder = fleet.folder
    large = fleet.call("filesystem", "--name", "read_text_file", "--arguments", json.dumps({"path": f"{folder}/large.txt"}), timeout="60s")
    text = (large.get("content") or {}).get("content", [{}])[0].get("text")
    check("a file of 2 MB comes whole", text == (folder / "large.txt").read_text(), str(large)[:300])
    written = "ü\u2028 \u0000 \U0001f980 \\ \"\r\n" * 1000
    put = fleet.call("filesystem", "--name", "write_file", "--arguments", json.dumps({"path": f"{folder}/odd.txt", "content": written}), timeout="60s")
    check("arguments arrive as they were written", (folder / "odd.txt").read_bytes().decode() == written, str(put)[:300])
    got = fleet.call("filesystem", "--name", "read_text_file", "--arguments", json.dumps({"path": f"{folder}/odd.txt"}), timeout="60s")
    check("and come back so", got["content"]["content"][0]["text"] == written, str(got)[:300])
    image = fleet.call("filesystem", "--name", "read_media_file", "--arguments", json.dumps({"path": f"{folder}/dot.png"}), timeout="60s")
    check("an image comes as base64", "iVBORw0KGgo" in json.dumps(image["content"]), str(image)[:300])
    sent = "x" * 700_000
    big = fleet.folder / "big.json"
    big.write_text(json.dumps({"path": f"{folder}/sent.txt", "content": sent}))
    put = fleet.call("filesystem", "--name", "write_file", "--arguments", f"@{big}", timeout="60s")
    check("arguments of 700 kB arrive", put["outcome"] == "succeeded" and (folder / "sent.txt").read_text() == sent, str(put)[:300])


def wrong_calls_harm_nobody(fleet, check):
    """A server whose tools answer errors as JSON-RPC errors is no server that fails."""
    for _ in range(25):
        fleet.call("excel-go", "--name", "excel_describe_sheets", "--arguments", json.dumps({"fileAbsolutePath": "/missing.xlsx"}), timeout="20s")
    right = fleet.call("excel-go", "--name", "excel_describe_sheets", "--arguments", json.dumps({"fileAbsolutePath": f"{fleet.folder}/words.xlsx"}), timeout="10s")
    check("25 wrong calls do not keep a right one from a server", right["outcome"] == "succeeded" and right["seconds"] < 5, right)


def all_stress(fleet, check):
    conversations(fleet, check)
    killed(fleet, check)
    contents(fleet, check)
    wrong_calls_harm_nobody(fleet, check)
