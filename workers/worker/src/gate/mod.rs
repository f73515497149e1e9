//! The gate of each server: the operator's switch, the circuit breakers with the pauses that servers ask for, and the shares of the
//! worker's slots.
//!
//! The pipeline asks it before a call is claimed ([`Gate::check`], `Gate::seat`) and again before each attempt and each request about a
//! task ([`Gate::enter`]). So a pause has effect on calls that are already under way, at their next attempt.

mod breakers;
mod memory;
mod reachability;
mod shares;
mod switches;

use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;
use toolfleet_executors::{RequestGate, Stopped};

pub use breakers::Breakers;
pub use reachability::Reachable;
pub(crate) use shares::Seat;
pub use shares::Shares;
pub use switches::{Paused, Switches};
use toolfleet_aws::Clock;

/// How long a call waits for an operator's pause to end before it looks again, in milliseconds.
const PAUSE_CHECK_MS: u64 = 30_000;

/// The gates of all servers.
#[derive(Debug)]
pub struct Gate {
    switches: Switches,
    breakers: Breakers,
    shares: Shares,
    reachable: Reachable,
    clock: Clock,
}

/// The right to send one request to a server. A permit that is dropped without a report changes nothing.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    gate: &'a Gate,
    server: &'a ServerId,
    breakers: breakers::Permit<'a>,
}

impl Gate {
    /// Open gates, with these shares of the slots.
    pub fn new(shares: Shares, clock: Clock) -> Self {
        let (switches, breakers) = (Switches::default(), Breakers::default());
        Self { switches, breakers, shares, reachable: Reachable::default(), clock }
    }

    /// Whether a call of that tenant may go to that server now. It sends nothing, so it never counts as a breaker's probe.
    pub fn check(&self, server: &ServerId, tenant: &Tenant, now: Timestamp) -> Result<(), Refusal> {
        self.check_switch(server, tenant)?;
        self.breakers.peek(server, tenant, now)
    }

    /// The same before a request that is sent now.
    pub fn enter<'a>(
        &'a self,
        server: &'a ServerId,
        tenant: &'a Tenant,
        now: Timestamp,
    ) -> Result<Permit<'a>, Refusal> {
        self.check_switch(server, tenant)?;
        Ok(Permit { gate: self, server, breakers: self.breakers.ask(server, tenant, now)? })
    }

    /// A place among the worker's slots, unless that server or that tenant holds its whole share and none is released soon.
    pub(crate) async fn seat(&self, server: &ServerId, tenant: &Tenant) -> Option<Seat> {
        self.shares.enter(server, tenant).await
    }

    /// The operator's switches.
    pub const fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Which servers have answered this worker.
    pub const fn reachable(&self) -> &Reachable {
        &self.reachable
    }

    /// How many breakers are open.
    pub fn open_breakers(&self, now: Timestamp) -> u64 {
        self.breakers.open(now)
    }

    fn check_switch(&self, server: &ServerId, tenant: &Tenant) -> Result<(), Refusal> {
        if !self.switches.is_paused(server, tenant) {
            return Ok(());
        }
        Err(Refusal { reason: HeldReason::Paused, retry_after_ms: PAUSE_CHECK_MS, last_failure: None })
    }
}

impl Permit<'_> {
    /// Learns how the request ended. Gives the pause that the server asked for, in milliseconds. A request that the call's own deadline
    /// has cut short says nothing to the breakers.
    pub fn record<T>(self, ended: &Result<T, Failure>, cut_short: bool, now: Timestamp) -> Option<u64> {
        self.gate.reachable.learn(self.server, ended, now);
        if cut_short { None } else { self.breakers.record(ended, now) }
    }
}

impl RequestGate for Gate {
    async fn request<T: Send>(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        request: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Stopped> {
        let permit = self.enter(server, tenant, self.clock.now()).map_err(Stopped::Refused)?;
        let ended = request.await;
        let pause_ms = permit.record(&ended, false, self.clock.now());
        ended.map_err(|failure| Stopped::Failed(failure.paused_for(pause_ms)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_pause_stops_calls_under_way_at_their_next_attempt() {
        let gate = Gate::new(Shares::new(1, 1), Clock::System);
        let (server, tenant) = (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap());
        let now = Timestamp::from_ms(0);
        assert!(gate.check(&server, &tenant, now).is_ok());
        let first = gate.enter(&server, &tenant, now).expect("an open gate");
        gate.switches().set(HashSet::from([Paused { server: server.clone(), tenant: None }]));
        assert_eq!(first.record(&Ok(()), false, now), None, "the attempt under way ends by itself");
        let refusal = gate.enter(&server, &tenant, now).unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after_ms), (HeldReason::Paused, PAUSE_CHECK_MS));
        assert!(gate.check(&server, &tenant, now).is_err());
        gate.switches().set(HashSet::new());
        assert!(gate.enter(&server, &tenant, now).is_ok());
    }
}
