"""Checks that every relative link in the Markdown files leads to a file and, where it names one, to a heading of it."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text):
    """The anchors that GitHub makes of a file's headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    names = re.findall(r"^#+ +(.*?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


def broken(path):
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


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split() if (ROOT / name).exists()]
    found = [f"{path.relative_to(ROOT)}: {target}" for path in files for target in broken(path)]
    print("\n".join(found) if found else f"{len(files)} files: every link leads somewhere")
    sys.exit(bool(found))


main()
