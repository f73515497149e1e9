//! Drives a chaos run: injects the faults of the plan at their times, ends them, and waits until every queue is empty.
//!
//! **Invariant:** every fault that was begun is ended, also after the last call was sent.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use toolfleet_core::control::{Control, ControlEntry, LimitChange as Change};
use toolfleet_core::limits::{LimitKey, Positive, RateLimit};
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;

use super::changes::{LimitChange, Unread};
use super::fault_proxy::{REFUSED, Rates};
use super::operators::{self, AGAIN, BY, Operators, SetEntry, WHY};
use super::plan::{Event, Fault, Limits, MOST_LONGER, Server};
use super::rig::Rig;
use super::writes::Thaw;
use crate::evidence::messages_left;
use crate::flow::server::micros;
use crate::run_args::CLOCK_SKEW_MS;
use crate::worker::Exited;

/// The interval of looks at workers and queues.
const LOOK: Duration = Duration::from_millis(50);
/// How long the queues must stay empty: a message may be on its way between two of them.
const EMPTY_FOR: Duration = Duration::from_millis(1_500);
/// How many of the last lines of a worker's log are shown.
const LAST_LINES: usize = 5;
/// How long workers may take to exit at the end.
const EXIT: Duration = Duration::from_secs(30);
/// How much longer than a restart of the endpoints it takes until workers read again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// How much longer than two leases the faults of a run can hold up a message.
const REDELIVERY: Duration = Duration::from_secs(12);

/// What is to be done at a time.
#[derive(Debug, Clone)]
enum Action {
    Begin(Event),
    StartWorker,
    /// SIGCONT to that worker.
    Continue(String),
    StartEndpoints,
    EndOf(Fault),
    /// Ends what an operator has set under that key.
    EndEntry(String),
    /// Tells that worker to leave.
    Drain(String),
    /// Sets a limit, or ends its change.
    Limit(LimitStep),
}

/// A step of a live change of a limit.
#[derive(Debug, Clone, Copy)]
struct LimitStep {
    fault: Fault,
    /// The value; none for the catalog's.
    to: Option<u32>,
    /// When it was tried first, in microseconds on the servers' clock.
    asked_us: Option<u64>,
}

/// The faults of a run.
pub(crate) struct Faults {
    start: Instant,
    lease_ms: u64,
    actions: BTreeMap<(Instant, u64), Action>,
    planned: u64,
    /// The faults that last now and change the rates of the proxies.
    active: HashSet<Fault>,
    /// How many connections the bucket had refused when it went away, and when it comes back in any case.
    bucket: (u64, Instant),
    limits: Limits,
    /// The changes of the rated and of the narrow server's limit, and the periods in which workers may not have read them.
    pub(crate) rate: Vec<LimitChange>,
    pub(crate) concurrency: Vec<LimitChange>,
    pub(crate) unread: Vec<Unread>,
    pub(crate) operators: Operators,
    /// Workers that the fleet table told to leave.
    let_go: HashSet<String>,
    /// Workers that exited with 0 after SIGTERM, and as the fleet table said.
    pub(crate) left: u64,
    /// See `left`.
    pub(crate) left_by_table: u64,
    /// Workers that a message has killed.
    pub(crate) killed_by_message: u64,
    /// How often each kind was injected.
    pub(crate) injected: BTreeMap<Fault, u64>,
    /// Workers that were told to leave and exited with another code than 0.
    pub(crate) bad_exits: Vec<String>,
    /// Workers that ended without a cause, with their status and what they had logged last.
    pub(crate) own_ends: Vec<String>,
}

impl Faults {
    pub(crate) fn new(events: &[Event], limits: Limits, lease_ms: u32, start: Instant) -> Self {
        let mut faults = Self {
            start,
            lease_ms: u64::from(lease_ms),
            actions: BTreeMap::new(),
            planned: 0,
            active: HashSet::new(),
            bucket: (0, start),
            limits,
            rate: Vec::new(),
            concurrency: Vec::new(),
            unread: Vec::new(),
            operators: Operators::default(),
            let_go: HashSet::new(),
            left: 0,
            left_by_table: 0,
            killed_by_message: 0,
            injected: events.iter().map(|event| (event.fault, 0)).collect(),
            bad_exits: Vec::new(),
            own_ends: Vec::new(),
        };
        for event in events {
            faults.plan(start + event.at, Action::Begin(*event));
        }
        faults
    }

