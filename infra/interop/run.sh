#!/usr/bin/env bash
# Real MCP servers and AWS clients with the real binaries, as separate processes. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
venv=$here/.interop/venv

cargo build --locked --workspace
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
# Bridges, awslabs' Lambda handlers and the WebSocket server of the Python SDK need its first generation, which cannot be installed beside the second.
bridges=$here/.interop/bridges
[ -x "$bridges/bin/python" ] || python3 -m venv "$bridges"
"$bridges/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements-bridges.txt"
(cd "$here" && npm ci --silent --no-audit --no-fund)
"$venv/bin/python" "$here/openapi_documents.py" target/debug/toolfleet
exec "$venv/bin/python" "$here/run.py"
