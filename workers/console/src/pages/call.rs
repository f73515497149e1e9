//! The life of a call: when it was sent, what it waited for, who executed it, how it ended, and what the history has of it. Arguments are not
//! shown, in no form.

use std::time::Duration;

use askama::Template;
use toolfleet_client::{PAGE_READS, RecordCursor, RecordPage, RecordSearch, Span, Why, readable};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallId, CallKey};
use toolfleet_core::outcome::{CallError, MayHaveRun};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::{Timestamp, span};
use toolfleet_core::why::Place;

use super::history::{RecordLine, line};
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{When, count, short_ms};
use crate::reading::{Problems, problem};
use crate::visitor::Scope;

/// A longer result is cut.
const SHOWN_CHARS: usize = 20_000;
/// A larger result is not read from the bucket for a page.
const LARGEST_RESULT: u64 = 2_000_000;
/// Records of a call without a row on one page.
const MOST_RECORDS: usize = 50;

#[derive(Template)]
#[template(path = "call.html")]
struct CallPage {
    frame: Frame,
    tenant: String,
    call: String,
    state: &'static str,
    is_bad: bool,
    text: String,
    /// What `why` says.
    why: Vec<(&'static str, String)>,
    /// The address that looks into the dead-letter queue, where that was not done.
    look: Option<String>,
    facts: Vec<Fact>,
    bar: Option<LifeBar>,
    events: Vec<Event>,
    error: Option<ErrorShown>,
    result: Option<ResultShown>,
    records: Vec<RecordLine>,
    has_records: bool,
    /// That there are more records near its start and its end than are read for a page.
    has_more: bool,
    /// How far its records were searched, where no row says when it was.
    searched: Option<Searched>,
}

/// How many records were read to find those of a call without a row, and of which time.
struct Searched {
    read: String,
    from: When,
    to: When,
    /// Whether this is no first page.
    goes_on: bool,
    older: Option<String>,
}

/// The records of a call.
#[derive(Default)]
struct Records {
    records: Vec<AuditRecord>,
    were_read: bool,
    has_more: bool,
    searched: Option<RecordPage>,
}

struct Fact {
    name: &'static str,
    value: String,
    href: String,
}

/// The waits and the execution of a call, as parts of a bar of 1,000 units.
struct LifeBar {
    waited: u64,
    ran: u64,
    label: String,
}

struct Event {
    at: When,
    /// The time since the call was sent.
    after: String,
    what: &'static str,
    text: String,
    is_bad: bool,
    is_ahead: bool,
}

struct ErrorShown {
    code: &'static str,
    message: String,
    may_have_run: &'static str,
    retry: String,
}

struct ResultShown {
    text: String,
    cut: String,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (Some(tenant), Some(call_id)) = (visit.query.tenant()?, visit.query.read::<CallId>("call")?) else {
        return Err(Failure::wrong("call", "name a tenant and a call"));
    };
    visit.sees(&tenant, "call")?;
    let key = CallKey { tenant, call_id };
    let (mut problems, client) = (Problems::of(visit.scope()), &visit.console.client);
    let looks = visit.query.is_set("look");
    // Two readings of the dead-letter queue at once would hide its messages from each other.
    let alone = if looks { Some(visit.console.dead_letters.alone().await) } else { None };
    let read = match (visit.scope(), looks) {
        (Scope::Tenants(_), looks) => client.why_of_tenant(&key, looks).await,
        (Scope::All, true) => client.why(&key).await,
        (Scope::All, false) => client.why_without_dead_letters(&key).await,
    };
    drop(alone);
    let mut why = read.map_err(|error| Failure::unread(problem("The call", &error, visit.scope())))?;
    for (what, error) in std::mem::take(&mut why.failures) {
        problems.add(problem(what, &error, visit.scope()));
    }
    let now = why.now;
    let result = match &mut why.row {
        Some(row) => result(visit, row, &mut problems).await,
        None => None,
    };
    let row = why.row.as_ref();
    let Records { records, were_read, has_more, searched } =
        records_of(visit, &key, row, now, &mut problems).await?;
    let tool = records.iter().find_map(|record| record.tool.clone());
    let error =
        row.and_then(|row| row.finished.as_ref()).and_then(|finished| finished.outcome.error.as_ref());
    let has_ended = why.explanation.place == Place::Ended;
    let page = CallPage {
        tenant: key.tenant.to_string(),
        call: key.call_id.to_string(),
        state: state(&why),
        is_bad: row.and_then(|row| row.finished.as_ref()).is_some_and(|one| one.outcome.kind.is_failure()),
        text: why.explanation.text.clone(),
        why: if has_ended { Vec::new() } else { lines(&why) },
        look: (!looks && !has_ended).then(|| {
            Link::to("/call")
                .with("tenant", key.tenant.as_str())
                .with("call", key.call_id.as_str())
                .with("look", "1")
                .text()
        }),
        facts: row.map_or_else(Vec::new, |row| facts(row, tool.as_deref(), visit, now)),
        bar: row.and_then(|row| life(row, now)),
        events: row.map_or_else(Vec::new, |row| events(row, now)),
        error: error.map(shown),
        result,
        has_records: were_read,
        has_more,
        searched: searched.map(|page| shown_search(&page, &key, visit)),
        records: records.iter().map(|record| line(record, now)).collect(),
        frame: Frame::of(
            visit,
            &format!("Call {}", key.call_id),
            problems,
            commands(&key, has_ended, row.is_some()),
        ),
    };
    page.render().map_err(Failure::defect)
}

/// The records near the start and the end of a call that has a row. Those of another one are searched, as many as a page reads.
async fn records_of(
    visit: &Visit<'_>,
    key: &CallKey,
    row: Option<&CallRow>,
    now: Timestamp,
    problems: &mut Problems<'_>,
) -> Result<Records, Failure> {
    let client = &visit.console.client;
    if let Some(row) = row {
        let Some(near) = problems.take("The records of the call", client.records_near(row).await) else {
            return Ok(Records::default());
        };
        let has_more = !near.is_complete;
        return Ok(Records { records: near.records, were_read: true, has_more, searched: None });
    }
    let after = match visit.query.get("after") {
        Some(text) => {
            let none = || Failure::wrong("after", "is no place in a history; begin at the newest record");
            Some(RecordCursor::parse(text).ok_or_else(none)?)
        }
        None => None,
    };
    let search = RecordSearch {
        tenant: key.tenant.clone(),
        session: None,
        call: Some(key.call_id.clone()),
        failed: false,
        tool: None,
        span: Span::before(now, Duration::from_millis(RETENTION_MS)),
    };
    let read = client.search_records(&search, after.as_ref(), MOST_RECORDS, PAGE_READS).await;
    let Some(mut page) = problems.take("The records of the call", read) else {
        return Ok(Records::default());
    };
    let records = std::mem::take(&mut page.records);
    Ok(Records { records, were_read: true, has_more: false, searched: Some(page) })
}

fn shown_search(page: &RecordPage, key: &CallKey, visit: &Visit<'_>) -> Searched {
    let go_on = |next: &RecordCursor| {
        Link::to("/call")
            .with("tenant", key.tenant.as_str())
            .with("call", key.call_id.as_str())
            .with("after", next.as_str())
            .text()
    };
    Searched {
        read: count(u64::try_from(page.reads.records).unwrap_or(u64::MAX)),
        from: When::clock(page.searched_from, visit.now),
        to: When::clock(page.searched_to, visit.now),
        goes_on: visit.query.get("after").is_some(),
        older: page.next.as_ref().map(go_on),
    }
}

fn commands(key: &CallKey, has_ended: bool, has_row: bool) -> Vec<Command> {
    let about = |verb: &str| Command::new(verb).word(key.tenant.as_str()).word(key.call_id.as_str());
    let first = if has_ended { "result" } else { "why" };
    // Nothing says when a call without a row was: its records are kept for so long.
    let history = if has_row { about("history") } else { about("history").option("since", "60d") };
    vec![about(first), history]
}

/// The state of a call, or how it ended.
fn state(why: &Why) -> &'static str {
    let finished = why.row.as_ref().and_then(|row| row.finished.as_ref());
    finished.map_or(why.explanation.state, |finished| finished.outcome.kind.as_str())
}

