//! Compares a catalog's pins with what servers list now. A server is asked once, and only for tools that were named.

use std::collections::BTreeMap;

use serde_json::Value;
use toolfleet_catalog::{Approved, Catalog, Pin, Server};
use toolfleet_mcp::RemoteTool;

use super::live_list::{ListResult, ToolLister};
use crate::exit::CommandError;

/// One tool of one server: its approved pin, and what is listed now.
#[derive(Debug)]
pub(super) struct PinStatus {
    /// `server/name`.
    pub(super) target: String,
    pub(super) approved: Option<Approved>,
    pub(super) now: ListedNow,
}

/// What its server lists of a tool.
#[derive(Debug)]
pub(super) enum ListedNow {
    Listed {
        pin: Pin,
        entry: Value,
    },
    NotListed,
    /// The server's list cannot be read.
    Unknown(String),
}

impl PinStatus {
    /// The status as a word.
    pub(super) fn word(&self) -> &'static str {
        match (&self.approved, &self.now) {
            (_, ListedNow::Unknown(_)) => "unknown",
            (None, ListedNow::Listed { .. }) => "not pinned",
            (None, ListedNow::NotListed) => "not listed",
            (Some(_), ListedNow::NotListed) => "gone",
            (Some(approved), ListedNow::Listed { pin, .. }) if approved.pin == *pin => "as approved",
            (Some(_), ListedNow::Listed { .. }) => "changed",
        }
    }

    /// Whether calls of it are refused, or may be.
    pub(super) fn differs(&self) -> bool {
        self.approved.is_some() && self.word() != "as approved"
    }
}

/// The statuses of `targets`; if there are none, of every pinned tool, and with `all` of every listed tool too.
pub(super) async fn statuses(
    catalog: &Catalog,
    targets: &[String],
    all: bool,
) -> Result<Vec<PinStatus>, CommandError> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for target in targets {
        let known =
            target.split_once('/').filter(|(id, _)| catalog.servers().iter().any(|s| s.id.as_str() == *id));
        let Some((server, name)) = known else {
            let text = format!("`{target}` is not SERVER/NAME of a server of the catalog");
            return Err(CommandError::usage(text));
        };
        wanted.entry(server.to_owned()).or_default().push(name.to_owned());
    }
    if targets.is_empty() {
        for (server, name, _) in catalog.pinned() {
            wanted.entry(server.to_string()).or_default().push(name.to_owned());
        }
    }
    let lister = ToolLister::of(catalog).await?;
    let mut statuses = Vec::new();
    for server in catalog.servers() {
        let names = wanted.remove(server.id.as_str()).unwrap_or_default();
        if names.is_empty() && !all {
            continue;
        }
        let answer = lister.list(server).await;
        statuses.extend(of_server(catalog, server, names, all, &answer));
    }
    lister.close().await;
    Ok(statuses)
}

fn of_server(
    catalog: &Catalog,
    server: &Server,
    mut names: Vec<String>,
    all: bool,
    answer: &ListResult,
) -> Vec<PinStatus> {
    if let (true, Ok(tools)) = (all, answer) {
        names.extend(tools.iter().map(|tool| tool.name.clone()));
    }
    names.sort();
    names.dedup();
    let status = |name: String| PinStatus {
        target: format!("{}/{name}", server.id),
        approved: catalog.approved(&server.id, &name).cloned(),
        now: match answer {
            Err(problem) => ListedNow::Unknown(problem.clone()),
            Ok(tools) => tools.iter().find(|tool| tool.name == name).map_or(ListedNow::NotListed, listed),
        },
    };
    names.into_iter().map(status).collect()
}

fn listed(tool: &RemoteTool) -> ListedNow {
    let entry = serde_json::from_str(tool.raw.get()).unwrap_or(Value::Null);
    ListedNow::Listed { pin: Pin::of_listed(&entry), entry }
}
