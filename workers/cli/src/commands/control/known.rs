//! Whether a name that an operator gives to a switch or a limit is one that the fleet knows: a mistyped name holds nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, Tool};
use toolfleet_client::{RecordsOf, StatsOf};
use toolfleet_core::control::ControlEntry;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::time::Timestamp;

use super::reason::now;
use super::shown;
use crate::commands::tools::source;
use crate::connect::{ClientHandle, Connect};
use crate::exit::CommandError;
use crate::nearest::nearest;
use crate::network::variable;
use crate::output::Output;

/// How far back calls are looked for.
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether its calls were seen within a day, or the catalog has it; nothing where that cannot be said.
    is_known: Option<bool>,
    /// What to tell where it is not.
    remark: String,
}

impl Known {
    /// The entry as a document, with `known`.
    pub(super) fn document(&self, entry: &ControlEntry) -> Result<Value, CommandError> {
        let mut document = shown::document(entry)?;
        if let Some(members) = document.as_object_mut() {
            members.insert("known".to_owned(), json!(self.is_known));
        }
        Ok(document)
    }

    /// Says that the name is not known, if so.
    pub(super) fn note(&self, output: &Output) {
        if self.is_known == Some(false) {
            output.note(&self.remark);
        }
    }
}

/// What is known of the name of a limit: for one of the calls of a tenant to a tool, that of the tool.
pub(super) async fn known_limit(limit: &LimitKey, client: &ClientHandle, connect: &Connect) -> Known {
    let target = match limit {
        LimitKey::TenantTool(_, tool) => format!("tool:{tool}"),
        LimitKey::Tool(_) | LimitKey::Tenant(_) | LimitKey::Server(_) => limit.name(),
    };
    known(&target, client, connect).await
}

/// What is known of the target of a switch: `server:ID`, `tool:ID`, `tenant:ID`. A queue is always known. What cannot be read is not known,
/// and no error: the switch is set already.
pub(super) async fn known(target: &str, client: &ClientHandle, connect: &Connect) -> Known {
    let Some((kind, name)) = target.split_once(':') else { return Known::default() };
    let found = match kind {
        "server" | "tool" => names(kind, client, connect).await,
        "tenant" => tenants(name, client).await,
        _ => return Known { is_known: Some(true), remark: String::new() },
    };
    let Ok((names, where_from)) = found else { return Known::default() };
    if names.contains(name) {
        return Known { is_known: Some(true), remark: String::new() };
    }
    let near = nearest(name, names.iter().map(String::as_str));
    let near = if near.is_empty() { String::new() } else { format!(" Nearest: {}.", near.join(", ")) };
    let remark = format!("is the name right? No call of {kind} {name} ended within a day{where_from}.{near}");
    Known { is_known: Some(false), remark }
}

/// The names of servers or tools, and what a name that is not among them is missing from beside the calls of a day.
async fn names(
    kind: &str,
    client: &ClientHandle,
    connect: &Connect,
) -> Result<(BTreeSet<String>, &'static str), CommandError> {
    let mut names = BTreeSet::new();
    if let Some(summary) = client.summary().await? {
        match kind {
            "server" => names.extend(summary.servers.keys().map(ToString::to_string)),
            _ => names.extend(summary.tools.keys().cloned()),
        }
    }
    let to = now();
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    let from = Timestamp::from_ms(to.as_ms().saturating_sub(day));
    for tool in client.stats(from, to, &StatsOf::default()).await?.tools {
        match kind {
            "server" => names.extend(tool.server.map(|server| server.to_string())),
            _ => drop(names.insert(tool.tool)),
        }
    }
    let Some(place) = variable("TOOLFLEET_CATALOG").filter(|place| !place.is_empty()) else {
        return Ok((names, ", and TOOLFLEET_CATALOG names no catalog to look into"));
    };
    let (_, catalog) = source::read(&place, connect).await?;
    match kind {
        "server" => names.extend(catalog.servers().into_iter().map(|server| server.id.to_string())),
        _ => names.extend(catalog.tools().into_iter().flat_map(|tool| names_of(tool))),
    }
    let rest = if kind == "tool" && lists_more(&catalog) {
        ", and the catalog names no such tool; some of its servers have tools that it does not name"
    } else {
        ", and the catalog has none"
    };
    Ok((names, rest))
}

/// The names by which a switch can mean a tool: its id, `id.function` and `server/name`.
fn names_of(tool: &Tool) -> Vec<String> {
    let mut names = vec![tool.id.to_string()];
    for function in &tool.functions {
        names.push(format!("{}.{}", tool.id, function.name));
        names.push(format!("{}/{}", tool.server.id, function.name));
    }
    names
}

/// Whether a server of the catalog has tools that it does not name.
fn lists_more(catalog: &Catalog) -> bool {
    catalog.servers().into_iter().any(|server| server.discover || catalog.tool_of_all(&server.id).is_some())
}

/// The tenant, if it has a record within a day, and those that had slots within a minute.
async fn tenants(
    name: &str,
    client: &ClientHandle,
) -> Result<(BTreeSet<String>, &'static str), CommandError> {
    let mut names = BTreeSet::new();
    if let Some(summary) = client.summary().await? {
        names.extend(summary.slot_ms_a_minute.keys().map(ToString::to_string));
    }
    if let Ok(tenant) = Tenant::parse(name)
        && !client.records(&tenant, &RecordsOf::Everything, DAY, 1).await?.is_empty()
    {
        names.insert(name.to_owned());
    }
    Ok((names, ""))
}
