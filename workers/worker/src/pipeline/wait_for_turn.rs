//! Waits for a call's turn and for its permits in the worker, without a slot and without a seat, where they are near.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::admit::AdmittedCall;
use super::heartbeat;
use super::inbound::{Carried, InboundCall};
use super::passes::Passes;
use super::slot::Slot;
use super::turn::{Limits, wake_at};
use super::wait::Wait;
use crate::activity::SlotTime;
use crate::context::WorkerContext;
use crate::gate::Seat;

/// So long a call waits for a permit.
const PERMIT_WAIT: Duration = Duration::from_secs(3);

/// For so long a call keeps its slot while it waits: most turns and permits are there by then.
const A_MOMENT: Duration = Duration::from_millis(150);

/// For so long a turn counts without another look at its limit: workers know of a change after five seconds, and the limit may have been read
/// two seconds before the wait. Only calls of queues that keep their order wait longer.
const TRUSTED: Duration = Duration::from_millis(2_800);

/// The worker drains.
struct Drains;

/// What became of the wait.
pub(super) enum Turned {
    /// The call goes on, with what it holds of its limits. None where it asks when it is sent: it may be a poll of a task.
    Now(Option<Passes>),
    /// It waits in the queue.
    Wait(Wait),
    /// The worker drains.
    Draining,
}

/// Whose wait it is.
struct Waiting<'a, S> {
    context: &'a WorkerContext,
    inbound: &'a InboundCall,
    call: &'a AdmittedCall,
    slot: &'a mut S,
    seat: &'a mut Option<(Seat, SlotTime)>,
}

pub(super) async fn wait_for_turn<S: Slot>(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &AdmittedCall,
    slot: &mut S,
    seat: &mut Option<(Seat, SlotTime)>,
) -> Turned {
    let Some(mut limits) = Limits::of(context, inbound, call) else {
        return Turned::Now(Some(Passes::default()));
    };
    if *inbound.carried() == Carried::Poll || call.answers_a_task() {
        return Turned::Now(None);
    }
    if call.batch().is_some() {
        // The leader of its batch asks for turns and permits when the batch is sent.
        return limits.check_lately_full().map_or_else(Turned::Wait, |()| Turned::Now(None));
    }
    let mut waiting = Waiting { context, inbound, call, slot, seat };
    let mut missed = false;
    let mut passes = loop {
        let begun = Instant::now();
        let turns = Box::pin(limits.turns(limits.near_ms(), missed));
        let passes = match waiting.in_hand(turns).await {
            Ok(Ok(passes)) => passes,
            Ok(Err(wait)) => return Turned::Wait(wait),
            Err(Drains) => return Turned::Draining,
        };
        limits.waits_here(&passes);
        if let Some(wake_at) = wake_at(&passes)
            && let Err(Drains) = waiting.without_slot(sleep_until(wake_at)).await
        {
            return Turned::Draining;
        }
        if begun.elapsed() < TRUSTED {
            break passes;
        }
        let Some(now) = Limits::of(context, inbound, call) else {
            return Turned::Now(Some(Passes::default()));
        };
        let still_has = now.still_has(&passes).await;
        limits = now;
        if still_has {
            break passes;
        }
        missed = true;
    };
    // Its turn would pass while it waits for a permit.
    let most = if passes.due.is_some() { Duration::ZERO } else { PERMIT_WAIT };
    let permits = Box::pin(limits.permits(&mut passes, most));
    match waiting.in_hand(permits).await {
        Ok(Ok(())) => Turned::Now(Some(passes)),
        Ok(Err(lack)) => Turned::Wait(limits.away(lack)),
        Err(Drains) => Turned::Draining,
    }
}

impl<S: Slot> Waiting<'_, S> {
    /// Waits, without a slot and a seat where it takes longer than a moment.
    async fn in_hand<T>(&mut self, wait: impl Future<Output = T> + Unpin) -> Result<T, Drains> {
        let mut wait = wait;
        match timeout(A_MOMENT, &mut wait).await {
            Ok(waited) => Ok(waited),
            Err(_) => self.without_slot(wait).await,
        }
    }

    /// Waits without a slot and a seat, which are for calls that run; with them where too many messages are without a slot.
    async fn without_slot<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Drains> {
        let Self { context, inbound, call, .. } = *self;
        let place = Arc::clone(&context.leaving).try_acquire_many_owned(inbound.kib()).ok();
        if place.is_some() {
            self.slot.set_down();
            *self.seat = None;
        }
        let waited = tokio::select! {
            biased;
            () = inbound.shutdown().draining() => None,
            waited = wait => Some(waited),
            never = heartbeat::keep_invisible(context, inbound) => match never {},
        };
        let waited = waited.ok_or(Drains)?;
        if place.is_some() {
            tokio::select! {
                () = self.slot.take_up() => {}
                never = heartbeat::keep_invisible(context, inbound) => match never {},
            }
            let tenant = &call.request.key.tenant;
            let seat = context.gate.seat_in_turn(&call.server.id, tenant, call.request.priority);
            *self.seat = Some((seat, context.activity.working(tenant)));
        }
        Ok(waited)
    }
}
