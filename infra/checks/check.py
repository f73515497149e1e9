"""Checks the templates and manifests: our own rules, cfn-guard, cfn-lint, kubernetes-validate, and checkov as a second opinion, all at once."""

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import guard
from model import CLOUDFORMATION, KUBERNETES, ROOT, Project
from rules import ALL, problems

BIN = Path(sys.executable).parent


def lint(texts):
    """What cfn-lint says of these templates."""
    from cfnlint.api import ManualArgs, lint as cfn_lint

    for name, text in texts.items():
        for match in cfn_lint(text, config=ManualArgs(regions=["us-east-1", "eu-central-1"])):
            yield f"{name}:{match.linenumber}: {match.rule.id} {match.message}"


def rendered(overlay):
    return subprocess.run(["kubectl", "kustomize", ROOT / KUBERNETES / overlay], check=True, capture_output=True, text=True).stdout


def kubernetes(texts):
    """What kubernetes-validate says of these texts. It knows no resources of KEDA and of the Prometheus Operator; our own rules look at those."""
    import kubernetes_validate
    from model import Loader, yaml

    for name, text in texts.items():
        for document in filter(None, yaml.load_all(text, Loader=Loader)):
            if document.get("apiVersion", "").startswith(("keda.sh/", "kustomize.config.k8s.io/", "monitoring.coreos.com/")):
                continue
            try:
                kubernetes_validate.validate(document, "1.32", strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
                yield f"{name}: {document.get('kind')}: {getattr(error, 'message', error)}"


def checkov(texts):
    """Findings of checkov that are not accepted, and accepted ones that it does not find any more. One run: much of its time is its start."""
    accepted = tomllib.loads((ROOT / "infra/checks/accepted.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / f"{Path(name).parent.name}-{Path(name).stem}.yaml").write_text(text)
        command = [BIN / "checkov", "--skip-download", "--quiet", "--compact", "--soft-fail", "-o", "json", "--framework", *accepted, "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True)
    found = {framework: {} for framework in accepted}
    for report in json.loads(done.stdout):
        for check in report["results"]["failed_checks"]:
            found[report["check_type"]][f"{check['check_id']} {check['resource']}"] = check["check_name"]
        for error in report["results"].get("parsing_errors", []):
            yield f"checkov cannot read {error}"
    for framework, names in found.items():
        for name in sorted(names.keys() - accepted[framework].keys()):
            yield f"checkov: {name}: {names[name]}"
        for name in sorted(accepted[framework].keys() - names.keys()):
            yield f"accepted.toml: checkov does not find {name} any more"


def timed(look):
    begun = time.monotonic()
    return list(look()), time.monotonic() - begun


def main():
    project = Project()
    overlays = {f"{KUBERNETES}/{name}": rendered(name) for name in ("base", "console", "gateway", "keda", "monitoring")}
    templates = {name: text for name, text in project.texts.items() if name.startswith(CLOUDFORMATION)}
    # keda has what is in base.
    manifests = {name: text for name, text in overlays.items() if Path(name).name in ("console", "gateway", "keda")}
    # The longest first. Two of them are programs of their own, so that the others go on meanwhile.
    stages = {
        f"cfn-guard with {guard.count()} rules": lambda: guard.problems(templates),
        "checkov": lambda: checkov(templates | manifests),
        "cfn-lint": lambda: lint(templates),
        "kubernetes-validate": lambda: kubernetes(overlays),
        f"{len(ALL)} own rules": lambda: problems(project),
    }
    failed = 0
    with ThreadPoolExecutor() as pool:
        for name, (found, seconds) in zip(stages, pool.map(timed, stages.values())):
            failed += len(found)
            print(f"{'FAIL' if found else 'ok  '}  {name} ({seconds:.0f} s)", *found, sep="\n      ", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
