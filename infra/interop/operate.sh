#!/usr/bin/env bash
# A day of an operator, by the commands of docs/guides/tasks.md, with the programs of target/debug. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
venv=$here/.interop/venv

bash "$here/install.sh"
"$venv/bin/python" "$here/operate.py"
# Which rights each role uses: infra/checks compares that with the policies.
exec "$venv/bin/python" "$here/rights.py"