/// What `toolfleet why` prints.
fn lines(why: &Why) -> Vec<(&'static str, String)> {
    let (explained, now) = (&why.explanation, why.now);
    let mut lines: Vec<_> = explained.waits_for.iter().map(|waits| ("Waits for", waits.line(now))).collect();
    lines.push(("Next", explained.next_line(now)));
    lines.extend(explained.deadline_line(now).map(|text| ("Deadline", text)));
    lines.extend(explained.not_known.iter().map(|text| ("Not known", text.clone())));
    lines.extend(explained.remedies.iter().map(|text| ("What to do", text.clone())));
    lines
}

/// The result as people read it, not longer than a page bears.
async fn result(visit: &Visit<'_>, row: &mut CallRow, problems: &mut Problems<'_>) -> Option<ResultShown> {
    let stored = row.finished.as_ref()?.outcome.stored().map(|stored| stored.plain_bytes);
    if let Some(bytes) = stored.filter(|bytes| *bytes > LARGEST_RESULT) {
        let cut = format!(
            "The result has {} bytes, too many for this page. The command below prints it.",
            count(bytes)
        );
        return Some(ResultShown { text: String::new(), cut });
    }
    if let Err(error) = visit.console.client.fill_result(row).await {
        problems.of_result(&error);
        return None;
    }
    let text = readable(row.finished.as_ref()?.outcome.content()?);
    let all = text.chars().count();
    let cut = match text.char_indices().nth(SHOWN_CHARS) {
        Some(_) => {
            format!("Cut: the first {SHOWN_CHARS} of {all} characters. The command below prints all of it.")
        }
        None => String::new(),
    };
    Some(ResultShown { text: text.chars().take(SHOWN_CHARS).collect(), cut })
}

