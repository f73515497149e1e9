# The commands of this repository. `.ci/run` runs the same lines in its own order; `.ci/check_justfile.py` compares them.

# List the recipes.
default:
    @just --list

# Everything that CI checks.
ci:
    .ci/run

# Install what the checks need beside Rust.
packages:
    .ci/packages

# Format the code.
format:
    cargo fmt --all

# Format and clippy, as CI checks them.
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Build everything.
build:
    cargo build --workspace --bins --examples --locked

# Run all tests, or those whose name contains a text: `just test breaker`.
test *FILTER:
    cargo test --workspace --locked {{FILTER}}

# Run queues, tables, a demo MCP server and a worker on this machine.
dev *ARGS:
    cargo run -p toolfleet -- dev {{ARGS}}

# The demo: calls that end in different ways, checked.
demo: build
    target/debug/toolfleet dev --demo

# Load, with every call verified.
load: build
    target/debug/toolfleet-loadtest run --calls 500 --slots 500 --hold

# AWS requests of each kind of call, and their price.
bill: build
    target/debug/toolfleet-loadtest bill --calls 60 --lease-ms 1000

# CPU time of MCP, writes and queue, each alone.
parts: build
    target/debug/toolfleet-loadtest parts --calls 300

# The worker beside a plain worker: every call verified, requests and write units counted.
peer: build
    target/debug/toolfleet-loadtest peer --rounds 1 --seconds 1 --drain-calls 200 --rates 50 --counts-only

# CPU of the MCP step beside rmcp's client.
mcp-cost: build
    target/debug/toolfleet-loadtest mcp-cost --calls 100 --rounds 2

# Load with faults: workers killed, stopped and frozen, endpoints killed.
faults: build
    target/debug/toolfleet-loadtest run --calls 900 --workers 2 --slots 32 --lease-ms 3000 --mix echo=40,counter=20,slow=20,payment=20 --slow lognormal:100:0.5 --faults kill,term,stop,endpoints

# Faults of every kind, drawn from a seed, and an account of every call.
chaos: build
    target/debug/toolfleet-loadtest chaos --seconds 90 --calls 1000

# A rate limit and a concurrency limit under four workers, counted at the servers.
flow: build
    target/debug/toolfleet-loadtest flow limit --workers 4 --seconds 30 --kill-every 0 --floor 0.5

# How long each page of the console takes over 1,000 servers; for the figures of a goal take a release build and --records 1000000 --most-ms 300.
console-time: build
    target/debug/toolfleet-loadtest console --records 20000 --most-ms 3000

# 200 groups of calls while workers are killed with -9: each is decided once.
groups: build
    target/debug/toolfleet-loadtest flow groups

# Real MCP servers from PyPI and npm, boto3 and the aws CLI.
interop:
    bash infra/interop/run.sh

# Public MCP servers of npm and PyPI, listed and called through a fleet.
public:
    bash infra/interop/public.sh

# The examples of docs/examples (run `just interop` once before: it makes the Python environment).
examples: build
    infra/interop/.interop/venv/bin/python docs/examples/run.py

# Foreign AWS clients and emulators.
compat:
    bash infra/compat/run.sh

# Check the templates and manifests, and that seeded mistakes in them are caught.
infra:
    bash infra/checks/run.sh

# The images, built twice and run; the programs must be static (export RUSTC_WRAPPER=$PWD/infra/image/static-rustc before the build).
image:
    bash infra/image/run.sh

# A day of an operator.
operate:
    bash infra/interop/operate.sh

# The console in a browser: each page in each width and theme, with the counts of a minute and with screenshots.
console:
    bash infra/interop/console.sh

# The same as CI does it, each page once.
console-quick:
    bash infra/interop/console.sh --quick

# The official MCP conformance suite.
conformance:
    bash infra/interop/conformance.sh

# The API documentation, without warnings.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --bin toolfleet --examples --locked

# The links of the Markdown files, and this file.
links:
    python3 docs/check_links.py
    python3 .ci/check_justfile.py

# Licences and sources of the dependencies.
deny:
    cargo deny check bans licenses sources
