//! THE state table: every state of a stored call, every event, and what follows. Read `decide`, top to bottom.
//!
//! ```text
//!                claim               finish
//!  absent ──────────────▶ claimed ──────────────▶ done
//!    │  ▲ pending ──claim──▶ │ ▲ ◀── heartbeat      ▲
//!    │  │                    │ │                    │
//!    │  └── approve ─┐ release │ claim (fence + 1)  │
//!    │              │        ▼ │                    │
//!    │  awaiting_approval  released                 │
//!    │          claimed ◀──claim── waiting_task     │
//!    │             └───────park───────▶┘            │
//!    └── conclude (refusal, expiry, dead letter) ───┘
//! ```
//!
//! `hold` writes into a row that nobody has claimed (or makes one that is `pending`) why the call waits; `release` does so for
//! a call that was claimed. Both keep the beginning of a wait that goes on.
//!
//! The row is replaced by compare-and-swap on `rev`; whoever loses reads what is there and decides again. A swap that
//! failed although the row stands as intended was won earlier and its answer lost: a success.
//!
//! A call that its server works on as a task waits as `waiting_task` between two questions. Nothing of it is sent a second time,
//! whoever was lost: a claim of it only ever asks. A call that ends before its task keeps the handle, and whoever acknowledges
//! it tells the server to stop. A call that brings a task its answers is such a call from its first claim on; an answer may be
//! given again, so that whoever was lost leaves no doubt.
//!
//! The row keeps who asked first. The same question in a message of somebody else waits until the call has ended, and ends itself
//! alone: it neither claims the call nor concludes it.
//!
//! **Invariant:** from `done` nothing leads away; `fence` and `rev` never fall; a call that is not safe to repeat is handed out
//! for sending once.

mod caller;
mod event;
mod held;
mod row;

pub use caller::Caller;
pub use event::{Claim, Decision, DeliveryContext, Effect, Event, Rejection};
pub use held::{Held, HeldReason};
pub use row::{CallRow, Finished, State};

use crate::definition::ShortDefinitionDigest;
use crate::digest::Digest;
use crate::ids::CallKey;
use crate::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use crate::progress::CallProgress;
use crate::state_table::StateTable;
use crate::time::Timestamp;

/// The state table of calls.
#[derive(Debug, Clone, Copy)]
pub struct CallTable;

impl StateTable for CallTable {
    type Row = CallRow;
    type Event = Event;
    type Effect = Effect;
    type Rejection = Rejection;

    fn decide(seen: Option<&CallRow>, event: &Event) -> Decision {
        decide(seen, event)
    }
}

/// The table. Total, pure, and the only place where a call changes state.
pub fn decide(seen: Option<&CallRow>, event: &Event) -> Decision {
    match event {
        Event::Claim { visit, lease_ms, definition, answers } => {
            claim(seen, visit, *lease_ms, definition.as_ref(), answers.as_ref())
        }
        Event::Conclude { visit, outcome, definition } => conclude(seen, visit, outcome, definition.as_ref()),
        Event::Heartbeat { claim, lease_until, notes } => held(seen, claim, |row| {
            let cancel = row.cancel_requested_at.is_some();
            let row = told(row, notes.clone());
            (CallRow { lease_until: Some(*lease_until), ..row }, Effect::Extended { cancel })
        }),
        Event::Hold { visit, held } => hold(seen, visit, held),
        Event::Release { claim, attempts, may_have_executed, held: why, now } => held(seen, claim, |row| {
            let row = CallRow {
                attempts: *attempts,
                may_have_executed: row.may_have_executed || *may_have_executed,
                ..row
            };
            match row.cancel_requested_at {
                Some(_) => (ended(row.clone(), cancelled(&row), *now), Effect::Ended),
                None => {
                    let row = waiting(row, why.clone());
                    (CallRow { state: State::Released, lease_until: None, ..row }, Effect::Waits)
                }
            }
        }),
        Event::Park { claim, task, input_pending, may_have_executed, attempts, poll_at, notes, now } => {
            held(seen, claim, |row| {
                let row = CallRow {
                    held: None,
                    task: Some(task.clone()),
                    input_pending: *input_pending,
                    attempts: *attempts,
                    may_have_executed: row.may_have_executed || *may_have_executed,
                    ..told(row, notes.clone())
                };
                match row.cancel_requested_at {
                    Some(_) => (ended(row.clone(), cancelled(&row), *now), Effect::Ended),
                    None => {
                        let (state, poll_at) = (State::WaitingTask, Some(*poll_at));
                        (CallRow { state, poll_at, lease_until: None, ..row }, Effect::Waits)
                    }
                }
            })
        }
        Event::Finish { claim, outcome, attempts, task, now, notes } => held(seen, claim, |row| {
            let row = told(row, notes.clone());
            let row = CallRow { attempts: *attempts, task: task.clone(), input_pending: false, ..row };
            (ended(row, outcome.clone(), *now), Effect::Ended)
        }),
        Event::AwaitApproval { visit } => await_approval(seen, visit),
        Event::Approve => match seen {
            Some(row) if row.state == State::AwaitingApproval => {
                write(CallRow { state: State::Pending, ..row.clone() }, Effect::Noted)
            }
            Some(_) | None => Decision::Leave(Rejection::Nothing),
        },
        Event::Cancel { key, now, expires_at } => cancel(seen, key, *now, *expires_at),
    }
}

