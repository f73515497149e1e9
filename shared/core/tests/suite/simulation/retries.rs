//! The retry budget of a worker at a server: retries beyond it wait, and are no attempts.

use toolfleet_core::call::HeldReason;
use toolfleet_core::limits::retry_budget::RetryBudget;

use super::delivery::Delivery;
use super::execution::Executed;
use super::planted::Planted;
use super::world::{Process, World};

/// The longest time by which the return of a retry is spread, in milliseconds.
const SPREAD_MS: u64 = 2_000;
/// Within any such time retries are within the budget of ten whole seconds.
const SURE_MS: u64 = 9_000;
/// No first attempt of longer ago counts in a budget.
const COUNTED_MS: u64 = 11_000;

/// The budgets of one process, by server, and the attempts that they allowed.
#[derive(Default)]
pub(crate) struct Retries {
    budgets: Vec<RetryBudget>,
    allowed: Vec<Allowed>,
}

struct Allowed {
    server: usize,
    at_ms: u64,
    retry: bool,
}

impl Retries {
    pub(crate) fn new(servers: usize) -> Self {
        Self { budgets: (0..servers).map(|_| RetryBudget::default()).collect(), allowed: Vec::new() }
    }

    fn count(&self, server: usize, retry: bool, since_ms: u64) -> u32 {
        let counted = |one: &&Allowed| one.server == server && one.retry == retry && one.at_ms > since_ms;
        u32::try_from(self.allowed.iter().filter(counted).count()).unwrap()
    }
}

impl Delivery {
    /// Counts an attempt, a first one or a retry. A retry beyond the budget of the server waits in the queue.
    pub(crate) fn within_retry_budget(&self, retry: bool) -> Result<(), Executed> {
        let (world, process, server) = (&self.world, &self.process, self.spec().server);
        let workers = world.scenario.fleet_workers;
        let mut retries = process.retries.borrow_mut();
        let asked = if retry {
            retries.budgets[server].retry(workers, self.now())
        } else {
            retries.budgets[server].first(self.now());
            Ok(())
        };
        if let Err(after_ms) = asked
            && !world.is_planted(Planted::IgnoreRetryBudget)
        {
            let after_ms = after_ms + world.random.below(SPREAD_MS);
            return Err(Executed::Held(self.limited(HeldReason::RetryBudget, after_ms)));
        }
        retries.allowed.push(Allowed { server, at_ms: world.now_ms(), retry });
        drop(retries);
        check(world, process, server, self.call());
        Ok(())
    }
}

/// Retries are at most a fifth of first attempts, and the worker's part of ten a second.
fn check(world: &World, process: &Process, server: usize, call: usize) {
    let retries = process.retries.borrow();
    let since_ms = |ms| world.now_ms().saturating_sub(ms);
    let retried = retries.count(server, true, since_ms(SURE_MS));
    let firsts = retries.count(server, false, since_ms(COUNTED_MS));
    let own = (100 / world.scenario.fleet_workers).max(1);
    world.check(retried <= firsts / 5 + own, call, "retries are within the budget of their server", || {
        format!("{retried} retries, {firsts} first attempts, {own} in any case")
    });
}
