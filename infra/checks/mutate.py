"""Applies each seeded mistake of mutations.py alone, and reports which are caught, and by what. Fails if fewer than nine of ten are.

The fastest check goes first; a mistake that it finds is not shown to the others. So the figure of cfn-lint is of what our rules missed.
"""

import collections
import sys
import time

from check import kubernetes, lint
from model import CLOUDFORMATION, ROOT, Project
from mutations import MUTATIONS
from rules import problems

SHARE = 0.9
AT_LEAST = 50


def mutated(mutation):
    text = (ROOT / mutation.file).read_text()
    begin = text.index(mutation.after) if mutation.after in text else -1
    at = text.find(mutation.old, begin) if begin >= 0 else -1
    if at < 0:
        sys.exit(f"mutations.py: `{mutation.name}`: its text is not in {mutation.file}; write it anew")
    return text[:at] + mutation.new + text[at + len(mutation.old):]


def caught_by(mutation):
    text = mutated(mutation)
    try:
        project = Project({mutation.file: text})
    except Exception as error:  # noqa: BLE001 a text that is no YAML is caught by whoever reads it
        return "unreadable", str(error)
    found = next(iter(problems(project)), None)
    if found:
        return "own rules", found
    if mutation.file.startswith(CLOUDFORMATION):
        found = next(iter(lint({mutation.file: text})), None)
        return ("cfn-lint", found) if found else (None, None)
    if mutation.file.endswith(".yaml"):
        found = next(iter(kubernetes({mutation.file: text})), None)
        return ("kubernetes-validate", found) if found else (None, None)
    return None, None


def main():
    begun, counts, missed = time.monotonic(), collections.Counter(), []
    unchanged = list(problems(Project()))
    if unchanged:
        sys.exit("the templates have mistakes before any is seeded:\n" + "\n".join(unchanged))
    if len({m.name for m in MUTATIONS}) != len(MUTATIONS):
        sys.exit("mutations.py: two mutations have one name")
    for mutation in MUTATIONS:
        by, found = caught_by(mutation)
        if by is None:
            missed.append(mutation)
            print(f"MISSED {mutation.name} ({mutation.file})", flush=True)
        else:
            counts[by] += 1
            if "--verbose" in sys.argv:
                print(f"ok     {mutation.name}: {by}: {' '.join(found.split())[:160]}", flush=True)
    total = len(MUTATIONS)
    caught = total - len(missed)
    by = ", ".join(f"{count} by {name}" for name, count in counts.most_common())
    print(f"{caught} of {total} seeded mistakes caught ({caught * 100 // total} %): {by}; {time.monotonic() - begun:.0f} s")
    sys.exit(caught < max(AT_LEAST, SHARE * total))


if __name__ == "__main__":
    main()
