//! The gate of each server: what operators have paused, the circuit breakers with the pauses that servers ask for, and the shares of the
//! worker's slots.
//!
//! The pipeline asks it before a call is claimed ([`Gate::check`], `Gate::seat`) and again before each attempt and each request about a
//! task ([`Gate::enter`]). So a pause has effect on calls that are already under way, at their next attempt.

mod breakers;
mod control;
mod limits;
mod memory;
mod reachability;
mod shares;
mod silence;

use std::collections::BTreeMap;

use toolfleet_core::control::{DEFAULT_WEIGHT, Subject};
use toolfleet_core::failure::{Failure, Reachability, Refusal};
use toolfleet_core::fleet::ServerSeen;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;
use toolfleet_executors::{RequestGate, Stopped};

pub use breakers::Breakers;
pub use control::ControlHandle;
pub use limits::Limiter;
pub(crate) use limits::{
    ActiveLimit, AdaptivePermit, HeldTurn, Limited, Live, NoPermit, Patience, Permit as LimitPermit,
    PermitWish, Start, TurnAnswer, configured_limits, limits_of,
};
pub use reachability::Reachable;
pub use shares::Shares;
pub(crate) use shares::{InHand, NoSeat, RECEIVERS_WHEN_FULL, Seat};
pub(crate) use silence::Place;
use silence::{Request, Silence};
use toolfleet_aws::Clock;

/// The gates of all servers.
#[derive(Debug)]
pub struct Gate {
    control: ControlHandle,
    breakers: Breakers,
    shares: Shares,
    silence: Silence,
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
    request: Request<'a>,
}

impl Gate {
    /// Open gates, with these shares of the slots.
    pub fn new(shares: Shares, clock: Clock) -> Self {
        let (control, breakers) = (ControlHandle::default(), Breakers::default());
        let (silence, reachable) = (Silence::new(), Reachable::default());
        Self { control, breakers, shares, silence, reachable, clock }
    }

    /// Whether such a call may go to its server now. It sends nothing, so it never counts as a breaker's probe.
    pub fn check(&self, subject: Subject<'_>, now: Timestamp) -> Result<(), Refusal> {
        self.control.check(subject, now)?;
        self.breakers.peek(subject.server, subject.tenant, subject.tool, now)
    }

    /// The same before a request that is sent now.
    pub fn enter<'a>(&'a self, subject: Subject<'a>, now: Timestamp) -> Result<Permit<'a>, Refusal> {
        self.control.check(subject, now)?;
        let Subject { server, tenant, tool, .. } = subject;
        let breakers = self.breakers.ask(server, tenant, tool, now)?;
        let request = self.silence.sent(server, tool.map(|tool| tool.name));
        Ok(Permit { gate: self, server, breakers, request })
    }

    /// A place at the call's server and tool, unless they are silent and their calls hold as many slots as they may.
    ///
    /// # Errors
    /// What is silent, as a sentence.
    pub(crate) async fn place(&self, subject: Subject<'_>, now: Timestamp) -> Result<Place, String> {
        // A call that the gate refuses leaves its slot at once, so it waits for nothing here.
        let open = self.check(subject, now).is_ok();
        let tool = subject.tool.map_or("", |tool| tool.name);
        let slots = || self.shares.slots(subject.server, subject.tenant, open);
        self.silence.enter(subject.server, tool, slots).await
    }

    /// The server reported progress of a request under way.
    pub(crate) fn heard(&self, subject: Subject<'_>) {
        self.silence.heard(subject.server, subject.tool.map(|tool| tool.name));
    }

    /// A place among the worker's slots, unless that server or that tenant holds its whole share and none is released soon.
    ///
    /// # Errors
    /// What holds the seats.
    pub(crate) async fn seat(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        priority: Priority,
    ) -> Result<Seat, NoSeat> {
        let weight = self.control.current().map_or(DEFAULT_WEIGHT, |control| control.weight_of(tenant));
        self.shares.enter(server, tenant, weight, priority).await
    }

