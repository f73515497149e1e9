"""Checks the templates and manifests: our own rules, cfn-guard, cfn-lint, kubernetes-validate, and checkov as a second opinion."""

import json
import subprocess
import sys
import tempfile
import tomllib
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
    """What kubernetes-validate says of these texts. It knows no resources of KEDA; our own rules look at those."""
    import kubernetes_validate
    from model import Loader, yaml

    for name, text in texts.items():
        for document in filter(None, yaml.load_all(text, Loader=Loader)):
            if document.get("apiVersion", "").startswith(("keda.sh/", "kustomize.config.k8s.io/")):
                continue
            try:
                kubernetes_validate.validate(document, "1.32", strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
                yield f"{name}: {document.get('kind')}: {getattr(error, 'message', error)}"


def checkov(folder, framework):
    """Findings of checkov that are not accepted, and accepted ones that it does not find any more."""
    accepted = tomllib.loads((ROOT / "infra/checks/accepted.toml").read_text())[framework]
    command = [BIN / "checkov", "--skip-download", "--quiet", "--compact", "--soft-fail", "-o", "json", "--framework", framework, "-d", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    reports = json.loads(done.stdout)
    found = {}
    for report in reports if isinstance(reports, list) else [reports]:
        for check in report["results"]["failed_checks"]:
            found[f"{check['check_id']} {check['resource']}"] = check["check_name"]
        for error in report["results"].get("parsing_errors", []):
            yield f"checkov cannot read {error}"
    for name in sorted(found.keys() - accepted.keys()):
        yield f"checkov: {name}: {found[name]}"
    for name in sorted(accepted.keys() - found.keys()):
        yield f"accepted.toml: checkov does not find {name} any more"


def main():
    project = Project()
    overlays = {f"{KUBERNETES}/{name}": rendered(name) for name in ("base", "console", "gateway", "keda")}
    stages = {
        f"{len(ALL)} own rules": lambda: problems(project),
        f"cfn-guard with {guard.count()} rules": lambda: guard.problems(project.texts),
        "cfn-lint": lambda: lint({name: text for name, text in project.texts.items() if name.startswith(CLOUDFORMATION)}),
        "kubernetes-validate": lambda: kubernetes(overlays),
        "checkov on the templates": lambda: checkov(ROOT / CLOUDFORMATION, "cloudformation"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in ("console", "gateway", "keda"):
            (Path(folder) / f"{name}.yaml").write_text(overlays[f"{KUBERNETES}/{name}"])
        stages["checkov on the manifests"] = lambda: checkov(folder, "kubernetes")
        failed = 0
        for name, look in stages.items():
            found = list(look())
            failed += len(found)
            print(f"{'FAIL' if found else 'ok  '}  {name}", *found, sep="\n      ", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
