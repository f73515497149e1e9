"""Imports large OpenAPI documents as packages ship them: no operation may be lost without a named reason.

Usage: openapi_documents.py TOOLFLEET [DOCUMENT ..]

TOOLFLEET is the program `toolfleet`. Without documents GitHub's are fetched from npm, at the pinned version.
"""

import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

PACKAGE = "@octokit/openapi@23.0.2"
FILES = ["api.github.com.json", "ghec.json", "ghes-3.17.json"]
METHODS = {"get", "head", "options", "query", "put", "delete", "post", "patch", "trace"}
# What may be in the way of an operation of a document that is whole.
EXPECTED = {"unsupported_body", "other_server"}
NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def fetched(folder):
    """The documents of the pinned package."""
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = pathlib.Path(folder).glob("*.tgz")
    with tarfile.open(archive) as package:
        for name in FILES:
            package.extract(f"package/generated/{name}", folder, filter="data")
    return [pathlib.Path(folder, "package/generated", name) for name in FILES]


def check(program, path):
    """Imports one document and counts its operations."""
    document = json.loads(path.read_text())
    there = {(method.upper(), at) for at, item in document["paths"].items() for method in item if method in METHODS}
    url = [] if "servers" in document or "host" in document else ["--url", "https://interface.example"]
    begun = time.monotonic()
    ran = subprocess.run(
        [program, "tools", "import", "openapi", str(path), "--json", *url], capture_output=True, text=True
    )
    seconds = time.monotonic() - begun
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{path.name}: exit code {ran.returncode}: {ran.stderr[-500:]}")
    shown = json.loads(ran.stdout)
    tools = {(tool["method"], tool["path"]) for tool in shown["tools"]}
    left = {(one["method"], one["path"]) for one in shown["left_out"]}
    assert tools | left == there, f"{path.name}: lost {sorted(there - tools - left)[:5]}"
    assert not tools & left, f"{path.name}: both a tool and left out: {sorted(tools & left)[:5]}"
    names = [tool["name"] for tool in shown["tools"]]
    assert len(set(names)) == len(names), f"{path.name}: equal names"
    assert all(NAME.match(name) for name in names), f"{path.name}: a name that no model takes"
    codes = {}
    for one in shown["left_out"]:
        codes.setdefault(one["code"], []).append(f"{one['method']} {one['path']}: {one['reason']}")
    for code in sorted(codes.keys() - EXPECTED):
        raise SystemExit(f"{path.name}: {code}: {codes[code][:3]}")
    largest = max((len(json.dumps(tool["input_schema"])) for tool in shown["tools"]), default=0)
    counts = {code: len(all_of) for code, all_of in codes.items()}
    print(
        f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {len(there)} operations, {len(tools)} tools, left out {counts or 'none'}, "
        f"largest schema {largest / 1e3:.0f} kB, {seconds:.1f} s"
    )


def main():
    program, *documents = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for path in [pathlib.Path(one) for one in documents] or fetched(folder):
            check(program, path)


if __name__ == "__main__":
    main()
