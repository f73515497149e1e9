#!/usr/bin/env bash
# A day of an operator, by the commands of docs/guides/tasks.md, with the programs of target/debug. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 with venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
venv=$here/.interop/venv

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
"$venv/bin/python" "$here/operate.py"
# Which rights each role uses: infra/checks compares that with the policies.
exec "$venv/bin/python" "$here/rights.py"
