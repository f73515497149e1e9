//! The history of a tenant: audit records, newest first, by session, failure, tool and period; a page at a time, with a cursor in the address.

use std::time::Duration;

use askama::Template;
use toolfleet_client::{PAGE_READS, RecordCursor, RecordSearch, Span};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{When, count, short_ms};
use crate::reading::Problems;

/// Records of a page.
const SIZE: usize = 50;
/// The periods that the form offers.
const PERIODS: [(&str, u64); 6] =
    [("1h", 1), ("6h", 6), ("1d", 24), ("7d", 168), ("30d", 720), ("60d", 1_440)];

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    frame: Frame,
    /// The tenants that may be asked for, where they are few.
    tenants: Vec<String>,
    tenant: String,
    session: String,
    tool: String,
    failed: bool,
    since: String,
    /// That the start is none of those that the form offers.
    is_other_since: bool,
    until: String,
    periods: Vec<(&'static str, bool)>,
    records: Vec<RecordLine>,
    was_read: bool,
    /// That nothing was asked for yet.
    is_blank: bool,
    is_first: bool,
    newest: String,
    older: Option<String>,
    /// What was looked at, where that is not all and did not fill the page.
    looked: Option<Looked>,
}

/// How many records were read, and of which time.
struct Looked {
    records: String,
    from: When,
    to: When,
}

/// One record as a line.
pub(super) struct RecordLine {
    pub(super) at: When,
    pub(super) call: String,
    pub(super) href: String,
    pub(super) tool: String,
    pub(super) outcome: String,
    pub(super) note: String,
    pub(super) is_failure: bool,
    pub(super) code: String,
    pub(super) attempts: u32,
    pub(super) worker: String,
    pub(super) took: String,
    pub(super) message: String,
}

/// The start or the end of a period: an instant, or a time before now.
#[derive(Debug, Clone, Copy)]
struct Instant(Timestamp);

impl Instant {
    fn read(text: &str, name: &'static str, now: Timestamp) -> Result<Self, Failure> {
        let span = PERIODS.iter().find(|(span, _)| *span == text);
        if let Some((_, hours)) = span {
            return Ok(Self(Span::before(now, Duration::from_secs(hours * 3_600)).from));
        }
        Timestamp::parse(text).map(Self).map_err(|error| {
            Failure::wrong(
                name,
                format!("{error}, or one of 1h, 6h, 1d, 7d, 30d and 60d, which count back from now"),
            )
        })
    }
}

/// What the address asks for.
struct Asked {
    search: RecordSearch,
    after: Option<RecordCursor>,
    since: String,
    until: String,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let asked = asked(visit)?;
    let found = match &asked {
        Some(asked) => {
            let (search, after) = (&asked.search, asked.after.as_ref());
            let read = visit.console.client.search_records(search, after, SIZE, PAGE_READS).await;
            problems.take("The records", read)
        }
        None => None,
    };
    let address = asked.as_ref().map(address);
    let older = found.as_ref().and_then(|page| page.next.as_ref());
    let older = older.zip(address.clone()).map(|(next, link)| link.with("after", next.as_str()).text());
    let is_short = older.is_some() && found.as_ref().is_some_and(|page| page.records.len() < SIZE);
    let looked = found.as_ref().filter(|_| is_short).map(|page| Looked {
        records: count(u64::try_from(page.reads.records).unwrap_or(u64::MAX)),
        from: When::clock(page.searched_from, now),
        to: When::clock(page.searched_to, now),
    });
    let commands = asked.as_ref().map(command).into_iter().collect();
    let text = |name: &str| visit.query.get(name).unwrap_or_default().to_owned();
    let since = asked.as_ref().map_or_else(|| "1h".to_owned(), |asked| asked.since.clone());
    let page = HistoryPage {
        frame: Frame::of(visit, "History", problems, commands),
        tenants: visit.scope().tenants().into_iter().flatten().map(ToString::to_string).collect(),
        tenant: asked.as_ref().map_or_else(String::new, |asked| asked.search.tenant.to_string()),
        session: text("session"),
        tool: text("tool"),
        failed: visit.query.is_set("failed"),
        periods: PERIODS.into_iter().map(|(span, _)| (span, span == since)).collect(),
        is_other_since: PERIODS.into_iter().all(|(span, _)| span != since),
        since,
        until: asked.as_ref().map_or_else(String::new, |asked| asked.until.clone()),
        records: found.iter().flat_map(|page| &page.records).map(|record| line(record, now)).collect(),
        was_read: found.is_some(),
        is_blank: asked.is_none(),
        is_first: visit.query.get("after").is_none(),
        newest: address.map(Link::text).unwrap_or_default(),
        older,
        looked,
    };
    page.render().map_err(Failure::defect)
}

