//! Serves the queues: one lock around the engine, its journal, and the wake-up of waiting receivers.
//!
//! **Invariant:** a change is in the journal before its request is answered; the lock is never held across an await.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::engine::change::Change;
use super::engine::{Delivery, Queues};
use super::error::SqsError;
use crate::clock::Clock;
use crate::journal::{Journal, JournalError};

/// The queues, shared by all requests.
#[derive(Debug)]
pub(crate) struct SqsService {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) base_url: String,
    /// Rung when a hidden message is due earlier than the timekeeper knows.
    timekeeper_bell: Notify,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct State {
    queues: Queues,
    journal: Option<Journal<Change>>,
    bells: HashMap<String, Arc<Notify>>,
    /// Until when the timekeeper sleeps.
    timekeeper_sleeps_until_ms: u64,
}

/// What a receiver asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) max: usize,
    pub(crate) visibility_ms: Option<u64>,
    /// Overrides the queue's own wait.
    pub(crate) wait_seconds: Option<u64>,
}

impl SqsService {
    /// Opens the queues kept in `journal`, or empty ones that are kept nowhere.
    pub(crate) fn open(
        journal: Option<&Path>,
        clock: Clock,
        base_url: String,
        stopping: CancellationToken,
    ) -> Result<Self, JournalError> {
        let (queues, journal) = match journal {
            Some(path) => {
                let queues = Queues::replay(Journal::read(path)?);
                let journal = Journal::rewrite(path, &queues.snapshot())?;
                (queues, Some(journal))
            }
            None => (Queues::default(), None),
        };
        let state = State { queues, journal, bells: HashMap::new(), timekeeper_sleeps_until_ms: u64::MAX };
        Ok(Self { state: Mutex::new(state), clock, base_url, timekeeper_bell: Notify::new(), stopping })
    }

    pub(crate) fn queue_url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.base_url, crate::names::ACCOUNT_ID)
    }

    /// Runs one operation of the engine, journals what it changed and wakes whom it concerns.
    pub(crate) fn run<T>(
        &self,
        operation: impl FnOnce(&mut Queues, u64) -> Result<T, SqsError>,
    ) -> Result<T, SqsError> {
        let mut state = self.lock();
        let answer = operation(&mut state.queues, self.clock.now_ms());
        state.keep_changes()?;
        for name in state.queues.take_woken() {
            state.ring(&name);
        }
        if state.queues.next_due_ms().is_some_and(|due_ms| due_ms < state.timekeeper_sleeps_until_ms) {
            self.timekeeper_bell.notify_one();
        }
        answer
    }

    /// Receives at once or waits for a message. A receive that is dropped while it waits takes nothing.
    pub(crate) async fn receive(&self, name: &str, ask: Ask) -> Result<Vec<Delivery>, SqsError> {
        let mut until_deadline = None;
        loop {
            // Asked for anew each time: a queue deleted and made again has another bell.
            let bell = self.lock().bell(name)?;
            let mut rung = std::pin::pin!(bell.notified());
            rung.as_mut().enable();
            let (deliveries, wait_seconds) = self.receive_now(name, ask)?;
            if !deliveries.is_empty() || wait_seconds == 0 {
                self.lock().ring(name);
                return Ok(deliveries);
            }
            let deadline = until_deadline.get_or_insert_with(|| Box::pin(self.wait_is_over(wait_seconds)));
            tokio::select! {
                () = rung => {}
                () = deadline => return Ok(Vec::new()),
                () = self.stopping.cancelled() => return Ok(Vec::new()),
            }
        }
    }

    fn receive_now(&self, name: &str, ask: Ask) -> Result<(Vec<Delivery>, u64), SqsError> {
        self.run(|queues, now_ms| {
            let wait_seconds = ask.wait_seconds.unwrap_or(queues.queue(name)?.attributes.wait_seconds);
            let deliveries = match queues.receive(name, ask.max, ask.visibility_ms, now_ms) {
                // A long poll waits for room instead of complaining.
                Err(SqsError::OverLimit(_)) if wait_seconds > 0 => Vec::new(),
                answer => answer?,
            };
            Ok((deliveries, wait_seconds))
        })
    }

    /// Ends with the endpoint's clock or with real time, whichever is first: a manual clock may stand still.
    fn wait_is_over(&self, wait_seconds: u64) -> impl Future<Output = ()> + Send + 'static {
        let deadline_ms = self.clock.now_ms().saturating_add(wait_seconds.saturating_mul(1000));
        let by_clock = self.clock.sleep_until(deadline_ms);
        async move {
            tokio::select! {
                () = by_clock => {}
                () = tokio::time::sleep(Duration::from_secs(wait_seconds)) => {}
            }
        }
    }

    /// Makes hidden messages visible and moves dead letters when they are due, until the endpoint stops.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next_due_ms = self.wake_what_is_due();
            tokio::select! {
                () = self.clock.sleep_until(next_due_ms) => {}
                () = self.timekeeper_bell.notified() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    fn wake_what_is_due(&self) -> u64 {
        let mut state = self.lock();
        let now_ms = self.clock.now_ms();
        state.queues.advance_moves(now_ms);
        if let Err(error) = state.keep_changes() {
            tracing::error!(%error, "moved messages may be there twice after a restart");
        }
        for name in state.queues.settle_all(now_ms) {
            state.ring(&name);
        }
        // An hour is as good as never, and within what every timer can hold.
        let no_later_than_ms = self.clock.now_ms().saturating_add(3_600_000);
        let next_due_ms = state.queues.next_due_ms().unwrap_or(u64::MAX).min(no_later_than_ms);
        state.timekeeper_sleeps_until_ms = next_due_ms;
        next_due_ms
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the engine between two complete changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep_changes(&mut self) -> Result<(), SqsError> {
        let changes = self.queues.take_changes();
        if let Some(journal) = &mut self.journal
            && !changes.is_empty()
        {
            let not_written = |problem: String| SqsError::NotWritten(problem);
            journal.append(&changes).map_err(|error| not_written(error.to_string()))?;
            let queues = &self.queues;
            let rewritten = journal.rewrite_if_worthwhile(|| queues.snapshot());
            rewritten.map_err(|error| not_written(error.to_string()))?;
        }
        Ok(())
    }

    fn bell(&mut self, name: &str) -> Result<Arc<Notify>, SqsError> {
        self.queues.queue(name)?;
        Ok(Arc::clone(self.bells.entry(name.to_owned()).or_default()))
    }

    /// Wakes one receiver, which wakes the next one if messages remain; all of them if the queue was deleted.
    fn ring(&mut self, name: &str) {
        match self.queues.queue(name) {
            Ok(queue) if queue.visible_count() > 0 => {
                if let Some(bell) = self.bells.get(name) {
                    bell.notify_one();
                }
            }
            Ok(_) => {}
            Err(_) => {
                if let Some(bell) = self.bells.remove(name) {
                    bell.notify_waiters();
                }
            }
        }
    }
}
