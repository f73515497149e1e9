//! `toolfleet doctor`: looks at everything that a fleet needs, and says for each thing that is wrong what to do. It changes nothing.

mod catalog;
mod clock;
mod data;
mod finding;
mod fleet;
mod function;
mod resources;
mod rights;
mod setup;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use finding::{Check, Finding, Verdict};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look only at what must be there before workers are started: queues, tables, the bucket, the catalog.
    #[arg(long)]
    pre: bool,
    /// The catalog whose servers are asked too: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: Option<String>,
    /// The ARN of the role of workers, whose rights are checked by the `aws` command (output TaskRoleArn of compute.yaml).
    #[arg(long, value_name = "ARN", env = "TOOLFLEET_WORKER_ROLE", hide_env_values = true)]
    worker_role: Option<String>,
    /// The Lambda function that is a worker, whose time-out is compared with that of its queues by the `aws` command (output FunctionName of
    /// lambda.yaml).
    #[arg(long, value_name = "NAME", env = "TOOLFLEET_WORKER_FUNCTION", hide_env_values = true)]
    worker_function: Option<String>,
}

/// The verbs of `catalog`.
#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Check a catalog: can it be read, can each entry be executed, does each server answer with its credential? Exits with 1 if not.
    Check(CheckArgs),
}

/// Options of `catalog check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(value_name = "CATALOG", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: String,
}

/// Looks at all of a fleet.
pub(crate) async fn run(args: &DoctorArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let mut findings = Vec::new();
    let handle = connect.client().await;
    match &handle {
        Err(error) => {
            let remedy = "toolfleet context show";
            findings.push(Finding::failed(Check::FleetChosen, "fleet", error.message(), remedy));
        }
        Ok(handle) => {
            let client = handle.library();
            let url = client.queue().url();
            findings.push(Finding::ok(
                Check::FleetChosen,
                "fleet",
                format!("the one whose calls queue is {url}"),
            ));
            findings.extend(data::queues(client).await);
            if let Some(function) = args.worker_function.as_deref().filter(|name| !name.trim().is_empty()) {
                findings.extend(function::time_out(client, function).await);
            }
            findings.extend(Box::pin(data::tables(client)).await);
            findings.extend(setup::tables(client).await);
            findings.extend(data::bucket(client).await);
            findings.extend(setup::bucket(client).await);
            if !args.pre {
                findings.extend(fleet::workers(client).await);
            }
            findings
                .extend(rights::workers(client, args.worker_role.as_deref(), args.catalog.as_deref()).await);
            if !args.pre {
                findings.extend(fleet::servers(client).await);
                findings.extend(fleet::limits(client).await);
                findings.extend(fleet::switches(client).await);
            }
        }
    }
    match &args.catalog {
        Some(place) => {
            let seen = match &handle {
                Ok(handle) => fleet::seen(handle.library()).await,
                Err(_) => None,
            };
            let (found, replies) = catalog::findings(place, seen.as_ref(), connect).await?;
            findings.extend(found);
            if let Ok(handle) = &handle {
                findings.extend(data::replies(handle.library(), &replies).await);
            }
        }
        None => {
            let text = "not checked: no catalog is given".to_owned();
            findings.push(Finding::warning(
                Check::CatalogReads,
                "catalog",
                text,
                "toolfleet doctor --catalog FILE",
            ));
        }
    }
    report(&findings, output)
}

/// Looks at a catalog and its servers.
pub(crate) async fn check_catalog(
    command: &CatalogCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let CatalogCommand::Check(args) = command;
    report(&catalog::findings(&args.catalog, None, connect).await?.0, output)
}

/// Prints what was found, by group. A thing that fails makes the command fail.
fn report(findings: &[Finding], output: &Output) -> Result<Exit, CommandError> {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Failed), count(Verdict::Warning));
    if output.is_json() {
        let findings: Vec<_> = findings.iter().map(Finding::document).collect();
        output.document(&json!({"failed": failed, "warnings": warnings, "findings": findings}))?;
    }
    let mut group = "";
    for finding in findings {
        if finding.check.group() != group {
            let between = if group.is_empty() { "" } else { "\n" };
            group = finding.check.group();
            output.line(&format!("{between}{group}"))?;
        }
        for line in finding.lines() {
            output.text(&line)?;
        }
    }
    let ok = count(Verdict::Ok);
    output.line(&format!("\n{ok} ok, {warnings} to look at, {failed} failed"))?;
    Ok(if failed == 0 { Exit::Done } else { Exit::NotSucceeded })
}
