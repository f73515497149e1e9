//! Owns the heartbeat: one beat extends the claim's lease and the message's invisibility together, sees cancellation, and takes
//! along what the server told. Where it told something, a beat for the row alone may come early.
//!
//! **Invariant:** it ends only when the lease is no longer sure or the caller has withdrawn the call.

use futures::future::OptionFuture;
use tokio::time::{Instant, sleep_until, timeout_at};
use toolfleet_core::call::{CallRow, Claim, Event, Then};

use super::overheard::Overheard;
use super::swap::{Turn, apply};
use super::visit::Arrival;
use crate::fleet::Fleet;

/// Why the heart stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Another worker may hold the call now: nothing more may be sent.
    LeaseLost,
    /// The caller withdrew the call.
    Cancelled,
}

/// Beats until something ends it. `row` is always the row as last seen.
pub(super) async fn keep(
    fleet: &Fleet,
    arrival: &Arrival,
    claim: &Claim,
    row: &mut CallRow,
    claimed_at: Instant,
    overheard: &Overheard,
) -> Stopped {
    let mut sure_until = claimed_at + fleet.limits.lease;
    let mut next_beat = Instant::now() + fleet.limits.heartbeat();
    let (mut next_news, mut written) = (claimed_at + fleet.limits.notes_pace(), 0);
    loop {
        let in_time = tokio::select! {
            biased;
            () = sleep_until(next_beat) => true,
            () = async { sleep_until(next_news).await; overheard.news(written).await } => false,
        };
        let asked = Instant::now();
        next_news = asked + fleet.limits.notes_pace();
        let (notes, version) = overheard.since(written).unzip();
        let lease_until = fleet.now().plus_ms(fleet.limits.lease_ms());
        let event = Event::Heartbeat { claim: claim.clone(), lease_until, notes };
        let beat = timeout_at(sure_until, apply(&fleet.calls, Some(row), &event));
        // A beat that came early, for the notes' sake, leaves the message as it is.
        let stay = OptionFuture::from(in_time.then(|| stay_invisible(fleet, arrival)));
        let (beat, _) = tokio::join!(beat, stay);
        let Ok(beat) = beat else {
            tracing::warn!(call = %claim.key(), code = "lease_lost", "the lease ran out while it was being extended");
            return Stopped::LeaseLost;
        };
        match beat {
            Ok(Turn::Stored { row: seen, then }) => {
                *row = *seen;
                if then == (Then::Extended { cancel: true }) {
                    return Stopped::Cancelled;
                }
                sure_until = asked + fleet.limits.lease;
                written = version.unwrap_or(written);
                if in_time {
                    next_beat = asked + fleet.limits.heartbeat();
                }
            }
            Ok(Turn::Found { .. }) => return Stopped::LeaseLost,
            Err(trouble) if Instant::now() >= sure_until => {
                tracing::warn!(%trouble, call = %claim.key(), code = "lease_lost", "the lease ran out before it could be extended");
                return Stopped::LeaseLost;
            }
            Err(_) if in_time => next_beat = Instant::now() + fleet.limits.heartbeat() / 4,
            Err(_) => {}
        }
    }
}

/// Extends the message's invisibility. Without it the claim protects the call all the same: another delivery finds it held.
async fn stay_invisible(fleet: &Fleet, arrival: &Arrival) {
    // A call that runs for longer than SQS hides its message is protected by its claim alone.
    let seconds = fleet.limits.visibility_s().min(arrival.hideable_s());
    if seconds == 0 {
        return;
    }
    let change = fleet.queue.change_visibility(arrival.receipt(), seconds);
    match tokio::time::timeout(fleet.limits.heartbeat() / 2, change).await {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => {
            tracing::warn!(%trouble, message_id = arrival.message_id(), code = "heartbeat_failed", "cannot extend a message's invisibility");
        }
        Err(_) => {
            tracing::warn!(
                message_id = arrival.message_id(),
                code = "heartbeat_failed",
                "extending a message's invisibility takes too long"
            );
        }
    }
}
