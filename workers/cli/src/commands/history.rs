//! Owns `toolfleet history`: the audit records of a tenant, newest first.
//!
//! **Invariant:** a list that was cut is said to be cut.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use toolfleet_client::RecordsOf;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::{CallId, SessionId, Tenant};

use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::show::span;

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Whose calls; `_undecodable` and `_unauthorised` hold the messages that named none, or not theirs.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Tenant,
    /// Of one conversation.
    #[arg(long, value_name = "ID", conflicts_with_all = ["failed", "call_id"])]
    session: Option<SessionId>,
    /// Those that ended otherwise than succeeded.
    #[arg(long, conflicts_with = "call_id")]
    failed: bool,
    /// Of one call.
    #[arg(long, value_name = "ID")]
    call_id: Option<CallId>,
    /// How far back to look: a number and s, m, h or d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    since: Duration,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// The columns for people.
pub(crate) const HEADER: [&str; 8] =
    ["time", "call", "tool", "outcome", "code", "attempts", "worker", "duration"];

/// Reads and shows.
pub(crate) async fn run(args: &HistoryArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let which = match (&args.session, &args.call_id) {
        (Some(session), _) => RecordsOf::Session(session.clone()),
        (None, Some(call)) => RecordsOf::Call(call.clone()),
        (None, None) if args.failed => RecordsOf::Failures,
        (None, None) => RecordsOf::Everything,
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    // One more than asked for tells whether the list is cut.
    let mut records = connect.fleet().await?.records(&args.tenant, &which, args.since, limit + 1).await?;
    let cut = records.len() > limit;
    records.truncate(limit);
    if output.is_json() {
        output.document(&json!({"records": records, "more": cut}))?;
    }
    if records.is_empty() {
        output.note(&format!(
            "no records of tenant {} within {}; look further back with --since",
            args.tenant,
            shown(args.since)
        ));
        return Ok(Ending::Done);
    }
    output.table(&HEADER, records.iter().map(row).collect())?;
    if cut {
        output.note(&format!("there are more than {limit}; see them with --limit, or narrow --since"));
    }
    Ok(Ending::Done)
}

/// One record for people.
pub(crate) fn row(record: &AuditRecord) -> Vec<String> {
    let outcome = match record.kind {
        AuditKind::Call => record.outcome.to_string(),
        kind @ (AuditKind::LateAnswer
        | AuditKind::IdempotencyMismatch
        | AuditKind::Duplicate
        | AuditKind::Undecodable
        | AuditKind::Unauthorised) => format!("{} ({})", record.outcome, kind.as_str()),
    };
    vec![
        record.at.to_string(),
        record.call_id.to_string(),
        record.tool.clone().unwrap_or_default(),
        outcome,
        record.code.clone().unwrap_or_default(),
        record.attempts.to_string(),
        record.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        span(record.at.ms_since(record.enqueued_at)),
    ]
}

fn shown(since: Duration) -> String {
    span(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn parse_tenant(text: &str) -> Result<Tenant, String> {
    Tenant::from_stored(text).map_err(|e| e.to_string())
}

pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wanted = || {
        format!(
            "`{text}` is not a span of time: accepted is a number and s, m, h or d, for example 30m, 1h or 2d"
        )
    };
    let unit = text.chars().last().ok_or_else(wanted)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wanted()),
    };
    let number: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wanted())?;
    let span = number.checked_mul(seconds).filter(|s| *s > 0 && *s <= 35 * 86_400);
    span.map(Duration::from_secs).ok_or_else(|| format!("{}; records are kept for 35d", wanted()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        assert_eq!(parse_span("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse_span("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "h", "1", "1 h", "-1h", "0h", "1w", "400d", "1µ"] {
            let error = parse_span(wrong).unwrap_err();
            assert!(error.contains("30m, 1h or 2d"), "{wrong}: {error}");
        }
    }
}
