//! Waits for a call's turn in the worker, without a slot and without a seat, when the turn is near.

use tokio::time::sleep_until;

use super::admit::AdmittedCall;
use super::inbound::{Carried, InboundCall};
use super::passes::Passes;
use super::slot::Slot;
use super::turn::{Limits, wake_at};
use super::wait::Wait;
use crate::context::WorkerContext;
use crate::gate::Seat;

/// What became of the wait.
pub(super) enum Turned {
    /// The call goes on, with what it holds of its limits. None where it asks when it is sent: it may be a poll of a task.
    Now(Option<Passes>),
    /// It waits in the queue.
    Wait(Wait),
    /// The worker drains.
    Draining,
}

pub(super) async fn wait_for_turn<S: Slot>(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &AdmittedCall,
    slot: &mut S,
    seat: &mut Option<Seat>,
) -> Turned {
    let Some(limits) = Limits::of(context, inbound, call) else {
        return Turned::Now(Some(Passes::default()));
    };
    if *inbound.carried() == Carried::Poll || call.answers_a_task() {
        return Turned::Now(None);
    }
    let mut passes = match limits.turns(limits.near_ms(), false).await {
        Ok(passes) => passes,
        Err(wait) => return Turned::Wait(wait),
    };
    if let Some(wake_at) = wake_at(&passes) {
        // The slot and the seat are for calls that run.
        slot.set_down();
        *seat = None;
        let drains = tokio::select! {
            () = sleep_until(wake_at) => false,
            () = context.shutdown.draining() => true,
        };
        slot.take_up().await;
        if drains {
            return Turned::Draining;
        }
        match context.gate.seat(&call.server.id, &call.request.key.tenant, call.request.priority).await {
            Ok(again) => *seat = Some(again),
            Err(full) => {
                let wait = Wait::for_a_seat(context, inbound, &call.server.id, call.deadline, &full);
                return Turned::Wait(wait);
            }
        }
    }
    match limits.permits(&mut passes).await {
        Ok(()) => Turned::Now(Some(passes)),
        Err(wait) => Turned::Wait(wait),
    }
}
