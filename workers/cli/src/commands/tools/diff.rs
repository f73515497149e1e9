//! `toolfleet tools diff`: shows where servers list a tool otherwise than its approved pin.

use clap::Args;
use serde_json::{Value, json};

use super::pin_status::{ListedNow, PinStatus, statuses};
use super::{json_diff, source};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `tools diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: String,
    /// Also show the tools that are not pinned.
    #[arg(long)]
    all: bool,
    /// The tools to compare, as SERVER/NAME; every pinned one if none is named.
    #[arg(value_name = "SERVER/NAME")]
    targets: Vec<String>,
}

/// Lists, compares and shows.
pub(crate) async fn run(args: &DiffArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (_, catalog) = source::read(&args.catalog, connect).await?;
    let statuses = statuses(&catalog, &args.targets, args.all).await?;
    let exit = if statuses.iter().any(PinStatus::differs) { Exit::NotSucceeded } else { Exit::Done };
    if output.is_json() {
        output.document(&json!({"tools": statuses.iter().map(document).collect::<Vec<_>>()}))?;
        return Ok(exit);
    }
    if statuses.is_empty() {
        output.line("nothing is pinned; `toolfleet tools approve SERVER/NAME` pins a tool")?;
    }
    show(&statuses, output)?;
    Ok(exit)
}

/// One line per tool, and what changed below it.
pub(super) fn show(statuses: &[PinStatus], output: &Output) -> Result<(), CommandError> {
    for status in statuses {
        output.line(&format!("{}: {}", status.target, status.word()))?;
        for line in changes(status) {
            output.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

fn changes(status: &PinStatus) -> Vec<String> {
    let Some(approved) = &status.approved else {
        return Vec::new();
    };
    match &status.now {
        ListedNow::Unknown(problem) => vec![problem.clone()],
        ListedNow::NotListed => Vec::new(),
        ListedNow::Listed { pin, .. } if *pin == approved.pin => Vec::new(),
        ListedNow::Listed { pin, entry } => match &approved.entry {
            Some(before) => json_diff::lines(before, entry),
            None => vec![
                format!("approved: {} (its entry was not kept, only its digest)", approved.pin),
                format!("now:      {pin}"),
                format!("+ {entry}"),
            ],
        },
    }
}

fn document(status: &PinStatus) -> Value {
    let (now, entry, problem) = match &status.now {
        ListedNow::Listed { pin, entry } => (Some(pin.to_string()), Some(entry), None),
        ListedNow::NotListed => (None, None, None),
        ListedNow::Unknown(problem) => (None, None, Some(problem)),
    };
    let approved = status.approved.as_ref();
    json!({
        "tool": status.target, "state": status.word(), "changes": changes(status),
        "approved": approved.map(|a| a.pin.to_string()), "approved_entry": approved.and_then(|a| a.entry.as_ref()),
        "now": now, "entry": entry, "problem": problem,
    })
}
