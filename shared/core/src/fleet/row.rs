//! The row of one worker: what it is and what it does, written at each beat.
//!
//! Counts of "the last minutes" are those of [`WINDOW_MS`]. Rates and slot times are those of about the last minute; `window_ms` is its
//! length.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::limits::LimitSeen;
use super::omit::{is_false, is_zero};
use super::outcomes::OutcomeCounts;
use super::rollup::Minute;
use crate::ids::{Nonce, ServerId, Tenant, WorkerId};
use crate::time::Timestamp;

/// How often a worker writes its row, in milliseconds.
pub const BEAT_MS: u64 = 5_000;
/// The same in a large fleet.
pub const LARGE_FLEET_BEAT_MS: u64 = 10_000;
/// A fleet with more workers is a large one.
pub const LARGE_FLEET: u32 = 100;
/// A row that was not renewed for so many beats is that of a dead worker.
pub const MISSED_BEATS: u64 = 3;
/// What a worker knows of what operators set is never older than this, in milliseconds, while it can read it: so no call starts later than that
/// after a pause.
pub const SWITCHES_WITHIN_MS: u64 = 5_000;
/// The span of the counts of tools and servers, in milliseconds: this minute and the four before.
pub const WINDOW_MS: u64 = 300_000;

/// How often a worker writes its row in a fleet with that many workers, in milliseconds.
pub const fn beat_ms(workers: u32) -> u64 {
    if workers > LARGE_FLEET { LARGE_FLEET_BEAT_MS } else { BEAT_MS }
}

/// What one worker reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// Its process: a worker that starts again under its id has another one.
    pub boot: Nonce,
    /// The version of its program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it wrote this.
    pub reported_at: Timestamp,
    /// After how many milliseconds it writes the next one.
    pub beat_ms: u64,
    /// How many calls it may run at once.
    pub slots: u32,
    /// How many of its slots are taken.
    #[serde(default)]
    pub busy: u32,
    /// Deliveries in its hands, also those that have freed their slots.
    #[serde(default)]
    pub in_hand: u32,
    /// Messages that it sent back for the lack of a slot, and that are still delayed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lacking_slot: u64,
    /// Whether it takes no more calls.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// Whether it receives nothing until its long calls have ended, so that its platform may stop it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_receiving: bool,
    /// By how many milliseconds its machine's clock is ahead of DynamoDB's, or behind if that is negative, where it is known to be wrong. It goes by
    /// DynamoDB's meanwhile, and receives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_off_ms: Option<i64>,
    /// What it knows of what operators set. Workers of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlSeen>,
    /// Whether this is its last row: it has exited, and all its rollups are written.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended: bool,
    /// The calls that it ended since it started.
    #[serde(default, skip_serializing_if = "OutcomeCounts::is_empty")]
    pub calls: OutcomeCounts,
    /// How many of them are in no rollup yet, and the first minute of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<(Minute, u64)>,
    /// The time for which `received`, `ended_calls`, `held` and `slot_ms` count, in milliseconds.
    #[serde(default)]
    pub window_ms: u64,
    /// Calls that ended.
    #[serde(default)]
    pub ended_calls: u64,
    /// Calls that went back to the queue, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, u64>,
    /// Time for which calls of each tenant had a slot, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slot_ms: BTreeMap<Tenant, u64>,
    /// The same for the tenants that are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_slot_ms: u64,
    /// The queues it reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<String, QueueSeen>,
    /// The servers that it called in the last minutes, or that are not open to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<ServerId, ServerSeen>,
    /// The tools of which calls ended in the last minutes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, ToolSeen>,
    /// The limits that made calls wait in the last minutes, by their names ([`LimitPart::of`](super::LimitPart::of)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, LimitSeen>,
    /// When its reader first saw it as it is, by the reader's clock, where it looks again and again. It is not stored.
    #[serde(skip)]
    pub seen_at: Option<Timestamp>,
}

impl WorkerRow {
    /// Whether its worker lives, as far as rows tell.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.ended && !self.is_overdue(now)
    }

    /// Whether its worker died: it said no goodbye, and has missed its beats.
    pub fn is_dead(&self, now: Timestamp) -> bool {
        !self.ended && self.is_overdue(now)
    }

    /// For how long it was not renewed: by one clock, where its reader has seen it before.
    pub fn age_ms(&self, now: Timestamp) -> u64 {
        now.ms_since(self.seen_at.unwrap_or(self.reported_at))
    }

    /// How old what it knew of what operators set was when it wrote this, in milliseconds: by its own clock.
    pub fn switches_age_ms(&self) -> Option<u64> {
        Some(self.reported_at.ms_since(self.control?.read_at))
    }

    /// Whether what operators set may have no effect in it: it has not read that for longer than a pause may take, or cannot read some of it.
    pub fn has_old_switches(&self) -> bool {
        let is_old = self.switches_age_ms().is_some_and(|age_ms| age_ms > SWITCHES_WITHIN_MS);
        is_old || self.control.is_some_and(|control| control.unreadable > 0)
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.age_ms(now) > self.beat_ms.saturating_mul(MISSED_BEATS)
    }
}