    fn plan(&mut self, at: Instant, action: Action) {
        self.planned += 1;
        self.actions.insert((at, self.planned), action);
    }

    /// Injects all faults, and returns when the last of them has ended.
    pub(crate) async fn inject(&mut self, rig: &mut Rig) -> anyhow::Result<()> {
        rig.proxies.sqs.set_rates(queue_rates(&self.active));
        rig.proxies.dynamodb.set_rates(table_rates(&self.active));
        while let Some(due) = self.actions.first_key_value().map(|((at, _), _)| *at) {
            while Instant::now() < due {
                self.look_after_workers(rig)?;
                tokio::time::sleep_until(due.min(Instant::now() + LOOK)).await;
            }
            if let Some((_, action)) = self.actions.pop_first() {
                self.act(action, rig).await?;
            }
        }
        // Now everything settles.
        rig.proxies.sqs.set_rates(Rates::default());
        rig.proxies.dynamodb.set_rates(Rates::default());
        Ok(())
    }

    /// Notes drained workers that have exited, kills those that have received a message which kills them, and replaces them and those that ended by
    /// themselves.
    pub(crate) fn look_after_workers(&mut self, rig: &mut Rig) -> anyhow::Result<()> {
        for exited in rig.workers.exited()? {
            let is_let_go = self.let_go.contains(&exited.name);
            if !exited.status.success() {
                self.bad_exits.push(end_of(&exited, "was told to leave and exited", rig));
            } else if is_let_go {
                self.left_by_table += 1;
            } else {
                self.left += 1;
            }
        }
        for worker in rig.proxies.sqs.deadly().take_struck() {
            if rig.workers.kill_named(&worker)? {
                rig.lost(worker);
                rig.start_worker()?;
                self.killed_by_message += 1;
            }
        }
        for ended in rig.workers.ended_by_themselves()? {
            self.own_ends.push(end_of(&ended, "ended by itself", rig));
            rig.lost(ended.name);
            rig.start_worker()?;
        }
        Ok(())
    }

    async fn act(&mut self, action: Action, rig: &mut Rig) -> anyhow::Result<()> {
        match action {
            Action::Begin(event) => return self.begin(event, rig).await,
            Action::StartWorker => rig.start_worker()?,
            Action::Continue(worker) => {
                let at_us = rig.servers.ledger().now_us();
                rig.workers.continue_one(&worker)?;
                rig.thaws.push(Thaw { worker, at_us });
            }
            Action::StartEndpoints => rig.bed.start_endpoints_again()?,
            Action::EndOf(Fault::BucketAway) if self.has_met_nobody(rig) => {
                self.plan(Instant::now() + LOOK, Action::EndOf(Fault::BucketAway));
            }
            Action::EndOf(fault) => {
                self.active.remove(&fault);
                self.apply(rig);
            }
            Action::EndEntry(key) => {
                if !self.operators.end(&key, rig).await {
                    self.plan(Instant::now() + AGAIN, Action::EndEntry(key));
                }
            }
            Action::Drain(worker) => {
                if !operators::drain(&worker, rig).await? {
                    self.plan(Instant::now() + AGAIN, Action::Drain(worker));
                }
            }
            Action::Limit(step) => self.set_limit(step, rig).await?,
        }
        Ok(())
    }

