//! The world of one schedule: virtual time, queues, tables, processes, and what really happened to each call.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use toolfleet_core::call::CallRow;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, ServerId, Tenant, WorkerId};
use toolfleet_core::time::Timestamp;

use super::adaptive::OwnRequests;
use super::control::{ControlTable, Snapshot};
use super::gate::Gate;
use super::journal::{Journal, Violation};
use super::limits::LimitTables;
use super::planted::Planted;
use super::queue::Queue;
use super::random::Random;
use super::retries::Retries;
use super::scenario::{CALM_MS, SKEW_MS, Scenario, Theme};
use super::scheduler::Scheduler;
use super::server::Tasks;
use super::supersede::SupersedeTables;
use super::truth::Truth;

/// Wall time at the beginning of virtual time.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// A worker process. After its death another one takes its place.
pub(crate) struct Process {
    pub(crate) index: usize,
    pub(crate) id: WorkerId,
    /// How far its clock is ahead of true time.
    pub(crate) offset_ms: i64,
    pub(crate) started_at: Timestamp,
    pub(crate) alive: Cell<bool>,
    pub(crate) frozen_until_ms: Cell<u64>,
    pub(crate) draining: Cell<bool>,
    /// When a draining worker stops what is still under way.
    pub(crate) over_ms: Cell<Option<u64>>,
    pub(crate) slots_used: Cell<usize>,
    /// Deliveries that have not left it.
    pub(crate) deliveries: Cell<usize>,
    /// Changes of permits that are not written yet.
    pub(crate) unwritten: Cell<usize>,
    pub(crate) retries: RefCell<Retries>,
    pub(crate) gate: Rc<Gate>,
    /// Its requests at each server.
    pub(crate) requests: Vec<OwnRequests>,
    /// What operators have set, as this process last read it.
    pub(crate) control: Snapshot,
    pub(crate) has_read_control: Cell<bool>,
}

impl Process {
    /// The time on its clock.
    pub(crate) fn clock(&self, world: &World) -> Timestamp {
        Timestamp::from_ms(world.true_time(world.now_ms()).as_ms() + self.offset_ms)
    }
}

/// What an AWS request that failed leaves unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AwsFailed;

/// A record of the history table: of a call, or of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Record {
    Call(usize),
    Message(u64),
    LateAnswer(usize, u64),
}

/// Everything that a schedule changes.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) scheduler: Scheduler,
    pub(crate) scenario: Scenario,
    pub(crate) planted: Option<Planted>,
    pub(crate) journal: Journal,
    pub(crate) queue: Queue,
    pub(crate) dead: Queue,
    pub(crate) rows: RefCell<BTreeMap<usize, CallRow>>,
    pub(crate) history: RefCell<BTreeSet<Record>>,
    pub(crate) truth: RefCell<Vec<Truth>>,
    pub(crate) processes: RefCell<Vec<Rc<Process>>>,
    pub(crate) tasks: RefCell<Tasks>,
    pub(crate) control: RefCell<ControlTable>,
    pub(crate) limits: LimitTables,
    pub(crate) supersede: SupersedeTables,
    pub(crate) keys: Vec<CallKey>,
    pub(crate) digests: Vec<[Digest; 2]>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) server_ids: Vec<ServerId>,
    /// The tool of each server.
    pub(crate) tools: Vec<String>,
    /// Deliveries and requests that have not ended.
    pub(crate) under_way: Cell<usize>,
    /// Messages that callers have still to send.
    pub(crate) to_send: Cell<usize>,
    pub(crate) steps: Cell<u64>,
    /// Messages that a newer one replaces.
    pub(crate) replaced: RefCell<BTreeSet<u64>>,
    /// Whether a process died before it had released the permit of a task, which ends at the deadline of its call then.
    pub(crate) task_permit_lost: Cell<bool>,
}

impl World {
    pub(crate) fn new(
        scenario: Scenario,
        random: Random,
        planted: Option<Planted>,
        journal: Journal,
    ) -> Self {
        let tenants: Vec<_> = ["acme", "globex"].map(|name| Tenant::parse(name).unwrap()).into();
        let key = |(at, spec): (usize, &super::scenario::CallSpec)| CallKey {
            tenant: tenants[spec.tenant].clone(),
            call_id: CallId::parse(format!("c{at}")).unwrap(),
        };
        let digest =
            |at: usize| [Digest::of_text(&format!("q{at}")), Digest::of_text(&format!("other {at}"))];
        let (oddities, servers) = (scenario.oddities, scenario.servers.len());
        Self {
            keys: scenario.calls.iter().enumerate().map(key).collect(),
            digests: (0..scenario.calls.len()).map(digest).collect(),
            tenants,
            server_ids: (0..servers).map(|n| ServerId::parse(format!("server-{n}")).unwrap()).collect(),
            tools: (0..servers).map(|n| format!("tool-{n}")).collect(),
            truth: RefCell::new(scenario.calls.iter().map(|_| Truth::default()).collect()),
            to_send: Cell::new(scenario.calls.iter().map(|call| call.sends.len()).sum()),
            queue: Queue::new(oddities),
            dead: Queue::default(),
            random,
            scheduler: Scheduler::default(),
            scenario,
            planted,
            journal,
            rows: RefCell::default(),
            history: RefCell::default(),
            processes: RefCell::default(),
            tasks: RefCell::default(),
            control: RefCell::default(),
            limits: LimitTables::default(),
            supersede: SupersedeTables::default(),
            under_way: Cell::new(0),
            steps: Cell::new(0),
            replaced: RefCell::default(),
            task_permit_lost: Cell::new(false),
        }
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.scheduler.now_ms()
    }

