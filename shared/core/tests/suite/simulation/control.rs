//! Switches: what operators set, how workers read it, and what it stops.

use std::cell::RefCell;
use std::rc::Rc;

use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{
    CallFacts, CallFilter, CancelRule, Control, ControlEntry, Strike, Subject, Switch, SwitchTarget,
    ToolNames,
};
use toolfleet_core::digest::Digest;
use toolfleet_core::failure::Refusal;
use toolfleet_core::ids::WorkerId;
use toolfleet_core::time::Timestamp;

use super::delivery::Delivery;
use super::gate::refusal;
use super::planted::Planted;
use super::queue::Asks;
use super::scenario::SKEW_MS;
use super::services;
use super::world::{Process, World};

/// How often a worker reads the version of the control entries.
const BEAT_MS: u64 = 2_000;
/// How often it reads the entries without a new version.
const WHOLE_MS: u64 = 30_000;
/// No call that a pause or a strike matches is started later than this after it was set.
const EFFECT_MS: u64 = 5_000;
/// A call under way learns of a rule that cancels it within this time after its worker does.
const BEAT_OF_CALL_MS: u64 = 11_000;

/// What an operator sets.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// `server:`, `tenant:`, `tool:` or `queue:` and a name is paused.
    Pause(String),
    /// The question of that call is struck.
    Strike(usize),
    /// Calls of that tenant are cancelled; only those of that server's tool, where one is named.
    Cancel(usize, Option<usize>),
    /// The worker process of that number is to drain.
    Drain(usize),
}

/// What an operator does.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) what: What,
    pub(crate) from_ms: u64,
    /// When it is taken back.
    pub(crate) to_ms: u64,
    /// Whether it ends by itself then, and nobody takes it back.
    pub(crate) expires: bool,
    /// Whether the operator's program dies between the entry and the version.
    pub(crate) forgets_version: bool,
}

impl Order {
    /// A pause of server 0 that an operator ends.
    pub(crate) fn pause_of_server_0(from_ms: u64, to_ms: u64) -> Self {
        let what = What::Pause("server:server-0".to_owned());
        Self { what, from_ms, to_ms, expires: false, forgets_version: false }
    }

    fn entry(&self, world: &World) -> ControlEntry {
        let since = world.true_time(world.now_ms());
        let end = world.true_time(self.to_ms);
        let until = self.expires.then_some(end);
        let (by, why) = ("ann".to_owned(), "it drops orders".to_owned());
        match &self.what {
            What::Pause(target) => {
                let target = SwitchTarget::parse(target).unwrap();
                ControlEntry::Pause(Switch { target, tenant: None, by, why, since, until })
            }
            What::Strike(call) => {
                let digest = world.digests[*call][0].to_string();
                ControlEntry::Strike(Strike { digest, by, why, since, until })
            }
            What::Cancel(..) => {
                let filter = self.filter(world).unwrap();
                ControlEntry::Cancel(CancelRule { id: "r1".to_owned(), filter, by, why, since, until: end })
            }
            What::Drain(process) => {
                let worker = WorkerId::parse(format!("w{process}")).unwrap();
                ControlEntry::Drain { worker, by, why, since, until: end }
            }
        }
    }

    /// Which calls it cancels.
    fn filter(&self, world: &World) -> Option<CallFilter> {
        let What::Cancel(tenant, server) = &self.what else { return None };
        Some(CallFilter {
            tenant: Some(world.tenants[*tenant].clone()),
            tool: server.map(|server| world.tools[server].clone()),
            session: None,
            sent_before: world.true_time(self.from_ms),
        })
    }

    /// When each worker has read it.
    const fn known_ms(&self) -> u64 {
        let unread_ms = if self.forgets_version { WHOLE_MS } else { 0 };
        self.from_ms + unread_ms + EFFECT_MS
    }

    /// Whether it has an effect on every worker now. Where it expires by itself, a clock may be ahead by the allowed difference.
    const fn is_in_force(&self, now_ms: u64) -> bool {
        now_ms > self.known_ms() && now_ms + SKEW_MS < self.to_ms
    }
}

/// The control table.
#[derive(Default)]
pub(crate) struct ControlTable {
    version: u64,
    entries: Vec<(usize, ControlEntry)>,
}

