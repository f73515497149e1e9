//! Writes the worker's row at each beat, and the rollups of the minutes that have ended.
//!
//! It goes on while the worker drains. The last row and the last rollups are written after all calls have ended, right before the exit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::rollups::{RolledUpTool, ToolRollup};
use toolfleet_core::digest::Digest;
use toolfleet_core::fleet::{LostMinutes, Minute, QueueSeen, WorkerRow, busiest, keep_busiest_limits};
use toolfleet_core::time::Timestamp;

use super::Service;
use crate::activity::{DueRollup, GivenUp, Places};
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;

/// Rates are those of about so long.
const WINDOW: Duration = Duration::from_secs(60);
/// The most servers, tenants of a server that differ, tools, tenants and limits in a row.
const MOST_SERVERS: usize = 50;
const MOST_DIFFERING: usize = 20;
const MOST_TOOLS: usize = 50;
const MOST_TENANTS: usize = 100;
const MOST_LIMITS: usize = 30;
/// The rollups of a minute are written 5 to 55 seconds after it: not all workers write at once, and late calls are in them.
const EARLIEST_ROLLUP_MS: u32 = 5_000;
const ROLLUP_SPREAD_MS: u32 = 50_000;
/// Rollups that cannot be written for so many minutes are given up.
const GIVE_UP_MINUTES: i64 = 60;
/// How long the last row and the last rollups may take.
const LAST_REPORT: Duration = Duration::from_secs(5);

/// The service that reports what the worker does. Clones are one service.
#[derive(Clone)]
pub struct Reporter {
    context: Arc<WorkerContext>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The last row is written.
    ended: bool,
    /// The last report failed; only the first of several failures is logged.
    failing: bool,
    /// The counts at earlier beats, the oldest first.
    seen: VecDeque<(Instant, Totals)>,
    places: Places,
    /// The tools of which is written that they have rollups on that day.
    registered: (String, Vec<RolledUpTool>),
    /// The minutes that were given up, until that is written.
    lost: Option<LostMinutes>,
}

/// Counts since the start.
#[derive(Debug, Clone, Default)]
struct Totals {
    ended: u64,
    held: BTreeMap<&'static str, u64>,
    received: BTreeMap<String, u64>,
}

