//! The simulation: models of queue, tables, servers and workers on virtual time. Every chance comes from one seed, so a schedule can be
//! run again exactly.
//!
//! The workers are models, and their decisions are those of the worker: the state table of calls, retry, breakers and pauses of
//! `toolfleet-core`. The order of a delivery's steps is that of `workers/worker/src/pipeline`. At every await a worker may die or be
//! frozen past its lease, and every AWS request may fail before or after its effect.
//!
//! `truth.rs` has the rules that each schedule must keep. `planted.rs` has defects that tests plant to see that the rules find them.
//!
//! A failing schedule prints its seed and what happened to the call concerned. To run one seed, or more of them:
//!
//! ```text
//! SIMULATION_SEED=17 cargo test -p toolfleet-core --test suite simulation
//! SIMULATION_CASES=20000 cargo test -p toolfleet-core --test suite simulation
//! ```

mod adaptive;
mod claimless;
mod control;
mod delivery;
mod execution;
mod gate;
mod journal;
mod limits;
mod passes;
mod permits;
mod planted;
mod queue;
mod random;
mod record;
mod retries;
mod scenario;
mod scheduler;
mod server;
mod services;
mod supersede;
mod table;
mod truth;
mod world;

use std::rc::Rc;

use control::Order;
use journal::{Journal, Violation};
use limits::Limits;
use planted::Planted;
use random::Random;
use scenario::{HORIZON_MS, Manners, Scenario, Theme};
use world::World;

/// What runs the simulation.
const COMMAND: &str = "cargo test -p toolfleet-core --test suite simulation";

/// What a schedule came to.
struct Ran {
    violation: Option<Violation>,
    trace: String,
    steps: u64,
}

/// Runs the schedule of that scenario. `chance` decides everything that the scenario leaves open.
fn run(scenario: Scenario, chance: Random, planted: Option<Planted>, writes: bool) -> Ran {
    let (workers, calls, orders) = (scenario.workers, scenario.calls.len(), scenario.orders.len());
    let world = Rc::new(World::new(scenario, chance, planted, Journal::new(writes)));
    for _ in 0..workers {
        services::start(&world);
    }
    for call in 0..calls {
        services::call(&world, call);
    }
    for order in 0..orders {
        control::operator(&world, order);
    }
    while !world.journal.is_broken() && !world.is_settled() && world.now_ms() < HORIZON_MS {
        let Some((task, owner)) = world.scheduler.next() else { break };
        if let Some(owner) = owner
            && !may_run(&world, task, owner)
        {
            continue;
        }
        world.scheduler.run(task);
    }
    if !world.journal.is_broken() {
        truth::at_the_end(&world);
    }
    world.scheduler.clear();
    let violation = world.journal.violation();
    let trace = world.journal.trace(violation.as_ref().and_then(|violation| violation.call));
    Ran { violation, trace, steps: world.steps.get() }
}

/// Whether the process of a task lives and is not frozen. Here processes die, freeze and begin to drain.
fn may_run(world: &Rc<World>, task: usize, owner: usize) -> bool {
    let process = Rc::clone(&world.processes.borrow()[owner]);
    if world.now_ms() < process.frozen_until_ms.get() {
        world.scheduler.wake(task, process.frozen_until_ms.get(), world.random.next());
        return false;
    }
    world.steps.set(world.steps.get() + 1);
    if world.scenario.die_at_step == Some(world.steps.get()) {
        services::kill(world, &process);
        return false;
    }
    if world.is_calm() || process.deliveries.get() == 0 {
        return true;
    }
    let faults = world.scenario.faults;
    if faults.death > 0 && world.random.chance(faults.death) {
        services::kill(world, &process);
        return false;
    }
    if faults.freeze > 0 && world.random.chance(faults.freeze) {
        services::freeze(world, &process);
        world.scheduler.wake(task, process.frozen_until_ms.get(), world.random.next());
        return false;
    }
    if faults.drain > 0 && !process.draining.get() && world.random.chance(faults.drain) {
        services::drain(world, &process);
    }
    true
}

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var_os(name).map(|text| {
        text.to_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} is not a number"))
    })
}

/// Runs the schedules of a theme and fails with the seed and the trace of the first that breaks a rule.
fn run_theme(theme: Theme, cases: u64) {
    let (first, cases) = match variable("SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (1, variable("SIMULATION_CASES").unwrap_or(cases)),
    };
    for seed in first..first + cases {
        if let Some(failed) = failure(theme, seed, None) {
            panic!("{failed}");
        }
    }
}

fn of_seed(theme: Theme, seed: u64, planted: Option<Planted>, writes: bool) -> Ran {
    let chance = Random::new(seed);
    run(Scenario::of(theme, &chance), chance, planted, writes)
}

/// The rule that the schedule of that seed breaks, with the trace of its call.
fn failure(theme: Theme, seed: u64, planted: Option<Planted>) -> Option<String> {
    let violation = of_seed(theme, seed, planted, false).violation?;
    let again = of_seed(theme, seed, planted, true);
    assert_eq!(again.violation.as_ref(), Some(&violation), "a seed gives the same schedule each time");
    let told = told(&format!("the schedule of seed {seed} ({theme:?})"), &violation, &again.trace);
    Some(format!("{told}\nto run it again:\n  SIMULATION_SEED={seed} {COMMAND}\n"))
}

