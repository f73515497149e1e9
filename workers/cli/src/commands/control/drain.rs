//! `toolfleet drain`: one worker takes no more calls, finishes those that run, and exits.

use clap::Args;
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::WorkerRow;
use toolfleet_core::ids::WorkerId;

use super::reason::{Reason, now};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::nearest::nearest;
use crate::output::Output;

/// How long the entry is kept: a worker reads it within seconds, and its id is not used again.
const KEPT_MS: u64 = 60 * 60 * 1000;

/// Options of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The worker's id, as `toolfleet workers` shows it.
    #[arg(value_name = "WORKER")]
    worker: WorkerId,
    #[command(flatten)]
    reason: Reason,
}

/// Drains.
pub(crate) async fn run(args: &DrainArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let since = now();
    let until = since.plus_ms(KEPT_MS).whole_s();
    let entry = ControlEntry::Drain { worker: args.worker.clone(), by, why, since, until };
    let client = connect.client().await?;
    let rows = client.workers().await?;
    let Some(row) = rows.iter().find(|row| row.id == args.worker) else {
        return Err(unknown(&args.worker, &rows));
    };
    client.controls().set(&entry).await?;
    if output.is_json() {
        output.document(&entry)?;
    }
    output.line(&format!("worker {} is asked to drain", args.worker))?;
    if row.ended || row.is_dead(now()) {
        output.note("it does not run: it has exited, or has not reported for three beats");
    } else {
        output.note("it takes no call later than five seconds from now, finishes those that run, and exits");
    }
    Ok(Exit::Done)
}

/// No worker of that id has reported.
fn unknown(worker: &WorkerId, rows: &[WorkerRow]) -> CommandError {
    let near = nearest(worker.as_str(), rows.iter().map(|row| row.id.as_str()));
    let near = if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
    CommandError::usage(format!(
        "WORKER: no worker {worker} has reported within ten minutes{near}; `toolfleet workers` lists them, each within five seconds of its start"
    ))
}
