"""Writes the dependencies of a program as a CycloneDX document: what is linked into it, from the lock file, without a time or a random number.

    sbom.py PACKAGE FILE
"""

import json
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def metadata():
    target = output_of("rustc", "--print", "host-tuple").strip()
    return json.loads(output_of("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target))


def linked(resolved, root):
    """What the program links: no test and no build dependencies."""
    nodes = {node["id"]: node for node in resolved["resolve"]["nodes"]}
    found, left = {}, [root]
    while left:
        package = left.pop()
        if package in found:
            continue
        of = nodes[package]["deps"]
        needs = [dep["pkg"] for dep in of if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        found[package] = sorted(needs)
        left += needs
    return found


def component(package, checksums):
    name, version = package["name"], package["version"]
    checksum = checksums.get((name, version))
    purl = PackageURL(type="cargo", name=name, version=version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseExpression(package["license"].replace("/", " OR "))] if package["license"] else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
    )


def main(name, file):
    resolved = metadata()
    packages = {package["id"]: package for package in resolved["packages"]}
    root = next(id for id in resolved["workspace_members"] if packages[id]["name"] == name)
    lock = tomllib.loads(Path("Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}

    found = linked(resolved, root)
    components = {id: component(packages[id], checksums) for id in found}
    components[root].type = ComponentType.APPLICATION
    bom = Bom(components=[components[id] for id in sorted(found) if id != root])
    bom.metadata.timestamp = None
    bom.metadata.component = components[root]
    for id, needs in found.items():
        of = [Dependency(ref=components[need].bom_ref) for need in needs]
        bom.dependencies.add(Dependency(ref=components[id].bom_ref, dependencies=of))
    # The same dependencies have the same number.
    names = " ".join(sorted(str(component.bom_ref) for component in components.values()))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, names)

    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom.py: not a CycloneDX document: {wrong}")
    Path(file).write_text(text + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
