//! Switches: what operators set, how workers read it, and what it stops.

use std::cell::RefCell;
use std::rc::Rc;

use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{Control, ControlEntry, Subject, Switch, SwitchTarget, ToolNames};
use toolfleet_core::failure::Refusal;

use super::delivery::Delivery;
use super::gate::refusal;
use super::planted::Planted;
use super::world::{Process, World};

/// How often a worker reads the version of the control entries.
const BEAT_MS: u64 = 2_000;
/// How often it reads the entries without a new version.
const WHOLE_MS: u64 = 30_000;
/// No call that a pause matches is started later than this after it was set.
const EFFECT_MS: u64 = 5_000;

/// What an operator does.
#[derive(Debug, Clone)]
pub(crate) struct Pause {
    /// What is paused: `server:`, `tenant:` or `tool:` and a name.
    pub(crate) target: String,
    pub(crate) from_ms: u64,
    /// When it is resumed.
    pub(crate) to_ms: u64,
    /// Whether it ends by itself then, and nobody resumes it.
    pub(crate) expires: bool,
    /// Whether the operator's program dies between the entry and the version.
    pub(crate) forgets_version: bool,
}

impl Pause {
    /// A pause of server 0 that an operator ends.
    pub(crate) fn of_server_0(from_ms: u64, to_ms: u64) -> Self {
        let target = "server:server-0".to_owned();
        Self { target, from_ms, to_ms, expires: false, forgets_version: false }
    }
}

/// The control table.
#[derive(Default)]
pub(crate) struct ControlTable {
    version: u64,
    entries: Vec<(usize, ControlEntry)>,
}

/// Carries out one pause of the scenario.
pub(crate) fn operator(world: &Rc<World>, number: usize) {
    let pause = world.scenario.pauses[number].clone();
    let world_of_operator = Rc::clone(world);
    world.spawn(None, async move {
        let world = world_of_operator;
        world.sleep_until(pause.from_ms).await;
        let until = pause.expires.then(|| world.true_time(pause.to_ms));
        let entry = ControlEntry::Pause(Switch {
            target: SwitchTarget::parse(&pause.target).unwrap(),
            tenant: None,
            by: "ann".to_owned(),
            why: "it drops orders".to_owned(),
            since: world.true_time(world.now_ms()),
            until,
        });
        world.note(None, || format!("an operator pauses {}", pause.target));
        world.control.borrow_mut().entries.push((number, entry));
        if !pause.forgets_version {
            world.control.borrow_mut().version += 1;
        }
        if pause.expires {
            return;
        }
        world.sleep_until(pause.to_ms).await;
        world.note(None, || format!("an operator resumes {}", pause.target));
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
                *process.control.borrow_mut() = Rc::new(Control::new(version, entries, now));
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
        let Some((until, _)) = control.stop_of(subject(world, call), self.now()) else {
            return Ok(());
        };
        let look_again_ms = world.random.between(30_000, 59_999);
        let after_ms =
            until.map_or(look_again_ms, |until| until.ms_since(self.now()).clamp(1_000, look_again_ms));
        Err(refusal(HeldReason::Paused, after_ms))
    }
}

fn subject(world: &World, call: usize) -> Subject<'_> {
    let spec = &world.scenario.calls[call];
    Subject {
        server: &world.server_ids[spec.server],
        tenant: &world.keys[call].tenant,
        tool: Some(ToolNames {
            registered: Some(&world.tools[spec.server]),
            server: world.server_ids[spec.server].as_str(),
            name: "f",
        }),
        digest: None,
    }
}

/// A worker starts a call: no pause may have stopped it for longer than its time to take effect.
pub(crate) fn starts(world: &World, call: usize, process: usize) {
    let now_ms = world.now_ms();
    let subject = subject(world, call);
    let processes = world.processes.borrow();
    let process = &processes[process];
    // A process that was frozen knows the present only after its next reading.
    if process.frozen_until_ms.get() > 0 && now_ms < process.frozen_until_ms.get() + EFFECT_MS {
        return;
    }
    for pause in &world.scenario.pauses {
        let effect_ms = if pause.forgets_version { WHOLE_MS + EFFECT_MS } else { EFFECT_MS };
        let target = SwitchTarget::parse(&pause.target).unwrap();
        // Where it expires by itself, a clock may be ahead by the allowed difference.
        let to_ms = pause.to_ms.saturating_sub(super::scenario::SKEW_MS);
        let late = target.matches(subject) && now_ms > pause.from_ms + effect_ms && now_ms < to_ms;
        world.check(!late, call, "no call starts later than 5 s after its pause", || format!("{pause:?}"));
    }
}
