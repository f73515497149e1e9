//! `toolfleet history`: lists the audit records of a tenant, newest first.

mod search;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt as _;
use indicatif::ProgressBar;
use serde_json::json;
use toolfleet_client::{RecordCursor, RecordSearch, RecordsOf, Span, system_clock};
use toolfleet_config::settings::number;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use super::which::{parse_tenant, tenant_of};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;
use crate::span_of_time::{KEPT_FOR, parse_span};
use crate::table::Shape;

/// Records of a table that are shown at once: its columns fit them.
const ROWS_AT_ONCE: usize = 1_000;

/// How far back records are searched, unless told.
const LATELY: Duration = Duration::from_hours(1);

/// Records that are read for one call at most, unless told: about a hundred requests, and a hundredth of a dollar for nine such searches.
const READ_AT_MOST: u64 = 100_000;

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The tenant, unless given TOOLFLEET_TENANT; `_undecodable` and `_tenant_not_allowed` hold the messages that named none, or one that
    /// their sender may not use.
    #[arg(value_name = "TENANT")]
    first: Option<String>,
    /// Only the records of this call.
    #[arg(value_name = "CALL_ID", conflicts_with = "call_id")]
    second: Option<CallId>,
    /// The tenant.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant, conflicts_with = "first")]
    tenant: Option<Tenant>,
    /// Only those of one session.
    #[arg(long, value_name = "ID", conflicts_with = "failed")]
    session: Option<SessionId>,
    /// Only those of calls that did not succeed.
    #[arg(long)]
    failed: bool,
    /// Only those of this tool: its registered id, else SERVER/NAME.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Only those of one call. No index has the ids of calls, so all records of its shard are read; with --session or --failed the entries of
    /// that index.
    #[arg(long, value_name = "ID")]
    call_id: Option<CallId>,
    /// The start: an instant, or a time before now as a number and ms, s, m, h or d; records are kept for 60d. Unless given 1h, and of one
    /// call that has a row also what lies near its start and its end, whenever that was.
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = parse_when)]
    since: Option<When>,
    /// The end, included; now unless given.
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = parse_when)]
    until: Option<When>,
    /// At most this many; all unless given.
    #[arg(long, value_name = "N", value_parser = number(1_u64, 1_000_000_000))]
    limit: Option<u64>,
    /// Look at this many records at most, those included that do not fit, and say how far back that was: of a rare tool, nobody knows how many
    /// must be read. Of one call 100000 unless given.
    #[arg(long, value_name = "N", value_parser = number(1_u64, 1_000_000_000))]
    read_at_most: Option<u64>,
    /// Go on from where a list that says so has stopped.
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor)]
    after: Option<RecordCursor>,
    /// Print each record as a JSON document on a line of its own, as it is read.
    #[arg(long, visible_alias = "jsonl", conflicts_with = "json")]
    json_lines: bool,
}

impl HistoryArgs {
    fn which(&self) -> RecordsOf {
        match &self.session {
            Some(session) => RecordsOf::Session(session.clone()),
            None if self.failed => RecordsOf::Failures,
            None => RecordsOf::Everything,
        }
    }

    const fn call(&self) -> Option<&CallId> {
        match &self.second {
            Some(call) => Some(call),
            None => self.call_id.as_ref(),
        }
    }

    /// How many records are read at most; none where a list is read to its end, which has as many as it shows.
    fn read_at_most(&self) -> Option<u64> {
        let is_searched = self.call().is_some() || self.after.is_some();
        self.read_at_most.or_else(|| is_searched.then_some(READ_AT_MOST))
    }

    fn span(&self, now: Timestamp) -> Result<Span, CommandError> {
        let since = self.since.unwrap_or(When::Ago(LATELY));
        let (from, to) = (since.instant(now), self.until.map_or(now, |until| until.instant(now)));
        if from > to {
            let text = format!("--until: {to} is before --since, {from}; give a later one");
            return Err(CommandError::usage(text));
        }
        // Older records have expired; their hours are not queried.
        Ok(Span { from: from.max(When::Ago(KEPT_FOR).instant(now)), to })
    }
}

/// An instant, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Ago(Duration),
    At(Timestamp),
}

impl When {
    fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(length) => Span::before(now, length).from,
        }
    }
}