fn facts(row: &CallRow, tool: Option<&str>, visit: &Visit<'_>, now: Timestamp) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name, value: String, href: String| facts.push(Fact { name, value, href });
    if let Some(tool) = tool {
        let page = if visit.scope().tenants().is_none() { link::tool(tool) } else { String::new() };
        add("Tool", tool.to_owned(), page);
    }
    add("Attempts", row.attempts.to_string(), String::new());
    if let Some(worker) = &row.worker {
        add("Worker", worker.to_string(), String::new());
    }
    let tenant = row.key.tenant.as_str();
    if let Some(caller) = &row.caller {
        if let Some(session) = &caller.session {
            let page = link::history(tenant).with("session", session.as_str()).with("since", "1d").text();
            add("Session", session.to_string(), page);
        }
        if let Some(user) = &caller.user {
            add("User", user.id.clone(), String::new());
        }
        if let Some(agent) = &caller.agent {
            add("Agent", agent.clone(), String::new());
        }
        if let Some(group) = &caller.group {
            let page = Link::to("/group").with("tenant", tenant).with("group", group.id.as_str());
            let index = group.index.map_or_else(String::new, |index| format!(", member {index}"));
            add(
                "Group",
                format!("{}{index} of {}", group.id, group.size),
                page.with("round", group.round.to_string()).text(),
            );
        }
    }
    if let Some(outcome) = row.finished.as_ref().map(|finished| &finished.outcome) {
        if let Some(from) = outcome.source.cached_from() {
            add("Stored answer of", from.to_owned(), String::new());
        }
        if let Some(batch) = outcome.source.batch() {
            add("Batch", batch.to_owned(), String::new());
        }
    }
    if let Some(progress) = row.notes.as_ref().and_then(|notes| notes.progress.as_ref()) {
        let total = progress.total.map_or_else(String::new, |total| format!(" of {total}"));
        let message = progress.message.as_ref().map_or_else(String::new, |message| format!(", {message}"));
        add("Progress", format!("{}{total}{message}", progress.progress), String::new());
    }
    add("Row kept until", When::clock(row.expires_at, now).text, String::new());
    facts
}

