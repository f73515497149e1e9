//! Records as a table for people.

use toolfleet_core::audit::{AuditKind, AuditRecord};

use crate::show;
use crate::table::Shape;

/// The columns for people.
const HEADER: [&str; 9] =
    ["time", "call", "tool", "outcome", "code", "attempts", "worker", "duration", "message"];

/// The table for people.
pub(crate) const SHAPE: Shape<'_> = Shape::of(&HEADER)
    .times(&["time"])
    .below(&["message"])
    .left_out(&["worker", "attempts", "duration", "code"]);

/// One record for people.
pub(crate) fn row(record: &AuditRecord) -> Vec<String> {
    let outcome = match record.kind {
        AuditKind::Call => match (&record.cached_from, &record.batch) {
            (Some(call), _) => format!("{} (cached from {call})", record.outcome),
            (None, Some(id)) => format!("{} (in batch {id})", record.outcome),
            (None, None) => record.outcome.to_string(),
        },
        kind @ (AuditKind::LateAnswer
        | AuditKind::IdempotencyMismatch
        | AuditKind::Duplicate
        | AuditKind::Undecodable
        | AuditKind::TenantNotAllowed
        | AuditKind::Switch) => format!("{} ({})", record.outcome, kind.as_str()),
    };
    vec![
        record.at.to_string(),
        record.call_id.to_string(),
        record.tool.clone().unwrap_or_default(),
        outcome,
        record.code.clone().unwrap_or_default(),
        record.attempts.to_string(),
        record.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        show::span(record.at.ms_since(record.enqueued_at)),
        record.message.clone().unwrap_or_default(),
    ]
}