    async fn begin(&mut self, event: Event, rig: &mut Rig) -> anyhow::Result<()> {
        let Event { fault, length, pick, .. } = event;
        let now = Instant::now();
        match fault {
            Fault::Kill => {
                self.keep_another(rig)?;
                let name = rig.workers.kill_at(pick % rig.workers.count().max(1))?;
                rig.lost(name);
                self.plan(now + length, Action::StartWorker);
            }
            Fault::Term => {
                self.keep_another(rig)?;
                rig.workers.drain_one()?;
                rig.start_worker()?;
            }
            Fault::Drain => {
                self.keep_another(rig)?;
                let name = rig.workers.let_go_one()?;
                self.let_go.insert(name.clone());
                rig.start_worker()?;
                self.plan(now, Action::Drain(name));
            }
            Fault::Freeze => {
                self.keep_another(rig)?;
                let name = rig.workers.stop_one()?;
                rig.lost(name.clone());
                let frozen_for = Duration::from_millis(self.lease_ms + CLOCK_SKEW_MS) + length;
                self.plan(now + frozen_for, Action::Continue(name));
            }
            Fault::Endpoints => {
                self.cannot_read(length + READ_AGAIN, rig);
                rig.bed.kill_endpoints()?;
                self.plan(now + length, Action::StartEndpoints);
            }
            Fault::Throttled
            | Fault::Failing
            | Fault::AnswersLost
            | Fault::QueueFailing
            | Fault::BucketAway => {
                if fault == Fault::BucketAway {
                    self.bucket = (refused(rig), now + length + MOST_LONGER);
                }
                if matches!(fault, Fault::Failing | Fault::Throttled | Fault::AnswersLost) {
                    self.cannot_read(length, rig);
                }
                self.active.insert(fault);
                self.apply(rig);
                self.plan(now + length, Action::EndOf(fault));
            }
            Fault::SessionsLost => rig.servers.lose_sessions(),
            Fault::CatalogChanged => rig.change_catalog()?,
            Fault::RateChanged | Fault::ConcurrencyChanged => {
                let [first, second] = event.limits(self.catalog_limit(fault));
                for (after, to) in [(Duration::ZERO, Some(first)), (length / 2, Some(second)), (length, None)]
                {
                    self.plan(now + after, Action::Limit(LimitStep { fault, to, asked_us: None }));
                }
                // Each change counts when it is stored.
                return Ok(());
            }
            Fault::PauseServer
            | Fault::PauseTenant
            | Fault::Strike
            | Fault::CancelRule
            | Fault::WeightChanged => match self.operators.set(event, rig).await? {
                SetEntry::Not => {
                    // The endpoints are away: an operator tries again.
                    self.plan(now + AGAIN, Action::Begin(event));
                    return Ok(());
                }
                SetEntry::Alone => {}
                SetEntry::UntilEnded(key) => self.plan(now + length, Action::EndEntry(key)),
            },
        }
        *self.injected.entry(fault).or_default() += 1;
        Ok(())
    }

    /// Whether no worker has asked for the bucket since it went away, and there is time left.
    fn has_met_nobody(&self, rig: &Rig) -> bool {
        let (before, until) = self.bucket;
        refused(rig) == before && Instant::now() < until
    }

    /// Starts another worker where a fault would take the only one.
    fn keep_another(&mut self, rig: &mut Rig) -> anyhow::Result<()> {
        if rig.workers.count() < 2 { rig.start_worker() } else { Ok(()) }
    }

    fn apply(&self, rig: &Rig) {
        rig.proxies.sqs.set_rates(queue_rates(&self.active));
        rig.proxies.dynamodb.set_rates(table_rates(&self.active));
        rig.proxies.s3.set_away(self.active.contains(&Fault::BucketAway));
    }

    /// Sets a limit, or ends its change, and notes since when the value may be in effect.
    async fn set_limit(&mut self, mut step: LimitStep, rig: &Rig) -> anyhow::Result<()> {
        let now_us = || rig.servers.ledger().now_us();
        let asked_us = *step.asked_us.get_or_insert_with(now_us);
        let stored = set_limit(step, rig).await?;
        if !stored {
            // The endpoints are away: an operator tries again.
            let again = LimitStep { asked_us: Some(asked_us), ..step };
            self.plan(Instant::now() + AGAIN, Action::Limit(again));
            return Ok(());
        }
        let limit = step.to.unwrap_or_else(|| self.catalog_limit(step.fault));
        let is_rate = step.fault == Fault::RateChanged;
        let changes = if is_rate { &mut self.rate } else { &mut self.concurrency };
        changes.push(LimitChange { limit, asked_us, stored_us: now_us() });
        *self.injected.entry(step.fault).or_default() += 1;
        Ok(())
    }

