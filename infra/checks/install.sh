#!/usr/bin/env bash
# Installs the pinned packages of run.sh into a folder that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"
venv=.checks/venv

# requirements.lock is what `uv pip compile` makes of requirements.txt. pip alone takes a minute for the hundred packages.
if grep --invert-match --line-regexp --fixed-strings --file requirements.lock requirements.txt; then
    echo "install.sh: requirements.lock has other versions; make it anew: uv pip compile --no-annotate --no-header requirements.txt --output-file requirements.lock" >&2
    exit 1
fi
mkdir -p .checks/npm
cp --update package.json package-lock.json .checks/npm/
# Only the program of the package is used, so what it is a plug-in of is not installed.
(cd .checks/npm && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps; }) &
npm=$!
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "$(grep '^uv==' requirements.txt)"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement requirements.lock
wait "$npm"
