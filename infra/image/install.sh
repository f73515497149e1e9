#!/usr/bin/env bash
# Installs what run.sh needs: buildah where it may, and pinned packages into a folder that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v buildah >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends buildah >/dev/null
fi
[ -x .image/venv/bin/python ] || python3 -m venv .image/venv
if ! cmp --silent requirements.lock .image/venv/installed.txt; then
    .image/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
    cp requirements.lock .image/venv/installed.txt
fi
