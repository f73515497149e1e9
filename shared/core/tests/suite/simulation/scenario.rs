//! What a seed stands for: the calls, how servers answer them, and what fails when.

use toolfleet_core::limits::RateLimit;

use super::control::{Order, What};
use super::limits::Limits;
use super::queue::{Asks, Oddities};
use super::random::Random;

/// How long a claim holds without a heartbeat, in milliseconds (the default of `TOOLFLEET_LEASE_MS`).
pub(crate) const LEASE_MS: u64 = 30_000;
/// How long a write waits for an unavailable table, in milliseconds (the worker's `persist`).
pub(crate) const PATIENCE_MS: u64 = 600_000;
/// The allowed difference between the clocks of two workers (the default of `TOOLFLEET_CLOCK_SKEW_MS`).
pub(crate) const SKEW_MS: u64 = 2_000;
/// How long a dead letter is left to operators (the default of `TOOLFLEET_REAP_AFTER_MS`).
pub(crate) const REAP_AFTER_MS: u64 = 900_000;
/// From then on nothing fails any more, so that each call can end.
pub(crate) const CALM_MS: u64 = 600_000;
/// A call that has not ended by then is stuck.
pub(crate) const HORIZON_MS: u64 = 2 * 3_600_000;

/// What the schedules of a test are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Calls under every fault.
    Faults,
    /// Calls without any fault of fleet or AWS: then much more can be promised.
    Calm,
    /// Calls whose server answers with tasks.
    Tasks,
    /// Calls of servers that accept few connections, in workers that are often frozen.
    Freezes,
    /// Calls that operators pause.
    Switches,
    /// Calls under rate and concurrency limits.
    Limits,
    /// The same, and limits of each worker that adapt to what its servers answer.
    Adaptive,
    /// Calls of one `supersede` key.
    Supersede,
    /// Calls that are executed without a claim.
    Claimless,
    /// Calls that are to start later.
    Schedule,
}

impl Theme {
    /// Every theme.
    pub(crate) const ALL: [Self; 10] = [
        Self::Faults,
        Self::Calm,
        Self::Tasks,
        Self::Freezes,
        Self::Switches,
        Self::Limits,
        Self::Adaptive,
        Self::Supersede,
        Self::Claimless,
        Self::Schedule,
    ];

    /// Whether its calls are limited.
    pub(crate) const fn has_limits(self) -> bool {
        matches!(self, Self::Limits | Self::Adaptive)
    }
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct CallSpec {
    pub(crate) tenant: usize,
    pub(crate) server: usize,
    /// Whether the call is safe to repeat.
    pub(crate) repeatable: bool,
    /// Whether its caller or its tool says that, so that it needs no claim. Only a call that is safe to repeat is so.
    pub(crate) claimless: bool,
    pub(crate) max_attempts: u32,
    pub(crate) attempt_ms: u64,
    pub(crate) deadline_ms: u64,
    /// The messages that its caller sends: when, and what they ask.
    pub(crate) sends: Vec<(u64, Asks)>,
    pub(crate) cancel_ms: Option<u64>,
    /// When it may start at the earliest.
    pub(crate) not_before_ms: Option<u64>,
}

/// What a server does with a request, as weights.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    pub(crate) answers: u64,
    pub(crate) tool_error: u64,
    pub(crate) runs_then_drops: u64,
    pub(crate) drops_late: u64,
    pub(crate) drops_unrun: u64,
    pub(crate) refuses_connection: u64,
    pub(crate) asks_for_pause: u64,
    pub(crate) refuses_request: u64,
    pub(crate) hangs: u64,
    pub(crate) makes_task: u64,
}

/// How often something fails, of 1,000 occasions, unless the name has a unit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A worker dies at an await of a delivery.
    pub(crate) death: u64,
    /// A worker is frozen at an await of a delivery.
    pub(crate) freeze: u64,
    /// A worker is asked to stop at an await of a delivery.
    pub(crate) drain: u64,
    /// An AWS request fails before it has an effect.
    pub(crate) request_lost: u64,
    /// The answer to an AWS request is lost after it had its effect.
    pub(crate) answer_lost: u64,
    /// The times in which every AWS request fails, in milliseconds.
    pub(crate) outage_ms: Option<(u64, u64)>,
}

