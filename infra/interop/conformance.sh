#!/usr/bin/env bash
# The official MCP conformance suite drives the workers' own client; conformance.md is the table of its scenarios.
# Installs pinned packages into a folder that git ignores. Needs python3, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --locked --workspace --example conformance
(cd infra/interop && npm ci --silent --no-audit --no-fund)
exec python3 infra/interop/conformance.py
