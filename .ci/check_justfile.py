"""Checks that every command of .ci/run is a line of the justfile, so that both stay the same."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def last_line(script, function):
    body = re.search(rf"^{function}\(\) \{{(.*?)\}}$", script, re.M | re.S).group(1)
    return body.strip().rstrip(";").splitlines()[-1].strip()


def main():
    ci = (ROOT / ".ci/run").read_text()
    recipes = {re.sub(r" \{\{\w+\}\}$", "", line.strip()) for line in (ROOT / "justfile").read_text().splitlines() if line.startswith("    ")}
    stages = [line.strip() for line in ci.splitlines() if line.strip().startswith("stage ")]
    commands = [line.split(" ", 2)[2] for line in stages]
    # Packages are installed in the background there.
    commands = [command for command in commands if command != "packages"]
    # The bound of a stage that could hang, a low priority, and compiling before running, are CI's alone.
    commands = [re.sub(r"^(timeout \d+|nice -n \d+) | --no-run$", "", command) for command in commands]
    # `docs` and `deny` are functions of the script; their last line runs the command.
    commands = [last_line(ci, command) if " " not in command else command for command in commands]
    missing = [command for command in commands if command not in recipes]
    print("\n".join(f"not in the justfile: {command}" for command in missing) or f"{len(commands)} commands are in the justfile")
    sys.exit(bool(missing))


main()
