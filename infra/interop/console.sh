#!/usr/bin/env bash
# The console of `toolfleet dev` in headless Chromium (console.mjs). A missing part fails the run. Takes about three minutes, of which two wait
# for the counts of a minute. Screenshots are in infra/interop/.interop/console: look at them after a change of templates or the stylesheet.
# With --quick, as in CI, half a minute: each page once, without the counts of a minute and without screenshots.
# Needs the programs of target/debug, python3, npm, and a Chromium (browser.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/infra/interop
shots=$here/.interop/console
[ "${1:-}" = --quick ] && quick=quick || quick=
export PATH=$here/node_modules/.bin:$PATH

[ "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ] || (cd "$here" && npm ci --silent --no-audit --no-fund)
CHROMIUM=$(bash "$here/browser.sh")
export CHROMIUM
# The npm package has the libraries that a machine without browsers lacks.
libraries=
if ldd "$CHROMIUM" | grep --quiet "not found"; then
    libraries=$here/.interop/chromium/al2023/lib
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
python3 "$here/console_data.py" target/debug/toolfleet "$work/ready.json" $quick
address=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["console_url"])' "$work/ready.json")
if [ -n "$quick" ]; then
    LD_LIBRARY_PATH=$libraries node "$here/console.mjs" "$address"
else
    rm -rf "$shots"
    LD_LIBRARY_PATH=$libraries node "$here/console.mjs" "$address" "$shots"
fi
