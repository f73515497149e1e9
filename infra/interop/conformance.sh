#!/usr/bin/env bash
# The official MCP conformance suite drives the workers' own client, and is a client of the gateway; conformance.md and
# gateway_conformance.md are the tables of its scenarios.
# Installs pinned packages into a folder that git ignores. Needs python3, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --locked --workspace --example conformance --bin toolfleet
(cd infra/interop && npm ci --silent --no-audit --no-fund)
python3 infra/interop/conformance.py
exec python3 infra/interop/gateway_conformance.py
