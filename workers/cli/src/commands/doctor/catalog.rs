//! A catalog: can it be read, can its entries be executed, can each secret be read, and does each server answer with its credential?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, stream};
use toolfleet_catalog::{Catalog, LambdaTransport, NotExecutable, Server};
use toolfleet_client::shell_command::quoted;
use toolfleet_core::credential::SecretRef;
use toolfleet_core::fleet::{BreakerState, FleetSummary};

use super::finding::{Check, Finding, Verdict};
use crate::commands::tools::live_list::ToolLister;
use crate::commands::tools::source;
use crate::connect::Connect;
use crate::exit::CommandError;
use crate::show::count;

/// What is found of the catalog at `place`, and the queues to which it lets notices go. Servers are asked for their tools; no tool is called.
/// Where this process may not read a server's secret, what the workers have seen of it counts.
pub(super) async fn findings(
    place: &str,
    seen: Option<&FleetSummary>,
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
    let mut findings = vec![Finding::ok(
        Check::CatalogReads,
        "catalog",
        format!("{} on {}", count(tools, "tool"), count(servers, "server")),
    )];
    findings.extend(entries(&catalog, &edit));
    findings.extend(of_servers(&catalog, seen, &edit).await?);
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

/// How many servers, or secrets, are asked at the same time.
const ASKED_AT_ONCE: usize = 8;

/// Whether each secret can be read, each server lists its tools, each function may be invoked and each HTTP interface answers.
async fn of_servers(
    catalog: &Catalog,
    seen: Option<&FleetSummary>,
    edit: &str,
) -> Result<Vec<Finding>, CommandError> {
    let lister = ToolLister::of(catalog).await?;
    let secrets: BTreeMap<_, _> = catalog
        .servers()
        .into_iter()
        .flat_map(|server| server.secrets())
        .map(|reference| (reference.to_string(), reference))
        .collect();
    let reads = secrets.values().map(|reference| secret(&lister, reference).boxed());
    let read: Vec<(Finding, bool)> =
        stream::iter(reads.collect::<Vec<_>>()).buffered(ASKED_AT_ONCE).collect().await;
    let denied: BTreeSet<_> =
        secrets.keys().zip(&read).filter(|(_, (_, denied))| *denied).map(|(name, _)| name.clone()).collect();
    let mut findings: Vec<_> = read.into_iter().map(|(finding, _)| finding).collect();
    let asked = catalog.servers().into_iter().map(|server| {
        let is_denied = server.secrets().into_iter().any(|secret| denied.contains(&secret.to_string()));
        match is_denied {
            true => std::future::ready(vec![unasked(server, seen)]).boxed(),
            false => server_findings(&lister, server, edit).boxed(),
        }
    });
    let asked: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(ASKED_AT_ONCE).collect().await;
    findings.extend(asked.into_iter().flatten());
    findings.sort_by_key(|finding| finding.check);
    lister.close().await;
    Ok(findings)
}

/// What is found of a secret, and whether AWS denies it to this process.
async fn secret(lister: &ToolLister, reference: &SecretRef) -> (Finding, bool) {
    match lister.read_secret(reference).await {
        Ok(()) => (Finding::ok(Check::SecretsRead, reference.to_string(), "can be read"), false),
        Err(_) if lister.is_denied(reference).await => {
            let text = "not checked: AWS denies it to this role; workers may be allowed to read it";
            let remedy =
                "aws sts get-caller-identity   # the workers' role has the right, OperatorRole has not";
            (Finding::warning(Check::SecretsRead, reference.to_string(), text, remedy), true)
        }
        Err(problem) => {
            let remedy =
                format!("aws secretsmanager describe-secret --secret-id {}", quoted(reference.name()));
            (Finding::failed(Check::SecretsRead, reference.to_string(), problem, remedy), false)
        }
    }
}

/// What the workers say of a server whose secret is denied to this process.
fn unasked(server: &Server, seen: Option<&FleetSummary>) -> Finding {
    let subject = server.id.to_string();
    let seen = seen.and_then(|summary| summary.servers.get(&server.id)).map(|server| &server.seen);
    match seen {
        Some(seen) if seen.attempts > 0 && seen.breaker == BreakerState::Closed => {
            let times = count(seen.attempts, "request");
            let text = format!(
                "not asked, its secret is denied to this role; workers sent it {times} within five minutes, and its breaker is closed"
            );
            Finding::ok(Check::ServersList, subject, text)
        }
        Some(_) | None => {
            let text = "not asked: its secret is denied to this role, and no worker called it lately";
            Finding::warning(Check::ServersList, subject, text, "toolfleet servers")
        }
    }
}

async fn server_findings(lister: &ToolLister, server: &Arc<Server>, edit: &str) -> Vec<Finding> {
    if server.openapi().is_some() {
        return vec![interface(lister, server, edit).await];
    }
    let Some(lambda) = server.lambda() else {
        return vec![list(lister, server, edit).await];
    };
    let found = function(lister, server, lambda).await;
    if found.verdict == Verdict::Ok && server.lists_tools() {
        return vec![found, list(lister, server, edit).await];
    }
    vec![found]
}

async fn interface(lister: &ToolLister, server: &Arc<Server>, edit: &str) -> Finding {
    let subject = server.id.to_string();
    let operations = server.openapi().map_or(0, |openapi| openapi.interface.document.operations.len());
    match lister.reach(server).await {
        Ok(answer) => {
            let text = format!("{operations} operations in its document; its address answers {answer}");
            Finding::ok(Check::InterfacesAnswer, subject, text)
        }
        Err(problem) => Finding::failed(Check::InterfacesAnswer, subject, problem, edit),
    }
}

async fn function(lister: &ToolLister, server: &Server, lambda: &LambdaTransport) -> Finding {
    let (subject, arn) = (server.id.to_string(), lambda.function.as_str());
    match lister.check_function(lambda).await {
        Ok(()) => Finding::ok(Check::FunctionsInvocable, subject, format!("{arn} may be invoked")),
        Err(problem) => {
            let remedy = format!(
                "aws lambda invoke --invocation-type DryRun --region {} --function-name {} /dev/null",
                lambda.function.region(),
                quoted(arn)
            );
            Finding::failed(Check::FunctionsInvocable, subject, problem, remedy)
        }
    }
}

async fn list(lister: &ToolLister, server: &Arc<Server>, edit: &str) -> Finding {
    let subject = server.id.to_string();
    match lister.list(server).await {
        Ok(tools) => Finding::ok(Check::ServersList, subject, format!("lists {} tools", tools.len())),
        Err(problem) => Finding::failed(Check::ServersList, subject, problem, format!("{edit} --live")),
    }
}
