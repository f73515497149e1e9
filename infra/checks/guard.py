"""cfn-guard with our own rules (guard/*.guard): the rules of common.guard for every template, and those of each template for it alone.

cfn-guard answers SKIP, and success, for a rule that found nothing to look at, and for a case without an expectation. So a rule of a template must
pass; a rule of common.guard may be skipped only where the template has no resource of the types that it names; and each rule has a case that fails.
"""

import copy
import json
import os
import platform
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

from model import CLOUDFORMATION, ROOT, parse

RULES = ROOT / "infra/checks/guard"
MACHINE = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
SYSTEM = {"Linux": "ubuntu", "Darwin": "macos"}[platform.system()]
PROGRAM = ROOT / f"infra/checks/.checks/npm/node_modules/@cdklabs/cdk-validator-cfnguard/bin/{SYSTEM}/{MACHINE}/cfn-guard"


def _run(*arguments):
    PROGRAM.chmod(0o755)
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env={**os.environ, "RUST_BACKTRACE": "0"})
    # 0: all hold; 19 of `validate` and 7 of `test`: some do not. Anything else is no answer.
    if done.returncode not in (0, 7, 19):
        raise SystemExit(f"cfn-guard {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def rules(file):
    """The rules of a file: name, and the types of resources that its condition names."""
    text = (RULES / f"{file}.guard").read_text()
    return {name: set(re.findall(r"AWS::\w+::\w+", condition)) for name, condition in re.findall(r"^rule (\w+)(.*)\{$", text, re.M)}


def _states(file, texts):
    """The state of each rule of the file for each of these texts: PASS, FAIL or SKIP."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.yaml").write_text(text)
        reports = json.loads(_run("validate", "--rules", RULES / f"{file}.guard", "--data", folder, "--structured", "--output-format", "json", "--show-summary", "none"))
    states = [{} for _ in texts]
    for report in reports:
        failed = {result["Rule"]["name"] for result in report["not_compliant"]}
        parts = ((report["compliant"], "PASS"), (report["not_applicable"], "SKIP"), (failed, "FAIL"))
        states[int(Path(report["name"]).stem)] = {rule: state for names, state in parts for rule in names}
    return states


def failures(template, texts):
    """For each of these texts of a template: the rules that it fails, or is skipped by without a reason."""
    found = [[] for _ in texts]
    for file in ["common"] + [template] * (RULES / f"{template}.guard").exists():
        for place, text, states in zip(found, texts, _states(file, texts)):
            types = {resource.get("Type") for resource in parse(text)["Resources"].values()}
            for rule, about in rules(file).items():
                state = states.get(rule, "missing")
                applies = file != "common" or about & types
                if state == "FAIL" or applies and state != "PASS":
                    place.append(f"{template}.yaml: {file}.guard: {rule}: {state}")
    return found


def _changed(document, at, value):
    document = copy.deepcopy(document)
    *path, last = (int(part) if part.isdecimal() else part for part in at.split("."))
    place = document
    for part in path:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def cases(texts):
    """What `cfn-guard test` says of the cases, and rules without one."""
    table = tomllib.loads((RULES / "cases.toml").read_text())
    documents = {Path(name).stem: parse(text) for name, text in texts.items()} | {"example": table.pop("example")}
    files = {path.stem for path in RULES.glob("*.guard")}
    for name in sorted(files ^ table.keys()):
        yield f"guard/cases.toml and guard/*.guard: {name} is in one of them only"
    for file in sorted(files & table.keys()):
        names, of_file = rules(file), table[file]
        for name in sorted(names.keys() ^ of_file.keys()):
            yield f"{file}.guard: {name}: " + ("has no case" if name in names else "there is no such rule")
        # Each template once, with all of its rules: cfn-guard looks at every rule of the file each time.
        unchanged, inputs = {}, []
        for rule, changes in of_file.items():
            for change in changes:
                template = change.get("in", file)
                unchanged.setdefault(template, {})[rule] = "PASS"
                inputs.append(({rule: "FAIL"}, _changed(documents[template], change["at"], change.get("is")), f"{template}: {change['at']}"))
        inputs += [(states, documents[template], template) for template, states in unchanged.items()]
        yield from _tested(file, inputs)


def _tested(file, inputs):
    tests = [{"name": str(number), "input": document, "expectations": {"rules": states}} for number, (states, document, _) in enumerate(inputs)]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as data:
        json.dump(tests, data)
        data.flush()
        report = json.loads(_run("test", "--rules-file", RULES / f"{file}.guard", "--test-data", data.name, "--output-format", "json"))
    passed = {(case["name"], rule["name"]) for case in report["test_cases"] for rule in case["passed_rules"]}
    for number, (states, _, place) in enumerate(inputs):
        for rule, state in states.items():
            if (str(number), rule) not in passed:
                yield f"{file}.guard: {rule}: not {state} with {place}"


def problems(texts):
    """All that is wrong with the templates or the rules."""
    texts = {name: text for name, text in texts.items() if name.startswith(CLOUDFORMATION)}
    yield from cases(texts)
    for name, text in texts.items():
        yield from failures(Path(name).stem, [text])[0]


def count():
    return sum(len(rules(path.stem)) for path in RULES.glob("*.guard"))
