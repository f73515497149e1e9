"""Runs the client scenarios of the official MCP conformance suite against the workers' own client.

conformance.md is the table of what runs and what does not; it must name every scenario of both packages, for the versions
that the packages name. Run conformance.sh, which builds and installs first.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
NODE = MODULES / ".bin" / "node"
CLIENT = HERE.parent.parent / "target" / "debug" / "examples" / "conformance"
PACKAGES = {
    "alpha": MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js",
    "released": MODULES / "conformance-released" / "dist" / "index.js",
}


def table(page="conformance.md"):
    """The rows of a page: (package, scenario) -> (versions listed, versions to run, why not)."""
    rows = {}
    for line in (HERE / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 5 or cells[0] not in PACKAGES:
            continue
        package, scenario, listed, run, why = cells
        key = (package, scenario.strip("`"))
        if key in rows:
            sys.exit(f"{page} names {key} twice")
        if bool(run) == bool(why):
            sys.exit(f"{page}: {key} needs either versions to run at or a reason why not")
        rows[key] = (set(listed.split()), run.split(), why)
    return rows


def listed(kind="--client"):
    """What the packages themselves list: (package, scenario) -> versions."""
    found = {}
    for package, script in PACKAGES.items():
        text = subprocess.run(
            [NODE, script, "list", kind], check=True, capture_output=True, text=True
        ).stdout
        scenarios = re.findall(r"^\s+- (\S+) \[(.*)\]$", text, re.MULTILINE)
        if not scenarios:
            sys.exit(f"the package {package} lists no scenario that can be read:\n{text}")
        found.update({(package, name): set(versions.split(",")) for name, versions in scenarios})
    return found


def differences(rows, found, page="conformance.md"):
    """What stands in one of the two alone."""
    for key in sorted(found.keys() - rows.keys()):
        yield f"{key} is listed by its package and missing in {page}"
    for key in sorted(rows.keys() - found.keys()):
        yield f"{key} stands in {page} and is not listed by its package"
    for key in sorted(rows.keys() & found.keys()):
        if rows[key][0] != found[key]:
            yield f"{key} is listed for {sorted(found[key])}, {page} says {sorted(rows[key][0])}"


def run(package, scenario, version):
    """Runs one scenario; its output is shown where it fails.

    The suite calls a scenario passed in which nothing was checked, so at least one check has to have succeeded.
    """
    versions = [] if version == "extension" else ["--spec-version", version]
    command = [NODE, PACKAGES[package], "client", "--command", CLIENT, "--scenario", scenario]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*map(str, command), *versions, "--output-dir", folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = [json.loads(file.read_text()) for file in Path(folder).glob("**/checks.json")]
    checks = Counter(check["status"] for checks in found for check in checks)
    well = done.returncode == 0 and checks["SUCCESS"] > 0 and not checks["FAILURE"] and not checks["WARNING"]
    told = ", ".join(f"{count} {status.lower()}" for status, count in sorted(checks.items())) or "no check"
    print(f"{'ok  ' if well else 'FAIL'}  {package} {version} {scenario} ({told})", flush=True)
    if not well:
        print(done.stdout, done.stderr)
    return well


def main():
    rows = table()
    wrong = list(differences(rows, listed()))
    for difference in wrong:
        print(f"FAIL  {difference}")
    runs = [(*key, version) for key, (_, versions, _) in rows.items() for version in versions]
    failed = [each for each in runs if not run(*each)]
    left_out = sum(1 for _, versions, _ in rows.values() if not versions)
    print(f"{len(runs) - len(failed)} passed, {len(failed)} failed, {left_out} scenarios left out with a reason")
    sys.exit(bool(wrong or failed))


if __name__ == "__main__":
    main()