impl Reporter {
    /// The reporter of that worker.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        Self { context, state: Arc::default() }
    }

    /// Writes the rollups that are due, then the row.
    pub async fn beat(&self) {
        let mut state = self.state.lock().await;
        if state.ended {
            return;
        }
        let now = self.context.now();
        let reported = self.report(&mut state, now, false).await;
        self.log(&mut state, reported);
    }

    /// Writes all rollups and the last row; beats after it write nothing.
    pub async fn report_last(&self) {
        let mut state = self.state.lock().await;
        state.ended = true;
        let now = self.context.now();
        let report = self.report(&mut state, now, true);
        let reported = tokio::time::timeout(LAST_REPORT, report).await;
        let reported = reported.unwrap_or_else(|_| Err(AwsError::passing("DynamoDB did not answer in time")));
        self.log(&mut state, reported);
    }

    /// Writes all rollups and the row, as the last of a worker that may be frozen now or ended. The next report takes that back.
    pub async fn rest(&self) {
        let mut state = self.state.lock().await;
        let now = self.context.now();
        let reported = self.report(&mut state, now, true).await;
        self.log(&mut state, reported);
    }

    async fn report(&self, state: &mut State, now: Timestamp, last: bool) -> Result<(), AwsError> {
        let context = &self.context;
        let until = if last { Minute::of(now).plus(2) } else { self.rollups_until(now) };
        let rolled_up = self.roll_up(state, now, until).await;
        let row = self.row(state, now, last && rolled_up.is_ok());
        context.fleet.put_worker_row(&row).await?;
        rolled_up
    }

    /// The first minute whose rollups are not due yet.
    fn rollups_until(&self, now: Timestamp) -> Minute {
        let jitter = Digest::of_text(self.context.activity.boot.as_str()).bucket(ROLLUP_SPREAD_MS);
        let delay_ms = EARLIEST_ROLLUP_MS.saturating_add(jitter);
        Minute::of(Timestamp::from_ms(now.as_ms().saturating_sub(i64::from(delay_ms))))
    }

    async fn roll_up(&self, state: &mut State, now: Timestamp, until: Minute) -> Result<(), AwsError> {
        let Self { context, .. } = self;
        let tools = &context.activity.tools;
        tools.forget(now);
        if tools.pending().is_some_and(|(first, _)| first < until) {
            self.give_up(state, now);
        }
        if let Some(lost) = &state.lost {
            context.fleet.put_given_up_minutes(lost).await?;
            state.lost = None;
        }
        if tools.pending().is_none_or(|(first, _)| first >= until) {
            return Ok(());
        }
        let due = tools.due(&mut state.places, until);
        self.register(state, &due.rollups).await?;
        let rollups: Vec<_> = due.rollups.iter().map(stored).collect();
        context.fleet.put_rollups(&context.activity.boot, &rollups).await?;
        tools.written(&due);
        Ok(())
    }

    /// Forgets the minutes that could not be written for an hour: `stats` says that they are lost.
    fn give_up(&self, state: &mut State, now: Timestamp) {
        let activity = &self.context.activity;
        let Some(GivenUp { from, to, calls }) = activity.tools.give_up(now, GIVE_UP_MINUTES) else { return };
        tracing::error!(
            calls,
            code = "report_failed",
            "rollups could not be written for an hour and are given up"
        );
        let before = state.lost.as_ref().map_or((from, 0), |lost| (lost.from, lost.calls));
        let (worker, boot) = (self.context.worker.clone(), activity.boot.clone());
        let (from, calls) = (before.0.min(from), before.1.saturating_add(calls));
        state.lost = Some(LostMinutes { worker, boot, from, to, calls });
    }

    /// Writes which tools have rollups, once a day for each: before the rollups, so that a reader finds these.
    async fn register(&self, state: &mut State, rollups: &[DueRollup]) -> Result<(), AwsError> {
        let mut days: BTreeMap<String, (Minute, Vec<RolledUpTool>)> = BTreeMap::new();
        for one in rollups {
            let tool = RolledUpTool { tool: one.tool.clone(), server: one.server.clone() };
            let day = one.minute.day();
            if state.registered.0 == day && state.registered.1.contains(&tool) {
                continue;
            }
            let (_, tools) = days.entry(day).or_insert_with(|| (one.minute, Vec::new()));
            if !tools.contains(&tool) {
                tools.push(tool);
            }
        }
        for (day, (minute, tools)) in days {
            self.context.fleet.put_rolled_up_tools(minute, &tools).await?;
            if state.registered.0 != day {
                state.registered = (day, Vec::new());
            }
            state.registered.1.extend(tools);
        }
        Ok(())
    }

    fn row(&self, state: &mut State, now: Timestamp, ended: bool) -> WorkerRow {
        let Self { context, .. } = self;
        let activity = &context.activity;
        let queues = activity.take_queues();
        let totals = Totals {
            ended: activity.calls().total(),
            held: activity.held(),
            received: queues.iter().map(|(name, count)| (name.clone(), count.received)).collect(),
        };
        let instant = Instant::now();
        let (before, window_ms) = state.before(instant, totals.clone(), activity.age_ms(now));
        let mut servers = activity.servers.seen(now);
        for (server, not_open) in context.gate.not_open(now, MOST_DIFFERING) {
            let seen = servers.entry(server).or_default();
            seen.breaker = not_open.breaker;
            seen.last_failure = not_open.last_failure;
            seen.tenants = not_open.tenants;
        }
        busiest(&mut servers, MOST_SERVERS, |seen| {
            (seen.breaker, seen.failures, seen.in_flight, seen.attempts)
        });
        let mut tools = activity.tools.seen(now);
        busiest(&mut tools, MOST_TOOLS, |seen| (seen.failures, seen.calls));
        let mut limits = activity.limits.seen(now);
        keep_busiest_limits(&mut limits, MOST_LIMITS);
        let (mut slot_ms, others_ms) = activity.tenants.slot_ms(instant);
        let rest = busiest(&mut slot_ms, MOST_TENANTS, |ms| *ms);
        WorkerRow {
            id: context.worker.clone(),
            boot: activity.boot.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: activity.started_at,
            reported_at: now,
            beat_ms: context.fleet_view.beat_ms(now),
            slots: context.limits.slots.saturating_add(context.limits.reserve().saturating_mul(2)),
            busy: activity.busy(),
            in_hand: activity.in_hand(),
            lacking_slot: activity.lacking_slot(),
            draining: context.shutdown.is_draining(),
            not_receiving: !context.is_receiving(),
            control: context.gate.control().seen(now),
            clock_off_ms: context.clock_off_by_ms(),
            ended,
            calls: activity.calls(),
            pending: state.pending(activity.tools.pending()),
            window_ms,
            ended_calls: totals.ended.saturating_sub(before.ended),
            held: differences(&totals.held, &before.held),
            slot_ms,
            other_slot_ms: rest.values().fold(others_ms, |sum, ms| sum.saturating_add(*ms)),
            queues: queues
                .into_iter()
                .map(|(name, count)| {
                    let earlier = before.received.get(&name).copied().unwrap_or(0);
                    let received = count.received.saturating_sub(earlier);
                    (name, QueueSeen { received, oldest_ms: count.oldest_ms })
                })
                .collect(),
            servers,
            tools,
            limits,
            seen_at: None,
        }
    }

    fn log(&self, state: &mut State, reported: Result<(), AwsError>) {
        match reported {
            Ok(()) => state.failing = false,
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::error!(%error, code = "report_failed", "the worker's row or its rollups cannot be written; calls are not affected");
            }
            Err(_) => {}
        }
    }
}

