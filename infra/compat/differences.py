"""Owns the list of known differences (differences.toml) and the table that docs/reference/compatibility.md makes of it.

`python differences.py` writes the table; `--check` fails if the document says something else.
Invariant: a difference names tests that exist; it is a failure that stays expected only as long as it happens.
"""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs" / "reference" / "compatibility.md"
BEGIN, END = "<!-- differences.toml: begin -->\n", "<!-- differences.toml: end -->\n"


def read():
    return tomllib.loads((HERE / "differences.toml").read_text()).get("difference", [])


def expected(target):
    """The tests that must fail on a target, each with the reason; a name without brackets means every case of the test."""
    return {test: d["does"] for d in read() if d["target"] == target for test in d["tests"]}


def table():
    lines = ["| emulator | it does | AWS does | source | tests |", "|---|---|---|---|---|"]
    for d in sorted(read(), key=lambda d: (d["target"], d["tests"])):
        names = [f"`{test.split('::')[1].removeprefix('test_')}`" for test in d["tests"]]
        more = [f"and {len(names) - 2} more"] if len(names) > 2 else []
        tests = ", ".join(names[:2] + more)
        lines.append(f"| {d['target']} | {d['does']} | {d['aws']} | {d['source']} | {tests} |")
    return "\n".join(lines) + "\n"


def main():
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    right = head + BEGIN + table() + END + tail
    if "--check" not in sys.argv:
        DOCUMENT.write_text(right)
    elif text != right:
        sys.exit("FAILED: docs/reference/compatibility.md does not show differences.toml; run `python infra/compat/differences.py`")


if __name__ == "__main__":
    main()
