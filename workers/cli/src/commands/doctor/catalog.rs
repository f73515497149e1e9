//! A catalog: can it be read, can its entries be executed, and does each server answer with the credential that it names?

use std::collections::BTreeSet;
use std::sync::Arc;

use toolfleet_catalog::{Catalog, NotExecutable, Server};
use toolfleet_client::shell_command::quoted;

use super::finding::{Check, Finding};
use crate::commands::tools::live_list::ToolLister;
use crate::commands::tools::source;
use crate::connect::Connect;
use crate::exit::CommandError;

/// What is found of the catalog at `place`, and the queues to which it lets notices go. Servers are asked for their tools; no tool is called.
pub(super) async fn findings(
    place: &str,
    connect: &Connect,
) -> Result<(Vec<Finding>, BTreeSet<String>), CommandError> {
    let edit = format!("toolfleet tools list --catalog {}", quoted(place));
    let catalog = match source::read(place, connect).await {
        Ok((_, catalog)) => catalog,
        Err(error @ (CommandError::Usage(_) | CommandError::Unavailable(_))) => {
            let unread = Finding::failed(Check::CatalogReads, "catalog", error.message(), edit);
            return Ok((vec![unread], BTreeSet::new()));
        }
        Err(error) => return Err(error),
    };
    let (tools, servers) = (catalog.tools().len(), catalog.servers().len());
    let mut findings =
        vec![Finding::ok(Check::CatalogReads, "catalog", format!("{tools} tools on {servers} servers"))];
    findings.extend(entries(&catalog, &edit));
    findings.extend(lists(&catalog, &edit).await?);
    Ok((findings, catalog.reply_queues().into_iter().map(str::to_owned).collect()))
}

/// The entries that cannot be executed, unless their author has switched them off.
fn entries(catalog: &Catalog, edit: &str) -> Vec<Finding> {
    let servers = catalog.not_executable_servers().map(|(id, found)| (format!("server {id}"), found));
    let tools = catalog.not_executable_tools().map(|(id, found)| (format!("tool {id}"), found));
    let finding = |(what, found): (String, &NotExecutable)| {
        let text = format!("{} {}", found.entry, found.reason);
        Finding::failed(Check::EntriesExecutable, what, text, edit)
    };
    servers.chain(tools).filter(|(_, found)| !found.is_switched_off()).map(finding).collect()
}

/// Whether each server lists its tools.
async fn lists(catalog: &Catalog, edit: &str) -> Result<Vec<Finding>, CommandError> {
    let lister = ToolLister::of(catalog).await?;
    let mut findings = Vec::new();
    for server in catalog.servers() {
        findings.push(list(&lister, server, edit).await);
    }
    lister.close().await;
    Ok(findings)
}

async fn list(lister: &ToolLister, server: &Arc<Server>, edit: &str) -> Finding {
    let subject = server.id.to_string();
    if let Some(openapi) = server.openapi() {
        let text = format!(
            "{} operations in its document; the API itself is not asked",
            openapi.interface.document.operations.len()
        );
        return Finding::ok(Check::ServersList, subject, text);
    }
    if let Some(lambda) = server.lambda() {
        let text = format!("{} is not asked: it has no list of tools", lambda.function.as_str());
        let remedy = format!(
            "aws lambda invoke --invocation-type DryRun --function-name {} /dev/null",
            quoted(lambda.function.as_str())
        );
        return Finding::warning(Check::ServersList, subject, text, remedy);
    }
    match lister.list(server).await {
        Ok(tools) => Finding::ok(Check::ServersList, subject, format!("lists {} tools", tools.len())),
        Err(problem) => Finding::failed(Check::ServersList, subject, problem, format!("{edit} --live")),
    }
}
