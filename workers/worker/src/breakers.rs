//! Owns the circuit breakers of this worker: one for each server, shared by all its calls.
//!
//! **Invariant:** only what is the server's own fault moves its breaker.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use toolfleet_core::breaker::{Admission, Breaker, BreakerPolicy};
use toolfleet_core::fault::{Blame, Fault};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

/// The breakers by server.
#[derive(Debug, Default)]
pub struct Breakers {
    policy: BreakerPolicy,
    by_server: Mutex<HashMap<ServerId, Breaker>>,
}

impl Breakers {
    /// Closed breakers of that policy.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, by_server: Mutex::default() }
    }

    /// Whether a call would be let through, without taking the probe's place.
    pub fn peek(&self, server: &ServerId, now: Timestamp) -> Admission {
        self.with(server, |breaker| breaker.peek(now))
    }

    /// Asks for one attempt.
    pub fn ask(&self, server: &ServerId, now: Timestamp) -> Admission {
        self.with(server, |breaker| breaker.ask(now))
    }

    /// How many are open.
    pub fn open(&self, now: Timestamp) -> u64 {
        let map = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        map.values().filter(|breaker| breaker.peek(now) != Admission::Through).count() as u64
    }

    /// Learns that the server answered.
    pub fn answered(&self, server: &ServerId, now: Timestamp) {
        self.with(server, |breaker| breaker.report(true, now));
    }

    /// Learns of a failed attempt.
    pub fn failed(&self, server: &ServerId, fault: &Fault, now: Timestamp) {
        let healthy = match fault.blame() {
            Blame::Server => false,
            // Whoever refuses a request is alive.
            Blame::Request | Blame::Configuration => true,
        };
        if self.with(server, |breaker| breaker.report(healthy, now)) {
            tracing::warn!(%server, %fault, code = "breaker_opened", "the server fails too often: its breaker is open");
        }
    }

    fn with<T>(&self, server: &ServerId, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut map = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        match map.get_mut(server) {
            Some(breaker) => act(breaker),
            None => act(map.entry(server.clone()).or_insert_with(|| Breaker::new(self.policy))),
        }
    }
}
