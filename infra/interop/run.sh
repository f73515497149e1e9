#!/usr/bin/env bash
# Real MCP servers and AWS clients with the real binaries, as separate processes. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
venv=$here/.interop/venv

cargo build --locked --workspace --bins --examples
bash "$here/install.sh"
"$venv/bin/python" "$here/openapi_documents.py" target/debug/toolfleet
exec "$venv/bin/python" "$here/run.py"