fn claim(
    seen: Option<&CallRow>,
    visit: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
    answers: Option<&String>,
) -> Decision {
    let Some(row) = seen else {
        return hand_out(answering(fresh(visit), definition, answers), visit, lease_ms, definition);
    };
    if differs(row, visit) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if let Some(rejection) = held_by_another(row, visit, lease_ms) {
        return Decision::Leave(rejection);
    }
    match row.state {
        State::Done => Decision::Leave(Rejection::AlreadyRecorded),
        State::AwaitingApproval if row.cancel_requested_at.is_none() => {
            Decision::Leave(Rejection::AwaitingApproval)
        }
        // Our own claim, whose answer was lost, and a cancellation that came between: nothing was sent.
        State::Claimed if row.nonce.as_ref() == Some(&visit.nonce) && row.cancel_requested_at.is_some() => {
            write(ended(row.clone(), cancelled(row), visit.now), Effect::Ended)
        }
        State::Claimed => match remaining_ms(row, visit) {
            Some(retry_after_ms) => Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => proceed(lost_attempt(row), visit, lease_ms, definition),
        },
        State::WaitingTask if row.cancel_requested_at.is_none() && too_early_ms(row, visit) > 0 => {
            Decision::Leave(Rejection::HeldElsewhere { retry_after_ms: too_early_ms(row, visit) })
        }
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
            let row = answering(adopt(row, visit), definition, answers);
            proceed(row, visit, lease_ms, definition)
        }
    }
}

/// The row of a call that brings a task its answers: the handle is all that is ever sent of it.
fn answering(row: CallRow, definition: Option<&ShortDefinitionDigest>, answers: Option<&String>) -> CallRow {
    match answers {
        Some(task) if row.task.is_none() => {
            CallRow { task: Some(task.clone()), input_pending: true, definition: definition.cloned(), ..row }
        }
        Some(_) | None => row,
    }
}

/// How long before its time a question after a task comes, as far as two clocks can tell: it is a duplicate's.
fn too_early_ms(row: &CallRow, visit: &DeliveryContext) -> u64 {
    row.poll_at.map_or(0, |at| at.ms_since(visit.now.plus_ms(visit.skew_ms)))
}

/// Hands a row out that nobody holds, unless it was withdrawn or sending it again could do harm.
/// Asking after a task is always safe: the handle, not the call, is sent.
fn proceed(
    row: CallRow,
    visit: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    if row.cancel_requested_at.is_some() {
        return write(ended(row.clone(), cancelled(&row), visit.now), Effect::Ended);
    }
    if row.may_have_executed && row.task.is_none() && !visit.repeatable {
        return write(ended(row, worker_lost(), visit.now), Effect::Ended);
    }
    hand_out(row, visit, lease_ms, definition)
}

