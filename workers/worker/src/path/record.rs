//! Owns the sixth step: the result into the call's row, then the audit record, and the proof that both stand.
//!
//! Result first, audit second, message last: whoever meets the row in between writes the missing record, which is built
//! from the row and the request alone and is the same whoever builds it.
//!
//! **Invariant:** [`Recorded`] is made here alone, after the last write; without it no message can be acknowledged.

use toolfleet_aws::Trouble;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{CallRow, Event, Finding, Held};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::message::{CallRequest, Reply};
use toolfleet_core::notice::Notice;
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::time::Timestamp;

use super::account;
use super::claim::ClaimedCall;
use super::follow::Task;
use super::swap::{Turn, apply};
use super::visit::Arrival;
use super::withdraw::OpenTask;
use crate::backoff;
use crate::config::ROW_LIFE_MS;
use crate::fleet::{Fleet, Step};
use crate::telemetry::trace;

mod without_call;

use without_call::answer_message;
pub(super) use without_call::{malformed, unauthorised, unreadable};

/// The proof that a delivery's account stands in the tables.
pub(super) struct Recorded {
    notice: Option<(Notice, String)>,
    open_task: Option<OpenTask>,
}

impl Recorded {
    /// The notice to send, and the queue it goes to.
    pub(super) const fn notice(&self) -> Option<&(Notice, String)> {
        self.notice.as_ref()
    }

    /// The task that the server still works on although the call has ended.
    pub(super) const fn open_task(&self) -> Option<&OpenTask> {
        self.open_task.as_ref()
    }
}

