"""Checks the locks of the packages that tests and checks install from PyPI: `python3 infra/locks.py`. With --write it makes them anew.

Each requirements.txt names what is wanted. The .lock beside it has all that is installed for it, with the hashes of the files: pip and uv refuse
any other file, whatever a registry or a mirror gives. A lock names no registry, so that each machine uses its own.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/requirements*.txt")) + sorted(HERE.glob("interop/public/requirements*.txt"))
# The uv of infra/checks/install.sh.
UV = HERE / "checks/.checks/venv/bin/uv"
PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}( \\)?")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text):
    """The packages of a file with their versions, and the lines that pin nothing."""
    found, others = {}, []
    for line in text.splitlines():
        pinned = PINNED.match(line)
        if pinned:
            found[canonical(pinned["name"])] = pinned["version"]
        elif line.strip() and not HASH.fullmatch(line.strip()):
            others.append(line)
    return found, others


def hashes(text):
    """The number of hashes of each package, in the order of the file."""
    counts = []
    for line in text.splitlines():
        if PINNED.match(line):
            counts.append(0)
        elif counts and HASH.fullmatch(line.strip()):
            counts[-1] += 1
    return counts


def wrong(wanted):
    """What is wrong with the lock of that file."""
    lock = wanted.with_suffix(".lock")
    if not lock.exists():
        yield f"{lock.relative_to(HERE)} is missing"
        return
    text = lock.read_text()
    name = lock.relative_to(HERE)
    locked, others = pins(text)
    for line in others:
        yield f"{name}: neither a pinned version nor a hash: {line}"
    if 0 in hashes(text):
        yield f"{name}: a package has no hash"
    for package, version in pins(wanted.read_text())[0].items():
        if locked.get(package) != version:
            yield f"{name} has {package} {locked.get(package)}, {wanted.name} {version}"


def write(wanted):
    # Versions that still fit are kept.
    subprocess.run(
        [UV.resolve(), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header",
         "--no-emit-index-url", "--no-emit-find-links", wanted.name, "--output-file", wanted.with_suffix(".lock").name],
        cwd=wanted.parent, check=True)


def main():
    if "--write" in sys.argv:
        for wanted in FILES:
            write(wanted)
    problems = [problem for wanted in FILES for problem in wrong(wanted)]
    if problems:
        sys.exit("\n".join(f"FAIL  {problem}" for problem in problems) + "\nmake them anew: python3 infra/locks.py --write")
    print(f"ok    infra: {len(FILES)} locks of Python packages, each with hashes")


if __name__ == "__main__":
    main()
