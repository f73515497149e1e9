"""Checks the Markdown files: every relative link leads to a file (and heading), every path and source file in backticks exists,
and every crate has a README."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:docs|infra|loadtest|shared|workers|\.ci|\.github)/[\w./-]+)`")
SOURCE = re.compile(r"`(?:\.\./)*([\w./-]+\.(?:rs|py|sh))`")


def anchors(text):
    """The anchors that GitHub makes of a file's headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    names = re.findall(r"^#+ +(.*?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


def broken(path, sources):
    text = path.read_text()
    for target in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield target
        elif anchor and anchor not in anchors(file.read_text()):
            yield target
    yield from (name for name in PATH.findall(text) if not (ROOT / name).exists())
    yield from (name for name in SOURCE.findall(text) if not any(source.endswith(f"/{name}") for source in sources))


def main():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    present = [name for name in listed if (ROOT / name).exists()]
    sources = [f"/{name}" for name in present]
    files = [ROOT / name for name in present if name.endswith(".md")]
    found = [f"{path.relative_to(ROOT)}: {target}" for path in files for target in broken(path, sources)]
    crates = re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.M | re.S).group(1)
    found += [f"{crate}: has no README.md" for crate in re.findall(r'"(.+?)"', crates) if not (ROOT / crate / "README.md").exists()]
    print("\n".join(found) if found else f"{len(files)} files: every link leads somewhere")
    sys.exit(bool(found))


main()
