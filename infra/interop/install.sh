#!/usr/bin/env bash
# Installs the pinned packages (../locks.py) of the scripts beside this one into folders that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"

install() {
    [ -x "$1/bin/python" ] || python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$2"
}

# The two registries are asked side by side.
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund &
npm=$!
install .interop/venv requirements.lock
# Bridges, awslabs' Lambda handlers and the WebSocket server of the Python SDK need its first generation, which cannot be installed beside the second.
install .interop/bridges requirements-bridges.lock
wait "$npm"
bash browser.sh >/dev/null