/// What a worker knows of what operators set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlSeen {
    /// The version of the control entries that it uses.
    pub version: u64,
    /// When it last read them, or that they have not changed.
    pub read_at: Timestamp,
    /// The entries that it cannot read, which have no effect in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

/// What a worker saw of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSeen {
    /// Messages received within the row's `window_ms`.
    #[serde(rename = "n", default)]
    pub received: u64,
    /// How long the oldest message that it received for the first time since its last beat had waited, in milliseconds.
    #[serde(rename = "age", default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<u64>,
}

/// A tool's calls in the last minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSeen {
    /// Calls that ended.
    #[serde(rename = "n")]
    pub calls: u64,
    /// Those of them that failed.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failures: u64,
}

/// The state of a circuit breaker, the worst last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// It lets calls through.
    #[default]
    Closed,
    /// It lets one call through, to see whether the server works again.
    HalfOpen,
    /// It refuses calls.
    Open,
}

impl BreakerState {
    /// The word in tables and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// What a worker saw of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSeen {
    /// Requests under way.
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Attempts in the last minutes.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub attempts: u64,
    /// Those of them that failed.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// How long they took.
    #[serde(rename = "l", default, skip_serializing_if = "Histogram::is_empty")]
    pub latency: Histogram,
    /// The breaker of its connections, for all tenants.
    #[serde(rename = "b", default, skip_serializing_if = "BreakerState::is_closed")]
    pub breaker: BreakerState,
    /// Why connections failed last.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The tenants for which the server is not open.
    #[serde(rename = "t", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<Tenant, TenantAtServer>,
}

/// What differs for one tenant at a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantAtServer {
    /// The breaker of the server's answers to this tenant.
    #[serde(rename = "b", default, skip_serializing_if = "BreakerState::is_closed")]
    pub breaker: BreakerState,
    /// Until when the server asked for a pause.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Why its calls failed last.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

impl TenantAtServer {
    /// Takes the worse of both.
    pub(super) fn merge(&mut self, other: &Self) {
        self.breaker = self.breaker.max(other.breaker);
        self.paused_until = self.paused_until.max(other.paused_until);
        self.last_failure = self.last_failure.take().max(other.last_failure.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> WorkerRow {
        let at = Timestamp::from_ms(1_795_000_000_000);
        serde_json::from_value(serde_json::json!({
            "id": "w-1", "boot": "b1", "version": "0.1.0", "started_at": at, "reported_at": at, "beat_ms": 5000, "slots": 8,
        }))
        .unwrap()
    }

    #[test]
    fn a_row_not_renewed_for_three_beats_is_a_dead_workers() {
        let row = row();
        let at = |ms| row.reported_at.plus_ms(ms);
        assert!(row.is_alive(at(15_000)) && !row.is_dead(at(15_000)));
        assert!(!row.is_alive(at(15_001)) && row.is_dead(at(15_001)));
        let ended = WorkerRow { ended: true, ..row.clone() };
        assert!(!ended.is_alive(at(0)) && !ended.is_dead(at(60_000)));
    }

    #[test]
    fn switches_are_old_after_five_seconds_or_where_some_cannot_be_read() {
        let row = row();
        assert!(row.switches_age_ms().is_none() && !row.has_old_switches(), "of an earlier version");
        for (age_ms, unreadable, is_old) in [(0, 0, false), (5_000, 0, false), (5_001, 0, true), (0, 1, true)]
        {
            let read_at = Timestamp::from_ms(row.reported_at.as_ms() - age_ms);
            let control = Some(ControlSeen { version: 7, read_at, unreadable });
            let row = WorkerRow { control, ..row.clone() };
            assert_eq!(
                (row.switches_age_ms(), row.has_old_switches()),
                (Some(age_ms.unsigned_abs()), is_old)
            );
        }
    }

    #[test]
    fn large_fleets_write_half_as_often() {
        assert_eq!((beat_ms(1), beat_ms(100), beat_ms(101)), (5_000, 5_000, 10_000));
    }

    #[test]
    fn a_row_of_a_busy_worker_stays_small() {
        let mut row = row();
        row.calls.add(crate::outcome::OutcomeKind::Succeeded);
        for n in 0..10 {
            let mut seen = ServerSeen { in_flight: 3, attempts: 400, failures: 2, ..ServerSeen::default() };
            (0..400).for_each(|ms| seen.latency.add(ms * 100));
            row.servers.insert(ServerId::parse(format!("server-{n}")).unwrap(), seen);
            row.tools.insert(format!("server-{n}.tool"), ToolSeen { calls: 400, failures: 1 });
            row.slot_ms.insert(Tenant::parse(format!("tenant-{n}")).unwrap(), 12_345);
        }
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.len() < 5_000, "{} bytes: {text}", text.len());
        assert_eq!(serde_json::from_str::<WorkerRow>(&text).unwrap(), row);
    }
}
