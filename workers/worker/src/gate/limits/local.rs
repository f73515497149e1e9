//! What one worker limits alone: retries at a server, and the open requests at a tool that adapt to the tool's answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::Clock;
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::ServerId;
use toolfleet_core::limits::adaptive::{AdaptiveLimit, Answered};
use toolfleet_core::limits::retry_budget::RetryBudget;
use toolfleet_core::time::Timestamp;

/// The most servers and tools with a state.
const MANY: usize = 10_000;

type Budgets = Arc<Mutex<HashMap<ServerId, RetryBudget>>>;

/// An attempt at a server, before it is made. A retry that is not made is given back to its budget when this is dropped.
#[derive(Debug)]
pub(crate) struct Start {
    budgets: Budgets,
    server: ServerId,
    is_retry: bool,
    /// When it was counted as a retry; none for a first attempt, and once it is made.
    retry_at: Option<Timestamp>,
}

/// Does something with the budget of that server.
fn with_budget<T>(budgets: &Budgets, server: &ServerId, act: impl FnOnce(&mut RetryBudget) -> T) -> T {
    let mut budgets = budgets.lock().unwrap_or_else(PoisonError::into_inner);
    if !budgets.contains_key(server) && budgets.len() >= MANY {
        budgets.clear();
    }
    match budgets.get_mut(server) {
        Some(budget) => act(budget),
        None => act(budgets.entry(server.clone()).or_default()),
    }
}

impl Start {
    /// The attempt is made now.
    pub(crate) fn made(&mut self, now: Timestamp) {
        self.retry_at = None;
        if !self.is_retry {
            with_budget(&self.budgets, &self.server, |budget| budget.first(now));
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Some(counted_at) = self.retry_at {
            with_budget(&self.budgets, &self.server, |budget| budget.give_back(counted_at));
        }
    }
}

/// The limits that this worker keeps alone.
#[derive(Debug)]
pub(crate) struct Local {
    slots: u32,
    budgets: Budgets,
    adaptive: Mutex<HashMap<String, Arc<Adaptive>>>,
}

/// The adaptive limit of one tool.
#[derive(Debug)]
struct Adaptive {
    limit: Mutex<AdaptiveLimit>,
    /// A place is free again.
    left: Notify,
}

/// A place among the open requests of an adaptive limit, released when dropped.
#[derive(Debug)]
pub(crate) struct AdaptivePermit {
    adaptive: Arc<Adaptive>,
    sent: Timestamp,
    answered: Option<(Answered, Timestamp)>,
}

impl Local {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, budgets: Arc::default(), adaptive: Mutex::default() }
    }

    /// An attempt at the server, a first one or a retry. It counts as a first one when it is made, and as a retry from now on, unless it is not
    /// made.
    ///
    /// # Errors
    /// The retry is not within the server's budget; milliseconds until it may be.
    pub(crate) fn start(
        &self,
        server: &ServerId,
        retry: bool,
        workers: u32,
        now: Timestamp,
    ) -> Result<Start, u64> {
        if retry {
            with_budget(&self.budgets, server, |budget| budget.retry(workers, now))?;
        }
        let retry_at = retry.then_some(now);
        Ok(Start { budgets: Arc::clone(&self.budgets), server: server.clone(), is_retry: retry, retry_at })
    }

    /// A place among the open requests of that tool, now or once one is left; none where there is none until then.
    pub(crate) async fn enter(&self, tool: &str, clock: &Clock, until: Instant) -> Option<AdaptivePermit> {
        let adaptive = self.adaptive_of(tool);
        loop {
            let mut left = std::pin::pin!(adaptive.left.notified());
            left.as_mut().enable();
            let now = clock.now();
            if adaptive.limit().enter(now) {
                return Some(AdaptivePermit { adaptive: Arc::clone(&adaptive), sent: now, answered: None });
            }
            if Instant::now() >= until || timeout_at(until, left).await.is_err() {
                return None;
            }
        }
    }

    fn adaptive_of(&self, tool: &str) -> Arc<Adaptive> {
        let mut limits = self.adaptive.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= MANY && !limits.contains_key(tool) {
            limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        }
        let new = || Adaptive { limit: Mutex::new(AdaptiveLimit::new(self.slots)), left: Notify::new() };
        Arc::clone(limits.entry(tool.to_owned()).or_insert_with(|| Arc::new(new())))
    }
}

impl Adaptive {
    fn limit(&self) -> MutexGuard<'_, AdaptiveLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdaptivePermit {
    /// The request is sent now.
    pub(crate) const fn sent(&mut self, now: Timestamp) {
        self.sent = now;
    }

    /// Learns how the attempt ended. One that was cut short by something else than its own time says nothing of the tool.
    pub(crate) fn record<T>(&mut self, ended: &Result<T, Failure>, cut_short: bool, now: Timestamp) {
        let answered = match ended {
            Ok(_) => Answered::In(now.ms_since(self.sent)),
            Err(failure) if failure.evidence.is_overload() && !cut_short => Answered::Overloaded,
            Err(_) => Answered::Other,
        };
        self.answered = Some((answered, now));
    }
}

impl Drop for AdaptivePermit {
    fn drop(&mut self) {
        let (answered, now) = self.answered.unwrap_or((Answered::Other, self.sent));
        self.adaptive.limit().leave(answered, self.sent, now);
        // The limit may have grown by more than one place.
        self.adaptive.left.notify_waiters();
    }
}