impl Faults {
    /// Whether nothing fails.
    const fn is_none(&self) -> bool {
        let Self { death, freeze, drain, request_lost, answer_lost, outage_ms } = self;
        *death + *freeze + *drain + *request_lost + *answer_lost == 0 && outage_ms.is_none()
    }
}

/// Everything that a seed decides before the first step.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) theme: Theme,
    pub(crate) workers: usize,
    /// How many workers the fleet has in all, as each of them knows it: a large fleet has few retries for each.
    pub(crate) fleet_workers: u32,
    pub(crate) slots: usize,
    pub(crate) calls: Vec<CallSpec>,
    /// The manners of each server.
    pub(crate) servers: Vec<Manners>,
    /// When server 0 accepts no connection.
    pub(crate) down_ms: Option<(u64, u64)>,
    pub(crate) faults: Faults,
    pub(crate) oddities: Oddities,
    /// What operators set.
    pub(crate) orders: Vec<Order>,
    pub(crate) limits: Limits,
    /// Whether all calls have one `supersede` key.
    pub(crate) supersedes: bool,
    /// The worker that runs the n-th step of all deliveries dies at it.
    pub(crate) die_at_step: Option<u64>,
}

impl Scenario {
    /// The scenario of that theme and chance.
    pub(crate) fn of(theme: Theme, random: &Random) -> Self {
        let servers = (0..2).map(|_| manners(theme, random)).collect();
        let calls = match theme {
            Theme::Limits | Theme::Adaptive => limited_calls(random),
            Theme::Supersede => superseding_calls(random),
            Theme::Switches => (0..random.between(2, 6)).map(|_| retried_call(random)).collect(),
            Theme::Faults | Theme::Calm | Theme::Tasks | Theme::Freezes => {
                (0..random.between(2, 6)).map(|_| call(random)).collect()
            }
            Theme::Claimless => (0..random.between(2, 6)).map(|_| claimless_call(random)).collect(),
            Theme::Schedule => (0..random.between(2, 6)).map(|_| scheduled_call(random)).collect(),
        };
        let calm = theme == Theme::Calm;
        let limits = if theme.has_limits() { limits(theme, random) } else { Limits::default() };
        // Calls that wait for the end of tasks wait for long, and each duplicate of a message that waits is parked as a message of its own.
        let duplicates = match theme {
            Theme::Limits | Theme::Adaptive if limits.count_tasks => 5,
            Theme::Limits | Theme::Adaptive => 200,
            Theme::Faults
            | Theme::Calm
            | Theme::Tasks
            | Theme::Freezes
            | Theme::Switches
            | Theme::Supersede
            | Theme::Claimless
            | Theme::Schedule => 60,
        };
        let from_ms = random.below(60_000);
        let faults = faults(theme, random);
        let is_quiet = theme == Theme::Claimless && faults.is_none();
        Self {
            theme,
            fleet_workers: if theme == Theme::Faults { [1, 50, 100][random.index(3)] } else { 1 },
            workers: random.index(3) + 1 + usize::from(!calm),
            slots: random.index(3) + 1 + if calm { 10 * random.index(2) } else { 0 },
            servers,
            down_ms: (!theme.has_limits() && random.chance(300))
                .then(|| (from_ms, from_ms + random.below(200_000))),
            faults,
            oddities: Oddities {
                duplicate: if is_quiet { 0 } else { random.below(duplicates) },
                undead: random.below(60),
            },
            supersedes: theme == Theme::Supersede,
            limits,
            orders: if theme == Theme::Switches { orders(random, &calls) } else { Vec::new() },
            calls,
            die_at_step: None,
        }
    }

    /// The scenario without faults in which a single worker process runs one call, for deaths at each of its steps.
    pub(crate) fn of_one_call(theme: Theme, repeatable: bool, manners: Manners) -> Self {
        let call = CallSpec {
            tenant: 0,
            server: 0,
            repeatable,
            claimless: false,
            max_attempts: 3,
            attempt_ms: 10_000,
            deadline_ms: 300_000,
            sends: vec![(0, Asks::Question)],
            cancel_ms: None,
            not_before_ms: None,
        };
        Self {
            theme,
            workers: 2,
            fleet_workers: 1,
            slots: 1,
            calls: vec![call],
            servers: vec![manners],
            down_ms: None,
            faults: Faults::default(),
            oddities: Oddities::default(),
            orders: Vec::new(),
            limits: Limits::default(),
            supersedes: false,
            die_at_step: None,
        }
    }

