#!/usr/bin/env bash
# Builds both images from the programs of target/debug, which must be static (RUSTC_WRAPPER=infra/image/static-rustc), and runs them. A missing part fails the run.
# Installs pinned packages into a folder that git ignores. Needs python3 (3.11 or later) with venv, and buildah, which it installs where it may.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/image

if ! command -v buildah >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends buildah >/dev/null
fi
[ -x "$here/.image/venv/bin/python" ] || python3 -m venv "$here/.image/venv"
if ! cmp --silent "$here/requirements.txt" "$here/.image/venv/installed.txt"; then
    "$here/.image/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$here/.image/venv/installed.txt"
fi
python3 "$here/check.py" target/debug
