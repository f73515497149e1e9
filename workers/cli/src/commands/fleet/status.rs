//! `toolfleet status`: the fleet on one screen: queues, rates, workers, breakers, pauses, limits, the tenants and tools that matter.

use serde_json::json;
use toolfleet_client::QueueDepth;
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::{BreakerState, FleetSummary};
use toolfleet_core::time::Timestamp;

use super::numbers::{age, percent};
use crate::commands::control::reason::now;
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;

/// So many tenants, tools and servers are shown.
const MOST: usize = 5;

/// Shows it.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let client = connect.client().await?;
    let (depths, entries) = (client.depths().await?, client.controls().entries().await?);
    let summary = client.summary().await?;
    let now = now();
    if output.is_json() {
        let queues: Vec<_> = depths.iter().map(|queue| queue_json(queue, summary.as_ref())).collect();
        output.document(&json!({"queues": queues, "set": entries, "fleet": summary}))?;
        return Ok(Exit::Done);
    }
    for line in screen(&depths, &entries, summary.as_ref(), now) {
        output.line(&line)?;
    }
    Ok(Exit::Done)
}

/// The summary; a note where there is none.
pub(super) async fn summary(
    client: &ClientHandle,
    output: &Output,
) -> Result<Option<FleetSummary>, CommandError> {
    let summary = client.summary().await?;
    if summary.is_none() {
        output.note("no worker has ever reported; one reports within five seconds of its start");
        if output.is_json() {
            output.document(&json!({}))?;
        }
    }
    Ok(summary)
}

/// Says that nobody keeps the summary any more.
pub(super) fn note_stale(summary: &FleetSummary, now: Timestamp, output: &Output) {
    if summary.is_stale(now) {
        output.note(&format!(
            "no worker has reported for {}; this is what was seen before",
            age(summary.at, now)
        ));
    }
}

fn queue_json(queue: &QueueDepth, summary: Option<&FleetSummary>) -> serde_json::Value {
    let seen = summary.and_then(|summary| summary.queues.get(&queue.name));
    json!({
        "name": queue.name, "dead_letter": queue.dead_letter, "visible": queue.depth.visible,
        "in_flight": queue.depth.in_flight, "delayed": queue.depth.delayed,
        "oldest_received_ms": seen.and_then(|seen| seen.oldest_ms),
        "received_a_minute": seen.map(|seen| seen.received),
    })
}

/// The lines of the screen.
fn screen(
    depths: &[QueueDepth],
    entries: &[ControlEntry],
    summary: Option<&FleetSummary>,
    now: Timestamp,
) -> Vec<String> {
    let mut lines = Vec::new();
    for queue in depths {
        let seen = summary.and_then(|summary| summary.queues.get(&queue.name));
        let waited = seen.and_then(|seen| seen.oldest_ms);
        let waited = waited.map_or_else(String::new, |ms| {
            format!(", the oldest received lately had waited {}", show::span(ms))
        });
        let kind = if queue.dead_letter { "dead letters" } else { "queue" };
        let depth = queue.depth;
        lines.push(format!(
            "{kind} {}: {} visible, {} in flight, {} delayed{waited}",
            queue.name, depth.visible, depth.in_flight, depth.delayed
        ));
    }
    match summary {
        None => lines.push("workers: none has ever reported".to_owned()),
        Some(summary) if summary.is_stale(now) => {
            lines.push(format!("workers: none has reported for {}", age(summary.at, now)));
        }
        Some(summary) => lines.extend(of_workers(summary)),
    }
    if entries.is_empty() {
        lines.push("set by operators: nothing".to_owned());
    } else {
        lines.push(format!("set by operators: {} (toolfleet switches)", entries.len()));
        lines.extend(entries.iter().filter_map(paused).map(|detail| format!("  {detail}")));
    }
    lines
}

fn paused(entry: &ControlEntry) -> Option<String> {
    match entry {
        ControlEntry::Pause(switch) => Some(switch.detail()),
        ControlEntry::Strike(strike) => Some(strike.detail()),
        ControlEntry::Drain { .. }
        | ControlEntry::Limit { .. }
        | ControlEntry::Weight { .. }
        | ControlEntry::Cancel(_) => None,
    }
}

fn of_workers(summary: &FleetSummary) -> Vec<String> {
    let workers = &summary.workers;
    let versions: Vec<_> = workers.versions.iter().map(|(version, n)| format!("{n} of {version}")).collect();
    let mut lines = vec![
        format!(
            "workers: {} running ({}), {} draining, {} dead; {} of {} slots busy, {} calls in hand",
            workers.alive,
            versions.join(", "),
            workers.draining,
            workers.dead,
            workers.busy,
            workers.slots,
            workers.in_hand
        ),
        format!("a minute: {} received, {} ended", summary.received_a_minute, summary.ended_a_minute),
    ];
    if !summary.held_a_minute.is_empty() {
        let held: Vec<_> = summary.held_a_minute.iter().map(|(why, n)| format!("{n} {why}")).collect();
        lines.push(format!("back to the queue a minute: {}", held.join(", ")));
    }
    let open = |(_, server): &(_, &toolfleet_core::fleet::ServerSummary)| {
        server.seen.breaker != BreakerState::Closed
    };
    let servers: Vec<_> = summary.servers.iter().filter(open).collect();
    for (id, server) in servers.iter().take(MOST) {
        let why = server.seen.last_failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        lines.push(format!(
            "breaker {} of server {id} in {} workers{why}",
            server.seen.breaker.as_str(),
            server.open_in
        ));
    }
    let tenants: Vec<_> = summary
        .noisiest_tenants()
        .into_iter()
        .take(MOST)
        .map(|(tenant, ms)| format!("{tenant} {}", percent(ms, summary.total_slot_ms())))
        .collect();
    if !tenants.is_empty() {
        lines.push(format!("slot time of the last minute: {}", tenants.join(", ")));
    }
    let mut tools: Vec<_> = summary.tools.iter().filter(|(_, seen)| seen.failures > 0).collect();
    tools.sort_by(|a, b| b.1.failures.cmp(&a.1.failures).then_with(|| a.0.cmp(b.0)));
    for (tool, seen) in tools.into_iter().take(MOST) {
        lines.push(format!(
            "tool {tool}: {} of {} calls failed in the last five minutes",
            seen.failures, seen.calls
        ));
    }
    lines
}
