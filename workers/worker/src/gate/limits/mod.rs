//! The limits of calls, as one worker keeps them: turns of rate limits, permits of concurrency limits, retry budgets, and the concurrency that
//! adapts to a tool's answers.
//!
//! Turns and permits are shared by all workers through rows of the fleet table; the decisions are in `toolfleet_core::limits`. Calls of
//! one worker that wait together are served by one write.

mod clock_check;
mod local;
mod permit_book;
mod permit_wish;
mod permits;
#[cfg(test)]
mod row_model;
mod rules;
mod turns;
mod write_pace;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use toolfleet_aws::Clock;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::ids::Nonce;
use toolfleet_core::limits::LimitKey;

use clock_check::ClockCheck;
pub(crate) use local::{AdaptivePermit, Local, Start};
pub(crate) use permit_book::Permit;
pub(crate) use permit_wish::{NoPermit, Patience, PermitWish};
pub(crate) use permits::PermitBooks;
pub(crate) use rules::{ActiveLimit, Limited, Live, configured_limits, limits_of};
pub(crate) use turns::{HeldTurn, TurnAnswer, TurnBooks};

/// The limits of one worker.
#[derive(Debug)]
pub struct Limiter {
    pub(crate) turns: TurnBooks,
    pub(crate) permits: PermitBooks,
    pub(crate) local: Local,
    /// What is known of this machine's clock.
    pub(crate) clock_check: ClockCheck,
    workers: AtomicU32,
}

impl Limiter {
    /// How many calls wait in the worker's hands for a permit of that limit.
    pub fn waiting(&self, limit: &LimitKey) -> usize {
        self.permits.waiting(limit)
    }

    /// The limits of a worker's process with that many slots and that allowance for the difference of two clocks.
    pub fn new(fleet: &Fleet, clock: &Clock, process: &Nonce, slots: u32, skew: Duration) -> Self {
        let skew_ms = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
        let clock_check = ClockCheck::new(fleet.server_time(), skew_ms);
        Self {
            turns: TurnBooks::new(fleet.clone(), clock.clone()),
            permits: PermitBooks::new(fleet.clone(), clock.clone(), process, clock_check.clone()),
            local: Local::new(slots),
            clock_check,
            workers: AtomicU32::new(0),
        }
    }

    /// Whether permits are being taken or released in their rows, or turns taken or given back.
    pub fn is_writing(&self) -> bool {
        self.permits.is_writing() || self.turns.is_writing()
    }

    /// Learns how many workers are alive.
    pub fn learn_workers(&self, alive: u32) {
        self.workers.store(alive.max(1), Ordering::Relaxed);
    }

    /// How many workers are alive; one where it is not known.
    pub fn workers(&self) -> u32 {
        self.known_workers().unwrap_or(1)
    }

    /// How many workers are alive; `few` where it is not known.
    pub(crate) fn workers_at_least(&self, few: u32) -> u32 {
        self.known_workers().unwrap_or(few)
    }

    /// How many workers are alive; none where it is not known.
    pub(crate) fn known_workers(&self) -> Option<u32> {
        Some(self.workers.load(Ordering::Relaxed)).filter(|workers| *workers > 0)
    }
}
