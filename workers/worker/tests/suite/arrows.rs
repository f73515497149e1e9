//! The dependency rules between crates: which crate may depend on which, and what the core must not reach.

use std::collections::BTreeSet;
use std::path::Path;

/// For each crate, the crates of ours that it may depend on outside its tests.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("shared/core", "toolfleet-core", &[]),
    ("shared/catalog", "toolfleet-catalog", &["toolfleet-core"]),
    ("shared/aws", "toolfleet-aws", &["toolfleet-core"]),
    ("shared/egress", "toolfleet-egress", &["toolfleet-core"]),
    ("shared/credentials", "toolfleet-credentials", &["toolfleet-core", "toolfleet-egress"]),
    ("shared/mcp-protocol", "toolfleet-mcp-protocol", &[]),
    (
        "shared/mcp",
        "toolfleet-mcp",
        &["toolfleet-core", "toolfleet-egress", "toolfleet-credentials", "toolfleet-mcp-protocol"],
    ),
    (
        "shared/config",
        "toolfleet-config",
        &[
            "toolfleet-core",
            "toolfleet-catalog",
            "toolfleet-aws",
            "toolfleet-egress",
            "toolfleet-credentials",
            "toolfleet-mcp",
        ],
    ),
    ("shared/web", "toolfleet-web", &["toolfleet-config", "toolfleet-credentials"]),
    ("shared/clients/rust", "toolfleet-client", &["toolfleet-core", "toolfleet-aws"]),
    ("shared/testkit", "toolfleet-testkit", &["toolfleet-mcp-protocol"]),
    ("infra/local", "toolfleet-local", &["toolfleet-mcp-protocol"]),
    ("infra/peer", "toolfleet-peer", &[]),
    ("workers/executors", "toolfleet-executors", &["toolfleet-core", "toolfleet-catalog", "toolfleet-mcp"]),
    (
        "workers/worker",
        "toolfleet-worker",
        &[
            "toolfleet-core",
            "toolfleet-catalog",
            "toolfleet-aws",
            "toolfleet-credentials",
            "toolfleet-egress",
            "toolfleet-config",
            "toolfleet-executors",
            "toolfleet-mcp",
            "toolfleet-web",
        ],
    ),
    (
        "workers/gateway",
        "toolfleet-gateway",
        &[
            "toolfleet-core",
            "toolfleet-catalog",
            "toolfleet-client",
            "toolfleet-config",
            "toolfleet-credentials",
            "toolfleet-mcp-protocol",
            "toolfleet-web",
        ],
    ),
    (
        "workers/console",
        "toolfleet-console",
        &["toolfleet-core", "toolfleet-client", "toolfleet-config", "toolfleet-credentials", "toolfleet-web"],
    ),
    (
        "workers/cli",
        "toolfleet",
        &[
            "toolfleet-core",
            "toolfleet-catalog",
            "toolfleet-aws",
            "toolfleet-client",
            "toolfleet-config",
            "toolfleet-local",
            "toolfleet-credentials",
            "toolfleet-egress",
            "toolfleet-gateway",
            "toolfleet-console",
            "toolfleet-mcp",
            // `toolfleet dev` runs a worker in its own process; see `the_cli_uses_the_worker_in_dev_alone`.
            "toolfleet-worker",
        ],
    ),
    (
        "loadtest",
        "toolfleet-loadtest",
        &[
            "toolfleet-core",
            "toolfleet-catalog",
            "toolfleet-aws",
            "toolfleet-client",
            "toolfleet-local",
            "toolfleet-egress",
            "toolfleet-mcp",
            "toolfleet-mcp-protocol",
            "toolfleet-peer",
            "toolfleet-testkit",
        ],
    ),
];

/// What the pure core may depend on: no clock, no randomness, no network, no runtime, no SDK.
const CORE: [&str; 12] = [
    "base64",
    "hex",
    "jiff",
    "jsonschema",
    "regex",
    "schemars",
    "serde",
    "serde_json",
    "serde_path_to_error",
    "sha2",
    "thiserror",
    "url",
];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
    let section = manifest.split("\n[dependencies]").nth(1).expect("a section of dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    section.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')).map(name).collect()
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_written_down() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let members = workspace.split("members = [").nth(1).and_then(|t| t.split(']').next()).expect("members");
    let found: BTreeSet<_> = members.split('"').filter(|m| m.contains('/') || *m == "loadtest").collect();
    let known: BTreeSet<_> = ARROWS.iter().map(|(folder, ..)| *folder).collect();
    assert_eq!(found, known);
}

#[test]
fn no_crate_reaches_over_its_walls() {
    for (folder, name, allowed) in ARROWS {
        let ours = dependencies(folder).into_iter().filter(|d| d.starts_with("toolfleet"));
        let over: Vec<_> = ours.filter(|d| !allowed.contains(&d.as_str())).collect();
        assert!(over.is_empty(), "{name} must not depend on {over:?}; see docs/decisions/0001-walls.md");
    }
}

#[test]
fn the_core_has_no_clock_no_chance_no_network_and_no_runtime() {
    let allowed: BTreeSet<_> = CORE.iter().map(|d| (*d).to_owned()).collect();
    assert_eq!(dependencies("shared/core"), allowed);
}

#[test]
fn only_the_aws_crate_and_what_is_measured_beside_it_use_an_aws_sdk() {
    // The plain worker is what an engineer writes on the SDKs; no code of the product.
    let allowed = ["shared/aws", "infra/peer"];
    for (folder, name, _) in ARROWS.iter().filter(|(folder, ..)| !allowed.contains(folder)) {
        // `aws-lc-rs` is a library of cryptography, and reaches nothing.
        let is_sdk = |name: &String| name.starts_with("aws-") && name != "aws-lc-rs";
        let sdk: Vec<_> = dependencies(folder).into_iter().filter(is_sdk).collect();
        assert!(sdk.is_empty(), "{name} names {sdk:?}: all access to AWS goes through toolfleet-aws");
    }
}

#[test]
fn backoff_is_named_in_one_file() {
    let mut naming = Vec::new();
    let mut folders =
        vec![root().join("workers"), root().join("shared"), root().join("infra"), root().join("loadtest")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of ours").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if text.lines().any(|l| l.starts_with("use backoff::")) {
                    naming.push(path.file_name().unwrap_or_default().to_owned());
                }
            }
        }
    }
    assert_eq!(naming, ["backoff.rs"]);
}

#[test]
fn the_cli_uses_the_worker_in_dev_alone() {
    let commands = root().join("workers/cli/src");
    let mut naming = Vec::new();
    let mut folders = vec![commands.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of ours").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path).unwrap_or_default().contains("toolfleet_worker::") {
                naming.push(path.strip_prefix(&commands).expect("a file of it").to_owned());
            }
        }
    }
    assert_eq!(naming, [Path::new("commands/dev/local_fleet.rs")]);
}
