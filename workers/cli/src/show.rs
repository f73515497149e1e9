//! Shows a call: the JSON document of `call` and `result`, and the same as text.
//!
//! **Invariant:** a state other than done is never shown as an outcome.

use std::io;

use serde::Serialize;
use serde_json::value::RawValue;
use toolfleet_client::{readable, shell_command, system_clock};
use toolfleet_core::call::{CallRow, Held};
use toolfleet_core::ids::{CallId, CallKey, ServerId, Tenant, WorkerId};
use toolfleet_core::outcome::{CallError, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::progress::{CallProgress, Progress};
use toolfleet_core::time::Timestamp;
pub(crate) use toolfleet_core::time::span;

use toolfleet_core::why::{Evidence, explain};

use crate::exit::Exit;
use crate::output::Output;

/// A call as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct CallView<'a> {
    tenant: &'a Tenant,
    call_id: &'a CallId,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a CallError>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a WorkerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enqueued_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a CallProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<HeldView<'a>>,
}

/// What a call waits for.
#[derive(Debug, Serialize)]
struct HeldView<'a> {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a ServerId>,
    since: Timestamp,
    next_try_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> HeldView<'a> {
    fn new(held: &'a Held) -> Self {
        Self {
            reason: held.reason.as_str(),
            server: held.server.as_ref(),
            since: held.since,
            next_try_at: held.next_try_at,
            last_fault: held.last_fault.as_deref(),
            detail: held.detail.as_deref(),
        }
    }
}

impl<'a> CallView<'a> {
    /// The call of that key; `row` is its row in the table, if there is one.
    pub(crate) fn new(key: &'a CallKey, row: Option<&'a CallRow>) -> Self {
        let finished = row.and_then(|row| row.finished.as_ref());
        let outcome = finished.map(|f| &f.outcome);
        Self {
            tenant: &key.tenant,
            call_id: &key.call_id,
            state: row.map_or("unknown", |row| row.state.as_str()),
            outcome: outcome.map(|o| o.kind),
            content: outcome.and_then(Outcome::content),
            error: outcome.and_then(|o| o.error.as_ref()),
            cached_from: outcome.and_then(|o| o.source.cached_from()),
            batch: outcome.and_then(|o| o.source.batch()),
            attempts: row.map_or(0, |row| row.attempts),
            worker: row.and_then(|row| row.worker.as_ref()),
            enqueued_at: row.map(|row| row.enqueued_at),
            started_at: row.and_then(|row| row.started_at),
            finished_at: finished.map(|f| f.at),
            cancel_requested_at: row.and_then(|row| row.cancel_requested_at),
            notes: row.and_then(|row| row.notes.as_deref()),
            held: row.and_then(CallRow::held).map(HeldView::new),
        }
    }
}

/// Shows a call as `call` and `result` do: content on stdout, errors on stderr, the exit code from the outcome.
pub(crate) fn call(output: &Output, key: &CallKey, row: Option<&CallRow>) -> io::Result<Exit> {
    if output.is_json() {
        output.document(&CallView::new(key, row))?;
    }
    let Some(finished) = row.and_then(|row| row.finished.as_ref()) else {
        output.note(&waiting(key, row));
        output.note(&format!("  more is said by: {}", shell_command::why(key)));
        show_notes(output, row);
        return Ok(Exit::NoResult);
    };
    if let Some(content) = finished.outcome.content() {
        output.line(&readable(content))?;
    }
    if let Some(call) = finished.outcome.source.cached_from() {
        output.note(&format!(
            "this is the stored answer of {call}; the tool was not asked (docs/reference/cache.md)"
        ));
    }
    if finished.outcome.kind == OutcomeKind::Succeeded {
        return Ok(Exit::Done);
    }
    output.note(&error(&finished.outcome));
    show_notes(output, row);
    if finished.outcome.kind == OutcomeKind::InputRequired {
        output.note(&format!(
            "resume it with: toolfleet call (the same options) --resume {} --input-responses '{{\"KEY\": ANSWER}}'",
            key.call_id
        ));
    }
    Ok(Exit::NotSucceeded)
}

