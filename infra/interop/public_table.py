"""The table of public servers in docs/reference/compatibility.md: written from what a run has seen, and compared with it.

**Invariant:** every row is what the last run saw; a run that sees something else fails.
"""

import re
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "compatibility.md"
BEGIN, END = "<!-- public servers: begin -->\n", "<!-- public servers: end -->\n"
HEAD = ["| server | package | transport | protocol | tools | called, and how it ended | remarks |", "|---|---|---|---|---|---|---|"]
ENDS = {"tool_error": "the tool's error", "refused": "refused", "succeeded": "succeeded"}


def lines(rows, log, npm_versions):
    """By server, its line of the table."""
    said = re.sub(r"\x1b\[[\d;]*m", "", log)
    spoken = dict(re.findall(r"(?:a program is up|a server speaks) server=(\S+) .*?version=\"([\d-]+)\"", said))
    found = {}
    for row in rows:
        server = row["server"]
        version = server.version or npm_versions[server.package]
        ends = {}
        for name, outcome, code in row["ends"]:
            end = ENDS.get(outcome, f"{outcome} (`{code}`)")
            ends.setdefault(f"`{name}`", []).append(end)
        called = "; ".join(f"{name}: {', '.join(dict.fromkeys(seen))}" for name, seen in ends.items())
        tools = row["listed"] if row["listed"] is not None else f"none (`{row['code']}`)"
        remarks = "; ".join([*([server.remarks] if server.remarks else []), *(["with `--all`"] if server.heavy else [])])
        found[server.id] = (
            f"| {server.id} | {server.registry} `{server.package}` {version} | {server.transport} | {spoken.get(server.id, '')} | {tools} | {called} | {remarks} |"
        )
    return found


def id_of(line):
    return line.split("|")[1].strip()


def parts():
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN, 1)
    block, tail = rest.split(END, 1)
    return head, {id_of(line): line for line in block.splitlines()[2:]}, tail


def write_table(rows, log, npm_versions):
    """Lines of servers that this run has left out stay."""
    head, known, tail = parts()
    known.update(lines(rows, log, npm_versions))
    block = [*HEAD, *(known[name] for name in sorted(known))]
    DOCUMENT.write_text(head + BEGIN + "\n".join(block) + "\n" + END + tail)


def check_table(rows, log, npm_versions):
    _, known, _ = parts()
    other = [line for name, line in lines(rows, log, npm_versions).items() if known.get(name) != line]
    if other:
        print("\n".join(f"seen:     {line}\nwritten:  {known.get(id_of(line), 'nothing')}" for line in other))
        sys.exit("FAILED: docs/reference/compatibility.md shows something else; look at it, then run `bash infra/interop/public.sh --write`")
