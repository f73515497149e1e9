//! Owns the fourth step: the one conditional write that gives a worker the right to send.
//!
//! **Invariant:** the last thing before anything is sent to the tool.

use toolfleet_aws::Trouble;
use toolfleet_core::call::{CallRow, Claim, Event, Finding, Then};
use toolfleet_core::message::CallRequest;

use super::follow::Task;
use super::overheard::Overheard;
use super::prepare::ReadyCall;
use super::swap::{Turn, apply};
use super::visit::Arrival;
use crate::fleet::Fleet;

pub(super) enum Claimed {
    Ours(Box<ClaimedCall>),
    Ended { request: Box<CallRequest>, row: Box<CallRow> },
    Mismatch { request: Box<CallRequest> },
    Elsewhere { after_ms: u64 },
}

/// A call that this worker may execute.
pub(super) struct ClaimedCall {
    pub(super) ready: ReadyCall,
    pub(super) claim: Claim,
    /// The row as last seen.
    pub(super) row: CallRow,
    /// When the claim was asked for: the lease is counted from here by a clock that never jumps.
    pub(super) since: tokio::time::Instant,
    /// Attempts made, earlier claims included.
    pub(super) attempts: u32,
    /// Whether an attempt may have had an effect.
    pub(super) exposed: bool,
    /// The task that the server works on, as far as is known.
    pub(super) task: Option<Task>,
    /// What the server tells of it.
    pub(super) overheard: Overheard,
}

pub(super) async fn claim(fleet: &Fleet, arrival: &Arrival, ready: ReadyCall) -> Result<Claimed, Trouble> {
    let since = tokio::time::Instant::now();
    let event = Event::Claim {
        visit: arrival.visit(fleet, &ready.call.request, ready.call.repeatable),
        lease_ms: fleet.limits.lease_ms(),
        definition: ready.definition.clone(),
        answers: ready.call.resumed.as_ref().and_then(|earlier| earlier.task()).map(str::to_owned),
    };
    Ok(match apply(&fleet.calls, None, &event).await? {
        Turn::Stored { row, then: Then::Execute(claim) } => {
            let (attempts, exposed) = (row.attempts, row.exposed);
            let task = Task::of(&row);
            let overheard = Overheard::after(row.notes.as_deref());
            Claimed::Ours(Box::new(ClaimedCall {
                ready,
                claim,
                row: *row,
                since,
                attempts,
                exposed,
                task,
                overheard,
            }))
        }
        Turn::Stored { row, then: Then::Ended | Then::Extended { .. } | Then::Waits | Then::Noted } => {
            Claimed::Ended { request: ready.call.request, row }
        }
        Turn::Found { row: Some(row), finding: Finding::AlreadyRecorded } => {
            Claimed::Ended { request: ready.call.request, row }
        }
        Turn::Found { finding: Finding::Mismatch, .. } => Claimed::Mismatch { request: ready.call.request },
        Turn::Found { finding: Finding::HeldElsewhere { retry_after_ms }, .. } => {
            Claimed::Elsewhere { after_ms: arrival.wait_for_holder_ms(retry_after_ms) }
        }
        Turn::Found {
            finding:
                Finding::AlreadyRecorded
                | Finding::OfAnother
                | Finding::AwaitingApproval
                | Finding::Lost
                | Finding::Nothing,
            ..
        } => Claimed::Elsewhere { after_ms: fleet.limits.lease_ms() },
    })
}
