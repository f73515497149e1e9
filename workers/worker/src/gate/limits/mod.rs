//! The limits of calls, as one worker keeps them: turns of rate limits, permits of concurrency limits, retry budgets, and the concurrency that
//! adapts to a tool's answers.
//!
//! Turns and permits are shared by all workers through rows of the fleet table; the decisions are in `toolfleet_core::limits`. Calls of
//! one worker that wait together are served by one write.

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

use toolfleet_aws::Clock;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::ids::Nonce;
use toolfleet_core::limits::LimitKey;

use crate::clock_check::ClockCheck;
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
    workers: AtomicU32,
}

impl Limiter {
    /// How many calls wait in the worker's hands for a permit of that limit.
    pub fn waiting(&self, limit: &LimitKey) -> usize {
        self.permits.waiting(limit)
    }

    /// The limits of a worker's process with that many slots. The clock is the worker's ([`ClockCheck::clock`]).
    pub(crate) fn new(
        fleet: &Fleet,
        (clock, clock_check): (&Clock, &ClockCheck),
        process: &Nonce,
        slots: u32,
    ) -> Self {
        Self {
            turns: TurnBooks::new(fleet.clone(), clock.clone()),
            permits: PermitBooks::new(fleet.clone(), clock.clone(), process, clock_check.clone()),
            local: Local::new(slots),
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
