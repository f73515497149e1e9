#!/usr/bin/env bash
# The official MCP conformance suite drives the workers' own client. Run after run.sh has installed the packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --locked -p toolfleet-mcp --example conformance
here=infra/interop
failed=0 passed=0
# Scenarios of interactive OAuth do not apply to a worker; those of client credentials wait for that credential kind.
while read -r version scenario; do
    log=$(mktemp)
    if "$here/node_modules/.bin/node" "$here/node_modules/@modelcontextprotocol/conformance/dist/index.js" client \
        --command "$PWD/target/debug/examples/conformance" --scenario "$scenario" --spec-version "$version" \
        >"$log" 2>&1 </dev/null; then
        echo "ok    $version $scenario"
        passed=$((passed + 1))
    else
        echo "FAIL  $version $scenario"
        cat "$log"
        failed=$((failed + 1))
    fi
    rm -f "$log"
done <<'SCENARIOS'
2025-06-18 tools_call
2025-11-25 initialize
2025-11-25 tools_call
2025-11-25 sse-retry
2025-11-25 json-schema-2020-12-preservation
2026-07-28 tools_call
2026-07-28 request-metadata
2026-07-28 http-standard-headers
2026-07-28 http-custom-headers
2026-07-28 http-invalid-tool-headers
2026-07-28 json-schema-ref-no-deref
2026-07-28 json-schema-2020-12-preservation
2026-07-28 sep-2322-client-request-state
SCENARIOS
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
