//! Makes the summary of all worker rows where this worker holds the lease, and reads the summary where it does not.
//!
//! The lease lasts for three beats. A worker that finds it over takes it by a conditional write before it reads any row, so that the death
//! of the holder makes one worker read them and not all. A lease that lies further ahead was written by a clock that is wrong: it is over once it
//! was not renewed for as long as a lease lasts.
//!
//! The holder also records which settings of operators have ended by themselves. Each such record has one key, so that the next holder, which
//! does not know what was recorded, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::Mutex;
use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::rollups::ToolRollup;
use toolfleet_core::control::Control;
use toolfleet_core::fairness::TenantUse;
use toolfleet_core::fleet::{
    FleetSummary, LARGE_FLEET_BEAT_MS, LostMinutes, MISSED_BEATS, Minute, Rollup, Runnable, WorkerRow,
};
use toolfleet_core::ids::{CallId, Nonce};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use super::Service;
use super::intake::is_queue_paused;
use crate::context::WorkerContext;
use crate::gate::{Live, configured_limits};
use crate::shutdown::Shutdown;

/// The row of a worker that has exited or died is removed after so long, in milliseconds.
const GONE_KEPT_MS: u64 = 10 * 60 * 1000;
/// The rollups of an hour are added up so many minutes after its end: a worker that could not write its last rollups has given them up by then.
const COMPACT_AFTER_MINUTES: i64 = 75;
/// How long the queues may take to tell how many messages they hold.
const DEPTH_TIME_OUT: Duration = Duration::from_secs(2);
/// How often the queues of a fleet that receives nothing are looked at: its workers wait for messages, and receive the first that comes.
const IDLE_LOOK_MS: u64 = 60_000;
/// The most ends of settings that one beat records: the lease must not wait for those of days that a new holder finds.
const MOST_ENDS: usize = 100;
/// How many hours back it is checked whether their rollups are added up: a fleet may have no worker over a long weekend. The rollups of minutes
/// are kept for longer.
const COMPACT_HOURS: i64 = 7 * 24;
/// How long it is known what was written of dead processes, in minutes.
const FLAGGED_MINUTES: i64 = 24 * 60;

/// The service that keeps the fleet's summary.
pub struct Aggregator {
    context: Arc<WorkerContext>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The worker holds the lease.
    leads: bool,
    failing: bool,
    /// What was written of the dead processes; none where it was not read since this worker has the lease.
    flagged: Option<BTreeMap<Nonce, LostMinutes>>,
    /// The time in each worker's row, and since when it was not renewed by this worker's clock: clocks differ, and a wrong one must not
    /// bury a fleet.
    seen: BTreeMap<Nonce, (Timestamp, Timestamp)>,
    /// How many messages were visible when the queues were last looked at.
    seen_visible: Option<(Timestamp, u64)>,
    /// The hour up to which it was checked that rollups are added up.
    compacted: Option<Minute>,
    /// Another worker's lease, and since when it was not renewed.
    lease: Option<(Timestamp, Timestamp)>,
    /// The records of settings that have ended, which are stored.
    recorded: BTreeSet<CallId>,
}

impl State {
    /// Notes since when each row was not renewed. One that is met first counts from now on, unless it is so old that no clock is so wrong, or was not
    /// renewed since an earlier holder of the lease has seen its worker die.
    fn see(&mut self, rows: &mut [WorkerRow], now: Timestamp) {
        let before = std::mem::take(&mut self.seen);
        for row in rows {
            let since = match before.get(&row.boot) {
                Some((reported_at, since)) if *reported_at == row.reported_at => *since,
                Some(_) => now,
                None if now.ms_since(row.reported_at) > GONE_KEPT_MS || self.has_died(row) => row.reported_at,
                None => now,
            };
            row.seen_at = Some(since);
            self.seen.insert(row.boot.clone(), (row.reported_at, since));
        }
    }

    /// Whether the death of the row's worker is written, with this row as its last.
    fn has_died(&self, row: &WorkerRow) -> bool {
        self.flagged
            .as_ref()
            .and_then(|flagged| flagged.get(&row.boot))
            .is_some_and(|written| *written == lost(row))
    }
}

