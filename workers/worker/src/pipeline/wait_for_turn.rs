//! Waits for a call's turn and for its permits in the worker, without a slot and without a seat, where they are near.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use toolfleet_aws::AwsError;

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
) -> Result<Turned, AwsError> {
    let Some(limits) = Limits::of(context, inbound, call) else {
        return Ok(Turned::Now(Some(Passes::default())));
    };
    let polls = *inbound.carried() == Carried::Poll || call.answers_a_task();
    if polls || is_past_its_request(&limits, inbound).await? {
        return Ok(Turned::Now(None));
    }
    if call.batch().is_some() {
        // The leader of its batch asks for turns and permits when the batch is sent.
        return Ok(limits.check_lately_full().map_or_else(Turned::Wait, |()| Turned::Now(None)));
    }
    let waiting = Waiting { context, inbound, call, slot, seat };
    Ok(turns_and_permits(limits, waiting).await)
}

/// Whether the call has become a task, which is only polled, or has ended. Its message need not say so: a worker may have died before it sent
/// one that does, and what an operator has moved back says nothing. Such a call needs neither turn nor permit, and the permit that it would
/// wait for may be that of its own task. That worker may have died before it kept the permit of the task, so that is done here.
async fn is_past_its_request(limits: &Limits<'_>, inbound: &InboundCall) -> Result<bool, AwsError> {
    if inbound.is_first_receive() {
        return Ok(false);
    }
    let Some(row) = limits.context.calls.read(&limits.call.request.key).await? else { return Ok(false) };
    if let Some(handle) = row.task.as_ref().filter(|_| row.finished.is_none()) {
        limits.task_is_stored(handle).await;
    }
    Ok(row.task.is_some() || row.finished.is_some())
}

async fn turns_and_permits<S: Slot>(limits: Limits<'_>, waiting: Waiting<'_, S>) -> Turned {
    let mut asking = Asking { limits, waiting };
    let mut passes = match turns_that_count(&mut asking).await {
        Ok(Some(passes)) => passes,
        Ok(None) => return Turned::Now(Some(Passes::default())),
        Err(turned) => return turned,
    };
    let Asking { limits, mut waiting } = asking;
    let is_due = passes.due.is_some();
    let permits = Box::pin(limits.permits(&mut passes, PERMIT_WAIT));
    // Its turn would pass while it waits for a slot again.
    let taken = if is_due { Ok(permits.await) } else { waiting.in_hand(permits).await };
    match taken {
        Ok(Ok(())) => Turned::Now(Some(passes)),
        Ok(Err(lack)) => Turned::Wait(limits.away(lack)),
        Err(Drains) => Turned::Draining,
    }
}

/// Where the turns of a call come from, and whether they still count.
trait Turns {
    /// One turn of each rate limit.
    type Held;

    /// Asks for turns. `missed` says that those it had do not count.
    async fn ask(&mut self, missed: bool) -> Result<Self::Held, Turned>;

    /// Waits until they are near.
    async fn wait(&mut self, held: &Self::Held) -> Result<(), Turned>;

    /// Whether they count now; none where nothing limits the call any more.
    async fn still_count(&mut self, held: &Self::Held) -> Option<bool>;
}

/// Turns that are near and count; none where nothing limits the call any more. They are checked again after a long wait, which begins when they
/// are asked for: the limit may have changed as soon as its row was read.
async fn turns_that_count<T: Turns>(turns: &mut T) -> Result<Option<T::Held>, Turned> {
    let mut missed = false;
    loop {
        let begun = Instant::now();
        let held = turns.ask(missed).await?;
        turns.wait(&held).await?;
        if begun.elapsed() < TRUSTED {
            return Ok(Some(held));
        }
        match turns.still_count(&held).await {
            Some(true) => return Ok(Some(held)),
            Some(false) => missed = true,
            None => return Ok(None),
        }
    }
}

/// The turns of one call.
struct Asking<'a, S> {
    limits: Limits<'a>,
    waiting: Waiting<'a, S>,
}