fn told(name: &str, violation: &Violation, trace: &str) -> String {
    let Violation { at_ms, call, rule, detail } = violation;
    format!("{name} breaks the rule \"{rule}\" at {at_ms} ms, call {call:?}: {detail}\n{trace}")
}

#[test]
fn calls_end_once_under_every_fault() {
    run_theme(Theme::Faults, 3_000);
}

#[test]
fn calls_without_faults_keep_every_promise() {
    run_theme(Theme::Calm, 1_500);
}

#[test]
fn tasks_end_once_under_every_fault() {
    run_theme(Theme::Tasks, 1_200);
}

#[test]
fn a_frozen_worker_does_no_harm_when_it_continues() {
    run_theme(Theme::Freezes, 1_500);
}

#[test]
fn a_pause_stops_new_starts_within_5_s_and_waits_cost_nothing() {
    run_theme(Theme::Switches, 1_500);
}

#[test]
fn of_the_calls_of_one_key_the_newest_wins() {
    run_theme(Theme::Supersede, 1_200);
}

#[test]
fn calls_without_a_claim_end_once_and_run_twice_only_if_safe() {
    run_theme(Theme::Claimless, 1_200);
}

#[test]
fn scheduled_calls_start_in_time_and_not_before() {
    run_theme(Theme::Schedule, 1_200);
}

#[test]
fn no_limit_is_exceeded_under_deaths_and_freezes() {
    run_theme(Theme::Limits, 1_200);
}

#[test]
fn places_of_an_adaptive_limit_are_left_under_deaths_and_freezes() {
    run_theme(Theme::Adaptive, 800);
}

/// The scenarios of one worker process in which a death at each step is tried.
fn deaths() -> Vec<(&'static str, Scenario)> {
    let of = |theme, repeatable, manners| Scenario::of_one_call(theme, repeatable, manners);
    let none = Manners::default();
    let manners = [
        ("answers", Manners { answers: 1, ..none }),
        ("drops the answer", Manners { runs_then_drops: 1, ..none }),
        ("refuses connections", Manners { refuses_connection: 1, answers: 1, ..none }),
        ("asks for pauses", Manners { asks_for_pause: 1, answers: 1, ..none }),
        ("makes tasks", Manners { makes_task: 1, ..none }),
    ];
    let mut scenarios = Vec::new();
    for (name, manners) in manners {
        for repeatable in [false, true] {
            scenarios.push((name, of(Theme::Faults, repeatable, manners)));
        }
        let limited = of(Theme::Limits, true, manners);
        scenarios.push((name, Scenario { limits: Limits::of_one_server(), ..limited.with_calls(2) }));
        let paused = of(Theme::Switches, false, manners);
        let orders = vec![Order::pause_of_server_0(100, 90_000)];
        scenarios.push((name, Scenario { orders, ..paused.with_calls(2) }));
    }
    scenarios
}

#[test]
fn a_death_at_every_step_leaves_one_honest_end() {
    for (number, (name, scenario)) in deaths().into_iter().enumerate() {
        let dies = |step, writes| {
            let scenario = Scenario { die_at_step: step, ..scenario.clone() };
            run(scenario, Random::new(number as u64), None, writes)
        };
        let steps = dies(None, false).steps;
        assert!(steps > 10, "{steps} steps");
        // Every step of the first calls; where calls wait and try again for long, the later rounds are like the first.
        let stride = (steps / 100).max(1);
        for step in (1..=steps).filter(|step| *step <= 150 || step % stride == 0) {
            if let Some(violation) = dies(Some(step), false).violation {
                let trace = dies(Some(step), true).trace;
                let theme = scenario.theme;
                panic!(
                    "{}",
                    told(
                        &format!("a death at step {step}, the server {name} ({theme:?})"),
                        &violation,
                        &trace
                    )
                );
            }
        }
    }
}

#[test]
fn each_planted_defect_is_found() {
    for planted in Planted::ALL {
        let theme = planted.theme();
        let found = (1..=2_000).any(|seed| of_seed(theme, seed, Some(planted), false).violation.is_some());
        let found = found || is_found_by_a_death(planted);
        assert!(found, "{planted:?} breaks no rule in 2,000 schedules of {theme:?}, and at no death");
    }
}

/// Whether a death at one of the first steps of some scenario shows the defect.
fn is_found_by_a_death(planted: Planted) -> bool {
    deaths().into_iter().enumerate().any(|(number, (_, scenario))| {
        (1..=150).any(|step| {
            let scenario = Scenario { die_at_step: Some(step), ..scenario.clone() };
            run(scenario, Random::new(number as u64), Some(planted), false).violation.is_some()
        })
    })
}

#[test]
fn a_seed_gives_the_same_schedule_each_time() {
    for theme in Theme::ALL {
        for seed in 1..=20 {
            let (first, second) = (of_seed(theme, seed, None, true), of_seed(theme, seed, None, true));
            assert_eq!((first.steps, first.trace), (second.steps, second.trace));
        }
    }
}