impl Aggregator {
    /// The aggregator of that worker.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        Self { context, state: Mutex::default() }
    }

    /// Makes the summary, or reads it. Returns whether this worker holds the lease.
    pub async fn beat(&self) -> bool {
        let mut state = self.state.lock().await;
        match self.look(&mut state).await {
            Ok(()) => state.failing = false,
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::error!(%error, code = "summary_failed", "the fleet's summary cannot be read or written; calls are not affected");
            }
            Err(_) => {}
        }
        state.leads
    }

    /// Gives the lease back, so that another worker takes it at its next beat.
    pub async fn resign(&self) {
        let mut state = self.state.lock().await;
        if std::mem::take(&mut state.leads)
            && let Err(error) = self.context.fleet.resign_summary(&self.context.activity.boot).await
        {
            tracing::warn!(%error, code = "summary_failed", "the lease of the fleet's summary ends by itself");
        }
    }

    async fn look(&self, state: &mut State) -> Result<(), AwsError> {
        let (context, now) = (&self.context, self.context.now());
        let mut abandoned = None;
        if !state.leads {
            let (summary, lease_until) = context.fleet.summary().await?;
            if let Some(summary) = summary {
                self.measure(&summary, now);
                self.take(summary);
            }
            abandoned = self.abandoned(state, lease_until, now);
            if abandoned.is_none() && lease_until.is_some_and(|until| now <= until) {
                return Ok(());
            }
        }
        let until = now.plus_ms(context.fleet_view.beat_ms(now).saturating_mul(MISSED_BEATS));
        let boot = &context.activity.boot;
        state.leads = match abandoned {
            Some(abandoned) => context.fleet.take_abandoned_summary(boot, abandoned, until).await?,
            None => context.fleet.lease_summary(boot, now, until).await?,
        };
        if !state.leads {
            state.flagged = None;
            return Ok(());
        }
        let mut rows = context.fleet.worker_rows().await?;
        self.read_flagged(state, now).await?;
        state.see(&mut rows, now);
        let mut summary = FleetSummary::of(&rows, now, context.worker.clone());
        let control = context.gate.control().current();
        summary.runnable = self.runnable(state, &summary, control.as_deref(), now).await;
        let live = Live::new(control.as_deref(), context.gate.control().version(), now);
        summary.configured(configured_limits(&context.catalog.current(), live));
        summary.measured = context.meters.has_lines();
        state.leads = context.fleet.put_summary(&summary, boot, until).await?;
        if !state.leads {
            // Another worker has the lease, and does the rest.
            return Ok(());
        }
        context.meters.fleet(&summary);
        self.take(summary);
        self.bury(state, &rows, now).await?;
        self.record_ends(state, now).await?;
        self.compact(state, now).await
    }

    /// Writes the lines of a new summary whose maker has none. Several workers may do so: alarms look at averages and maxima.
    fn measure(&self, summary: &FleetSummary, now: Timestamp) {
        let is_new = self.context.fleet_view.last().is_none_or(|last| last.at != summary.at);
        if is_new && !summary.measured && !summary.is_stale(now) {
            self.context.meters.fleet(summary);
        }
    }

    /// The lease of another worker, if it was not renewed for longer than a lease lasts.
    fn abandoned(&self, state: &mut State, until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let until = until?;
        if state.lease.is_none_or(|(seen, _)| seen != until) {
            state.lease = Some((until, now));
        }
        let (_, since) = state.lease?;
        let longest_ms =
            LARGE_FLEET_BEAT_MS.saturating_mul(MISSED_BEATS).saturating_add(self.context.limits.skew_ms());
        (now.ms_since(since) > longest_ms).then_some(until)
    }

    /// Records the settings that have ended by themselves. A clock that is ahead records none that an operator may still change.
    async fn record_ends(&self, state: &mut State, now: Timestamp) -> Result<(), AwsError> {
        let context = &self.context;
        let known = Timestamp::from_ms(now.as_ms().saturating_sub_unsigned(context.limits.skew_ms()));
        let ended = context.gate.control().ended();
        let records: Vec<_> = ended.iter().filter_map(|entry| entry.end_record(known)).collect();
        state.recorded.retain(|id| records.iter().any(|record| record.call_id == *id));
        let missing = records.into_iter().filter(|record| !state.recorded.contains(&record.call_id));
        let missing: Vec<_> = missing.take(MOST_ENDS).collect();
        for record in missing {
            context.history.insert(&record, record.at.plus_ms(RETENTION_MS)).await?;
            state.recorded.insert(record.call_id);
        }
        Ok(())
    }

    /// The work that runs or could run; none where a queue does not answer. The summary and its lease do not wait for that.
    async fn runnable(
        &self,
        state: &mut State,
        summary: &FleetSummary,
        control: Option<&Control>,
        now: Timestamp,
    ) -> Option<Runnable> {
        let context = &self.context;
        let before = context.fleet_view.last().and_then(|summary| summary.runnable);
        let wait_ms = u64::try_from(context.limits.scale_wait.as_millis()).unwrap_or(u64::MAX);
        let lately = state.seen_visible.filter(|(at, _)| now.ms_since(*at) < IDLE_LOOK_MS);
        if let Some((_, visible)) = lately.filter(|_| summary.receives_nothing()) {
            return Some(summary.work(visible, before.as_ref(), wait_ms));
        }
        let is_paused = |priority| control.is_some_and(|control| is_queue_paused(control, priority, now));
        let counted = context.queues.all().filter(|(priority, _)| !is_paused(*priority));
        let depths = try_join_all(counted.map(|(_, queue)| queue.depth()));
        let depths = tokio::time::timeout(DEPTH_TIME_OUT, depths).await.ok()?.ok()?;
        let visible = depths.iter().fold(0_u64, |sum, depth| sum.saturating_add(depth.visible));
        state.seen_visible = Some((now, visible));
        Some(summary.work(visible, before.as_ref(), wait_ms))
    }

    fn take(&self, summary: FleetSummary) {
        // The reserve is kept free: a fleet whose other slots are all taken is full.
        let eighth = summary.workers.slots / 8;
        let capacity_slot_ms = summary.workers.slots.saturating_sub(eighth).saturating_mul(60_000);
        let slot_ms = summary.slot_ms_a_minute.clone();
        if !summary.is_stale(self.context.now()) {
            self.context.limiter.learn_workers(summary.workers.alive);
            self.context.gate.shares().take_fleet_use(TenantUse { slot_ms, capacity_slot_ms });
        }
        self.context.fleet_view.take(summary);
    }

    /// Reads what earlier holders of the lease have written of dead processes, once.
    async fn read_flagged(&self, state: &mut State, now: Timestamp) -> Result<(), AwsError> {
        if state.flagged.is_none() {
            let last = Minute::of(now);
            let lost = self.context.fleet.minutes_lost_by_death(last.plus(-FLAGGED_MINUTES), last).await?;
            state.flagged = Some(lost.into_iter().map(|lost| (lost.boot.clone(), lost)).collect());
        }
        Ok(())
    }

    /// Writes which minutes dead workers lost, and removes rows of workers that are long gone.
    async fn bury(&self, state: &mut State, rows: &[WorkerRow], now: Timestamp) -> Result<(), AwsError> {
        let fleet = &self.context.fleet;
        let first = Minute::of(now).plus(-FLAGGED_MINUTES);
        let flagged = state.flagged.get_or_insert_default();
        // One that was frozen, or that could not reach the table, writes its rollups after all. It may still die later.
        for row in rows.iter().filter(|row| row.is_alive(now)) {
            if let Some(lost) = flagged.get(&row.boot) {
                fleet.remove_lost_minutes(lost).await?;
                flagged.remove(&row.boot);
            }
        }
        for row in rows.iter().filter(|row| row.is_dead(now)) {
            if !flagged.contains_key(&row.boot) {
                let lost = lost(row);
                fleet.put_lost_minutes(&lost).await?;
                flagged.insert(row.boot.clone(), lost);
                tracing::warn!(worker = %row.id, last_row = %row.reported_at, code = "worker_lost", "a worker has died: it did not renew its row for three beats");
            }
        }
        for row in rows.iter().filter(|row| !row.is_alive(now)) {
            if row.age_ms(now) > GONE_KEPT_MS {
                fleet.remove_worker_row(row).await?;
            }
        }
        // One without a row may still write it again.
        flagged.retain(|boot, lost| lost.to >= first || rows.iter().any(|row| row.boot == *boot));
        Ok(())
    }

    /// Adds up the rollups of hours that have ended, once for each hour. Doing it again writes the same.
    async fn compact(&self, state: &mut State, now: Timestamp) -> Result<(), AwsError> {
        let last = Minute::of(now).plus(-COMPACT_AFTER_MINUTES - 60).hour();
        if state.compacted.is_some_and(|hour| hour >= last) {
            return Ok(());
        }
        let first = state.compacted.map_or_else(|| last.plus(-COMPACT_HOURS * 60), |hour| hour.plus(60));
        let done: BTreeSet<_> = self.context.fleet.compacted(first, last).await?.into_iter().collect();
        let mut hour = first;
        while hour <= last {
            if !done.contains(&hour) {
                self.compact_hour(hour).await?;
                // One at a beat: the summary and the lease must not wait.
                state.compacted = Some(hour);
                return Ok(());
            }
            hour = hour.plus(60);
        }
        state.compacted = Some(last);
        Ok(())
    }

    async fn compact_hour(&self, hour: Minute) -> Result<(), AwsError> {
        let fleet = &self.context.fleet;
        let mut sums = Vec::new();
        for tool in fleet.rolled_up_tools(hour).await? {
            let mut sum = Rollup::default();
            for (_, rollup) in fleet.rollups(&tool.tool, hour, hour.plus(59)).await? {
                sum.merge(&rollup);
            }
            if !sum.calls.is_empty() {
                sums.push(ToolRollup { tool: tool.tool, server: tool.server, minute: hour, rollup: sum });
            }
        }
        fleet.put_rollup_hours(&sums).await?;
        fleet.put_compacted(hour).await
    }
}

impl Service for Aggregator {
    fn name(&self) -> &'static str {
        "aggregator"
    }

    async fn run(&self, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            self.beat().await;
            let pause = Duration::from_millis(self.context.fleet_view.beat_ms(self.context.now()));
            tokio::select! {
                () = shutdown.draining() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.resign().await;
    }
}

/// What a dead worker lost: the minutes from its first call without a rollup until the beat that it missed.
fn lost(row: &WorkerRow) -> LostMinutes {
    let (from, calls) = row.pending.unwrap_or((Minute::of(row.reported_at), 0));
    LostMinutes {
        worker: row.id.clone(),
        boot: row.boot.clone(),
        from,
        to: Minute::of(row.reported_at.plus_ms(row.beat_ms)).max(from),
        calls,
    }
}
