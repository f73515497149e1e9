#!/usr/bin/env bash
# Installs the public servers that public.sh runs, each pinned, into folders that git ignores. `--all` adds those whose installation is large.
set -euo pipefail
cd "$(dirname "$0")"
tools=../.interop/tools
# What a package needs is taken as it was then, so that every machine gets the same.
as_of=2026-11-28T00:00:00Z

# The two registries are asked side by side.
PUPPETEER_SKIP_DOWNLOAD=1 npm install --silent --no-audit --no-fund --no-package-lock --before "$as_of" &
npm=$!
[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
"$tools/bin/python" ../public.py install "$as_of" "$@"
wait "$npm"
