"""Lists and calls public MCP servers of npm and PyPI through `toolfleet dev`, with the configuration file that their users write.

`python public.py install TIME` makes the environments of the PyPI packages as they were then, `python public.py run` runs the servers and compares what was seen
with the table in docs/reference/compatibility.md. `--write` writes that table; `--all` takes the large packages too; other arguments are ids
of servers, to run only these.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from public_servers import ENVIRONMENTS, NPM, SERVERS, versions
from public_stress import all_stress
from public_table import check_table, write_table
from processes import BIN, Processes, exports_in, free_port, listens, until
from stdio import repository

AT_ONCE = 4
LARGE = 2_000_000
DOT = "89504e470d0a1a0a0000000d4948445200000001000000010806000000" "1f15c4890000000d49444154789c6360f8cfc000000301010018dd8db00000000049454e44ae426082"
KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
current-context: none
"""


def install(servers, as_of):
    """One environment a package: the SDKs of two of them may exclude each other."""
    uv = Path(sys.executable).parent / "uv"
    for server in {s.package: s for s in servers if s.registry == "PyPI"}.values():
        environment = ENVIRONMENTS / server.package
        wanted = [f"{server.package}=={server.version}", *server.beside]
        if not (environment / "bin" / "python").exists():
            subprocess.run([uv, "venv", "--quiet", environment], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", environment, "--exclude-newer", as_of, *wanted], check=True)


class Pages(BaseHTTPRequestHandler):
    """A page of 2 MB, for servers that fetch."""

    def do_GET(self):
        body = ("large page ü\n" * (LARGE // 14)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def workbook(path):
    """The smallest workbook that programs read."""
    main = "http://schemas.openxmlformats.org"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{main}/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="r1" Type="{main}/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}/spreadsheetml/2006/main" xmlns:r="{main}/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="r1" Type="{main}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}/spreadsheetml/2006/main"><dimension ref="A1"/><sheetData/></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in parts.items():
            file.writestr(name, text)


def prepare(folder):
    """The files that the calls read."""
    workbook(folder / "words.xlsx")
    (folder / "words.txt").write_text("naïve café 🦀\n")
    (folder / "large.txt").write_text("0123456789\n" * (LARGE // 11))
    (folder / "dot.png").write_bytes(bytes.fromhex(DOT))
    (folder / "kubeconfig").write_text(KUBECONFIG)
    (folder / "home").mkdir()
    repository(folder)


class Fleet:
    """`toolfleet dev` with one `mcpServers` file, called by the `toolfleet` command."""

    def __init__(self, processes, folder, servers):
        self.processes, self.folder, self.servers = processes, folder, servers
        pages = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        self.pages = pages.server_port
        self.ports = {server.id: free_port() for server in servers if server.path}
        self.home = {"HOME": str(folder / "home")}
        entries = {server.id: self.entry(server) for server in servers}
        self.catalog = folder / "mcp.json"
        self.catalog.write_text(json.dumps({"mcpServers": entries}, indent=1))
        self.dev = processes.start("dev", [BIN / "toolfleet", "dev", "--catalog", self.catalog, "--port-base", "0"], {**self.home, "TOOLFLEET_LOG": "info,toolfleet_mcp::client=debug,toolfleet_mcp::transport::exchange=debug"})
        exports = until("the exports of `toolfleet dev`", lambda: processes.alive(self.dev) and exports_in(self.dev.log_path))
        self.env = {**os.environ, **exports, **self.home}

    def filled(self, server, value):
        """The value with its placeholders filled in."""
        if isinstance(value, str):
            for name, text in [("{folder}", self.folder), ("{port}", self.ports.get(server.id)), ("{pages}", self.pages)]:
                value = value.replace(name, str(text))
            return value
        if isinstance(value, dict):
            return {key: self.filled(server, inner) for key, inner in value.items()}
        return [self.filled(server, inner) for inner in value] if isinstance(value, list) else value

    def entry(self, server):
        """What a user writes into `mcpServers`; a server over HTTP is started here."""
        command, env = self.filled(server, server.command), self.filled(server, server.env)
        if server.path:
            self.processes.start(server.id, command, {**env, **self.home}, cwd=NPM if server.registry == "npm" else self.folder)
            return {"type": "http", "url": f"http://{server.host}:{self.ports[server.id]}{server.path}"}
        more = {"cwd": str(NPM)} if server.registry == "npm" else {}
        return {"command": command[0], "args": command[1:], **({"env": env} if env else {}), **more}

    def call(self, server, *arguments, timeout):
        """A call by the command; how long it took stands beside what it printed."""
        begun = time.monotonic()
        command = [BIN / "toolfleet", "call", "--tenant", "demo", "--json", "--timeout", timeout, "--wait", "90s", "--server", server, *arguments]
        done = subprocess.run([str(c) for c in command], env=self.env, capture_output=True, text=True, timeout=120)
        self.processes.alive(self.dev)
        ended = json.loads(done.stdout) if done.stdout.startswith("{") else {"outcome": "none", "error": {"code": "none", "message": done.stderr}}
        return {**ended, "seconds": time.monotonic() - begun}

    def tool(self, server, call):
        return self.call(server.id, "--name", call.name, "--arguments", json.dumps(self.filled(server, call.arguments)), timeout=bound(server))


def bound(server):
    """The time of a call. One that cannot succeed here need not wait for long."""
    return "15s" if server.unlisted else "60s"


def words(ended):
    """All that an end tells: what the tool said, or why it did not run."""
    return json.dumps(ended.get("content") or {}, ensure_ascii=False) + (ended.get("error") or {}).get("message", "")


def judged(server, call, ended):
    """What is wrong with an end, if anything is."""
    outcome, said = ended.get("outcome"), words(ended)
    if call.outcome and outcome != call.outcome:
        return f"{server.id}: {call.name} ended as {outcome}, and not as {call.outcome}: {said[:1500]}"
    if outcome not in ("succeeded", "tool_error", "refused", "failed", "outcome_unknown", "timed_out", "expired") or call.says not in said or not said.strip("{}"):
        return f"{server.id}: {call.name} ended as {outcome}, without `{call.says}`: {said[:1500]}"
    if ended["seconds"] > 70:
        return f"{server.id}: {call.name} took {ended['seconds']:.0f} s"
    return ""


def run_server(fleet, server):
    """Lists and calls one server; gives its row of the table, and what is wrong."""
    begun, wrong = time.monotonic(), []
    listing = fleet.call(server.id, "--operation", "tools/list", timeout=bound(server))
    listed = len(listing["content"]["tools"]) if listing.get("outcome") == "succeeded" else None
    code = (listing.get("error") or {}).get("code", "")
    if server.unlisted != code:
        wrong.append(f"{server.id}: tools/list ended with `{code}`, and not with `{server.unlisted}`: {words(listing)[:1500]}")
    ends = []
    for call in server.calls:
        ended = fleet.tool(server, call)
        wrong += [why for why in [judged(server, call, ended)] if why]
        ends.append((call.name, ended.get("outcome"), (ended.get("error") or {}).get("code", "")))
    print(f"{'FAIL' if wrong else 'ok  '}  {server.id}: {listed} tools, {', '.join(f'{name} {outcome}' for name, outcome, _ in ends)}; {time.monotonic() - begun:.1f} s", flush=True)
    return {"server": server, "listed": listed, "code": code, "ends": ends}, wrong


def stressed(fleet):
    """What went wrong under stress."""
    wrong = []

    def check(name, holds, detail=""):
        print(f"{'ok  ' if holds else 'FAIL'}  {name}", flush=True)
        if not holds:
            wrong.append(f"stress: {name}: {str(detail)[:2000]}")

    all_stress(fleet, check)
    return wrong


def run(servers, arguments, stress):
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        prepare(folder)
        processes = Processes(folder)
        try:
            fleet = Fleet(processes, folder, servers)
            for server in servers:
                if server.path:
                    until(f"{server.id} on its port", lambda: listens(fleet.ports[server.id]))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for row, found in pool.map(lambda server: run_server(fleet, server), servers):
                    rows.append(row)
                    wrong += found
            if stress:
                wrong += stressed(fleet)
            log = fleet.dev.log_path.read_text()
        finally:
            processes.end_all()
    print("\n".join(wrong))
    if not wrong:
        (write_table if "--write" in arguments else check_table)(rows, log, versions())
    print(f"{len(rows) - len({line.split(':')[0] for line in wrong})} passed, {len({line.split(':')[0] for line in wrong})} failed")
    sys.exit(bool(wrong))


def main():
    action, *arguments = sys.argv[1:]
    as_of = arguments.pop(0) if action == "install" else None
    named = [a for a in arguments if not a.startswith("--")]
    chosen = [s for s in SERVERS if s.id in named or not named and ("--all" in arguments or not s.heavy)]
    install(chosen, as_of) if action == "install" else run(chosen, arguments, stress=not named)


if __name__ == "__main__":
    main()
