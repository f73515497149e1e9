//! Owns the comparison of a catalog's pins with what servers list now.
//!
//! **Invariant:** a server is asked once, and only if something of it was asked about.

use std::collections::BTreeMap;

use serde_json::Value;
use toolfleet_catalog::{Approved, Catalog, Pin, Server};
use toolfleet_mcp::RemoteTool;

use super::asking::{Answer, Asker};
use crate::ending::Failure;

/// One tool of one server: what was approved of it, and what is listed now.
#[derive(Debug)]
pub(super) struct PinStatus {
    /// `server/name`.
    pub(super) target: String,
    pub(super) approved: Option<Approved>,
    pub(super) now: Now,
}

/// What its server says of a tool.
#[derive(Debug)]
pub(super) enum Now {
    Listed {
        pin: Pin,
        entry: Value,
    },
    NotListed,
    /// The server's list cannot be had.
    Unknown(String),
}

impl PinStatus {
    /// The word for it.
    pub(super) fn word(&self) -> &'static str {
        match (&self.approved, &self.now) {
            (_, Now::Unknown(_)) => "unknown",
            (None, Now::Listed { .. }) => "not pinned",
            (None, Now::NotListed) => "not listed",
            (Some(_), Now::NotListed) => "gone",
            (Some(approved), Now::Listed { pin, .. }) if approved.pin == *pin => "as approved",
            (Some(_), Now::Listed { .. }) => "changed",
        }
    }

    /// Whether calls of it are refused, or may be.
    pub(super) fn differs(&self) -> bool {
        self.approved.is_some() && self.word() != "as approved"
    }
}

/// The tools meant by `targets`; with none, every pinned tool, and with `all` every listed tool too.
pub(super) async fn standings(
    catalog: &Catalog,
    targets: &[String],
    all: bool,
) -> Result<Vec<PinStatus>, Failure> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for target in targets {
        let known =
            target.split_once('/').filter(|(id, _)| catalog.servers().iter().any(|s| s.id.as_str() == *id));
        let Some((server, name)) = known else {
            let text = format!("`{target}` is not SERVER/NAME of a server of the catalog");
            return Err(Failure::usage(text));
        };
        wanted.entry(server.to_owned()).or_default().push(name.to_owned());
    }
    if targets.is_empty() {
        for (server, name, _) in catalog.pinned() {
            wanted.entry(server.to_string()).or_default().push(name.to_owned());
        }
    }
    let asker = Asker::of(catalog).await?;
    let mut standings = Vec::new();
    for server in catalog.servers() {
        let names = wanted.remove(server.id.as_str()).unwrap_or_default();
        if names.is_empty() && !all {
            continue;
        }
        let answer = asker.ask(server).await;
        standings.extend(of_server(catalog, server, names, all, &answer));
    }
    asker.close().await;
    Ok(standings)
}

fn of_server(
    catalog: &Catalog,
    server: &Server,
    mut names: Vec<String>,
    all: bool,
    answer: &Answer,
) -> Vec<PinStatus> {
    if let (true, Ok(tools)) = (all, answer) {
        names.extend(tools.iter().map(|tool| tool.name.clone()));
    }
    names.sort();
    names.dedup();
    let standing = |name: String| PinStatus {
        target: format!("{}/{name}", server.id),
        approved: catalog.approved(&server.id, &name).cloned(),
        now: match answer {
            Err(problem) => Now::Unknown(problem.clone()),
            Ok(tools) => tools.iter().find(|tool| tool.name == name).map_or(Now::NotListed, listed),
        },
    };
    names.into_iter().map(standing).collect()
}

fn listed(tool: &RemoteTool) -> Now {
    let entry = serde_json::from_str(tool.raw.get()).unwrap_or(Value::Null);
    Now::Listed { pin: Pin::of_listed(&entry), entry }
}
