//! Owns the way of a dead letter: a message that was received too often gets the end that its call would else never have.
//!
//! ```text
//! decode ─▶ is it due? ─▶ record ─▶ notify ─▶ acknowledge
//! ```
//!
//! What cannot be read is never due: its record is written, and it lies there until an operator takes it or the queue's retention ends.
//!
//! The call's row decides what the end is: one that nobody met ends as `dead_lettered`, one that may have reached its tool as
//! `outcome_unknown`, one that ended before keeps its end and only gets what is missing of its account.
//!
//! **Invariant:** no tool is called (a server that still works on the call as a task is asked to stop), and a dead letter is deleted with the proof of a record alone.

use std::sync::Arc;

use toolfleet_aws::Trouble;
use toolfleet_aws::queue::Delivery;
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome, Trouble as Why};

use super::decode::{self, Decoded};
use super::fetch::{self, Fetched};
use super::visit::Arrival;
use super::{Leaving, admit, concluded, record, settle, settled};
use crate::fleet::{DeadLetters, Fleet, Step};

/// What is never due.
const NEVER_MS: u64 = u64::MAX;

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Its account stands and it is gone, or comes again by itself.
    Met,
    /// It is not due yet: an operator may still move it back to the calls. Whoever received it makes it visible again.
    NotDue {
        /// Milliseconds until it is.
        after_ms: u64,
    },
}

/// Takes one dead letter to its end, unless it is not due.
pub async fn reap(fleet: Arc<Fleet>, dead: Arc<DeadLetters>, delivery: Delivery) -> Reaped {
    let arrival = Arrival::new(&fleet, delivery);
    let decoded = decode::decode(&arrival);
    fleet.passed(Step::Decoded).await;
    // What an extended client stored may be readable, unless it was found not to be.
    let unreadable = match &decoded {
        Decoded::Unreadable(malformed) => {
            malformed.pointer.is_none() || fleet.on_record.has(arrival.message_id())
        }
        Decoded::Request(_) | Decoded::Refused { .. } => false,
    };
    if arrival.kept || unreadable {
        return left_to_operators(&fleet, &arrival, &decoded).await;
    }
    let after_ms = due_in(&fleet, &dead, &arrival, &decoded);
    if after_ms > 0 {
        return Reaped::NotDue { after_ms };
    }
    match Box::pin(account(&fleet, &arrival, decoded)).await {
        Ok(Leaving::Settled(recorded)) => settle(&fleet, &dead.queue, &arrival, &recorded).await,
        Ok(Leaving::Later { after_ms, .. } | Leaving::Parked { after_ms, .. }) => {
            keep(&dead, &arrival, after_ms).await;
        }
        Ok(Leaving::Unreadable) => return Reaped::NotDue { after_ms: NEVER_MS },
        Ok(Leaving::Lost) => {}
        // It comes again when its invisibility ends.
        Err(trouble) => {
            tracing::error!(%trouble, message_id = arrival.message_id(), code = "own_trouble", "a dead letter waits until our own trouble has passed");
        }
    }
    Reaped::Met
}

/// A dead letter is due when its call's deadline has passed: its caller waits no longer than that. Before it, operators have
/// `reap_after` from the first sending to move it back.
fn due_in(fleet: &Fleet, dead: &DeadLetters, arrival: &Arrival, decoded: &Decoded) -> u64 {
    let by_age = arrival.enqueued_at.plus_ms(dead.reap_after_ms());
    let due = match decoded {
        Decoded::Request(request) => {
            by_age.min(request.deadline(arrival.enqueued_at, fleet.limits.default_deadline_ms()))
        }
        Decoded::Refused { .. } | Decoded::Unreadable(_) => by_age,
    };
    due.ms_since(fleet.now())
}

/// A message that cannot be read, or could not when a worker moved it here. A worker that moved it has written its record before; of one
/// that SQS moved, it is written once by each worker, and stands once.
async fn left_to_operators(fleet: &Fleet, arrival: &Arrival, decoded: &Decoded) -> Reaped {
    if let Decoded::Unreadable(malformed) = decoded
        && !arrival.kept
        && !fleet.on_record.has(arrival.message_id())
    {
        match record::unreadable(fleet, arrival, malformed).await {
            Ok(()) => fleet.on_record.add(arrival.message_id()),
            Err(trouble) => {
                tracing::error!(%trouble, message_id = arrival.message_id(), code = "own_trouble", "the record of a dead letter waits until our own trouble has passed");
            }
        }
    }
    Reaped::NotDue { after_ms: NEVER_MS }
}

async fn account(fleet: &Fleet, arrival: &Arrival, decoded: Decoded) -> Result<Leaving, Trouble> {
    let request = match fetch::fetch(fleet, arrival, decoded).await? {
        Fetched::Request(request) => request,
        Fetched::Malformed { malformed, key } => {
            return settled(record::malformed(fleet, arrival, *malformed, key).await);
        }
        Fetched::Unreadable(malformed) => {
            left_to_operators(fleet, arrival, &Decoded::Unreadable(malformed)).await;
            return Ok(Leaving::Unreadable);
        }
        Fetched::Refused { request, outcome } => {
            return concluded(Box::pin(record::conclude(fleet, arrival, *request, outcome)).await);
        }
        Fetched::Stranger { request } => {
            return settled(record::unauthorised(fleet, arrival, *request).await);
        }
    };
    if !arrival.catalog().may_speak_for(arrival.sender.as_deref(), &request.key.tenant) {
        return settled(record::unauthorised(fleet, arrival, *request).await);
    }
    // The row of an older message may have expired, so that nothing can be said of what it did.
    let outcome = admit::check_age(arrival, fleet.now()).err().unwrap_or_else(|| dead_lettered(&request));
    tracing::warn!(call = %request.key, message_id = arrival.message_id(), code = "dead_lettered", "a call is ended whose message was received too often");
    concluded(record::conclude(fleet, arrival, *request, outcome).await)
}

fn dead_lettered(request: &CallRequest) -> Outcome {
    let text = format!(
        "The message of call `{}` was received too often without an end: workers stopped or stood still while they held it. \
         It will not be tried again. Send a new call under a new id; if `may_have_run` is not `no`, check the tool's effect first.",
        request.key.call_id
    );
    Outcome::failed(Why::new(Code::DeadLettered, text, MayHaveRun::No).retryable(None))
}

async fn keep(dead: &DeadLetters, arrival: &Arrival, after_ms: u64) {
    let seconds = u32::try_from(after_ms.div_ceil(1000)).unwrap_or(u32::MAX);
    if let Err(trouble) = dead.queue.change_visibility(arrival.receipt(), seconds).await {
        tracing::warn!(%trouble, message_id = arrival.message_id(), code = "give_back_failed", "cannot give a dead letter back early");
    }
}
