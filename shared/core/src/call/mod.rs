//! The state table of calls: every state of a stored call, every event, and the decision. Read `decide` from top to bottom.
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
//!    ├── conclude (refusal, expiry, dead letter) ───┤
//!    └── finish_unclaimed ──────────────────────────┘
//! ```
//!
//! `hold` stores why an unclaimed call waits, and makes a `pending` row if there is none; `release` does the same for a claimed call.
//! Both keep the beginning of a wait that continues.
//!
//! The row is replaced by compare-and-swap on `rev`. On a conflict the row is read and the event decided again. If the stored row equals
//! the intended one, an earlier swap succeeded and its response was lost: that is a success.
//!
//! A call that its server works on as a task is `waiting_task` between two polls. A claim of it polls the task, also after a lost claim.
//! The call itself is sent again only if its server does not know the task any more, the call is safe to repeat, attempts are left, and
//! it brings no answers to a task. A call that ends before its task keeps the handle, and the worker that acknowledges the message cancels
//! the task. A call that brings answers to a task (`resume`) has the handle from its first claim on. Answers may be sent again, so after
//! a lost claim the next claim sends them.
//!
//! A call that is safe to repeat may be executed without a claim, which saves a write. It has no row while it runs. `finish_unclaimed`
//! or `park_unclaimed` (to `waiting_task`) writes its first row, unless another delivery has claimed or ended the call meanwhile: then
//! nothing is stored. An execution that takes long claims the call late, like any delivery. For every other event of such a call no row
//! means that it may have been executed (`may_be_claimless`).
//!
//! The row keeps the first caller. The same question in a message of another caller waits until the call has ended, and then ends only its
//! own message: it neither claims nor ends the call.
//!
//! **Invariant:** `done` is final; `fence` and `rev` never decrease; a call that is not safe to repeat and may have been sent is claimed
//! again only to poll its task.

mod caller;
mod cancel;
mod claim;
mod conclude;
mod event;
mod held;
mod holder;
mod row;
mod transition;
mod unclaimed;
mod wait;

pub use caller::Caller;
pub use event::{Claim, Decision, DeliveryContext, Effect, Event, Rejection, Unclaimed};
pub use held::{Held, HeldReason};
pub use row::{CallRow, Finished, State};
pub use unclaimed::unclaimed_row;

use self::cancel::cancel;
use self::claim::claim;
use self::conclude::conclude;
use self::holder::{held, with_reports};
use self::transition::{cancelled, ended, waiting, write};
use self::unclaimed::{finish_unclaimed, park_unclaimed};
use self::wait::{await_approval, hold};
use crate::state_table::StateTable;

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
        Event::Claim { delivery, lease_ms, definition, answers } => {
            claim(seen, delivery, *lease_ms, definition.as_ref(), answers.as_ref())
        }
        Event::Conclude { delivery, outcome, definition } => {
            conclude(seen, delivery, outcome, definition.as_ref())
        }
        Event::Heartbeat { claim, lease_until, notes } => held(seen, claim, |row| {
            let cancel = row.cancel_requested_at.is_some();
            let row = with_reports(row, notes.clone());
            (CallRow { lease_until: Some(*lease_until), ..row }, Effect::Extended { cancel })
        }),
        Event::Hold { delivery, held } => hold(seen, delivery, held),
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
                    ..with_reports(row, notes.clone())
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
            let row = with_reports(row, notes.clone());
            let row = CallRow { attempts: *attempts, task: task.clone(), input_pending: false, ..row };
            (ended(row, outcome.clone(), *now), Effect::Ended)
        }),
        Event::FinishUnclaimed { execution, outcome } => finish_unclaimed(seen, execution, outcome),
        Event::ParkUnclaimed { execution, poll_at } => park_unclaimed(seen, execution, *poll_at),
        Event::AwaitApproval { delivery } => await_approval(seen, delivery),
        Event::Approve => match seen {
            Some(row) if row.state == State::AwaitingApproval => {
                write(CallRow { state: State::Pending, ..row.clone() }, Effect::Noted)
            }
            Some(_) | None => Decision::Leave(Rejection::Nothing),
        },
        Event::Cancel { key, now, expires_at } => cancel(seen, key, *now, *expires_at),
    }
}
