//! What one worker limits alone: retries at a server, and the open requests at a tool that adapt to the tool's answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use toolfleet_core::failure::{Evidence, Failure};
use toolfleet_core::ids::ServerId;
use toolfleet_core::limits::adaptive::{AdaptiveLimit, Answered};
use toolfleet_core::limits::retry_budget::RetryBudget;
use toolfleet_core::outcome::Code;
use toolfleet_core::time::Timestamp;

/// The most servers and tools with a state.
const MANY: usize = 10_000;

/// The limits that this worker keeps alone.
#[derive(Debug)]
pub(crate) struct Local {
    slots: u32,
    budgets: Mutex<HashMap<ServerId, RetryBudget>>,
    adaptive: Mutex<HashMap<String, Arc<Mutex<AdaptiveLimit>>>>,
}

/// A place among the open requests of an adaptive limit, released when dropped.
#[derive(Debug)]
pub(crate) struct AdaptivePermit {
    limit: Arc<Mutex<AdaptiveLimit>>,
    sent: Timestamp,
    answered: Option<(Answered, Timestamp)>,
}

impl Local {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, budgets: Mutex::default(), adaptive: Mutex::default() }
    }

    /// Counts an attempt at the server, a first one or a retry.
    ///
    /// # Errors
    /// The retry is not within the server's budget; milliseconds until it may be.
    pub(crate) fn attempt(
        &self,
        server: &ServerId,
        retry: bool,
        workers: u32,
        now: Timestamp,
    ) -> Result<(), u64> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if !budgets.contains_key(server) {
            if budgets.len() >= MANY {
                budgets.clear();
            }
            budgets.insert(server.clone(), RetryBudget::default());
        }
        let Some(budget) = budgets.get_mut(server) else { return Ok(()) };
        if retry {
            return budget.retry(workers, now);
        }
        budget.first(now);
        Ok(())
    }

    /// A place among the open requests of that tool; none where the limit is reached.
    pub(crate) fn enter(&self, tool: &str, now: Timestamp) -> Option<AdaptivePermit> {
        let limit = {
            let mut limits = self.adaptive.lock().unwrap_or_else(PoisonError::into_inner);
            if limits.len() >= MANY && !limits.contains_key(tool) {
                limits.retain(|_, limit| Arc::strong_count(limit) > 1);
            }
            let new = || Arc::new(Mutex::new(AdaptiveLimit::new(self.slots)));
            Arc::clone(limits.entry(tool.to_owned()).or_insert_with(new))
        };
        let entered = limit.lock().unwrap_or_else(PoisonError::into_inner).enter(now);
        entered.then(|| AdaptivePermit { limit, sent: now, answered: None })
    }
}

impl AdaptivePermit {
    /// The request is sent now.
    pub(crate) const fn sent(&mut self, now: Timestamp) {
        self.sent = now;
    }

    /// Learns how the attempt ended.
    pub(crate) fn record<T>(&mut self, ended: &Result<T, Failure>, now: Timestamp) {
        let answered = match ended {
            Ok(_) => Answered::In(now.ms_since(self.sent)),
            Err(failure) => of_failure(failure),
        };
        self.answered = Some((answered, now));
    }
}

impl Drop for AdaptivePermit {
    fn drop(&mut self) {
        let (answered, now) = self.answered.unwrap_or((Answered::Other, self.sent));
        self.limit.lock().unwrap_or_else(PoisonError::into_inner).leave(answered, self.sent, now);
    }
}

/// A server that asks to slow down, answers with a 5xx status, or does not answer in time, has too many requests.
fn of_failure(failure: &Failure) -> Answered {
    let refused = matches!(failure.code, Code::AttemptTimedOut | Code::RateLimited | Code::ServerError);
    let paused = matches!(failure.evidence, Evidence::Paused(_));
    if paused || refused { Answered::Overloaded } else { Answered::Other }
}
