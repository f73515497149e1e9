//! The slots of a worker. A free one goes to a receive of the waiting queue whose turn it is by `QueueShares`.
//!
//! A receive holds a slot for each message that it may bring, for up to 20 seconds. A call whose turn has come does not wait for that: where
//! no slot is free, it borrows one that a receive holds. If the receive then brings so many messages that it needs the slot, more calls run
//! than the worker has slots, until one of them ends.
//!
//! **Invariant:** no slot is free while a receive waits for one; no more slots are borrowed than receives held at that moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use toolfleet_core::queue_shares::QueueShares;
use toolfleet_core::request::Priority;

/// How long a receive waits for more slots than its first, so that a busy worker still receives in tens.
const GATHER: Duration = Duration::from_millis(5);

/// A slot, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    queue: Priority,
}

/// The slots of a worker.
#[derive(Debug)]
pub(super) struct Slots {
    all: u32,
    created: Instant,
    state: Mutex<State>,
    /// A few more, for calls whose turn has come.
    for_turns: Arc<Semaphore>,
}

/// The slots of a worker, as the calls of one queue take them.
#[derive(Debug)]
pub(super) struct PoolOf {
    slots: Arc<Slots>,
    queue: Priority,
}

#[derive(Debug)]
struct State {
    free: u32,
    /// Slots that receives under way hold.
    polled: u32,
    /// How many of them calls have borrowed. They are given back before another is free.
    borrowed: u32,
    shares: QueueShares,
    waiting: [VecDeque<Waiting>; 3],
    last_number: u64,
}

/// A receive that waits for slots. The first of a queue is served before the next, so that the free slots are not spread over many small
/// receives.
#[derive(Debug)]
struct Waiting {
    number: u64,
    missing: u32,
    /// Slots that are its own and that it has not taken yet.
    given: u32,
    notify: Arc<Notify>,
}

/// The place of a receive among those that wait. Dropped, it gives back what it was given and has not taken.
#[derive(Debug)]
struct InLine {
    slots: Arc<Slots>,
    queue: Priority,
    number: u64,
    notify: Arc<Notify>,
}

/// Where a request for slots waits among those of its queue.
#[derive(Debug, Clone, Copy)]
enum Place {
    First,
    Last,
}

/// The slots that a receive under way holds.
#[derive(Debug)]
pub(super) struct Polled {
    slots: Arc<Slots>,
    count: u32,
}

impl Drop for Polled {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.polled = state.polled.saturating_sub(self.count);
    }
}