/// The columns for people.
const HEADER: [&str; 9] =
    ["time", "call", "tool", "outcome", "code", "attempts", "worker", "duration", "message"];

/// The table for people.
pub(crate) const SHAPE: Shape<'_> = Shape::of(&HEADER)
    .times(&["time"])
    .below(&["message"])
    .left_out(&["worker", "attempts", "duration", "code"]);

/// Reads and shows.
pub(crate) async fn run(
    args: &HistoryArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let (which, span) = (args.which(), args.span(system_clock()())?);
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let tenant = tenant_of(args.first.as_ref(), args.tenant.as_ref())?;
    let client = connect.client().await?;
    if let Some(most) = args.read_at_most() {
        let search = RecordSearch {
            tenant,
            session: args.session.clone(),
            call: args.call().cloned(),
            failed: args.failed,
            tool: args.tool.clone(),
            span,
        };
        return search::run(args, client.library(), &search, (limit, most), output).await;
    }
    let progress = progress();
    // One more than the limit is read to know whether the list is cut; of one tool, nobody knows how many must be read.
    let most = if args.tool.is_some() { usize::MAX } else { limit.saturating_add(1) };
    let mut parts = client.record_parts(&tenant, &which, span, most);
    let (mut shown, mut read, mut cut, mut held) = (0_usize, 0_u64, false, Vec::new());
    while let Some(mut records) = parts.try_next().await? {
        read += 1;
        records.retain(|record| args.tool.is_none() || record.tool == args.tool);
        cut = records.len() > limit - shown;
        records.truncate(limit - shown);
        shown += records.len();
        progress.set_message(format!("{shown} records in {read} {}", periods(&which)));
        if args.json_lines {
            progress.suspend(|| records.iter().try_for_each(|record| output.document(record)))?;
        } else {
            held.append(&mut records);
        }
        while !output.is_json() && held.len() >= ROWS_AT_ONCE {
            let rows = held.drain(..ROWS_AT_ONCE).collect::<Vec<_>>();
            progress.suspend(|| output.shaped(&SHAPE, &rows.iter().map(row).collect::<Vec<_>>()))?;
        }
        if cut {
            break;
        }
    }
    progress.finish_and_clear();
    if output.is_json() {
        output.document(&json!({"records": held, "more": cut}))?;
    } else if !held.is_empty() {
        output.shaped(&SHAPE, &held.iter().map(row).collect::<Vec<_>>())?;
    }
    if shown == 0 {
        let whose = match &which {
            RecordsOf::Session(session) => format!("session {session} of tenant {tenant}"),
            RecordsOf::Everything | RecordsOf::Failures => format!("tenant {tenant}"),
        };
        output.note(&format!(
            "no records of {whose} between {} and {}; look further back with --since",
            span.from, span.to
        ));
    }
    if cut {
        output.note(&format!("there are more than {limit}; leave --limit out to see all"));
    }
    Ok(Exit::Done)
}

/// What the parts are that are read one after the other.
const fn periods(which: &RecordsOf) -> &'static str {
    match which {
        RecordsOf::Everything => "hours",
        RecordsOf::Failures => "days",
        RecordsOf::Session(_) => "parts",
    }
}

/// The spinner of a terminal.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

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

fn parse_cursor(text: &str) -> Result<RecordCursor, String> {
    RecordCursor::parse(text)
        .ok_or_else(|| "is no place in a history; give the one that an earlier list ended with".to_owned())
}

fn parse_when(text: &str) -> Result<When, String> {
    match (Timestamp::parse(text), parse_span(text)) {
        (Ok(at), _) => Ok(When::At(at)),
        (Err(_), Ok(span)) => Ok(When::Ago(span)),
        (Err(_), Err(wanted)) => Err(format!("{wanted}, or an instant, for example 2026-11-21T09:30:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_or_a_span_before_now_is_read() {
        let at = Timestamp::parse("2026-11-21T09:30:00Z").unwrap();
        assert_eq!(parse_when("2026-11-21T10:30:00+01:00"), Ok(When::At(at)));
        assert_eq!(parse_when("1h").unwrap().instant(at).to_string(), "2026-11-21T08:30:00.000Z");
        assert!(parse_when("yesterday").unwrap_err().contains("or an instant"));
    }
}