    /// The wall time at that virtual time.
    pub(crate) fn true_time(&self, at_ms: u64) -> Timestamp {
        Timestamp::from_ms(BEGIN_MS).plus_ms(at_ms)
    }

    /// The virtual time at that wall time of a clock that is `offset_ms` ahead.
    pub(crate) fn virtual_ms(&self, at: Timestamp, offset_ms: i64) -> u64 {
        u64::try_from(at.as_ms() - offset_ms - BEGIN_MS).unwrap_or(0)
    }

    pub(crate) fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    /// Whether calls of the scenario need no claim.
    pub(crate) fn has_claimless_calls(&self) -> bool {
        self.scenario.calls.iter().any(|call| call.claimless)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now_ms() >= CALM_MS
    }

    pub(crate) fn note(&self, call: Option<usize>, text: impl FnOnce() -> String) {
        self.journal.note(self.now_ms(), call, text);
    }

    /// Ends the schedule if the rule does not hold.
    pub(crate) fn check(
        &self,
        holds: bool,
        call: usize,
        rule: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        if !holds {
            let (at_ms, call, detail) = (self.now_ms(), Some(call), detail());
            self.journal.broken(Violation { at_ms, call, rule, detail });
        }
    }

    pub(crate) fn spawn(&self, owner: Option<usize>, work: impl Future<Output = ()> + 'static) {
        self.scheduler.spawn(owner, self.random.next(), work);
    }

    /// Waits until that virtual time.
    pub(crate) async fn sleep_until(&self, at_ms: u64) {
        let mut asked = false;
        std::future::poll_fn(|_| {
            if self.now_ms() >= at_ms {
                return std::task::Poll::Ready(());
            }
            if !std::mem::replace(&mut asked, true) {
                self.scheduler.wake(self.scheduler.current(), at_ms, self.random.next());
            }
            std::task::Poll::Pending
        })
        .await;
    }

    pub(crate) async fn sleep(&self, ms: u64) {
        self.sleep_until(self.now_ms() + ms).await;
    }

    /// The time that a request or an answer takes on the way to AWS.
    async fn hop(&self) {
        // Where effects are timed, AWS answers as fast as it usually does.
        let may_be_slow =
            self.scenario.theme != Theme::Switches && !self.scenario.theme.has_limits() && !self.is_calm();
        let slow = may_be_slow && self.random.chance(5);
        self.sleep(if slow { self.random.below(5_000) } else { self.random.between(1, 8) }).await;
    }

    /// An AWS request as the SDK sends it: three tries. A try may be lost before or after its effect.
    pub(crate) async fn aws<T>(&self, mut effect: impl FnMut() -> T) -> Result<T, AwsFailed> {
        for _ in 0..3 {
            self.hop().await;
            if self.has_outage() || self.fails(self.scenario.faults.request_lost) {
                continue;
            }
            let answer = effect();
            let lost = self.fails(self.scenario.faults.answer_lost);
            self.hop().await;
            if !lost {
                return Ok(answer);
            }
        }
        self.note(None, || "an AWS request fails, all its tries included".to_owned());
        Err(AwsFailed)
    }

    fn fails(&self, per_mille: u64) -> bool {
        per_mille > 0 && !self.is_calm() && self.random.chance(per_mille)
    }

    fn has_outage(&self) -> bool {
        self.scenario.faults.outage_ms.is_some_and(|(from, to)| (from..to).contains(&self.now_ms()))
    }

    /// A new worker process, with a clock within the allowed difference.
    pub(crate) fn new_process(&self) -> Rc<Process> {
        let mut processes = self.processes.borrow_mut();
        let index = processes.len();
        // Turns are exact as far as clocks are: within some milliseconds, as NTP keeps them.
        let error_ms = if self.scenario.limits.is_empty() { SKEW_MS } else { 12 };
        let offset_ms = i64::try_from(self.random.below(error_ms)).unwrap();
        let process = Rc::new(Process {
            index,
            id: WorkerId::parse(format!("w{index}")).unwrap(),
            offset_ms,
            started_at: Timestamp::from_ms(self.true_time(self.now_ms()).as_ms() + offset_ms),
            alive: Cell::new(true),
            frozen_until_ms: Cell::new(0),
            draining: Cell::new(false),
            over_ms: Cell::new(None),
            slots_used: Cell::new(0),
            deliveries: Cell::new(0),
            unwritten: Cell::new(0),
            control: Snapshot::default(),
            has_read_control: Cell::new(false),
            retries: RefCell::new(Retries::new(self.scenario.servers.len())),
            requests: (0..self.scenario.servers.len())
                .map(|_| OwnRequests::new(self.scenario.slots))
                .collect(),
            gate: Rc::new(Gate::new(self.scenario.servers.len(), self.tenants.len())),
        });
        processes.push(Rc::clone(&process));
        drop(processes);
        self.note(None, || format!("worker {index} starts, its clock {offset_ms} ms ahead"));
        process
    }

    /// Wakes those who wait for a message of the queue.
    pub(crate) fn wake_receivers(&self, queue: &Queue) {
        for task in queue.take_waiting() {
            self.scheduler.wake(task, self.now_ms(), self.random.next());
        }
    }

    /// Whether nothing can happen any more: each call has ended, its messages are gone, and nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.to_send.get() == 0
            && self.under_way.get() == 0
            && self.queue.is_empty()
            && self.dead.is_empty()
            && self.truth.borrow().iter().all(|truth| truth.ended.is_some())
    }
}

/// Counts something as under way until it is dropped.
pub(crate) struct UnderWay(pub(crate) Rc<World>);

impl UnderWay {
    pub(crate) fn new(world: &Rc<World>) -> Self {
        world.under_way.set(world.under_way.get() + 1);
        Self(Rc::clone(world))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}
