//! Owns `toolfleet tools diff`: where servers list something else than was approved.
//!
//! **Invariant:** changes nothing.

use clap::Args;
use serde_json::{Value, json};

use super::pinning::{Now, PinStatus, standings};
use super::{difference, source};
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// Options of `tools diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: String,
    /// Show what servers list beyond the pinned tools, too.
    #[arg(long)]
    all: bool,
    /// The tools to compare, as SERVER/NAME; every pinned one if none is named.
    #[arg(value_name = "SERVER/NAME")]
    targets: Vec<String>,
}

/// Asks, compares and shows.
pub(crate) async fn run(args: &DiffArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let (_, catalog) = source::read(&args.catalog, connect).await?;
    let standings = standings(&catalog, &args.targets, args.all).await?;
    let ending = if standings.iter().any(PinStatus::differs) { Ending::NotSucceeded } else { Ending::Done };
    if output.is_json() {
        output.document(&json!({"tools": standings.iter().map(document).collect::<Vec<_>>()}))?;
        return Ok(ending);
    }
    if standings.is_empty() {
        output.line("nothing is pinned; `toolfleet tools approve SERVER/NAME` pins a tool")?;
    }
    show(&standings, output)?;
    Ok(ending)
}

/// One line per tool, and what changed below it.
pub(super) fn show(standings: &[PinStatus], output: &Output) -> Result<(), Failure> {
    for standing in standings {
        output.line(&format!("{}: {}", standing.target, standing.word()))?;
        for line in changes(standing) {
            output.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

fn changes(standing: &PinStatus) -> Vec<String> {
    let Some(approved) = &standing.approved else {
        return Vec::new();
    };
    match &standing.now {
        Now::Unknown(problem) => vec![problem.clone()],
        Now::NotListed => Vec::new(),
        Now::Listed { pin, .. } if *pin == approved.pin => Vec::new(),
        Now::Listed { pin, entry } => match &approved.entry {
            Some(before) => difference::lines(before, entry),
            None => vec![
                format!("approved: {} (its entry was not kept, only its digest)", approved.pin),
                format!("now:      {pin}"),
                format!("+ {entry}"),
            ],
        },
    }
}

fn document(standing: &PinStatus) -> Value {
    let (now, entry, problem) = match &standing.now {
        Now::Listed { pin, entry } => (Some(pin.to_string()), Some(entry), None),
        Now::NotListed => (None, None, None),
        Now::Unknown(problem) => (None, None, Some(problem)),
    };
    let approved = standing.approved.as_ref();
    json!({
        "tool": standing.target, "state": standing.word(), "changes": changes(standing),
        "approved": approved.map(|a| a.pin.to_string()), "approved_entry": approved.and_then(|a| a.entry.as_ref()),
        "now": now, "entry": entry, "problem": problem,
    })
}
