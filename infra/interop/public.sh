#!/usr/bin/env bash
# Public MCP servers of npm and PyPI, listed and called through SQS with the real binaries. A missing part fails the run.
# `--all` adds those whose installation is large; `--write` writes the table of docs/reference/compatibility.md anew.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
tools=$here/.interop/tools

cargo build --locked --workspace --bins --examples
bash "$here/public/install.sh" "$@"
exec "$tools/bin/python" "$here/public.py" run "$@"
