//! The fleet as a JSON document: what `status --json` and `top --once --json` print.

use serde_json::{Value, json};
use toolfleet_client::{FleetView, QueueDepth};

/// The document.
pub(super) fn document(view: &FleetView) -> Value {
    let queues: Vec<_> = view.queues.iter().map(|queue| of_queue(view, queue)).collect();
    json!({"queues": queues, "set": view.entries, "fleet": view.summary})
}

fn of_queue(view: &FleetView, queue: &QueueDepth) -> Value {
    let seen = view.seen_of(queue);
    json!({
        "name": queue.name, "dead_letter": queue.dead_letter, "visible": queue.depth.visible,
        "in_flight": queue.depth.in_flight, "delayed": queue.depth.delayed,
        "oldest_received_ms": seen.and_then(|seen| seen.oldest_ms),
        "received_a_minute": seen.map(|seen| seen.received),
    })
}