/// What the address asks for; nothing where it names no tenant and there are several.
fn asked(visit: &Visit<'_>) -> Result<Option<Asked>, Failure> {
    let (query, now) = (&visit.query, visit.now);
    let only =
        visit.scope().tenants().filter(|tenants| tenants.len() == 1).and_then(|tenants| tenants.first());
    let Some(tenant) = query.tenant()?.or_else(|| only.cloned()) else { return Ok(None) };
    visit.sees(&tenant, "tenant")?;
    let (since, until) = (query.get("since").unwrap_or("1h"), query.get("until").unwrap_or_default());
    let from = Instant::read(since, "since", now)?.0;
    let to = if until.is_empty() { now } else { Instant::read(until, "until", now)?.0 };
    if from > to {
        return Err(Failure::wrong("until", format!("{to} is before the start, {from}")));
    }
    let after = match query.get("after") {
        Some(text) => {
            let none = || Failure::wrong("after", "is no place in a history; begin at the newest record");
            Some(RecordCursor::parse(text).ok_or_else(none)?)
        }
        None => None,
    };
    let kept = Span::before(now, Duration::from_millis(RETENTION_MS)).from;
    let search = RecordSearch {
        tenant,
        session: query.read::<SessionId>("session")?,
        call: None,
        failed: query.is_set("failed"),
        tool: query.get("tool").map(str::to_owned),
        // Older records have expired.
        span: Span { from: from.max(kept), to },
    };
    Ok(Some(Asked { search, after, since: since.to_owned(), until: until.to_owned() }))
}

/// The address of the first page of a search.
fn address(asked: &Asked) -> Link {
    let search = &asked.search;
    link::history(search.tenant.as_str())
        .with_some("session", search.session.as_ref().map(SessionId::as_str))
        .with_some("tool", search.tool.as_deref())
        .with_some("failed", search.failed.then_some("1"))
        .with("since", &asked.since)
        .with_some("until", Some(asked.until.as_str()).filter(|until| !until.is_empty()))
}

fn command(asked: &Asked) -> Command {
    let search = &asked.search;
    // The command takes one of both; the session's failures are among its records.
    let failed = search.failed && search.session.is_none();
    Command::new("history")
        .option_if_some("session", search.session.as_ref().map(SessionId::as_str))
        .flag_if("failed", failed)
        .option_if_some("tool", search.tool.as_deref())
        .option("since", &asked.since)
        .option_if_some("until", Some(asked.until.as_str()).filter(|until| !until.is_empty()))
        .word(search.tenant.as_str())
}

/// A record as a line.
pub(super) fn line(record: &AuditRecord, now: Timestamp) -> RecordLine {
    let note = match record.kind {
        AuditKind::Call => match (&record.cached_from, &record.batch) {
            (Some(call), _) => format!("stored answer of {call}"),
            (None, Some(id)) => format!("in batch {id}"),
            (None, None) => String::new(),
        },
        kind @ (AuditKind::LateAnswer
        | AuditKind::IdempotencyMismatch
        | AuditKind::Duplicate
        | AuditKind::Undecodable
        | AuditKind::TenantNotAllowed
        | AuditKind::Switch) => kind.as_str().replace('_', " "),
    };
    RecordLine {
        at: When::clock(record.at, now),
        href: call_page(&record.tenant, &record.call_id),
        call: record.call_id.to_string(),
        tool: record.tool.clone().unwrap_or_default(),
        outcome: record.outcome.to_string(),
        note,
        is_failure: record.outcome.is_failure(),
        code: record.code.clone().unwrap_or_default(),
        attempts: record.attempts,
        worker: record.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        took: short_ms(record.at.ms_since(record.enqueued_at)),
        message: record.message.clone().unwrap_or_default(),
    }
}

/// The page of a call; what is the fleet's own has none.
fn call_page(tenant: &Tenant, call: &CallId) -> String {
    if tenant.is_reserved() { String::new() } else { link::call(tenant.as_str(), call.as_str()) }
}
