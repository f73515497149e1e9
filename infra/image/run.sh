#!/usr/bin/env bash
# Builds both images from the programs of target/debug, which must be static (RUSTC_WRAPPER=infra/image/static-rustc), and runs them. A missing part fails the run.
# Installs pinned packages into a folder that git ignores. Needs python3 (3.11 or later) with venv, and buildah, which it installs where it may.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/image

bash "$here/install.sh"
python3 "$here/check.py" target/debug
