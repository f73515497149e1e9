"""MCP servers that are programs: a worker starts them, they are killed, and they end when the worker ends.

`programs` gives their entries for the catalog, `stdio` calls them through SQS; `none_left` reports processes that outlived
their worker.
"""

import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path


def programs(python, node, everything, folder):
    """server-everything in its stdio mode, mcp-server-time and mcp-server-git."""
    return [
        {"id": "everything-stdio", "command": node, "args": [str(everything), "stdio"], "discover": True},
        {"id": "time", "command": python, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"], "discover": True},
        {"id": "git", "command": python, "args": ["-m", "mcp_server_git", "--repository", str(repository(folder))], "discover": True},
    ]


def repository(folder):
    path = Path(folder) / "repository"
    if not path.exists():
        git = ["git", "-C", str(path), "-c", "user.name=interop", "-c", "user.email=interop@toolfleet.invalid"]
        subprocess.run(["git", "init", "--quiet", str(path)], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "the only commit"], check=True)
    return path


def stdio(check, worker, call, text, send, row, until, folder, long_tool):
    """Calls them with a worker that runs; gives the processes that it has started."""
    here = repository(folder)
    for server, name, arguments, expected in [
        ("everything-stdio", "echo", {"message": "hello"}, "hello"),
        ("time", "get_current_time", {"timezone": "Europe/Warsaw"}, "Europe/Warsaw"),
        ("git", "git_log", {"repo_path": str(here)}, "the only commit"),
    ]:
        item = call(server, name, arguments)
        check(f"{server}: {name} succeeds through SQS, a worker and a program", item["outcome"]["S"] == "succeeded" and expected in text(item), item)
    item = call("git", "git_show", {"repo_path": str(here), "revision": "no-such-revision"})
    check("git: what its tool refuses is the tool's own error", item["outcome"]["S"] == "tool_error", item)

    for operation in ["prompts/list", "resources/list"]:
        call_id = str(uuid.uuid4())
        send(json.dumps({"v": 1, "call_id": call_id, "tenant": "acme", "server": "everything-stdio", "operation": operation, "arguments": {}}))
        item = until(f"the answer to {operation}", lambda: row(call_id))
        check(f"everything-stdio: {operation} is answered", item["outcome"]["S"] == "succeeded", item)

    before = children(worker)
    check("each program runs once for calls without a conversation", len(before) == 3, before)
    for _ in range(2):
        item = call("time", "get_current_time", {"timezone": "UTC"}, session="talk")
    check("a conversation has a program of its own, and keeps it", item["outcome"]["S"] == "succeeded" and len(children(worker)) == 4, children(worker))

    for pid in children(worker):
        os.kill(pid, signal.SIGKILL)
    until("the end of the killed programs", lambda: not set(before) & set(children(worker)))
    for server, name, arguments in [("everything-stdio", "echo", {"message": "again"}), ("time", "get_current_time", {"timezone": "UTC"}), ("git", "git_status", {"repo_path": str(here)})]:
        item = call(server, name, arguments)
        check(f"{server}: its program was killed with -9, the next call starts another", item["outcome"]["S"] == "succeeded", item)

    for idempotent, outcome in [(True, "succeeded"), (False, "outcome_unknown")]:
        call_id = str(uuid.uuid4())
        body = {"v": 1, "call_id": call_id, "tenant": "acme", "server": "everything-stdio", "name": long_tool,
                "arguments": {"duration": 3, "steps": 2}, "session": f"kill-{idempotent}", "idempotent": idempotent}
        known, up = set(children(worker)), greeted(worker)
        send(json.dumps(body))
        until("the program of a new conversation", lambda: greeted(worker) > up)
        time.sleep(0.5)  # Greeted, it is asked at once, and works for three seconds.
        for program in set(children(worker)) - known:
            os.kill(program, signal.SIGKILL)
        item = until("the end of the call whose program was killed", lambda: row(call_id))
        check(f"a program killed in the middle of a call that is {'' if idempotent else 'not '}safe to repeat: {outcome}", item["outcome"]["S"] == outcome, item)
    return children(worker)


def greeted(worker):
    """How many programs the worker says it has brought up."""
    return worker.log_path.read_text().count("a program is up")


def none_left(pids):
    """Whether none of these processes is there any more."""
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def children(worker):
    """The processes that the worker itself has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == worker.pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return sorted(found)
