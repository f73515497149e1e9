#!/usr/bin/env bash
# Third-party clients with our SQS, and our product with a third-party AWS. A missing part fails the run.
# Installs pinned packages into folders that git ignores. Needs python3 (3.11 or later) with venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=infra/compat
logs=$here/.compat/logs

mkdir -p "$logs"
cargo build --locked --workspace --bins --examples
bash "$here/install.sh"
# The MCP server and its environment are those of infra/interop.
bash infra/interop/install.sh
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