impl State {
    /// What would be lost if the worker died now: the calls without a rollup, and those given up of which that is not written yet.
    fn pending(&self, of_tools: Option<(Minute, u64)>) -> Option<(Minute, u64)> {
        let lost = self.lost.as_ref().map(|lost| (lost.from, lost.calls));
        match (lost, of_tools) {
            (Some((from, lost)), Some((first, calls))) => Some((from.min(first), lost.saturating_add(calls))),
            (lost, of_tools) => lost.or(of_tools),
        }
    }

    /// The counts about a minute ago, and how long that is ago, in milliseconds. Keeps `totals` for later beats.
    fn before(&mut self, now: Instant, totals: Totals, age_ms: u64) -> (Totals, u64) {
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let since_ms =
            |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let before = self.seen.front().map(|(at, totals)| (totals.clone(), since_ms(*at)));
        self.seen.push_back((now, totals));
        // At first there are the counts since the start.
        let (totals, ms) = before.unwrap_or((Totals::default(), age_ms));
        (totals, ms.max(1_000))
    }
}

impl Service for Reporter {
    fn name(&self) -> &'static str {
        "reporter"
    }

    /// Never returns: the supervisor ends it when all other services have ended.
    async fn run(&self, _: &Shutdown) {
        loop {
            self.beat().await;
            tokio::time::sleep(Duration::from_millis(self.context.fleet_view.beat_ms(self.context.now())))
                .await;
        }
    }
}

fn stored(due: &DueRollup) -> ToolRollup {
    let DueRollup { tool, server, minute, rollup } = due.clone();
    ToolRollup { tool, server, minute, rollup }
}

fn differences(
    now: &BTreeMap<&'static str, u64>,
    before: &BTreeMap<&'static str, u64>,
) -> BTreeMap<String, u64> {
    let since = |(reason, count): (&&'static str, &u64)| {
        ((*reason).to_owned(), count.saturating_sub(before.get(reason).copied().unwrap_or(0)))
    };
    now.iter().map(since).filter(|(_, count)| *count > 0).collect()
}