impl<S: Slot> Turns for Asking<'_, S> {
    type Held = Passes;

    async fn ask(&mut self, missed: bool) -> Result<Passes, Turned> {
        let turns = Box::pin(self.limits.turns(self.limits.near_ms(), missed));
        match self.waiting.in_hand(turns).await {
            Ok(Ok(passes)) => {
                self.limits.waits_here(&passes);
                Ok(passes)
            }
            Ok(Err(wait)) => Err(Turned::Wait(wait)),
            Err(Drains) => Err(Turned::Draining),
        }
    }

    async fn wait(&mut self, passes: &Passes) -> Result<(), Turned> {
        let Some(wake_at) = wake_at(passes) else { return Ok(()) };
        self.waiting.without_slot(sleep_until(wake_at)).await.map_err(|Drains| Turned::Draining)
    }

    async fn still_count(&mut self, passes: &Passes) -> Option<bool> {
        let Waiting { context, inbound, call, .. } = self.waiting;
        self.limits = Limits::of(context, inbound, call)?;
        Some(self.limits.still_has(passes).await)
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

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A limit that an operator changes at a time, and a call that waits for its turn.
    struct Changing {
        begun: Instant,
        /// From then on turns of the former setting do not count.
        changed_at: Duration,
        /// From then on nothing is limited.
        ends_at: Duration,
        /// How long the row takes to answer: its setting is that of the beginning.
        asking: Duration,
        /// How long after that the turn is, for each time that the call asks.
        waits: Vec<Duration>,
        asked: Vec<bool>,
        checked: u32,
    }

    impl Changing {
        fn new(changed_at: Duration, asking: Duration, waits: &[Duration]) -> Self {
            let (begun, ends_at, waits) = (Instant::now(), S * 3_600, waits.to_vec());
            Self { begun, changed_at, ends_at, asking, waits, asked: Vec::new(), checked: 0 }
        }

        /// The number of the limit's setting now.
        fn epoch(&self) -> u64 {
            u64::from(self.begun.elapsed() >= self.changed_at)
        }
    }

    impl Turns for Changing {
        type Held = u64;

        async fn ask(&mut self, missed: bool) -> Result<u64, Turned> {
            let epoch = self.epoch();
            self.asked.push(missed);
            tokio::time::sleep(self.asking).await;
            Ok(epoch)
        }

        async fn wait(&mut self, _: &u64) -> Result<(), Turned> {
            tokio::time::sleep(self.waits.remove(0)).await;
            Ok(())
        }

        async fn still_count(&mut self, held: &u64) -> Option<bool> {
            self.checked += 1;
            (self.begun.elapsed() < self.ends_at).then(|| *held == self.epoch())
        }
    }

    async fn sent_with(limit: &mut Changing) -> Option<u64> {
        turns_that_count(limit).await.ok().expect("it neither goes away nor drains")
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_was_waited_for_is_asked_for_anew_if_its_limit_has_changed() {
        let mut limit = Changing::new(5 * S, Duration::ZERO, &[11 * S, S]);
        assert_eq!(sent_with(&mut limit).await, Some(1));
        assert_eq!((limit.asked.as_slice(), limit.checked), ([false, true].as_slice(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_turn_begins_when_it_is_asked_for() {
        // Other workers were faster for two seconds, and the turn is a second later: neither is long, both are.
        let mut limit = Changing::new(S, 2 * S, &[S, Duration::ZERO]);
        assert_eq!(sent_with(&mut limit).await, Some(1));
        assert_eq!(limit.asked, [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_used_as_it_is_if_its_limit_is_the_same_or_the_wait_was_short() {
        let mut same = Changing::new(3_600 * S, Duration::ZERO, &[11 * S]);
        assert_eq!(sent_with(&mut same).await, Some(0));
        assert_eq!((same.asked.as_slice(), same.checked), ([false].as_slice(), 1));
        let mut short = Changing::new(3_600 * S, Duration::ZERO, &[TRUSTED - Duration::from_millis(1)]);
        assert_eq!(sent_with(&mut short).await, Some(0));
        assert_eq!(short.checked, 0, "it costs no read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_needs_no_turn_once_nothing_limits_it() {
        let mut limit = Changing { ends_at: 5 * S, ..Changing::new(5 * S, Duration::ZERO, &[11 * S]) };
        assert_eq!(sent_with(&mut limit).await, None);
    }
}
