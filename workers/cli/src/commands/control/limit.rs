//! `toolfleet limit`: changes limits of the running fleet, ends changes, lists them.

use clap::{Args, Subcommand};
use serde_json::json;
use toolfleet_core::control::{ControlEntry, LimitChange};
use toolfleet_core::limits::{Positive, RateLimit};

use super::reason::{Lasting, Reason, now};
use super::shown;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The verbs of `limit`.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitCommand {
    /// Set a limit, in the place of the catalog's.
    Set(SetArgs),
    /// End a change, so that the catalog's limit holds again.
    Clear(ClearArgs),
    /// List the limits that were changed.
    List,
}

/// Options of `limit set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The limit: server:ID, tool:ID, tenant:ID or tenant:ID/tool:ID.
    #[arg(value_name = "LIMIT")]
    limit: String,
    /// The rate, for example 20/s, 100/m or 5/30s.
    #[arg(long, value_name = "RATE", required_unless_present = "concurrency")]
    rate: Option<RateLimit>,
    /// The most calls at once.
    #[arg(long, value_name = "N")]
    concurrency: Option<Positive>,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    lasting: Lasting,
}

/// Options of `limit clear`.
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// The limit: server:ID, tool:ID, tenant:ID or tenant:ID/tool:ID.
    #[arg(value_name = "LIMIT")]
    limit: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the verb.
pub(crate) async fn run(
    command: &LimitCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        LimitCommand::Set(args) => set(args, connect, output).await,
        LimitCommand::Clear(args) => clear(args, connect, output).await,
        LimitCommand::List => list(connect, output).await,
    }
}

async fn set(args: &SetArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let change = LimitChange { rate: args.rate, concurrency: args.concurrency };
    let limit = checked(&args.limit)?;
    let entry = ControlEntry::Limit {
        limit: limit.clone(),
        change,
        by,
        why,
        since: now(),
        until: args.lasting.until(),
    };
    connect.client().await?.controls().set(&entry).await?;
    if output.is_json() {
        output.document(&entry)?;
    }
    output.line(&format!("{limit}: {}", shown::change(&change)))?;
    output
        .note("workers take it within five seconds; calls that wait for the limit follow as their waits end");
    Ok(Exit::Done)
}

async fn clear(args: &ClearArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let limit = checked(&args.limit)?;
    let cleared = connect.client().await?.controls().clear(&format!("limit#{limit}"), &by, &why).await?;
    if output.is_json() {
        output.document(&json!({"limit": limit, "cleared": cleared.is_some()}))?;
    }
    if cleared.is_none() {
        output.note(&format!("{limit} was not changed; the catalog's limit holds"));
        return Ok(Exit::NoResult);
    }
    output.line(&format!("{limit}: the catalog's limit holds again"))?;
    Ok(Exit::Done)
}

async fn list(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let mut entries = connect.client().await?.controls().entries().await?;
    entries.retain(|entry| matches!(entry, ControlEntry::Limit { .. }));
    if output.is_json() {
        output.document(&entries)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output.line("no limit is changed; those of the catalog hold")?;
        return Ok(Exit::Done);
    }
    output.table(shown::HEADER, entries.iter().map(shown::row).collect())?;
    Ok(Exit::Done)
}

/// The limit's text, if it is one.
fn checked(limit: &str) -> Result<String, CommandError> {
    toolfleet_core::control::check_limit(limit)
        .map(|()| limit.to_owned())
        .map_err(|e| CommandError::usage(format!("limit `{limit}` {e}")))
}