/// Carries out one order of the scenario.
pub(crate) fn operator(world: &Rc<World>, number: usize) {
    let order = world.scenario.orders[number].clone();
    let world_of_operator = Rc::clone(world);
    world.spawn(None, async move {
        let world = world_of_operator;
        world.sleep_until(order.from_ms).await;
        let entry = order.entry(&world);
        world.note(None, || format!("an operator sets {:?}", order.what));
        world.control.borrow_mut().entries.push((number, entry));
        if !order.forgets_version {
            world.control.borrow_mut().version += 1;
        }
        if order.expires {
            return;
        }
        world.sleep_until(order.to_ms).await;
        world.note(None, || format!("an operator takes back {:?}", order.what));
        let mut control = world.control.borrow_mut();
        control.entries.retain(|(of, _)| *of != number);
        control.version += 1;
    });
}

/// Reads the version every two seconds, and the entries when it has changed or was not read for long.
pub(crate) async fn reader(world: Rc<World>, process: Rc<Process>) {
    let mut whole_ms: Option<u64> = None;
    while !(process.draining.get() && world.is_planted(Planted::ReadNoPauseInDrain)) {
        let due = whole_ms.is_none_or(|at_ms| world.now_ms() - at_ms >= WHOLE_MS);
        let version = world.aws(|| world.control.borrow().version).await;
        if let Ok(version) = version
            && (due || version != process.control.borrow().version)
        {
            let read_ms = world.now_ms();
            let now = process.clock(&world);
            let entries = || world.control.borrow().entries.iter().map(|(_, entry)| entry.clone()).collect();
            let entries: Result<Vec<_>, _> = world.aws(entries).await;
            if let Ok(entries) = entries {
                whole_ms = Some(read_ms);
                process.has_read_control.set(true);
                let control = Control::new(version, entries, now);
                let drains = control.drains(&process.id, process.started_at)
                    && !world.is_planted(Planted::IgnoreDrain);
                *process.control.borrow_mut() = Rc::new(control);
                if drains && !process.draining.get() {
                    services::drain(&world, &process);
                }
            }
        }
        world.sleep(BEAT_MS).await;
    }
}

/// The snapshot of a process.
pub(crate) type Snapshot = RefCell<Rc<Control>>;

impl Delivery {
    /// Whether a pause stops the call now, as the worker knows it.
    pub(crate) fn stopped(&self) -> Result<(), Refusal> {
        let (world, call) = (&self.world, self.call());
        if world.is_planted(Planted::IgnorePause) {
            return Ok(());
        }
        let control = Rc::clone(&self.process.control.borrow());
        let asked = usize::from(self.message.body.asks == Asks::OtherQuestion);
        let digest = &world.digests[call][asked];
        let digest = (!world.is_planted(Planted::IgnoreStrike)).then_some(digest);
        let Some((until, _)) = control.stop_of(subject(world, call, digest), self.now()) else {
            return Ok(());
        };
        let look_again_ms = world.random.between(30_000, 59_999);
        let after_ms =
            until.map_or(look_again_ms, |until| until.ms_since(self.now()).clamp(1_000, look_again_ms));
        Err(refusal(HeldReason::Paused, after_ms))
    }

    /// The operator's rule that cancels the call now, as the worker knows it.
    pub(crate) fn cancelling_rule(&self) -> Option<String> {
        let (world, call) = (&self.world, self.call());
        if world.is_planted(Planted::IgnoreCancelRule) {
            return None;
        }
        let control = Rc::clone(&self.process.control.borrow());
        control.cancelled_by(&facts(world, call, self.enqueued_at()), self.now()).map(CancelRule::detail)
    }
}

/// What a filter sees of a call.
fn facts(world: &World, call: usize, enqueued_at: Timestamp) -> CallFacts<'_> {
    let subject = subject(world, call, None);
    CallFacts { tenant: subject.tenant, tool: subject.tool, session: None, enqueued_at }
}

fn subject<'a>(world: &'a World, call: usize, digest: Option<&'a Digest>) -> Subject<'a> {
    let spec = &world.scenario.calls[call];
    Subject {
        server: &world.server_ids[spec.server],
        tenant: &world.keys[call].tenant,
        tool: Some(ToolNames {
            registered: Some(&world.tools[spec.server]),
            server: world.server_ids[spec.server].as_str(),
            name: "f",
        }),
        digest,
    }
}

