# The commands of the repository. `.ci/run` runs the same lines, all of them, in order.

# List the recipes.
default:
    @just --list

# Everything that CI checks (about half an hour on two cores).
ci:
    .ci/run

# Format the code.
format:
    cargo fmt --all

# The checks that need no test run.
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Build everything.
build:
    cargo build --workspace --locked

# Run all tests, or those whose name contains a text: `just test breaker`.
test *FILTER:
    cargo test --workspace --locked {{FILTER}}

# Run everything on this machine: queues, tables, a demo MCP server, a worker.
dev *ARGS:
    cargo run -p toolfleet -- dev {{ARGS}}

# The tour: calls that end in different ways, checked.
demo: build
    target/debug/toolfleet dev --demo

# A short load test with every call verified.
load: build
    target/debug/toolfleet-loadtest run --calls 500 --slots 500 --hold

# Faults under load: kill, stop and freeze workers, kill the endpoints.
deaths: build
    target/debug/toolfleet-loadtest run --calls 900 --workers 2 --slots 32 --lease-ms 3000 --mix echo=40,counter=20,slow=20,payment=20 --slow lognormal:100:0.5 --deaths kill,term,stop,endpoints

# Real MCP servers from PyPI and npm.
interop: build
    bash infra/interop/run.sh

# Foreign AWS clients and emulators.
compat: build
    bash infra/compat/run.sh

# The official MCP conformance suite.
conformance: build
    bash infra/interop/conformance.sh

# The API documentation, without warnings.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The links of the Markdown files.
links:
    python3 docs/check_links.py

# Licences and sources of the dependencies.
deny:
    cargo deny check bans licenses sources
