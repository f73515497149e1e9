//! The limits of open requests that each worker adapts to the answers of its servers: the place of each request, and that none is left behind.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use toolfleet_core::failure::{Evidence, Failure};
use toolfleet_core::limits::adaptive::{AdaptiveLimit, Answered};
use toolfleet_core::outcome::Code;
use toolfleet_core::time::Timestamp;

use super::delivery::Delivery;
use super::planted::Planted;
use super::world::{Process, World};

/// What one worker's requests at one server have: a limit that adapts, and how many are open in truth.
pub(crate) struct OwnRequests {
    adaptive: RefCell<AdaptiveLimit>,
    open: Cell<u32>,
}

impl OwnRequests {
    pub(crate) fn new(slots: usize) -> Self {
        let most = u32::try_from(slots).unwrap();
        Self { adaptive: RefCell::new(AdaptiveLimit::new(most)), open: Cell::new(0) }
    }

    /// Whether no place is taken.
    pub(crate) fn is_idle(&self) -> bool {
        self.adaptive.borrow().open() == 0
    }
}

/// A place among the open requests of a worker at a server. It is left when dropped.
pub(crate) struct Place {
    process: Rc<Process>,
    server: usize,
    taken: bool,
    sent: Option<Timestamp>,
    answered: Option<(Answered, Timestamp)>,
}

impl Place {
    /// The request is sent now.
    pub(crate) fn sent(&mut self, delivery: &Delivery) {
        self.sent = Some(delivery.now());
        let own = &self.process.requests[self.server];
        own.open.set(own.open.get() + 1);
        let (open, places) = (own.open.get(), own.adaptive.borrow().open());
        delivery.world.check(open <= places, delivery.call(), "each open request has a place", || {
            format!("{open} open, {places} places")
        });
    }

    /// Learns how the request ended.
    pub(crate) fn record<T>(&mut self, ended: &Result<T, Failure>, now: Timestamp) {
        let took_ms = self.sent.map_or(0, |sent| now.ms_since(sent));
        let answered = match ended {
            Ok(_) => Answered::In(took_ms),
            Err(failure) if matches!(failure.evidence, Evidence::Paused(_)) => Answered::Overloaded,
            Err(failure) if failure.code == Code::AttemptTimedOut => Answered::Overloaded,
            Err(_) => Answered::Other,
        };
        self.answered = Some((answered, now));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let own = &self.process.requests[self.server];
        if self.sent.is_some() {
            own.open.set(own.open.get() - 1);
        }
        if self.taken {
            let sent = self.sent.unwrap_or(self.process.started_at);
            let (answered, now) = self.answered.unwrap_or((Answered::Other, sent));
            own.adaptive.borrow_mut().leave(answered, sent, now);
        }
    }
}

/// No place is left behind.
pub(crate) fn at_the_end(world: &World) {
    for process in world.processes.borrow().iter().filter(|process| process.alive.get()) {
        let idle = process.deliveries.get() > 0 || process.requests.iter().all(OwnRequests::is_idle);
        world.check(idle, 0, "each place at a server is left", || format!("worker {}", process.index));
    }
}

impl Delivery {
    /// A place among the worker's own requests; none where there is no adaptive limit.
    pub(crate) fn take_place(&self) -> Result<Option<Place>, u64> {
        let server = self.spec().server;
        if self.world.scenario.limits.adaptive.get(server).copied().flatten().is_none() {
            return Ok(None);
        }
        let none = self.world.is_planted(Planted::NoPlace);
        if !none && !self.process.requests[server].adaptive.borrow_mut().enter(self.now()) {
            return Err(1_000);
        }
        let process = Rc::clone(&self.process);
        Ok(Some(Place { process, server, taken: !none, sent: None, answered: None }))
    }
}
