"""Writes what is linked into a program, without a time or a random number: its dependencies as a CycloneDX document, and their licences as a text.

    sbom.py PACKAGE DOCUMENT NOTICE
"""

import json
import platform
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

LICENCE_FILES = ("license", "licence", "copying", "notice", "copyright", "unlicense")
# Where distributions keep the licence of the C library.
LIBC_LICENCES = ("/usr/share/doc/libc6/copyright", "/usr/share/licenses/glibc/COPYING.LIB")


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def metadata():
    target = output_of("rustc", "--print", "host-tuple").strip()
    return json.loads(output_of("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target))


def linked(resolved, packages, root):
    """What the program links: no test and no build dependencies, and no macros, which run in the compiler."""
    nodes = {node["id"]: node for node in resolved["resolve"]["nodes"]}
    is_macro = {id for id, package in packages.items() if any("proc-macro" in target["kind"] for target in package["targets"])}
    found, left = {}, [root]
    while left:
        package = left.pop()
        if package in found:
            continue
        of = nodes[package]["deps"]
        needs = [dep["pkg"] for dep in of if any(kind["kind"] is None for kind in dep["dep_kinds"]) and dep["pkg"] not in is_macro]
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


def of_toolchain():
    """Rust's standard library and the C library, which every static program has."""
    rust = output_of("rustc", "--version").split()[1]
    name, version = platform.libc_ver()
    licences = {"std": (rust, "MIT OR Apache-2.0"), name or "libc": (version, "LGPL-2.1-or-later")}
    return [
        Component(type=ComponentType.LIBRARY, name=name, version=version, bom_ref=f"toolchain:{name}@{version}", licenses=[LicenseExpression(licence)])
        for name, (version, licence) in licences.items()
    ]


def licence_texts(package):
    folder = Path(package["manifest_path"]).parent
    files = [file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(LICENCE_FILES)]
    return [file.read_text(errors="replace").strip() for file in sorted(files)]


def notice(packages, toolchain):
    """The licence of each package, and each text once."""
    texts, lines = {}, []
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        lines.append(f"{package['name']} {package['version']}: {package['license'] or 'see its licence file'}")
        for text in licence_texts(package):
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for one in toolchain:
        lines.append(f"{one.name} {one.version}: {', '.join(str(licence.value) for licence in one.licenses)}")
    libc = next((Path(file) for file in LIBC_LICENCES if Path(file).is_file()), None)
    if libc is None:
        sys.exit(f"sbom.py: the licence of the C library is in none of {', '.join(LIBC_LICENCES)}")
    texts.setdefault(libc.read_text(errors="replace").strip(), []).append("the C library")
    parts = ["This program contains:", "\n".join(lines)]
    parts += [f"{'-' * 80}\n{', '.join(names)}:\n\n{text}" for text, names in texts.items()]
    return "\n\n".join(parts) + "\n"


def main(name, file, notice_file):
    resolved = metadata()
    packages = {package["id"]: package for package in resolved["packages"]}
    root = next(id for id in resolved["workspace_members"] if packages[id]["name"] == name)
    lock = tomllib.loads(Path("Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}

    found, toolchain = linked(resolved, packages, root), of_toolchain()
    components = {id: component(packages[id], checksums) for id in found}
    components[root].type = ComponentType.APPLICATION
    bom = Bom(components=[components[id] for id in sorted(found) if id != root] + toolchain)
    bom.metadata.timestamp = None
    bom.metadata.component = components[root]
    for id, needs in found.items():
        of = [Dependency(ref=components[need].bom_ref) for need in needs]
        if id == root:
            of += [Dependency(ref=one.bom_ref) for one in toolchain]
        bom.dependencies.add(Dependency(ref=components[id].bom_ref, dependencies=of))
    # The same dependencies have the same number.
    names = " ".join(sorted(str(one.bom_ref) for one in [*components.values(), *toolchain]))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, names)

    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom.py: not a CycloneDX document: {wrong}")
    Path(file).write_text(text + "\n")
    Path(notice_file).write_text(notice([packages[id] for id in found], toolchain))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