fn conclude(
    seen: Option<&CallRow>,
    visit: &DeliveryContext,
    outcome: &Outcome,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    let Some(row) = seen else {
        let row = CallRow {
            nonce: Some(visit.nonce.clone()),
            worker: Some(visit.worker.clone()),
            definition: definition.cloned(),
            ..fresh(visit)
        };
        return write(ended(row, outcome.clone(), visit.now), Effect::Ended);
    };
    if differs(row, visit) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if row.caller.as_ref().is_some_and(|caller| caller.may_not_be_ended_by(&visit.caller)) {
        return Decision::Leave(Rejection::OfAnother);
    }
    let row = match row.state {
        State::Done => return Decision::Leave(Rejection::AlreadyRecorded),
        State::Claimed => match remaining_ms(row, visit) {
            Some(retry_after_ms) => return Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => lost_attempt(row),
        },
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => adopt(row, visit),
    };
    // What the call was sent by is what counts, not what the catalog says by now.
    let row = CallRow { definition: row.definition.clone().or_else(|| definition.cloned()), ..row };
    let outcome = if row.cancel_requested_at.is_some() {
        cancelled(&row)
    } else {
        as_exposed(outcome, row.may_have_executed)
    };
    let outcome = match &row.held {
        Some(held) => held.told_in(outcome),
        None => outcome,
    };
    write(ended(row, outcome, visit.now), Effect::Ended)
}

/// Writes down why a call waits before its claim. What the wait finds is left to the claim to judge: whether a call is safe to repeat
/// may not be known yet.
fn hold(seen: Option<&CallRow>, visit: &DeliveryContext, why: &Held) -> Decision {
    let wait = |row: CallRow| write(waiting(row, Some(Box::new(why.clone()))), Effect::Waits);
    let Some(row) = seen else {
        return wait(fresh(visit));
    };
    if differs(row, visit) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if let Some(rejection) = held_by_another(row, visit, why.next_try_at.ms_since(visit.now)) {
        return Decision::Leave(rejection);
    }
    let row = match row.state {
        State::Done => return Decision::Leave(Rejection::AlreadyRecorded),
        State::Claimed => match remaining_ms(row, visit) {
            Some(retry_after_ms) => return Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => lost_attempt(row),
        },
        State::AwaitingApproval if row.cancel_requested_at.is_none() => {
            return Decision::Leave(Rejection::AwaitingApproval);
        }
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => adopt(row, visit),
    };
    if row.cancel_requested_at.is_some() {
        return write(ended(row.clone(), cancelled(&row), visit.now), Effect::Ended);
    }
    wait(row)
}

/// The row with what it waits for now; a wait that goes on keeps its beginning.
fn waiting(row: CallRow, why: Option<Box<Held>>) -> CallRow {
    let held = why.map(|why| Box::new(why.after(row.held.as_deref())));
    CallRow { held, ..row }
}

fn await_approval(seen: Option<&CallRow>, visit: &DeliveryContext) -> Decision {
    let wait = |row: CallRow| write(CallRow { state: State::AwaitingApproval, ..row }, Effect::Waits);
    match seen {
        None => wait(fresh(visit)),
        Some(row) if differs(row, visit) => Decision::Leave(Rejection::Mismatch),
        Some(row) => match row.state {
            State::Done => Decision::Leave(Rejection::AlreadyRecorded),
            State::AwaitingApproval => Decision::Leave(Rejection::AwaitingApproval),
            State::Claimed => {
                let retry_after_ms = remaining_ms(row, visit).unwrap_or(0);
                Decision::Leave(Rejection::HeldElsewhere { retry_after_ms })
            }
            State::Pending | State::Released | State::WaitingTask => Decision::Leave(Rejection::Nothing),
        },
    }
}