    /// Whether nothing fails and no message comes twice.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.faults.is_none() && self.oddities.duplicate == 0 && self.die_at_step.is_none()
    }

    /// The same with so many such calls.
    pub(crate) fn with_calls(self, count: usize) -> Self {
        let calls = self.calls.iter().cycle().take(count).cloned().collect();
        Self { calls, slots: 4, ..self }
    }
}

fn call(random: &Random) -> CallSpec {
    let first_ms = random.below(30_000);
    let mut sends = vec![(first_ms, Asks::Question)];
    if random.chance(150) {
        let asks = [Asks::Question, Asks::OtherQuestion, Asks::OtherCaller][random.index(3)];
        sends.push((first_ms + 1 + random.below(60_000), asks));
    }
    let cancel_ms = random.chance(150).then(|| (first_ms + random.below(40_000)).saturating_sub(5_000));
    let repeatable = random.chance(500);
    CallSpec {
        tenant: random.index(2),
        server: random.index(2),
        repeatable,
        claimless: false,
        max_attempts: u32::try_from(random.between(1, 4)).unwrap(),
        attempt_ms: [2_000, 10_000, 60_000][random.index(3)],
        deadline_ms: [20_000, 60_000, 300_000, 900_000][random.index(4)],
        sends,
        cancel_ms,
        not_before_ms: None,
    }
}

/// A call that is mostly safe to repeat, and then needs no claim.
fn claimless_call(random: &Random) -> CallSpec {
    let call = call(random);
    let repeatable = random.chance(850);
    CallSpec { repeatable, claimless: repeatable, ..call }
}

/// A call that is to start later, in hops where that is far, with time left after it; sometimes it needs no claim.
fn scheduled_call(random: &Random) -> CallSpec {
    let call = if random.chance(300) { claimless_call(random) } else { call(random) };
    let wait_ms = [5_000, 60_000, 1_000_000, 2_500_000][random.index(4)];
    let not_before_ms = call.sends[0].0 + random.below(wait_ms);
    let cancel_ms = random.chance(150).then(|| random.below(not_before_ms + 20_000));
    let deadline_ms = not_before_ms + [30_000, 300_000, 900_000][random.index(3)];
    CallSpec { not_before_ms: Some(not_before_ms), deadline_ms, cancel_ms, ..call }
}

/// A call whose attempts in one slot may take longer than a pause has for its effect.
fn retried_call(random: &Random) -> CallSpec {
    CallSpec { max_attempts: 6, repeatable: random.chance(800), ..call(random) }
}

/// Calls of one tenant, each sent once, of which some wait.
fn superseding_calls(random: &Random) -> Vec<CallSpec> {
    let one = |_| {
        let sends = vec![(random.below(40_000), Asks::Question)];
        CallSpec { tenant: 0, sends, cancel_ms: None, deadline_ms: 300_000, ..call(random) }
    };
    (0..random.between(2, 6)).map(one).collect()
}

/// Calls that come together, so that they wait for each other.
fn limited_calls(random: &Random) -> Vec<CallSpec> {
    let from_ms = random.below(5_000);
    let of_burst = |_| CallSpec {
        deadline_ms: 900_000,
        sends: vec![(from_ms + random.below(2_000), Asks::Question)],
        cancel_ms: None,
        attempt_ms: [2_000, 10_000][random.index(2)],
        max_attempts: 3,
        ..call(random)
    };
    (0..random.between(4, 14)).map(of_burst).collect()
}

fn limits(theme: Theme, random: &Random) -> Limits {
    let rate = || {
        let (count, seconds) = [(1, 1), (2, 1), (5, 1), (20, 1), (3, 10), (1, 5)][random.index(6)];
        RateLimit::new(count, seconds).unwrap()
    };
    Limits {
        rates: (0..2).map(|_| random.chance(600).then(rate)).collect(),
        tenant_rate: random.chance(300).then(rate),
        concurrency: (0..2)
            .map(|_| random.chance(500).then(|| u32::try_from(random.between(1, 3)).unwrap()))
            .collect(),
        count_tasks: random.chance(400),
        change: random.chance(350).then(|| (random.between(2_000, 15_000), rate())),
        adaptive: (0..2)
            .map(|_| (theme == Theme::Adaptive).then(|| u32::try_from(random.between(1, 3)).unwrap()))
            .collect(),
        concurrency_change: random
            .chance(350)
            .then(|| (random.between(2_000, 15_000), u32::try_from(random.between(1, 3)).unwrap())),
        weights: if random.chance(300) {
            (0..2).map(|_| u32::try_from(random.between(1, 4)).unwrap()).collect()
        } else {
            Vec::new()
        },
    }
}