    /// The seat of a call whose turn has come.
    pub(crate) fn seat_in_turn(&self, server: &ServerId, tenant: &Tenant, priority: Priority) -> Seat {
        let weight = self.control.current().map_or(DEFAULT_WEIGHT, |control| control.weight_of(tenant));
        self.shares.enter_in_turn(server, tenant, weight, priority)
    }

    /// The shares of the worker's slots.
    pub const fn shares(&self) -> &Shares {
        &self.shares
    }

    /// What operators have set.
    pub const fn control(&self) -> &ControlHandle {
        &self.control
    }

    /// Which servers have answered this worker.
    pub const fn reachable(&self) -> &Reachable {
        &self.reachable
    }

    /// The servers that are not open to all calls now, at most `most`, with as many tenants of each.
    pub fn not_open(&self, now: Timestamp, most: usize) -> BTreeMap<ServerId, ServerSeen> {
        self.breakers.not_open(now, most)
    }

    /// How many breakers are open.
    pub fn open_breakers(&self, now: Timestamp) -> u64 {
        self.breakers.open(now)
    }
}

impl Permit<'_> {
    /// Learns how the request ended. Gives the pause that the server asked for, in milliseconds. A request that the call's own deadline
    /// has cut short says nothing to the breakers.
    pub fn record<T>(self, ended: &Result<T, Failure>, cut_short: bool, now: Timestamp) -> Option<u64> {
        let answered = ended.as_ref().err().is_none_or(|f| f.reachability == Reachability::Answered);
        self.request.ended(answered);
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
        let subject = Subject { server, tenant, tool: None, digest: None };
        let permit = self.enter(subject, self.clock.now()).map_err(Stopped::Refused)?;
        let ended = request.await;
        let pause_ms = permit.record(&ended, false, self.clock.now());
        ended.map_err(|failure| Stopped::Failed(failure.paused_for(pause_ms)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use toolfleet_core::call::HeldReason;
    use toolfleet_core::control::{Control, ControlEntry, Switch, SwitchTarget, ToolNames};

    use super::*;

    #[test]
    fn a_pause_stops_calls_under_way_at_their_next_attempt() {
        let gate = Gate::new(Shares::new(1, 1), Clock::System);
        let (server, tenant) = (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap());
        let tool = ToolNames { registered: Some("crm.find"), server: "crm", name: "find" };
        let subject = Subject { server: &server, tenant: &tenant, tool: Some(tool), digest: None };
        let now = Timestamp::from_ms(0);
        assert!(gate.check(subject, now).is_ok());
        let first = gate.enter(subject, now).expect("an open gate");
        let pause = ControlEntry::Pause(Switch {
            target: SwitchTarget::Tool("crm.find".into()),
            tenant: None,
            by: "ann".into(),
            why: "it drops orders".into(),
            since: now,
            until: None,
        });
        gate.control().take(Control::new(1, [pause], now));
        assert_eq!(first.record(&Ok(()), false, now), None, "the attempt under way ends by itself");
        assert_eq!(gate.enter(subject, now).unwrap_err().reason, HeldReason::Paused);
        assert!(gate.check(subject, now).is_err());
        gate.control().take(Control::default());
        assert!(gate.enter(subject, now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_weight_that_an_operator_has_set_counts() {
        let (crm, acme, globex) = (
            ServerId::parse("crm").unwrap(),
            Tenant::parse("acme").unwrap(),
            Tenant::parse("globex").unwrap(),
        );
        // With four calls each, the server has one seat left, for a tenant below its share.
        for (weight, expected) in [(1, (4, 8)), (3, (5, 9))] {
            let gate = Gate::new(Shares::new(8, 1), Clock::System);
            let weights = BTreeMap::from([(acme.clone(), weight)]);
            gate.control().take(Control { weights, ..Control::default() });
            let mut held = Vec::new();
            // Two tenants that want all that they can have.
            for tenant in [&globex, &acme].into_iter().cycle().take(40) {
                held.extend(
                    gate.seat(&crm, tenant, Priority::Normal).await.ok().map(|seat| (tenant.clone(), seat)),
                );
            }
            let of_acme = held.iter().filter(|(tenant, _)| *tenant == acme).count();
            assert_eq!((of_acme, held.len()), expected, "weight {weight}");
        }
    }
}
