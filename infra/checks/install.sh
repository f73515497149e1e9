#!/usr/bin/env bash
# Installs the pinned packages of run.sh into a folder that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"
venv=.checks/venv

# Each package is pinned with the hashes of its files. pip alone takes a minute for the hundred packages, so that it installs uv only.
python3 ../locks.py
mkdir -p .checks/npm
cp --update package.json package-lock.json .checks/npm/
# Only the program of the package is used, so what it is a plug-in of is not installed.
(cd .checks/npm && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps; }) &
npm=$!
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements.lock >.checks/uv.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement .checks/uv.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes --requirement requirements.lock
wait "$npm"
