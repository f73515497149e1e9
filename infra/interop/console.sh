#!/usr/bin/env bash
# The console of `toolfleet dev` in headless Chromium (console.mjs). A missing part fails the run. Takes about three minutes, of which two wait
# for the counts of a minute. Screenshots are in infra/interop/.interop/console: look at them after a change of templates or the stylesheet.
# Needs the programs of target/debug, python3, node, npm, and Debian's chromium-headless-shell, or another Chromium that CHROMIUM names.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/interop
shots=$here/.interop/console

(cd "$here" && npm ci --silent --no-audit --no-fund)
if [ -z "${CHROMIUM:-}" ] && ! command -v chromium-headless-shell >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium-headless-shell
fi
work=$(mktemp -d)
HOME=$work target/debug/toolfleet dev --json --port-base 0 >"$work/ready.json" 2>"$work/log" &
dev=$!
trap 'kill "$dev" 2>/dev/null; wait "$dev" 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do
    [ -s "$work/ready.json" ] && break
    kill -0 "$dev" || { cat "$work/log"; exit 1; }
    sleep 0.2
done
python3 "$here/console_data.py" target/debug/toolfleet "$work/ready.json"
rm -rf "$shots"
node "$here/console.mjs" "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["console_url"])' "$work/ready.json")" "$shots"