/// How long it waited and ran, so far.
fn life(row: &CallRow, now: Timestamp) -> Option<LifeBar> {
    let started = row.started_at?;
    let end = row.finished.as_ref().map_or(now, |finished| finished.at);
    let (waited, ran) = (started.ms_since(row.enqueued_at), end.ms_since(started));
    let whole = waited.saturating_add(ran).max(1);
    let part = u64::try_from(u128::from(waited) * 1_000 / u128::from(whole)).unwrap_or(1_000);
    let open = if row.finished.is_some() { "" } else { " so far" };
    let label = format!("{} before the first claim, then {}{open}", short_ms(waited), short_ms(ran));
    Some(LifeBar { waited: part, ran: 1_000 - part.min(1_000), label })
}

fn events(row: &CallRow, now: Timestamp) -> Vec<Event> {
    let sent = row.enqueued_at;
    let mut events = Vec::new();
    let mut add = |at: Timestamp, what, text: String, is_bad| {
        let after = if at >= sent { format!("+{}", short_ms(at.ms_since(sent))) } else { String::new() };
        events.push((at, Event { at: When::clock(at, now), after, what, text, is_bad, is_ahead: at > now }));
    };
    add(sent, "Sent", String::new(), false);
    if let Some(at) = row.started_at {
        let lost =
            row.worker.as_ref().map_or_else(String::new, |worker| format!("last held by worker {worker}"));
        add(at, "First claimed", lost, false);
    }
    if let Some(held) = row.held.as_deref() {
        let server = held.server.as_ref().map_or_else(String::new, |server| format!(" (server {server})"));
        let detail = held.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        let fault =
            held.last_fault.as_ref().map_or_else(String::new, |fault| format!("; last fault: {fault}"));
        let text =
            format!("{}, because {}{server}{detail}{fault}", held.reason.as_str(), held.reason.sentence());
        let waits = row.held().is_some();
        add(held.since, if waits { "Waits" } else { "Waited" }, text, waits);
        if waits {
            add(held.next_try_at, "Next try", String::new(), false);
        }
    }
    if let Some(at) = row.cancel_requested_at {
        add(at, "Cancellation asked for", String::new(), false);
    }
    if let Some(at) = row.poll_at.filter(|_| row.finished.is_none()) {
        add(at, "Task is polled", String::new(), false);
    }
    if let Some(notes) = &row.notes {
        for log in &notes.log {
            add(notes.at, "Server's log", format!("{}: {}", log.level, log.text), false);
        }
    }
    if let Some(at) = row.lease_until.filter(|_| row.finished.is_none()) {
        add(at, "Claim ends, unless renewed", String::new(), false);
    }
    match (&row.finished, row.deadline) {
        (Some(finished), _) => {
            let attempts = if row.attempts == 1 { "attempt" } else { "attempts" };
            let text = format!("{}, after {} {attempts}", finished.outcome.kind, row.attempts);
            add(finished.at, "Ended", text, finished.outcome.kind.is_failure());
        }
        (None, Some(deadline)) => add(deadline, "Deadline", String::new(), false),
        (None, None) => {}
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

fn shown(error: &CallError) -> ErrorShown {
    ErrorShown {
        code: error.code.as_str(),
        message: error.message.clone(),
        may_have_run: match error.may_have_run {
            MayHaveRun::No => "no",
            MayHaveRun::Yes => "yes",
            MayHaveRun::Unknown => "not known",
        },
        retry: match (error.retryable, error.retry_after_ms) {
            (true, Some(ms)) => format!("yes, after {}", span(ms)),
            (true, None) => "yes".to_owned(),
            (false, _) => "no".to_owned(),
        },
    }
}
