#!/usr/bin/env bash
# Installs the pinned packages (../locks.py) of run.sh into folders that git ignores. Quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")"

install() {
    [ -x "$1/bin/python" ] || python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$2"
}

# The emulators have an environment of their own: ministack wants an older botocore than the clients are tested with.
install .compat/clients requirements.lock &
clients=$!
install .compat/emulators requirements-emulators.lock
wait "$clients"