/// Whether a process knows what was set some seconds ago: one that was frozen knows the present only after its next reading.
fn is_informed(world: &World, process: usize) -> bool {
    let frozen_until_ms = world.processes.borrow()[process].frozen_until_ms.get();
    frozen_until_ms == 0 || world.now_ms() >= frozen_until_ms + EFFECT_MS
}

/// A worker starts a call: nothing may have stopped it for longer than its time to take effect.
pub(crate) fn starts(world: &World, call: usize, process: usize) {
    let now_ms = world.now_ms();
    if !is_informed(world, process) {
        return;
    }
    let digest = world.rows.borrow().get(&call).and_then(|row| row.digest.clone());
    let subject = subject(world, call, digest.as_ref());
    for order in world.scenario.orders.iter().filter(|order| order.is_in_force(now_ms)) {
        let stops = match &order.what {
            What::Pause(target) => SwitchTarget::parse(target).unwrap().matches(subject),
            What::Strike(struck) => digest.as_ref() == Some(&world.digests[*struck][0]),
            What::Cancel(..) | What::Drain(_) => false,
        };
        world.check(!stops, call, "no call starts later than 5 s after its pause or strike", || {
            format!("{order:?}")
        });
    }
}

/// A worker starts a call that it received then. No rule had cancelled it before.
pub(crate) fn starts_despite_rule(delivery: &Delivery) {
    let (world, call) = (&delivery.world, delivery.call());
    if !is_informed(world, delivery.process.index) {
        return;
    }
    let facts = facts(world, call, delivery.enqueued_at());
    for order in world.scenario.orders.iter().filter(|order| order.is_in_force(world.now_ms())) {
        let cancels = order.filter(world).is_some_and(|filter| filter.matches(&facts));
        let late = delivery.received_ms > order.known_ms();
        world.check(!(cancels && late), call, "no call starts after a rule has cancelled it", || {
            format!("received at {} ms, {order:?}", delivery.received_ms)
        });
    }
}

/// A worker stores an answer: no rule had cancelled the call for longer than a heartbeat.
pub(crate) fn ends_despite_rule(world: &World, call: usize, process: usize, enqueued_at: Timestamp) {
    let now_ms = world.now_ms();
    if !is_informed(world, process) {
        return;
    }
    // Another message of the call may have been sent after the rule.
    if world.scenario.calls[call].sends.len() > 1 {
        return;
    }
    let facts = facts(world, call, enqueued_at);
    for order in world.scenario.orders.iter().filter(|order| order.is_in_force(now_ms)) {
        let cancels = order.filter(world).is_some_and(|filter| filter.matches(&facts));
        let late = now_ms > order.known_ms() + BEAT_OF_CALL_MS;
        world.check(!(cancels && late), call, "a rule ends a call under way within a heartbeat", || {
            format!("{order:?}")
        });
    }
}

/// Whether a rule has ever cancelled such a call.
pub(crate) fn rule_cancelled(world: &World, call: usize) -> bool {
    let sent_at = world.true_time(world.scenario.calls[call].sends[0].0);
    let cancels = |order: &Order| {
        order.filter(world).is_some_and(|filter| filter.matches(&facts(world, call, sent_at)))
            && world.now_ms() >= order.from_ms
    };
    world.scenario.orders.iter().any(cancels)
}

/// A worker has received a message: neither a pause of its queue nor a drain of the worker was set long ago.
pub(crate) fn receives(world: &World, call: usize, process: &Process) {
    let now_ms = world.now_ms();
    if !is_informed(world, process.index) {
        return;
    }
    let started_ms = world.virtual_ms(process.started_at, process.offset_ms);
    for order in world.scenario.orders.iter().filter(|order| order.is_in_force(now_ms)) {
        let stops = match &order.what {
            What::Pause(target) => target == "queue:default",
            // A worker whose clock is ahead may take a drain for one of an earlier worker of its name.
            What::Drain(drained) => *drained == process.index && started_ms + SKEW_MS < order.from_ms,
            What::Strike(_) | What::Cancel(..) => false,
        };
        world.check(!stops, call, "no worker receives longer than 5 s after a pause or drain", || {
            format!("worker {}, {order:?}", process.index)
        });
    }
}
