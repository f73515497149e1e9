//! The gate of a worker: breakers and pauses of the core, one for each server, and for each server and tenant.

use std::cell::RefCell;
use std::rc::Rc;

use toolfleet_core::breaker::{Admission, Breaker, BreakerPolicy, Pause};
use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Evidence, Failure, Reachability, Refusal};
use toolfleet_core::time::Timestamp;

/// For how long an answer shows that the address is right.
const ANSWER_COUNTS_MS: u64 = 60 * 60 * 1000;

struct OfServer {
    connections: Breaker,
    answered: Option<Timestamp>,
    failing_since: Option<Timestamp>,
}

struct OfTenant {
    answers: Breaker,
    pause: Pause,
}

/// A refusal of the gate.
pub(crate) const fn refusal(reason: HeldReason, retry_after_ms: u64) -> Refusal {
    Refusal { reason, retry_after_ms, last_failure: None, detail: None }
}

/// The gate of a worker.
pub(crate) struct Gate {
    servers: RefCell<Vec<OfServer>>,
    pairs: RefCell<Vec<Vec<OfTenant>>>,
}

/// The right to send one request. Dropped without a report, it releases the probe.
pub(crate) struct Permit {
    gate: Rc<Gate>,
    server: usize,
    tenant: usize,
    at: Timestamp,
    probes_connection: bool,
    probes_answer: bool,
}

impl Gate {
    pub(crate) fn new(servers: usize, tenants: usize) -> Self {
        let policy = BreakerPolicy { window: 6, failures: 3, ..BreakerPolicy::default() };
        let of_server =
            |_| OfServer { connections: Breaker::new(policy), answered: None, failing_since: None };
        let of_tenant = |_| OfTenant { answers: Breaker::new(policy), pause: Pause::default() };
        Self {
            servers: RefCell::new((0..servers).map(of_server).collect()),
            pairs: RefCell::new((0..servers).map(|_| (0..tenants).map(of_tenant).collect()).collect()),
        }
    }

    /// Whether a call of that tenant may go to that server now.
    pub(crate) fn check(&self, server: usize, tenant: usize, now: Timestamp) -> Result<(), Refusal> {
        let refuse = |reason, retry_after_ms| Err(refusal(reason, retry_after_ms));
        if let Admission::Refused { retry_after_ms } = self.servers.borrow()[server].connections.peek(now) {
            return refuse(HeldReason::ServerUnreachable, retry_after_ms);
        }
        let pair = &self.pairs.borrow()[server][tenant];
        if let Some(left_ms) = pair.pause.left_ms(now) {
            return refuse(HeldReason::ServerPause, left_ms);
        }
        match pair.answers.peek(now) {
            Admission::Refused { retry_after_ms } => refuse(HeldReason::ServerFailing, retry_after_ms),
            Admission::Through | Admission::Probe => Ok(()),
        }
    }

    /// The same before a request that is sent now.
    pub(crate) fn enter(
        self: &Rc<Self>,
        server: usize,
        tenant: usize,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        self.check(server, tenant, now)?;
        let probes_connection = self.servers.borrow_mut()[server].connections.ask(now) == Admission::Probe;
        let probes_answer = self.pairs.borrow_mut()[server][tenant].answers.ask(now) == Admission::Probe;
        let gate = Rc::clone(self);
        Ok(Permit { gate, server, tenant, at: now, probes_connection, probes_answer })
    }

    /// Whether the server has answered recently enough to show that its address is right.
    pub(crate) fn has_answered(&self, server: usize, now: Timestamp) -> bool {
        self.servers.borrow()[server].answered.is_some_and(|at| at.plus_ms(ANSWER_COUNTS_MS) > now)
    }

    pub(crate) fn failing_since(&self, server: usize) -> Option<Timestamp> {
        self.servers.borrow()[server].failing_since
    }
}

impl Permit {
    /// Learns how the request ended. Gives the pause that the server asked for.
    pub(crate) fn record(
        mut self,
        failure: Option<&Failure>,
        cut_short: bool,
        now: Timestamp,
    ) -> Option<u64> {
        self.learn(failure, now);
        if cut_short {
            return None;
        }
        let gate = Rc::clone(&self.gate);
        let (mut servers, mut pairs) = (gate.servers.borrow_mut(), gate.pairs.borrow_mut());
        let (of_server, pair) = (&mut servers[self.server], &mut pairs[self.server][self.tenant]);
        let evidence = failure.map(|failure| failure.evidence);
        let mut pause_ms = None;
        match evidence {
            Some(Evidence::NotConnected) => {
                of_server.connections.report(false, self.probes_connection, now);
                self.probes_connection = false;
            }
            Some(Evidence::AnswerFailed | Evidence::Overloaded) => {
                pair.answers.report(false, self.probes_answer, now);
                self.probes_answer = false;
            }
            Some(Evidence::Paused(floor_ms)) => pause_ms = Some(pair.pause.asked(floor_ms, now)),
            None => {
                pair.answers.report(true, self.probes_answer, now);
                pair.pause.answered();
                self.probes_answer = false;
            }
            Some(Evidence::Reached | Evidence::Nothing | Evidence::TimedOut) => {}
        }
        if !matches!(evidence, Some(Evidence::NotConnected | Evidence::Nothing | Evidence::TimedOut)) {
            of_server.connections.report(true, self.probes_connection, now);
            self.probes_connection = false;
        }
        drop((servers, pairs));
        pause_ms
    }

    fn learn(&self, failure: Option<&Failure>, now: Timestamp) {
        let of_server = &mut self.gate.servers.borrow_mut()[self.server];
        match failure.map(|failure| failure.reachability) {
            Some(Reachability::Unknown) => {}
            Some(Reachability::NotReached) => {
                of_server.failing_since.get_or_insert(now);
            }
            Some(Reachability::Answered) | None => {
                of_server.answered = Some(now);
                of_server.failing_since = None;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes_connection {
            self.gate.servers.borrow_mut()[self.server].connections.release_probe(self.at);
        }
        if self.probes_answer {
            self.gate.pairs.borrow_mut()[self.server][self.tenant].answers.release_probe(self.at);
        }
    }
}
