#!/usr/bin/env bash
# Public MCP servers of npm and PyPI, listed and called through SQS with the real binaries. A missing part fails the run.
# `--all` adds those whose installation is large; `--write` writes the table of docs/reference/compatibility.md anew.
# Installs pinned packages into folders that git ignores. Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
tools=$here/.interop/tools
# What a package needs is taken as it was then, so that every machine gets the same.
as_of=2026-11-28T00:00:00Z

cargo build --locked --workspace
[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/public/requirements.txt"
# The two registries are asked side by side.
(cd "$here/public" && PUPPETEER_SKIP_DOWNLOAD=1 npm install --silent --no-audit --no-fund --no-package-lock --before "$as_of") &
npm=$!
"$tools/bin/python" "$here/public.py" install "$as_of" "$@"
wait "$npm"
exec "$tools/bin/python" "$here/public.py" run "$@"
