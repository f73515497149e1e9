#!/usr/bin/env bash
# The official MCP conformance suite drives the workers' own client, and is a client of the gateway; conformance.md and
# gateway_conformance.md are the tables of its scenarios.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --locked --workspace --bins --examples
bash infra/interop/install.sh
python3 infra/interop/conformance.py
exec python3 infra/interop/gateway_conformance.py