const fn index(queue: Priority) -> usize {
    match queue {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

impl Slots {
    /// So many slots, and some more for calls whose turn has come.
    pub(super) fn new(all: u32, for_turns: u32) -> Arc<Self> {
        let (shares, waiting) = (QueueShares::default(), Default::default());
        let state = State { free: all, polled: 0, borrowed: 0, shares, waiting, last_number: 0 };
        let for_turns = Arc::new(Semaphore::new(for_turns as usize));
        Arc::new(Self { all, created: Instant::now(), state: Mutex::new(state), for_turns })
    }

    /// One slot at least for a receive of that queue, and up to `most` if they are free soon.
    pub(super) async fn take(self: &Arc<Self>, queue: Priority, most: u32) -> Vec<Slot> {
        let (mut slots, line) = self.ask(queue, most.max(1), Place::Last);
        while slots.is_empty() {
            slots.extend(line.next().await);
        }
        let until = Instant::now() + GATHER;
        while slots.len() < most as usize {
            match timeout_at(until, line.next()).await {
                Ok(Some(slot)) => slots.push(slot),
                Ok(None) | Err(_) => break,
            }
        }
        slots
    }

    /// A receive begins that holds so many slots, until the guard is dropped.
    pub(super) fn polled(self: &Arc<Self>, count: u32) -> Polled {
        let mut state = self.state();
        state.polled = state.polled.saturating_add(count);
        drop(state);
        Polled { slots: self.clone(), count }
    }

    /// How many slots the next receive of that queue may hold.
    pub(super) fn poll_size(&self, queue: Priority) -> u32 {
        self.state().shares.poll_size(queue, self.all)
    }

    /// A receive of that queue brought so many messages.
    pub(super) fn received(&self, queue: Priority, messages: u32) {
        self.state().shares.received(queue, messages);
    }

    /// The slots that are free, and where the missing ones will arrive.
    fn ask(self: &Arc<Self>, queue: Priority, most: u32, place: Place) -> (Vec<Slot>, InLine) {
        let notify = Arc::new(Notify::new());
        let mut state = self.state();
        state.last_number += 1;
        let number = state.last_number;
        let mut slots = Vec::with_capacity(most as usize);
        while state.free > 0 && slots.len() < most as usize {
            slots.push(self.granted(&mut state, queue));
        }
        let missing = most.saturating_sub(u32::try_from(slots.len()).unwrap_or(most));
        if let Some(waiting) = state.waiting.get_mut(index(queue)).filter(|_| missing > 0) {
            let receive = Waiting { number, missing, given: 0, notify: Arc::clone(&notify) };
            match place {
                Place::First => waiting.push_front(receive),
                Place::Last => waiting.push_back(receive),
            }
        }
        drop(state);
        (slots, InLine { slots: self.clone(), queue, number, notify })
    }

    fn granted(self: &Arc<Self>, state: &mut State, queue: Priority) -> Slot {
        state.free = state.free.saturating_sub(1);
        state.shares.granted(queue, self.created.elapsed());
        Slot { slots: self.clone(), queue }
    }

    fn release(self: &Arc<Self>, queue: Priority) {
        let now = self.created.elapsed();
        let mut state = self.state();
        state.shares.released(queue, now);
        if state.borrowed > 0 {
            state.borrowed -= 1;
            return;
        }
        state.free = state.free.saturating_add(1);
        while state.free > 0 && state.give_next(now) {}
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolOf {
    /// A slot, if one is free or held by a receive.
    pub(super) fn slot_now(&self) -> Option<Slot> {
        let mut state = self.slots.state();
        if state.free > 0 {
            return Some(self.slots.granted(&mut state, self.queue));
        }
        if state.polled <= state.borrowed {
            return None;
        }
        state.borrowed += 1;
        state.shares.granted(self.queue, self.slots.created.elapsed());
        Some(Slot { slots: self.slots.clone(), queue: self.queue })
    }

    /// The next slot that is free for this queue, before those that receives wait for.
    pub(super) async fn next_slot(&self) -> Option<Slot> {
        let (mut slots, line) = self.slots.ask(self.queue, 1, Place::First);
        match slots.pop() {
            Some(slot) => Some(slot),
            None => line.next().await,
        }
    }

    /// The slots that are kept for turns.
    pub(super) fn for_turns(&self) -> &Arc<Semaphore> {
        &self.slots.for_turns
    }
}

impl Slot {
    /// The slots that it is one of.
    pub(super) fn pool(&self) -> PoolOf {
        PoolOf { slots: self.slots.clone(), queue: self.queue }
    }
}

impl State {
    /// Gives a free slot to the receive whose turn it is; false if none waits.
    fn give_next(&mut self, now: Duration) -> bool {
        let Self { shares, waiting, .. } = self;
        let wants = |receive: &Waiting| receive.missing > 0;
        let waits = |queue| waiting.get(index(queue)).is_some_and(|line| line.iter().any(wants));
        let Some(queue) = shares.next(waits, now) else { return false };
        let first = waiting.get_mut(index(queue)).and_then(|line| line.iter_mut().find(|one| wants(one)));
        let Some(first) = first else { return false };
        first.missing -= 1;
        first.given += 1;
        first.notify.notify_one();
        shares.granted(queue, now);
        self.free -= 1;
        true
    }

    /// The line of that queue, and where that receive stands in it.
    fn place_of(&mut self, queue: Priority, number: u64) -> Option<(&mut VecDeque<Waiting>, usize)> {
        let line = self.waiting.get_mut(index(queue))?;
        let at = line.iter().position(|receive| receive.number == number)?;
        Some((line, at))
    }
}

impl InLine {
    /// The next slot; none once all have come.
    async fn next(&self) -> Option<Slot> {
        loop {
            if let Some(slot) = self.take()? {
                return Some(slot);
            }
            self.notify.notified().await;
        }
    }

    /// A slot that was given, if one was; none once all have come.
    #[expect(clippy::option_option, reason = "whether more come, and whether one is there")]
    fn take(&self) -> Option<Option<Slot>> {
        let mut state = self.slots.state();
        let (line, at) = state.place_of(self.queue, self.number)?;
        let receive = line.get_mut(at)?;
        if receive.given == 0 {
            return Some(None);
        }
        receive.given -= 1;
        if receive.given == 0 && receive.missing == 0 {
            line.remove(at);
        }
        Some(Some(Slot { slots: self.slots.clone(), queue: self.queue }))
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        let receive = state.place_of(self.queue, self.number).and_then(|(line, at)| line.remove(at));
        // Each release locks the state.
        drop(state);
        for _ in 0..receive.map_or(0, |receive| receive.given) {
            self.slots.release(self.queue);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.release(self.queue);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// What a receive takes on its way to SQS and back.
    const RECEIVE: Duration = Duration::from_millis(4);

    /// Receives from a queue with a backlog of calls of that length, with so many receivers, and counts slot-milliseconds.
    fn flood(slots: &Arc<Slots>, queue: Priority, receivers: u32, call: Duration) -> Arc<AtomicU64> {
        let used = Arc::new(AtomicU64::new(0));
        for _ in 0..receivers {
            let (slots, used) = (slots.clone(), used.clone());
            tokio::spawn(async move {
                loop {
                    let taken = slots.take(queue, slots.poll_size(queue)).await;
                    tokio::time::sleep(RECEIVE).await;
                    slots.received(queue, u32::try_from(taken.len()).unwrap());
                    for slot in taken {
                        let used = used.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(call).await;
                            used.fetch_add(u64::try_from(call.as_millis()).unwrap(), Ordering::Relaxed);
                            drop(slot);
                        });
                    }
                }
            });
        }
        used
    }

    /// The mean and the longest wait of calls that come to the high queue one at a time, `every` so often: from sending to the start.
    async fn waits_of_high(slots: &Arc<Slots>, calls: u32, every: Duration) -> (Duration, Duration) {
        let (send, mut queue) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for _ in 0..calls {
                tokio::time::sleep(every).await;
                send.send(Instant::now()).unwrap();
            }
        });
        let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..calls {
            let slot = slots.take(Priority::High, 1).await.remove(0);
            let sent = queue.recv().await.unwrap();
            tokio::time::sleep(RECEIVE).await;
            let wait = sent.elapsed();
            (sum, longest) = (sum + wait, longest.max(wait));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(slot);
            });
        }
        (sum / calls, longest)
    }

    #[tokio::test(start_paused = true)]
    async fn queues_with_a_backlog_share_slot_seconds_12_to_4_to_1() {
        let slots = Slots::new(82, 1);
        let call = Duration::from_millis(100);
        let used = Priority::ALL.map(|queue| flood(&slots, queue, 7, call));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let used = used.map(|ms| ms.load(Ordering::Relaxed) as f64 / 60_000.0);
        let all: f64 = used.iter().sum();
        assert!(all > 75.0, "{used:?} of 82 slots are used");
        for (used, weight) in used.iter().zip([12.0, 4.0, 1.0]) {
            let share = used / all * 17.0;
            assert!((share - weight).abs() / weight < 0.2, "{share} of 17, not {weight}");
        }
        assert!(used[2] / all >= 0.05, "{used:?}");
    }

    /// A receive stops waiting while other threads release slots.
    #[test]
    fn a_slot_given_to_a_receive_that_stops_waiting_is_free_again() {
        let slots = Slots::new(1, 0);
        let (done, ended) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (slots, done) = (slots.clone(), done.clone());
            std::thread::spawn(move || {
                for n in 0..300_000 {
                    let (held, waiting) = slots.ask(Priority::Normal, 2, Place::Last);
                    (0..n % 64).for_each(|_| std::hint::spin_loop());
                    drop(waiting);
                    drop(held);
                }
                done.send(()).unwrap();
            });
        }
        drop(done);
        for _ in 0..2 {
            ended.recv_timeout(Duration::from_secs(120)).expect("no thread waits for a lock for ever");
        }
        drop(slots.ask(Priority::Normal, 1, Place::Last));
        assert_eq!(slots.state().free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_alone_uses_all_slots_beside_the_polls_of_the_others() {
        for queue in Priority::ALL {
            let slots = Slots::new(22, 1);
            let mut polls = Vec::new();
            for other in Priority::ALL.into_iter().filter(|other| *other != queue) {
                polls.extend(slots.take(other, slots.poll_size(other)).await);
            }
            assert_eq!(polls.len(), 2);
            let used = flood(&slots, queue, 2, Duration::from_millis(100));
            tokio::time::sleep(Duration::from_secs(30)).await;
            let used = used.load(Ordering::Relaxed) as f64 / 30_000.0;
            assert!(used > 18.0, "{queue}: {used} of 20 slots");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn high_waits_under_a_flood_of_low_at_most_half_as_long_again() {
        let every = Duration::from_millis(15);
        let idle = waits_of_high(&Slots::new(82, 1), 2_000, every).await.0;
        let slots = Slots::new(82, 1);
        let low = flood(&slots, Priority::Low, 7, Duration::from_millis(200));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (flooded, longest) = waits_of_high(&slots, 2_000, every).await;
        assert!(flooded <= idle.mul_f64(1.5), "{flooded:?} under the flood, {idle:?} idle");
        assert!(longest < Duration::from_millis(50), "{longest:?}");
        assert!(low.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_turn_has_come_borrows_the_slot_of_a_receive() {
        let slots = Slots::new(2, 1);
        let running = slots.take(Priority::Normal, 1).await.remove(0);
        let pool = running.pool();
        let held = slots.take(Priority::Normal, 1).await;
        assert!(pool.slot_now().is_none(), "both slots run calls");
        let polled = slots.polled(1);
        let borrowed = pool.slot_now().unwrap();
        assert!(pool.slot_now().is_none(), "it is borrowed once");
        // The receive brings a message, so one call more than slots is under way.
        drop(polled);
        assert!(pool.slot_now().is_none());
        drop(running);
        assert_eq!(slots.state().borrowed, 0, "it was given back");
        assert_eq!(slots.state().free, 0);
        drop((borrowed, held));
        assert_eq!(slots.state().free, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_turn_has_come_goes_before_receives() {
        let slots = Slots::new(1, 1);
        let running = slots.take(Priority::Normal, 1).await.remove(0);
        let pool = running.pool();
        let receive = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(Priority::Normal, 10).await }
        });
        tokio::task::yield_now().await;
        let next = tokio::spawn(async move { pool.next_slot().await });
        tokio::task::yield_now().await;
        drop(running);
        drop(next.await.unwrap().unwrap());
        assert_eq!(receive.await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receive_that_stops_waiting_keeps_no_slot() {
        let slots = Slots::new(1, 1);
        let held = slots.take(Priority::Low, 10).await;
        let stopped = tokio::time::timeout(Duration::from_secs(1), slots.take(Priority::High, 1)).await;
        assert!(stopped.is_err());
        drop(held);
        assert_eq!(slots.take(Priority::Normal, 10).await.len(), 1);
        assert_eq!(slots.state().free, 1);
    }
}