fn cancel(seen: Option<&CallRow>, key: &CallKey, now: Timestamp, expires_at: Timestamp) -> Decision {
    match seen {
        // The wish may overtake the message: it waits for it in a row of its own.
        None => {
            let row = CallRow { cancel_requested_at: Some(now), ..blank(key.clone(), now, expires_at) };
            write(row, Effect::Noted)
        }
        Some(row) if row.state == State::Done => Decision::Leave(Rejection::AlreadyRecorded),
        Some(row) if row.cancel_requested_at.is_some() => Decision::Leave(Rejection::Nothing),
        Some(row) => write(CallRow { cancel_requested_at: Some(now), ..row.clone() }, Effect::Noted),
    }
}

/// What only the holder may do; whoever is not finds `Lost`, or that it ended by its own hand.
fn held(
    seen: Option<&CallRow>,
    claim: &Claim,
    change: impl FnOnce(CallRow) -> (CallRow, Effect),
) -> Decision {
    match seen {
        Some(row) if claim.holds(row) => {
            let (row, then) = change(row.clone());
            write(row, then)
        }
        Some(_) | None => Decision::Leave(Rejection::Lost),
    }
}

/// The row with what the server told meanwhile; if it told nothing, what stands stays.
fn told(row: CallRow, notes: Option<Box<CallProgress>>) -> CallRow {
    CallRow { notes: notes.or(row.notes), ..row }
}

fn hand_out(
    row: CallRow,
    visit: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    let definition = match row.task {
        // A question is none of the call's executions: it stays with the definition it was sent by.
        Some(_) => row.definition.clone(),
        None => definition.cloned(),
    };
    let row = CallRow {
        state: State::Claimed,
        fence: row.fence + 1,
        nonce: Some(visit.nonce.clone()),
        worker: Some(visit.worker.clone()),
        lease_until: Some(visit.now.plus_ms(lease_ms)),
        poll_at: None,
        started_at: row.started_at.or(Some(visit.now)),
        definition,
        ..row
    };
    let claim = Claim::of(&row, visit.nonce.clone());
    write(row, Effect::Execute(claim))
}

fn write(row: CallRow, then: Effect) -> Decision {
    Decision::Write { row: Box::new(CallRow { rev: row.rev + 1, ..row }), then }
}

fn ended(row: CallRow, outcome: Outcome, at: Timestamp) -> CallRow {
    // Every end has a fence of its own when nobody held the row, so that a late holder cannot match it.
    let fence = if row.state == State::Claimed { row.fence } else { row.fence + 1 };
    // A task that was certainly not answered waits for another call, and is not cancelled.
    let task = row.task.filter(|_| !row.input_pending || row.may_have_executed);
    let finished = Some(Finished { outcome, at });
    let over = CallRow { state: State::Done, fence, task, finished, ..row };
    CallRow { lease_until: None, input_pending: false, poll_at: None, held: None, ..over }
}

fn blank(key: CallKey, enqueued_at: Timestamp, expires_at: Timestamp) -> CallRow {
    CallRow {
        key,
        state: State::Pending,
        rev: 0,
        fence: 0,
        nonce: None,
        worker: None,
        lease_until: None,
        attempts: 0,
        may_have_executed: false,
        digest: None,
        caller: None,
        enqueued_at,
        started_at: None,
        cancel_requested_at: None,
        task: None,
        input_pending: false,
        poll_at: None,
        held: None,
        definition: None,
        notes: None,
        finished: None,
        expires_at: expires_at.whole_s(),
    }
}

fn fresh(visit: &DeliveryContext) -> CallRow {
    CallRow {
        digest: Some(visit.digest.clone()),
        caller: Some(visit.caller.clone()),
        ..blank(visit.key.clone(), visit.enqueued_at, visit.expires_at)
    }
}

/// A row written before its message was met learns from the message what was asked and when.
fn adopt(row: &CallRow, visit: &DeliveryContext) -> CallRow {
    let mut row = row.clone();
    if row.digest.is_none() {
        row.digest = Some(visit.digest.clone());
        row.caller = Some(visit.caller.clone());
        row.enqueued_at = visit.enqueued_at;
    }
    row.expires_at = row.expires_at.max(visit.expires_at.whole_s());
    row
}

