# The commands that CI runs. `.ci/run` is the source; each recipe runs the same line. `just` lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Everything that must hold before a change lands.
ci:
    .ci/run

format:
    cargo fmt --all -- --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

build:
    cargo build --workspace --locked

test:
    cargo test --workspace --locked

# A tour on embedded endpoints.
demo: build
    target/debug/toolfleet dev --demo

# Calls on local endpoints, each verified.
load: build
    target/debug/toolfleet-loadtest run --calls 500 --slots 500 --hold

# Real MCP servers and AWS clients; installs pinned packages from PyPI and npm.
interop:
    bash infra/interop/run.sh

# The files of docs/examples. Run `just interop` once before.
examples: build
    infra/interop/.interop/venv/bin/python docs/examples/run.py

# Our SQS under boto3 and the aws CLI, and the product on other emulators.
compat:
    bash infra/compat/run.sh

# The data stack.
template:
    infra/interop/.interop/venv/bin/cfn-lint infra/cloudformation/data.yaml

# The official MCP conformance suite.
conformance:
    bash infra/interop/conformance.sh

# The API documentation, without warnings.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The links of all Markdown files.
links:
    python3 docs/check_links.py

# Licences, sources and bans of dependencies.
deny:
    cargo deny check bans licenses sources
