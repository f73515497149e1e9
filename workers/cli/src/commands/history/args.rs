//! The arguments of `toolfleet history`.

use std::time::Duration;

use clap::Args;
use toolfleet_client::{RecordCursor, RecordsOf, Span};
use toolfleet_config::settings::number;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::commands::which::parse_tenant;
use crate::exit::CommandError;
use crate::span_of_time::{KEPT_FOR, parse_span};

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
    pub(super) first: Option<String>,
    /// Only the records of this call.
    #[arg(value_name = "CALL_ID", conflicts_with = "call_id")]
    pub(super) second: Option<CallId>,
    /// The tenant.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant, conflicts_with = "first")]
    pub(super) tenant: Option<Tenant>,
    /// Only those of one session.
    #[arg(long, value_name = "ID", conflicts_with = "failed")]
    pub(super) session: Option<SessionId>,
    /// Only those of calls that did not succeed.
    #[arg(long)]
    pub(super) failed: bool,
    /// Only those of this tool: its registered id, else SERVER/NAME.
    #[arg(long, value_name = "TOOL")]
    pub(super) tool: Option<String>,
    /// Only those of one call. No index has the ids of calls, so all records of its shard are read; with --session or --failed the entries of
    /// that index.
    #[arg(long, value_name = "ID")]
    pub(super) call_id: Option<CallId>,
    /// The start: an instant, or a time before now as a number and ms, s, m, h or d; records are kept for 60d. Unless given 1h, and of one
    /// call that has a row also what lies near its start and its end, whenever that was.
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = parse_when)]
    pub(super) since: Option<When>,
    /// The end, included; now unless given.
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = parse_when)]
    pub(super) until: Option<When>,
    /// At most this many; all unless given.
    #[arg(long, value_name = "N", value_parser = number(1_u64, 1_000_000_000))]
    pub(super) limit: Option<u64>,
    /// Look at this many records at most, those included that do not fit, and say how far back that was: of a rare tool, nobody knows how many
    /// must be read. Of one call 100000 unless given.
    #[arg(long, value_name = "N", value_parser = number(1_u64, 1_000_000_000))]
    pub(super) read_at_most: Option<u64>,
    /// Go on from where a list that says so has stopped.
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor)]
    pub(super) after: Option<RecordCursor>,
    /// Print each record as a JSON document on a line of its own, as it is read.
    #[arg(long, visible_alias = "jsonl", conflicts_with = "json")]
    pub(super) json_lines: bool,
}

impl HistoryArgs {
    pub(super) fn which(&self) -> RecordsOf {
        match &self.session {
            Some(session) => RecordsOf::Session(session.clone()),
            None if self.failed => RecordsOf::Failures,
            None => RecordsOf::Everything,
        }
    }

    pub(super) const fn call(&self) -> Option<&CallId> {
        match &self.second {
            Some(call) => Some(call),
            None => self.call_id.as_ref(),
        }
    }

    /// How many records are read at most; none where a list is read to its end, which has as many as it shows.
    pub(super) fn read_at_most(&self) -> Option<u64> {
        let is_searched = self.call().is_some() || self.after.is_some();
        self.read_at_most.or_else(|| is_searched.then_some(READ_AT_MOST))
    }

    pub(super) fn span(&self, now: Timestamp) -> Result<Span, CommandError> {
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
pub(super) enum When {
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