/// How an attempt to end a call came out.
pub(super) enum Concluded {
    Recorded(Box<Recorded>),
    Later { after_ms: u64, why: &'static str },
    Parked { after_ms: u64, troubled: bool },
    Lost,
}

/// Stores the outcome of a call that was executed, which [`keep`](super::payload::keep) has made fit.
pub(super) async fn finish(
    fleet: &Fleet,
    arrival: &Arrival,
    call: ClaimedCall,
    outcome: Outcome,
) -> Result<Concluded, Trouble> {
    let ClaimedCall { ready, claim, row, attempts, exposed, task, overheard, .. } = call;
    let request = ready.call.request;
    let now = fleet.now();
    let notes = overheard.since(0).map(|(notes, _)| notes);
    // A task that was certainly not answered waits for another call.
    let task = task.filter(|task| !task.unanswered || exposed).map(|task| task.handle);
    let (late, outcome) = (outcome.kind, account::without_secrets(outcome, &request));
    let event = Event::Finish { claim: claim.clone(), outcome, attempts, task, now, notes };
    match persist(fleet, &row, &event).await? {
        Turn::Stored { row, .. } => {
            stored(fleet, arrival, &row).await;
            Ok(Concluded::Recorded(Box::new(already(fleet, arrival, *request, *row).await?)))
        }
        Turn::Found { .. } => {
            let own = arrival.caller(&request);
            let caller = row.caller.as_deref().unwrap_or(&own);
            let record = AuditRecord {
                outcome: late,
                attempts,
                fence: claim.fence(),
                worker: Some(fleet.worker.clone()),
                ..account::of(
                    AuditKind::LateAnswer,
                    request.key.clone(),
                    arrival,
                    now,
                    caller,
                    Some(&request),
                )
            };
            fleet.history.insert(&record, now.plus_ms(ROW_LIFE_MS)).await?;
            fleet.meters.late_answer();
            tracing::warn!(call = %request.key, fence = claim.fence(), code = "late_answer", "an answer came after the claim was lost");
            Ok(Concluded::Lost)
        }
    }
}

/// Tries for as long as a lease to store what only this worker knows: giving up would lose an answer that was paid for.
/// If another worker takes the call over meanwhile, the fence says so.
async fn persist(fleet: &Fleet, row: &CallRow, event: &Event) -> Result<Turn, Trouble> {
    let give_up = tokio::time::Instant::now() + fleet.limits.lease;
    let mut tries = 0;
    loop {
        match apply(&fleet.calls, Some(row), event).await {
            Err(trouble) if tokio::time::Instant::now() < give_up => {
                tries += 1;
                tracing::warn!(%trouble, tries, code = "own_trouble", "an outcome could not be stored yet; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(backoff::after_tries(tries).min(2_000)))
                    .await;
            }
            answer => return answer,
        }
    }
}

/// Gives a claim back, its attempts counted; the message follows it to the queue. `held` is what the call waits for.
pub(super) async fn release(
    fleet: &Fleet,
    arrival: &Arrival,
    call: ClaimedCall,
    after_ms: u64,
    why: &'static str,
    held: Option<Box<Held>>,
) -> Result<Concluded, Trouble> {
    let ClaimedCall { ready, claim, row, attempts, exposed, .. } = call;
    let event = Event::Release { claim, attempts, exposed, held, now: fleet.now() };
    match apply(&fleet.calls, Some(&row), &event).await? {
        Turn::Stored { row, .. } if row.finished.is_some() => {
            stored(fleet, arrival, &row).await;
            Ok(Concluded::Recorded(Box::new(already(fleet, arrival, *ready.call.request, *row).await?)))
        }
        Turn::Stored { .. } => Ok(Concluded::Later { after_ms, why }),
        Turn::Found { .. } => Ok(Concluded::Lost),
    }
}

/// Leaves a call with its server as a task; the message comes again to ask after it.
pub(super) async fn park(
    fleet: &Fleet,
    arrival: &Arrival,
    call: ClaimedCall,
    task: Task,
    after_ms: u64,
    troubled: bool,
) -> Result<Concluded, Trouble> {
    let ClaimedCall { ready, claim, row, attempts, exposed, overheard, .. } = call;
    let Task { handle: task, unanswered } = task;
    let now = fleet.now();
    let notes = overheard.since(0).map(|(notes, _)| notes);
    // At the deadline it comes back even if the server wants to be left alone for longer.
    let after_ms = after_ms.min(ready.call.deadline.ms_since(now));
    let poll_at = now.plus_ms(after_ms);
    let event = Event::Park { claim, task, unanswered, exposed, attempts, poll_at, notes, now };
    match persist(fleet, &row, &event).await? {
        Turn::Stored { row, .. } if row.finished.is_some() => {
            stored(fleet, arrival, &row).await;
            Ok(Concluded::Recorded(Box::new(already(fleet, arrival, *ready.call.request, *row).await?)))
        }
        Turn::Stored { .. } => Ok(Concluded::Parked { after_ms, troubled }),
        Turn::Found { .. } => Ok(Concluded::Lost),
    }
}

/// Ends a call that was not executed: a refusal, a passed deadline, a server that cannot be reached.
pub(super) async fn conclude(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
    outcome: Outcome,
) -> Result<Concluded, Trouble> {
    let visit = arrival.visit(fleet, &request, false);
    let definition = arrival.catalog().definition(&request.target);
    let outcome = account::without_secrets(outcome, &request);
    let event = Event::Conclude { visit, outcome: outcome.clone(), definition };
    match apply(&fleet.calls, None, &event).await? {
        Turn::Stored { row, .. } => {
            stored(fleet, arrival, &row).await;
            Ok(Concluded::Recorded(Box::new(already(fleet, arrival, request, *row).await?)))
        }
        Turn::Found { row: Some(row), finding: Finding::AlreadyRecorded } => {
            Ok(Concluded::Recorded(Box::new(already(fleet, arrival, request, *row).await?)))
        }
        Turn::Found { finding: Finding::Mismatch, .. } => {
            Ok(Concluded::Recorded(Box::new(mismatch(fleet, arrival, request).await?)))
        }
        Turn::Found { finding: Finding::OfAnother, .. } => {
            Ok(Concluded::Recorded(Box::new(second(fleet, arrival, request, &outcome).await?)))
        }
        Turn::Found { finding: Finding::HeldElsewhere { retry_after_ms }, .. } => {
            let after_ms = arrival.wait_for_holder_ms(retry_after_ms);
            Ok(Concluded::Later { after_ms, why: "another worker holds the call" })
        }
        Turn::Found {
            finding: Finding::AlreadyRecorded | Finding::AwaitingApproval | Finding::Lost | Finding::Nothing,
            ..
        } => Ok(Concluded::Later {
            after_ms: fleet.limits.lease_ms(),
            why: "the call waits for something else",
        }),
    }
}

/// The end of a call was stored by this worker.
pub(super) async fn stored(fleet: &Fleet, arrival: &Arrival, row: &CallRow) {
    if let Some(finished) = &row.finished {
        let outcome = &finished.outcome;
        fleet.meters.ended(outcome.kind, outcome.trouble.as_ref().map(|why| why.code));
        trace::outcome(arrival.span(), outcome);
    }
    fleet.passed(Step::ResultStored).await;
}

/// The account of a call that has ended, by whoever: its audit record is inserted unless it stands. It names who asked first;
/// another message with the same question has a record of its own.
pub(super) async fn already(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
    row: CallRow,
) -> Result<Recorded, Trouble> {
    let Some(finished) = &row.finished else {
        return Err(Trouble::passing("the call's row has ended without an outcome"));
    };
    let own = arrival.caller(&request);
    let caller = row.caller.as_deref().unwrap_or(&own);
    let record = account::of_call(&row, finished, arrival, caller, &request);
    fleet.history.insert(&record, row.expires_at).await?;
    if caller.came_again(&own) {
        let outcome = Outcome { content: None, stored: None, ..finished.outcome.clone() };
        audit_message(fleet, arrival, AuditKind::Duplicate, &request, &outcome).await?;
    }
    // The task lives in the conversation of who asked first.
    let session = caller.session.clone();
    let open_task = row.task.clone().map(|handle| OpenTask {
        tenant: row.key.tenant.clone(),
        target: request.target.clone(),
        session,
        handle,
    });
    let code = finished.outcome.trouble.as_ref().map(|t| t.code);
    let notice = notice_of(arrival, request, finished.outcome.kind, code, finished.at);
    Ok(Recorded { notice, open_task })
}

/// A known id came with another question: the original stays untouched, the event is audited.
pub(super) async fn mismatch(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
) -> Result<Recorded, Trouble> {
    let text = "The id was used before for another question; the first call stands. Send this one under an id of its own.";
    let outcome = Outcome::refused(Code::IdempotencyMismatch, text);
    audit_message(fleet, arrival, AuditKind::IdempotencyMismatch, &request, &outcome).await?;
    of_message_alone(fleet, arrival, request, &outcome).await
}

/// Somebody else asked the same under a known id and may not have it: its message ends by itself, the call stays untouched and
/// nothing is told of it.
async fn second(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
    outcome: &Outcome,
) -> Result<Recorded, Trouble> {
    audit_message(fleet, arrival, AuditKind::Duplicate, &request, outcome).await?;
    of_message_alone(fleet, arrival, request, outcome).await
}

/// The answer to a message that ended without its call.
async fn of_message_alone(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
    outcome: &Outcome,
) -> Result<Recorded, Trouble> {
    answer_message(fleet, arrival, request.digest.clone(), outcome).await?;
    let code = outcome.trouble.as_ref().map(|why| why.code);
    let notice = notice_of(arrival, request, outcome.kind, code, arrival.sent_at());
    Ok(Recorded { notice, open_task: None })
}

/// A record of one message of several under an id. Its time is that of the first sending, so that each delivery writes the same.
async fn audit_message(
    fleet: &Fleet,
    arrival: &Arrival,
    kind: AuditKind,
    request: &CallRequest,
    outcome: &Outcome,
) -> Result<(), Trouble> {
    let (at, caller) = (arrival.enqueued_at, arrival.caller(request));
    let record = account::of(kind, request.key.clone(), arrival, at, &caller, Some(request));
    let record = account::described(record, outcome, arrival, Some(request));
    fleet.history.insert(&record, at.plus_ms(ROW_LIFE_MS)).await
}

/// What the sender of this message is told, where it wants to be: the names are its own.
fn notice_of(
    arrival: &Arrival,
    request: CallRequest,
    outcome: OutcomeKind,
    code: Option<Code>,
    finished_at: Timestamp,
) -> Option<(Notice, String)> {
    let reply = request.reply.filter(|_| code != Some(Code::ReplyNotAllowed));
    let queue = reply_queue(arrival, &request.key.tenant, reply)?;
    let (session, group) = (request.session, request.group.map(|group| group.id));
    Some((Notice { session, group, ..notice(&request.key, outcome, code, finished_at) }, queue))
}

fn notice(key: &CallKey, outcome: OutcomeKind, code: Option<Code>, finished_at: Timestamp) -> Notice {
    Notice {
        v: 1,
        event: "call_ended".into(),
        tenant: key.tenant.clone(),
        call_id: key.call_id.clone(),
        outcome,
        code,
        session: None,
        group: None,
        finished_at,
    }
}

fn reply_queue(arrival: &Arrival, tenant: &Tenant, reply: Option<Reply>) -> Option<String> {
    match reply? {
        Reply::SqsQueueUrl(url) => Some(url).filter(|url| arrival.catalog().allows_reply_queue(tenant, url)),
        Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_) => None,
    }
}