/// What a call waits for, for people: the reason, the server, the next try, the last fault.
pub(crate) fn held(held: &Held) -> String {
    let server = held.server.as_ref().map_or_else(String::new, |server| format!(" (server {server})"));
    let fault = held.last_fault.as_ref().map_or_else(String::new, |fault| format!("; last fault: {fault}"));
    let detail = held.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    format!(
        "held since {}: {}{server}{detail}; next try at {}{fault}",
        held.since,
        held.reason.sentence(),
        held.next_try_at
    )
}

/// Shows the progress and the log of a call that did not succeed, or has not ended.
fn show_notes(output: &Output, row: Option<&CallRow>) {
    let Some(notes) = row.and_then(|row| row.notes.as_ref()) else {
        return;
    };
    if let Some(latest) = &notes.progress {
        output.note(&format!("  progress: {}, reported at {}", progress(latest), notes.at));
    }
    for line in &notes.log {
        output.note(&format!("  {}: {}", line.level, line.text));
    }
}

/// A number of things: `1 server`, `2 servers`.
pub(crate) fn count(n: impl TryInto<u64>, thing: &str) -> String {
    let n: u64 = n.try_into().unwrap_or(u64::MAX);
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// The progress of a call as text.
pub(crate) fn progress(progress: &Progress) -> String {
    let total = progress.total.map_or_else(String::new, |total| format!(" of {total}"));
    let message = progress.message.as_ref().map_or_else(String::new, |message| format!(", {message}"));
    format!("{}{total}{message}", progress.progress)
}

/// The state of a call without a result: where it is, what it waits for, and when it goes on, as far as its row says it.
fn waiting(key: &CallKey, row: Option<&CallRow>) -> String {
    let now = system_clock()();
    let explained = explain(&Evidence::of_row(key, row, now));
    let cancel = match row.and_then(|row| row.cancel_requested_at) {
        Some(_) => "; its cancellation is noted",
        None => "",
    };
    format!(
        "{}: call {} of tenant {}: {}{cancel}",
        explained.state,
        key.call_id,
        key.tenant,
        explained.line(now)
    )
}

/// The error of an outcome as text.
fn error(outcome: &Outcome) -> String {
    let Some(error) = &outcome.error else {
        return outcome.kind.to_string();
    };
    let ran = match error.may_have_run {
        MayHaveRun::No => "no",
        MayHaveRun::Yes => "yes",
        MayHaveRun::Unknown => "unknown",
    };
    let retry = match (error.retryable, error.retry_after_ms) {
        (true, Some(ms)) => format!("yes, after {ms} ms"),
        (true, None) => "yes".to_owned(),
        (false, _) => "no".to_owned(),
    };
    format!("{} ({}): {}\n  may have run: {ran}, retryable: {retry}", outcome.kind, error.code, error.message)
}

#[cfg(test)]
mod tests {
    use toolfleet_core::call::HeldReason;
    use toolfleet_core::progress::Amount;

    use super::*;

    #[test]
    fn a_call_that_no_worker_received_is_unknown_and_no_outcome() {
        let key = CallKey { tenant: Tenant::parse("t").unwrap(), call_id: CallId::parse("c").unwrap() };
        let view = serde_json::to_value(CallView::new(&key, None)).unwrap();
        assert_eq!(view["state"], "unknown");
        assert!(view.get("outcome").is_none());
        assert!(waiting(&key, None).contains("never sent"));
    }

    #[test]
    fn a_held_call_names_its_server_and_its_next_try() {
        let server = ServerId::parse("crm").unwrap();
        let at = Timestamp::from_ms(1_795_000_000_000);
        let wait = Held::new(HeldReason::ServerUnreachable, Some(server), at, 5_000).with_fault("refused");
        let text = held(&wait);
        let next = at.plus_ms(5_000).to_string();
        assert!(text.contains("server crm") && text.contains(&next) && text.contains("refused"), "{text}");
        let view = serde_json::to_value(HeldView::new(&wait)).unwrap();
        assert_eq!((&view["reason"], &view["server"]), (&"server_unreachable".into(), &"crm".into()));
    }

    #[test]
    fn progress_is_shown_as_far_as_it_is_known() {
        let amount = |number| Amount::new(number).unwrap();
        let bare = Progress { progress: amount(0.5), total: None, message: None };
        assert_eq!(progress(&bare), "0.5");
        let whole = Progress { total: Some(amount(10.0)), message: Some("rows".into()), ..bare };
        assert_eq!(progress(&whole), "0.5 of 10, rows");
    }
}
