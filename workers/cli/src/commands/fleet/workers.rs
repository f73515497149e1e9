//! `toolfleet workers`: each worker with its version, its slots and since when it runs.

use serde_json::json;
use toolfleet_client::fleet_words::{age, switches_of};
use toolfleet_core::fleet::{MISSED_BEATS, WorkerRow};
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::table::Shape;

/// Lists them.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let rows = connect.client().await?.workers().await?;
    let now = now();
    if output.is_json() {
        let shown: Vec<_> = rows.iter().map(|row| json!({"state": state(row, now), "worker": row})).collect();
        output.document(&shown)?;
    }
    if rows.is_empty() {
        output.note(
            "no worker has reported in the last ten minutes; one reports within five seconds of its start",
        );
        return Ok(Exit::NoResult);
    }
    let header =
        ["worker", "state", "version", "busy", "slots", "in hand", "calls", "since", "reported", "switches"];
    let shape = Shape::of(&header).times(&["since"]).left_out(&["since", "version", "in hand", "calls"]);
    output.shaped(&shape, &rows.iter().map(|row| shown(row, now)).collect::<Vec<_>>())?;
    let old = rows.iter().filter(|row| row.is_alive(now) && row.has_old_switches()).count();
    if old > 0 {
        output.note(&format!(
            "{} on with old switches: what operators have set since has no effect there (log code control_unread; toolfleet doctor)",
            if old == 1 { "1 worker goes".to_owned() } else { format!("{old} workers go") }
        ));
    }
    Ok(Exit::Done)
}

fn shown(row: &WorkerRow, now: Timestamp) -> Vec<String> {
    vec![
        row.id.to_string(),
        state(row, now).to_owned(),
        row.version.clone(),
        row.busy.to_string(),
        row.slots.to_string(),
        row.in_hand.to_string(),
        row.calls.total().to_string(),
        row.started_at.to_string(),
        format!("{} ago", age(row.reported_at, now)),
        switches_of(row),
    ]
}

/// The state of a worker, as far as its row tells.
fn state(row: &WorkerRow, now: Timestamp) -> &'static str {
    const { assert!(MISSED_BEATS == 3, "the help of `workers` says three") };
    if row.ended {
        "exited"
    } else if row.is_dead(now) {
        "dead"
    } else if row.draining {
        "draining"
    } else if row.not_receiving {
        "not receiving"
    } else {
        "running"
    }
}
