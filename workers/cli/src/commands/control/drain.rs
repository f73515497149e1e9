//! `toolfleet drain`: one worker takes no more calls, finishes those that run, and exits.

use clap::Args;
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::WorkerRow;
use toolfleet_core::ids::WorkerId;
use toolfleet_core::time::Timestamp;

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
    let client = connect.client().await?;
    let rows = client.workers().await?;
    let Some(row) = latest(&rows, &args.worker) else {
        return Err(unknown(&args.worker, &rows));
    };
    let since = since(row, now());
    let until = since.plus_ms(KEPT_MS).whole_s();
    let entry = ControlEntry::Drain { worker: args.worker.clone(), by, why, since, until };
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

/// The row of the worker's process that reported last: one that started again under its id leaves the row of the earlier process for ten minutes.
fn latest<'a>(rows: &'a [WorkerRow], worker: &WorkerId) -> Option<&'a WorkerRow> {
    rows.iter().filter(|row| row.id == *worker).max_by_key(|row| row.reported_at)
}

/// Since when it is to drain: after its start, also where the operator's clock is behind that of the worker.
fn since(row: &WorkerRow, now: Timestamp) -> Timestamp {
    now.max(row.started_at.plus_ms(1))
}

/// No worker of that id has reported.
fn unknown(worker: &WorkerId, rows: &[WorkerRow]) -> CommandError {
    let near = nearest(worker.as_str(), rows.iter().map(|row| row.id.as_str()));
    let near = if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
    CommandError::usage(format!(
        "WORKER: no worker {worker} has reported within ten minutes{near}; `toolfleet workers` lists them, each within five seconds of its start"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(boot: u32, started_ms: i64, reported_ms: i64) -> WorkerRow {
        let at = |ms| Timestamp::from_ms(ms).to_string();
        serde_json::from_value(json!({
            "id": "w-1", "boot": format!("{boot:032}"), "version": "0.1.0", "started_at": at(started_ms),
            "reported_at": at(reported_ms), "beat_ms": 5000, "slots": 8
        }))
        .unwrap()
    }

    #[test]
    fn the_process_that_runs_is_drained_and_not_the_one_before_it() {
        let rows = [row(1, 1_000, 100_000), row(2, 200_000, 300_000)];
        let found = latest(&rows, &WorkerId::parse("w-1").unwrap()).unwrap();
        assert_eq!(found.started_at, Timestamp::from_ms(200_000));
    }

    #[test]
    fn a_clock_that_is_behind_drains_a_young_worker_all_the_same() {
        let young = row(1, 200_000, 300_000);
        assert!(since(&young, Timestamp::from_ms(50_000)) > young.started_at);
        assert_eq!(since(&young, Timestamp::from_ms(900_000)), Timestamp::from_ms(900_000));
    }
}