/// Half of the orders come just after a call was sent, so that they meet its first attempts.
fn orders(random: &Random, calls: &[CallSpec]) -> Vec<Order> {
    let order = |_| {
        let call = random.index(calls.len());
        let sent_ms = calls[call].sends[0].0;
        let from_ms = if random.chance(500) { sent_ms + random.below(2_000) } else { random.below(60_000) };
        let pause = |name: &str| What::Pause(name.to_owned());
        let what = match random.below(10) {
            0 | 1 => pause("server:server-0"),
            2 | 3 => pause("tenant:acme"),
            4 => pause("tool:tool-1"),
            5 => pause("queue:default"),
            6 | 7 => What::Strike(call),
            8 => What::Cancel(calls[call].tenant, random.chance(500).then_some(calls[call].server)),
            _ => What::Drain(random.index(3)),
        };
        Order {
            what,
            from_ms,
            to_ms: from_ms + random.between(1_000, 300_000),
            expires: random.chance(300),
            forgets_version: random.chance(200),
        }
    };
    (0..random.between(1, 3)).map(order).collect()
}

fn manners(theme: Theme, random: &Random) -> Manners {
    if theme == Theme::Freezes {
        return Manners { answers: 1, refuses_connection: 3, runs_then_drops: 1, ..Manners::default() };
    }
    if theme.has_limits() {
        return Manners {
            answers: 12,
            runs_then_drops: 4,
            refuses_connection: 1,
            hangs: 2,
            asks_for_pause: 1,
            makes_task: if random.chance(300) { 8 } else { 0 },
            ..Manners::default()
        };
    }
    if theme == Theme::Switches && random.chance(500) {
        return Manners { answers: 2, runs_then_drops: 1, drops_late: 16, hangs: 1, ..Manners::default() };
    }
    let some = |most: u64| if random.chance(400) { random.below(most) } else { 0 };
    Manners {
        answers: 10,
        tool_error: some(2),
        runs_then_drops: some(8),
        drops_late: 0,
        drops_unrun: some(4),
        refuses_connection: some(8),
        asks_for_pause: some(6),
        refuses_request: some(2),
        hangs: some(4),
        makes_task: if theme == Theme::Tasks { 20 } else { some(4) },
    }
}

fn faults(theme: Theme, random: &Random) -> Faults {
    match theme {
        Theme::Calm => return Faults::default(),
        Theme::Freezes => return Faults { freeze: 60, ..Faults::default() },
        Theme::Limits | Theme::Adaptive if random.chance(400) => return Faults::default(),
        Theme::Limits | Theme::Adaptive => {
            let (death, freeze, drain) = (random.below(10), random.below(40), random.below(3));
            let (request_lost, answer_lost) = (random.below(30), random.below(30));
            return Faults { death, freeze, drain, request_lost, answer_lost, ..Faults::default() };
        }
        Theme::Switches if random.chance(500) => return Faults::default(),
        Theme::Switches => {
            let (death, freeze, drain) = (random.below(10), random.below(8), random.below(60));
            return Faults { death, freeze, drain, ..Faults::default() };
        }
        Theme::Claimless if random.chance(300) => return Faults::default(),
        Theme::Schedule if random.chance(400) => return Faults::default(),
        Theme::Faults | Theme::Tasks | Theme::Supersede | Theme::Claimless | Theme::Schedule => {}
    }
    let some = |most: u64| if random.chance(500) { random.below(most) } else { 0 };
    let from_ms = random.below(120_000);
    Faults {
        death: some(25),
        freeze: some(15),
        drain: some(8),
        request_lost: some(60),
        answer_lost: some(60),
        outage_ms: random.chance(150).then(|| (from_ms, from_ms + random.between(5_000, 90_000))),
    }
}