    /// The catalog's value of the limit that the fault changes.
    fn catalog_limit(&self, fault: Fault) -> u32 {
        if fault == Fault::RateChanged { self.limits.rate } else { self.limits.concurrency }
    }

    /// Notes that workers may not read what operators set, for so long from now on.
    fn cannot_read(&mut self, length: Duration, rig: &Rig) {
        let now_us = rig.servers.ledger().now_us();
        self.unread.push((now_us, now_us + micros(length)));
    }

    /// Waits until the queues are empty for a while. What they hold, queue by queue, if they are not within that time.
    pub(crate) async fn settle(&mut self, rig: &mut Rig, most: Duration) -> anyhow::Result<Option<String>> {
        let until = Instant::now() + most;
        let mut empty_since = None;
        loop {
            self.look_after_workers(rig)?;
            let now = Instant::now();
            // Endpoints that were just restarted may not answer yet.
            match all_messages(rig).await {
                Ok((0, 0)) => {
                    if now - *empty_since.get_or_insert(now) >= EMPTY_FOR {
                        return Ok(None);
                    }
                }
                Ok(_) | Err(_) => empty_since = None,
            }
            if now >= until {
                return Ok(Some(rest(rig).await?));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends all workers by SIGTERM.
    pub(crate) async fn end_workers(&mut self, rig: &mut Rig) -> anyhow::Result<()> {
        rig.workers.drain_all()?;
        let until = Instant::now() + EXIT;
        while rig.workers.is_draining() && Instant::now() < until {
            self.look_after_workers(rig)?;
            tokio::time::sleep(LOOK).await;
        }
        if rig.workers.is_draining() {
            self.bad_exits
                .push(format!("a worker had not exited {} s after it was told to leave", EXIT.as_secs()));
        }
        rig.workers.kill_all();
        Ok(())
    }

    /// How long it takes at most until a message is delivered again and handled, whoever died with it: two leases, and the longest time in which
    /// the endpoints fail, or a worker is frozen or paused.
    pub(crate) const fn redelivered_within(&self) -> Duration {
        Duration::from_millis(2 * (self.lease_ms + CLOCK_SKEW_MS)).saturating_add(REDELIVERY)
    }

    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// How a worker ended, and what it had logged last.
fn end_of(ended: &Exited, how: &str, rig: &Rig) -> String {
    let Exited { name, status } = ended;
    let lines = rig.bed.folder.last_lines(name, LAST_LINES);
    format!("worker {name} {how} with {status}; it had logged last:\n  {lines}")
}

/// How many connections the bucket has refused.
fn refused(rig: &Rig) -> u64 {
    rig.proxies.s3.counts().get(REFUSED).copied().unwrap_or(0)
}

/// How many messages the queues of calls and the dead-letter queue hold, visible or not.
pub(crate) async fn all_messages(rig: &Rig) -> anyhow::Result<(u64, u64)> {
    let left = messages_left(&rig.client).await?;
    let dead = rig.client.queue().dead_letter_queue().await?.context("the queue has no dead-letter queue")?;
    let depth = dead.depth().await?;
    Ok((left, depth.visible + depth.in_flight + depth.delayed))
}

/// What each queue holds.
async fn rest(rig: &Rig) -> anyhow::Result<String> {
    let dead = rig.client.queue().dead_letter_queue().await?.context("the queue has no dead-letter queue")?;
    let calls = Priority::ALL.into_iter().filter_map(|priority| rig.client.queue_of(priority));
    let mut parts = Vec::new();
    for queue in calls.chain([&dead]) {
        let depth = queue.depth().await?;
        parts.push(format!(
            "{}: {} visible, {} in flight, {} delayed",
            queue.name(),
            depth.visible,
            depth.in_flight,
            depth.delayed
        ));
    }
    Ok(parts.join("; "))
}

/// Sets a limit, or ends its change; false if the tables cannot be reached.
async fn set_limit(step: LimitStep, rig: &Rig) -> anyhow::Result<bool> {
    let controls = rig.client.controls();
    let entry = limit_entry(step, (rig.bed.clock)())?;
    let stored = match step.to {
        Some(_) => controls.set(&entry).await.map(drop),
        None => controls.clear(&entry.key(), BY, WHY).await.map(drop),
    };
    if stored.is_err() {
        return Ok(false);
    }
    let Ok(control) = controls.current().await else { return Ok(false) };
    // Else the account would judge the run by limits that nobody has set.
    anyhow::ensure!(
        live_value(step.fault, &control) == step.to,
        "the tables have another limit than {step:?}"
    );
    Ok(true)
}

/// The entry of the control table that a step sets or clears.
fn limit_entry(step: LimitStep, since: Timestamp) -> anyhow::Result<ControlEntry> {
    let to = step.to.unwrap_or(1);
    let change = if step.fault == Fault::RateChanged {
        Change { rate: Some(RateLimit::new(to, 1)?), concurrency: None }
    } else {
        Change { rate: None, concurrency: Some(Positive::new(to).context("the limit is 0")?) }
    };
    let (limit, by, why) = (limit_name(step.fault), BY.to_owned(), WHY.to_owned());
    Ok(ControlEntry::Limit { limit, change, by, why, since, until: None })
}

/// The limit that the fault changes.
fn limit_name(fault: Fault) -> String {
    let server = if fault == Fault::RateChanged { Server::Rated } else { Server::Narrow };
    format!("server:{}", server.name())
}

/// The value that operators have set for the limit that the fault changes.
fn live_value(fault: Fault, control: &Control) -> Option<u32> {
    let key = LimitKey::named(&limit_name(fault)).ok()?;
    // These limits have no end.
    let live = control.limit(&key, Timestamp::from_ms(0));
    if fault == Fault::RateChanged {
        live.rate.map(|rate| rate.count())
    } else {
        live.concurrency.map(Positive::get)
    }
}

/// A few of a thousand requests fail at any time, many while a fault lasts.
fn table_rates(active: &HashSet<Fault>) -> Rates {
    let share = |fault, usual, while_it_lasts| if active.contains(&fault) { while_it_lasts } else { usual };
    Rates {
        failed: share(Fault::Failing, 1, 500),
        throttled: share(Fault::Throttled, 3, 300),
        expired: 0,
        lost: share(Fault::AnswersLost, 2, 150),
        redelivered: 0,
    }
}

fn queue_rates(active: &HashSet<Fault>) -> Rates {
    let fails = active.contains(&Fault::QueueFailing);
    Rates {
        failed: if fails { 300 } else { 1 },
        throttled: 0,
        expired: if fails { 100 } else { 2 },
        lost: if fails { 100 } else { 3 },
        redelivered: 25,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_end_of_a_change_clears_the_entry_that_it_set() {
        for (fault, other) in
            [(Fault::RateChanged, Fault::ConcurrencyChanged), (Fault::ConcurrencyChanged, Fault::RateChanged)]
        {
            let now = Timestamp::from_ms(1);
            let of = |fault, to| limit_entry(LimitStep { fault, to, asked_us: None }, now).unwrap();
            let mut table = HashMap::new();
            for entry in [of(fault, Some(4)), of(fault, Some(7)), of(other, Some(9))] {
                table.insert(entry.key(), entry);
            }
            let live = |table: &HashMap<String, ControlEntry>, fault| {
                live_value(fault, &Control::new(1, table.values().cloned(), now))
            };
            assert_eq!((live(&table, fault), live(&table, other)), (Some(7), Some(9)));
            assert!(table.remove(&of(fault, None).key()).is_some());
            assert_eq!((live(&table, fault), live(&table, other)), (None, Some(9)));
        }
    }
}
