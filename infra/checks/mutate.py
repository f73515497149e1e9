"""Applies each seeded mistake of mutations.py alone, and reports which are caught, and by what. Fails if fewer than nine of ten are.

The fastest check goes first; a mistake that it finds is not shown to the others. So the figure of cfn-lint is of what our rules missed. A process for each
processor takes some of the mistakes.
cfn-guard is asked about each mistake in a template, whoever else found it, and its own figure is printed: it may not fall.
"""

import collections
import itertools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml

import guard
from check import kubernetes, lint
from model import CLOUDFORMATION, ROOT, Project, parse
from mutations import MUTATIONS
from rules import problems

SHARE = 0.9
AT_LEAST = 50
# Of the mistakes in templates, those that cfn-guard catches alone.
GUARD_AT_LEAST = 75


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


def caught_by_guard(mutations):
    """How many of these mistakes, all of one template, cfn-guard catches."""
    texts = [text for text in map(mutated, mutations) if readable(text)]
    return sum(bool(found) for found in guard.failures(Path(mutations[0].file).stem, texts))


def parts(mutations):
    """Those of one template, a few at a time."""
    by_file = lambda mutation: mutation.file  # noqa: E731
    for _, of_file in itertools.groupby(sorted(mutations, key=by_file), by_file):
        of_file = list(of_file)
        yield from (of_file[begin:begin + 12] for begin in range(0, len(of_file), 12))


def readable(text):
    try:
        return isinstance(parse(text).get("Resources"), dict)
    except yaml.YAMLError:
        return False


def main():
    begun, counts, missed = time.monotonic(), collections.Counter(), []
    unchanged = list(problems(Project()))
    if unchanged:
        sys.exit("the templates have mistakes before any is seeded:\n" + "\n".join(unchanged))
    if len({m.name for m in MUTATIONS}) != len(MUTATIONS):
        sys.exit("mutations.py: two mutations have one name")
    in_templates = [mutation for mutation in MUTATIONS if mutation.file.startswith(CLOUDFORMATION)]
    with ProcessPoolExecutor() as pool:
        guarded = pool.map(caught_by_guard, parts(in_templates))
        for mutation, (by, found) in zip(MUTATIONS, pool.map(caught_by, MUTATIONS, chunksize=8)):
            if by is None:
                missed.append(mutation)
                print(f"MISSED {mutation.name} ({mutation.file})", flush=True)
            else:
                counts[by] += 1
                if "--verbose" in sys.argv:
                    print(f"ok     {mutation.name}: {by}: {' '.join(found.split())[:160]}", flush=True)
        guarded = sum(guarded)
    total = len(MUTATIONS)
    caught = total - len(missed)
    by = ", ".join(f"{count} by {name}" for name, count in counts.most_common())
    print(f"{caught} of {total} seeded mistakes caught ({caught * 100 // total} %): {by}; {time.monotonic() - begun:.0f} s")
    print(f"cfn-guard alone: {guarded} of {len(in_templates)} in templates")
    sys.exit(caught < max(AT_LEAST, SHARE * total) or guarded < GUARD_AT_LEAST)


if __name__ == "__main__":
    main()
