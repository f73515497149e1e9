#!/usr/bin/env bash
# Installs the pinned packages of run.sh into a folder that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"

[ -x .checks/venv/bin/python ] || python3 -m venv .checks/venv
.checks/venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
mkdir -p .checks/npm
cp --update package.json package-lock.json .checks/npm/
# Only the program of the package is used, so what it is a plug-in of is not installed.
cd .checks/npm
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps
