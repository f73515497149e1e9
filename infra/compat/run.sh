#!/usr/bin/env bash
# Third-party clients with our SQS, and our product with a third-party AWS. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 (3.11 or later) with venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/compat
logs=$here/.compat/logs

install() {
    [ -x "$1/bin/python" ] || python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
}

# The emulators have an environment of their own: ministack wants an older botocore than the clients are tested with.
# The MCP server and its environment are those of infra/interop.
mkdir -p "$logs"
cargo build --locked --workspace
install "$here/.compat/clients" "$here/requirements.txt" &
clients=$!
install "$here/.compat/emulators" "$here/requirements-emulators.txt" &
emulators=$!
install infra/interop/.interop/venv infra/interop/requirements.txt
wait "$clients"
wait "$emulators"
python=$PWD/$here/.compat/clients/bin/python
"$python" "$here/differences.py" --check

# Most of a suite is waiting, so the three run side by side.
suite() { (cd "$here" && "$python" -m pytest --target "$1" -rfX) >"$logs/$1.log" 2>&1; }
declare -A running
for target in ours ministack moto; do
    suite "$target" &
    running[$target]=$!
done
failed=0
for target in ours ministack moto; do
    if ! wait "${running[$target]}"; then
        failed=1
        cat "$logs/$target.log"
    fi
    echo "$target: $(tail -n 1 "$logs/$target.log")"
done
[ "$failed" -eq 0 ]
"$python" "$here/ministack.py"
"$python" "$here/cognito.py"
echo "compat: ours, ministack and moto are as written in docs/reference/compatibility.md; the product runs on ministack, with Cognito"
