//! `toolfleet queue status`: how many calls wait, run or are delayed in each queue, and how many are in the dead-letter queue. SQS counts
//! approximately.

use serde_json::{Value, json};

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Reads and shows.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let queues = connect.client().await?.depths().await?;
    if output.is_json() {
        let queues: Vec<Value> = queues
            .iter()
            .map(|q| {
                json!({
                    "queue": q.name, "url": q.url, "priority": q.priority, "dead_letter": q.dead_letter,
                    "visible": q.depth.visible, "in_flight": q.depth.in_flight, "delayed": q.depth.delayed,
                })
            })
            .collect();
        output.document(&json!({ "queues": queues }))?;
    }
    let rows = queues
        .iter()
        .map(|q| {
            let numbers = [q.depth.visible, q.depth.in_flight, q.depth.delayed];
            std::iter::once(q.name.clone()).chain(numbers.map(|n| n.to_string())).collect()
        })
        .collect();
    output.table(&["queue", "visible", "in flight", "delayed"], rows)?;
    let dead = queues.iter().filter(|q| q.dead_letter).map(|q| q.depth.visible).sum::<u64>();
    if dead > 0 {
        output.note(&format!("{dead} messages were received too often and are in the dead-letter queue; workers end them when they are due, or redrive them first (docs/reference/runbook.md)"));
    }
    Ok(Exit::Done)
}