/// The row of a silent holder, one attempt further and out of its hands. A lost question after a task was no attempt.
fn lost_attempt(row: &CallRow) -> CallRow {
    CallRow {
        state: State::Released,
        attempts: row.attempts + u32::from(row.task.is_none()),
        may_have_executed: true,
        lease_until: None,
        ..row.clone()
    }
}

fn differs(row: &CallRow, visit: &DeliveryContext) -> bool {
    // Workers of earlier versions wrote no caller; only their rows hold the digest that they knew.
    let earlier = visit.earlier_digest.as_ref().filter(|_| row.caller.is_none());
    let same = |digest: &Digest| *digest == visit.digest || earlier == Some(digest);
    row.digest.as_ref().is_some_and(|digest| !same(digest))
}

/// A call of somebody else is waited for until it has ended, whoever holds it.
fn held_by_another(row: &CallRow, visit: &DeliveryContext, otherwise_ms: u64) -> Option<Rejection> {
    let held = row.state != State::Done && of_another(row, visit);
    held.then(|| Rejection::HeldElsewhere {
        retry_after_ms: remaining_ms(row, visit).unwrap_or(otherwise_ms),
    })
}

fn of_another(row: &CallRow, visit: &DeliveryContext) -> bool {
    row.caller.as_ref().is_some_and(|caller| caller.is_another(&visit.caller))
}

/// How long a claim still holds, the allowance for clock skew included; `None` once it may be taken over.
fn remaining_ms(row: &CallRow, visit: &DeliveryContext) -> Option<u64> {
    let until = row.lease_until?.plus_ms(visit.skew_ms);
    (visit.now <= until).then(|| until.ms_since(visit.now).max(1))
}

fn cancelled(row: &CallRow) -> Outcome {
    let (ran, sentence) = if row.may_have_executed {
        (
            MayHaveRun::Unknown,
            "The caller cancelled this call after it had been sent; whether the tool ran is not known.",
        )
    } else {
        (MayHaveRun::No, "The caller cancelled this call before it was sent to the tool.")
    };
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::CancelledByCaller, sentence, ran))
}

fn worker_lost() -> Outcome {
    let sentence = "The worker that ran this call stopped without a word after the call may have reached the tool. \
                    The tool is not safe to repeat, so check its effect before you send the call again under a new id.";
    Outcome::ended(
        OutcomeKind::OutcomeUnknown,
        CallError::new(Code::WorkerLost, sentence, MayHaveRun::Unknown),
    )
}

/// What a conclusion means for a call that may have reached its tool earlier.
fn as_exposed(outcome: &Outcome, may_have_executed: bool) -> Outcome {
    if !may_have_executed {
        return outcome.clone();
    }
    let given_up = outcome.error.as_ref().is_some_and(|t| t.code == Code::DeadLettered);
    let kind = match outcome.kind {
        OutcomeKind::Failed if given_up => OutcomeKind::OutcomeUnknown,
        OutcomeKind::Expired => OutcomeKind::TimedOut,
        OutcomeKind::Refused => OutcomeKind::OutcomeUnknown,
        OutcomeKind::Failed
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown
        | OutcomeKind::Succeeded
        | OutcomeKind::ToolError
        | OutcomeKind::InputRequired => outcome.kind,
    };
    let sentence = |message: String| {
        match outcome.kind {
        OutcomeKind::Expired => {
            "The deadline passed after the call had been sent and before its end was known; whether the tool had an effect \
             is not known. Check before you send it again."
                .to_owned()
        }
        OutcomeKind::Failed
        | OutcomeKind::Refused
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown
        | OutcomeKind::Succeeded
        | OutcomeKind::ToolError
        | OutcomeKind::InputRequired => {
            format!("{message} The call had been sent before; whether the tool had an effect then is not known.")
        }
    }
    };
    let error = outcome.error.clone().map(|t| CallError {
        may_have_run: MayHaveRun::Unknown,
        message: sentence(t.message),
        ..t
    });
    Outcome { kind, error, payload: outcome.payload.clone() }
}
