#!/usr/bin/env bash
# Prints the path of a headless Chromium: the one that CHROMIUM names, Debian's chromium-headless-shell where it is installed, or that of the npm package
# @sparticuz/chromium, which is unpacked once into a folder that git ignores. Needs the packages of install.sh.
set -euo pipefail
cd "$(dirname "$0")"
if [ -n "${CHROMIUM:-}" ]; then
    echo "$CHROMIUM"
elif ! command -v chromium-headless-shell; then
    unpacked=$PWD/.interop/chromium
    mkdir -p "$unpacked"
    # The package unpacks its libraries only where it takes the machine for Lambda.
    TMPDIR=$unpacked AWS_EXECUTION_ENV=AWS_Lambda_nodejs22.x node_modules/.bin/node --eval \
        'import("@sparticuz/chromium").then(async ({ default: chromium }) => console.log(await chromium.executablePath()))'
fi
