//! The summary of a fleet: what one worker makes of the rows of all. Everybody else reads it instead of the rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limits::{LimitSeen, keep_busiest_limits};
use super::omit::{is_nobody, is_zero};
use super::row::{QueueSeen, TenantAtServer, ToolSeen, WorkerRow, beat_ms};
use super::runnable::{LastMinute, Runnable};
use super::server_summary::{ServerSummary, add};
use super::top::busiest;
use crate::ids::{ServerId, Tenant, WorkerId};
use crate::time::Timestamp;

/// The most servers, tenants, tenants of a server and tools in a summary.
const MOST_SERVERS: usize = 300;
const MOST_TENANTS: usize = 300;
const MOST_TENANTS_AT_SERVER: usize = 20;
const MOST_TOOLS: usize = 100;
const MOST_LIMITS: usize = 200;
/// The most workers with old switches that are named.
const MOST_OLD_SWITCHES: usize = 20;

/// The fleet as its rows show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSummary {
    /// When it was made.
    pub at: Timestamp,
    /// Which worker made it.
    pub by: WorkerId,
    /// How often rows and this summary are written, in milliseconds.
    pub beat_ms: u64,
    /// The workers.
    pub workers: WorkerCounts,
    /// The workers whose switches are old ([`WorkerRow::has_old_switches`]), those with the oldest first to be kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub old_switches: BTreeMap<WorkerId, OldSwitches>,
    /// Messages that all workers received within a minute.
    #[serde(default)]
    pub received_a_minute: u64,
    /// Calls that they ended within a minute.
    #[serde(default)]
    pub ended_a_minute: u64,
    /// Calls that went back to the queue within a minute, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_a_minute: BTreeMap<String, u64>,
    /// The queues: messages received within a minute, and the longest wait of a message received for the first time since the last beat.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<String, QueueSeen>,
    /// The servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<ServerId, ServerSummary>,
    /// For how long calls of each tenant had a slot within a minute, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slot_ms_a_minute: BTreeMap<Tenant, u64>,
    /// The same for the tenants that are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_slot_ms_a_minute: u64,
    /// The tools, those with most failures in the last minutes first to be kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, ToolSeen>,
    /// The limits, also those that made no call wait, by their names ([`LimitPart::of`](super::LimitPart::of)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, LimitSeen>,
    /// How many limits are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted_limits: u64,
    /// The work that runs or could run; none where the queues could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable: Option<Runnable>,
    /// Whether the worker that made it wrote it as metrics of CloudWatch; where it did not, those that do so write it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub measured: bool,
}

/// What a worker knows of what operators set, where that is old or not all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldSwitches {
    /// The version of the control entries that it uses.
    pub version: u64,
    /// How long before its row it had last read them, in milliseconds.
    pub age_ms: u64,
    /// The entries that it cannot read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

/// How many workers there are, and what they have to give.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCounts {
    /// Those that live, the draining ones included.
    pub alive: u32,
    /// Those that drain.
    #[serde(default)]
    pub draining: u32,
    /// Those that do not drain, and receive nothing until their long calls have ended.
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub not_receiving: u32,
    /// Those whose switches are old, or that cannot read some of them.
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub old_switches: u32,
    /// Those that died and whose rows are still there.
    #[serde(default)]
    pub dead: u32,
    /// Slots of those that take calls; of those that receive nothing for a while, the taken ones.
    #[serde(default)]
    pub slots: u64,
    /// Those of them that are taken.
    #[serde(default)]
    pub busy: u64,
    /// Deliveries in their hands.
    #[serde(default)]
    pub in_hand: u64,
    /// Messages that they sent back for the lack of a slot, and that are still delayed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lacking_slot: u64,
    /// How many run which version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, u32>,
}

impl WorkerCounts {
    /// How many receive calls.
    pub const fn receiving(&self) -> u32 {
        self.alive.saturating_sub(self.draining).saturating_sub(self.not_receiving)
    }
}

impl FleetSummary {
    /// The summary of these rows; rows of dead workers count as deaths only.
    pub fn of(rows: &[WorkerRow], now: Timestamp, by: WorkerId) -> Self {
        let alive: Vec<_> = rows.iter().filter(|row| row.is_alive(now)).collect();
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        let mut summary = Self {
            at: now,
            by,
            beat_ms: beat_ms(count),
            workers: WorkerCounts::default(),
            old_switches: BTreeMap::new(),
            received_a_minute: 0,
            ended_a_minute: 0,
            held_a_minute: BTreeMap::new(),
            queues: BTreeMap::new(),
            servers: BTreeMap::new(),
            slot_ms_a_minute: BTreeMap::new(),
            other_slot_ms_a_minute: 0,
            tools: BTreeMap::new(),
            limits: BTreeMap::new(),
            unlisted_limits: 0,
            runnable: None,
            measured: false,
        };
        let dead = rows.iter().filter(|row| row.is_dead(now)).count();
        summary.workers.dead = u32::try_from(dead).unwrap_or(u32::MAX);
        for row in alive {
            summary.add_worker(row);
            summary.add_rates(row);
            summary.add_servers_and_tools(row);
        }
        summary.bound();
        summary
    }

    /// Adds the limits that are configured, each with its value; those of the rows know what made calls wait only.
    pub fn configured(&mut self, limits: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in limits {
            self.limits.entry(name).or_default().value = Some(value);
        }
        self.unlisted_limits =
            self.unlisted_limits.saturating_add(keep_busiest_limits(&mut self.limits, MOST_LIMITS));
    }

    /// The work that runs or could run, with `visible` messages in the queues that are not paused ([`Runnable::of`]).
    pub fn work(&self, visible: u64, before: Option<&Runnable>, wait_ms: u64) -> Runnable {
        let lately = LastMinute {
            received: self.received_a_minute,
            held: &self.held_a_minute,
            slot_ms: self.total_slot_ms(),
            busy: self.workers.busy,
            lacking_slot: self.workers.lacking_slot,
        };
        Runnable::of(lately, visible, before, wait_ms)
    }

    /// The limits that made calls wait in the last minutes, the most often met first.
    pub fn binding_limits(&self) -> Vec<(&str, &LimitSeen)> {
        let mut limits: Vec<_> = self.limits.iter().map(|(name, seen)| (name.as_str(), seen)).collect();
        limits.retain(|(_, seen)| seen.times() > 0 || seen.late > 0);
        limits.sort_by_key(|(name, seen)| (std::cmp::Reverse(seen.times()), *name));
        limits
    }

    /// Whether it is so old that no worker renews it any more.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.ms_since(self.at) > self.beat_ms.saturating_mul(super::row::MISSED_BEATS)
    }

    /// The slot time of all tenants within a minute, in milliseconds.
    pub fn total_slot_ms(&self) -> u64 {
        let listed = self.slot_ms_a_minute.values().fold(0_u64, |sum, ms| sum.saturating_add(*ms));
        listed.saturating_add(self.other_slot_ms_a_minute)
    }

    /// The part of the fleet's slot time that a tenant had, from 0 to 1. A tenant that is not listed has none.
    pub fn share(&self, tenant: &Tenant) -> f64 {
        let used_ms = self.slot_ms_a_minute.get(tenant).copied().unwrap_or(0);
        ratio(used_ms, self.total_slot_ms())
    }

    /// Whether no worker has received a message within its last minute, and none has a call in hand or sent one back for the lack of a slot.
    pub fn receives_nothing(&self) -> bool {
        let WorkerCounts { busy, in_hand, lacking_slot, .. } = &self.workers;
        self.received_a_minute == 0 && *busy + *in_hand + *lacking_slot == 0
    }

    /// The tenants with the most slot time first, with the time in milliseconds a minute.
    pub fn noisiest_tenants(&self) -> Vec<(&Tenant, u64)> {
        let mut tenants: Vec<_> = self.slot_ms_a_minute.iter().map(|(tenant, ms)| (tenant, *ms)).collect();
        tenants.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        tenants
    }

    fn add_worker(&mut self, row: &WorkerRow) {
        let workers = &mut self.workers;
        workers.alive = workers.alive.saturating_add(1);
        workers.draining = workers.draining.saturating_add(u32::from(row.draining));
        if !row.draining {
            workers.not_receiving = workers.not_receiving.saturating_add(u32::from(row.not_receiving));
            let slots = if row.not_receiving { row.busy } else { row.slots };
            workers.slots = workers.slots.saturating_add(u64::from(slots));
            workers.busy = workers.busy.saturating_add(u64::from(row.busy));
        }
        workers.in_hand = workers.in_hand.saturating_add(u64::from(row.in_hand));
        add(&mut workers.lacking_slot, row.lacking_slot);
        if let Some(control) = row.control.filter(|_| row.has_old_switches()) {
            workers.old_switches = workers.old_switches.saturating_add(1);
            let age_ms = row.switches_age_ms().unwrap_or(0);
            let old = OldSwitches { version: control.version, age_ms, unreadable: control.unreadable };
            // Of two processes under one id the older switches.
            let rank = |one: &OldSwitches| (one.age_ms, one.unreadable, one.version);
            let seen = self.old_switches.entry(row.id.clone()).or_default();
            *seen = std::cmp::max_by_key(*seen, old, rank);
        }
        let of_version = workers.versions.entry(row.version.clone()).or_default();
        *of_version = of_version.saturating_add(1);
    }

    fn add_rates(&mut self, row: &WorkerRow) {
        let a_minute = |count| per_minute(count, row.window_ms);
        add(&mut self.ended_a_minute, a_minute(row.ended_calls));
        for (reason, count) in &row.held {
            add(self.held_a_minute.entry(reason.clone()).or_default(), a_minute(*count));
        }
        for (tenant, ms) in &row.slot_ms {
            add(self.slot_ms_a_minute.entry(tenant.clone()).or_default(), a_minute(*ms));
        }
        add(&mut self.other_slot_ms_a_minute, a_minute(row.other_slot_ms));
        for (name, seen) in &row.queues {
            let received = a_minute(seen.received);
            add(&mut self.received_a_minute, received);
            let queue = self.queues.entry(name.clone()).or_default();
            add(&mut queue.received, received);
            queue.oldest_ms = queue.oldest_ms.max(seen.oldest_ms);
        }
    }

    fn add_servers_and_tools(&mut self, row: &WorkerRow) {
        for (server, seen) in &row.servers {
            self.servers.entry(server.clone()).or_default().add(seen);
        }
        for (tool, seen) in &row.tools {
            let sum = self.tools.entry(tool.clone()).or_default();
            add(&mut sum.calls, seen.calls);
            add(&mut sum.failures, seen.failures);
        }
        for (limit, seen) in &row.limits {
            self.limits.entry(limit.clone()).or_default().merge(seen);
        }
    }

    /// Keeps what matters most.
    fn bound(&mut self) {
        for server in self.servers.values_mut() {
            let weight = |tenant: &TenantAtServer| (tenant.breaker, tenant.paused_until);
            busiest(&mut server.seen.tenants, MOST_TENANTS_AT_SERVER, weight);
        }
        let weight = |server: &ServerSummary| {
            (server.seen.breaker, server.seen.failures, server.seen.in_flight, server.seen.attempts)
        };
        busiest(&mut self.servers, MOST_SERVERS, weight);
        busiest(&mut self.old_switches, MOST_OLD_SWITCHES, |old| (old.age_ms, old.unreadable));
        self.unlisted_limits = keep_busiest_limits(&mut self.limits, MOST_LIMITS);
        busiest(&mut self.tools, MOST_TOOLS, |tool| (tool.failures, tool.calls));
        let rest = busiest(&mut self.slot_ms_a_minute, MOST_TENANTS, |ms| *ms);
        rest.values().for_each(|ms| add(&mut self.other_slot_ms_a_minute, *ms));
    }
}

/// A count within `window_ms` as a count within a minute, rounded up: what happened is not shown as nothing.
fn per_minute(count: u64, window_ms: u64) -> u64 {
    if window_ms == 0 {
        return 0;
    }
    u64::try_from((u128::from(count) * 60_000).div_ceil(u128::from(window_ms))).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than a double's 52 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::fleet::{BreakerState, ControlSeen, ServerSeen};

    const NOW_MS: i64 = 1_795_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_ms(NOW_MS)
    }

    fn by() -> WorkerId {
        WorkerId::parse("w-0").unwrap()
    }

    fn server(id: &str) -> ServerId {
        ServerId::parse(id).unwrap()
    }

    fn tenant(id: &str) -> Tenant {
        Tenant::parse(id).unwrap()
    }

    fn row(id: usize, age_ms: u64) -> WorkerRow {
        let at = Timestamp::from_ms(NOW_MS - i64::try_from(age_ms).unwrap());
        serde_json::from_value(json!({
            "id": format!("w-{id}"), "boot": format!("b{id}"), "version": "0.1.0", "started_at": at, "reported_at": at,
            "beat_ms": 5000, "slots": 8, "busy": 2, "window_ms": 60_000,
        }))
        .unwrap()
    }

    fn rows() -> impl Strategy<Value = Vec<WorkerRow>> {
        let one = (0..20_000_u64, 0..5_usize, 0..4_usize, 0..100_u64, any::<bool>());
        prop::collection::vec(one, 0..12).prop_map(|all| {
            let make = |(id, (age_ms, at, who, n, open)): (usize, (u64, usize, usize, u64, bool))| {
                let mut row = row(id, age_ms);
                let breaker = if open { BreakerState::Open } else { BreakerState::Closed };
                let tenants = BTreeMap::from([(
                    tenant(&format!("t{who}")),
                    TenantAtServer { breaker, ..Default::default() },
                )]);
                let mut seen =
                    ServerSeen { in_flight: n, attempts: n, breaker, tenants, ..ServerSeen::default() };
                (0..n).for_each(|us| seen.latency.add(us * 1_000));
                row.servers.insert(server(&format!("s{at}")), seen);
                row.slot_ms.insert(tenant(&format!("t{who}")), n);
                row.tools.insert(format!("tool{at}"), ToolSeen { calls: n, failures: n / 2 });
                row.held.insert("share".into(), n);
                row.ended_calls = n;
                row
            };
            all.into_iter().enumerate().map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_rows_does_not_matter(rows in rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))) {
            let (as_read, shuffled) = rows;
            prop_assert_eq!(FleetSummary::of(&as_read, now(), by()), FleetSummary::of(&shuffled, now(), by()));
        }

        #[test]
        fn a_stored_summary_is_read_back_and_its_shares_add_up(rows in rows()) {
            let summary = FleetSummary::of(&rows, now(), by());
            let text = serde_json::to_string(&summary).unwrap();
            prop_assert_eq!(serde_json::from_str::<FleetSummary>(&text).unwrap(), summary.clone());
            let shares: f64 = summary.slot_ms_a_minute.keys().map(|tenant| summary.share(tenant)).sum();
            prop_assert!(summary.total_slot_ms() == 0 || (shares - 1.0).abs() < 1e-9, "{}", shares);
        }
    }

    #[test]
    fn dead_workers_count_as_deaths_only() {
        let mut ended = row(3, 0);
        ended.ended = true;
        let mut draining = row(2, 14_000);
        draining.draining = true;
        let summary = FleetSummary::of(&[row(1, 0), draining, ended, row(4, 15_001)], now(), by());
        assert_eq!(summary.workers.alive, 2);
        assert_eq!((summary.workers.draining, summary.workers.dead, summary.workers.slots), (1, 1, 8));
        assert_eq!(summary.workers.receiving(), 1);
        assert!(!summary.is_stale(now().plus_ms(15_000)) && summary.is_stale(now().plus_ms(15_001)));
    }

    #[test]
    fn a_worker_that_receives_nothing_has_no_free_slots() {
        let mut stopped = row(1, 0);
        stopped.not_receiving = true;
        let mut leaving = row(2, 0);
        (leaving.not_receiving, leaving.draining) = (true, true);
        let workers = FleetSummary::of(&[stopped, leaving, row(3, 0)], now(), by()).workers;
        assert_eq!((workers.slots, workers.busy), (2 + 8, 2 + 2));
        assert_eq!((workers.not_receiving, workers.draining, workers.receiving()), (1, 1, 1));
    }

    #[test]
    fn living_workers_whose_switches_are_old_are_named() {
        let with = |id, control_age_ms: i64, unreadable, ended| {
            let mut row = row(id, 0);
            let read_at = Timestamp::from_ms(NOW_MS - control_age_ms);
            row.control = Some(ControlSeen { version: 9, read_at, unreadable });
            row.ended = ended;
            row
        };
        let rows = [with(1, 2_000, 0, false), with(2, 34_000, 0, false), with(3, 0, 2, false)];
        let gone = [with(4, 90_000, 0, true), row(5, 0)];
        let summary = FleetSummary::of(&[&rows[..], &gone].concat(), now(), by());
        let old = |age_ms, unreadable| OldSwitches { version: 9, age_ms, unreadable };
        let expected = [("w-2", old(34_000, 0)), ("w-3", old(0, 2))];
        let expected = expected.map(|(id, old)| (WorkerId::parse(id).unwrap(), old));
        assert_eq!((summary.workers.old_switches, summary.old_switches), (2, BTreeMap::from(expected)));

        let many: Vec<_> =
            (0..100).map(|id| with(id, 6_000 + i64::try_from(id).unwrap(), 0, false)).collect();
        let summary = FleetSummary::of(&many, now(), by());
        assert_eq!((summary.workers.old_switches, summary.old_switches.len()), (100, MOST_OLD_SWITCHES));
        assert!(summary.old_switches.values().all(|old| old.age_ms >= 6_080), "the oldest are kept");
    }

    #[test]
    fn rates_are_those_of_a_minute_whatever_the_window() {
        let mut young = row(1, 0);
        young.window_ms = 5_000;
        young.ended_calls = 10;
        young.queues.insert("calls".into(), QueueSeen { received: 1, oldest_ms: Some(70) });
        let mut old = row(2, 0);
        old.ended_calls = 60;
        old.queues.insert("calls".into(), QueueSeen { received: 6, oldest_ms: Some(9) });
        let summary = FleetSummary::of(&[young, old], now(), by());
        assert_eq!((summary.ended_a_minute, summary.received_a_minute), (120 + 60, 12 + 6));
        assert_eq!(summary.queues["calls"], QueueSeen { received: 18, oldest_ms: Some(70) });
    }

    #[test]
    fn the_summary_of_a_large_fleet_has_a_bound() {
        let mut all = Vec::new();
        for id in 0..1_000 {
            let mut row = row(id, 0);
            for n in 0..20 {
                let seen = ServerSeen { in_flight: 1, ..ServerSeen::default() };
                row.servers.insert(server(&format!("s{}", id * 20 + n)), seen);
                row.slot_ms.insert(tenant(&format!("t{}", id * 20 + n)), 1_000);
                row.tools.insert(format!("tool{}", id * 20 + n), ToolSeen { calls: 1, failures: 1 });
            }
            all.push(row);
        }
        let summary = FleetSummary::of(&all, now(), by());
        assert_eq!(summary.beat_ms, 10_000);
        assert_eq!((summary.servers.len(), summary.tools.len()), (MOST_SERVERS, MOST_TOOLS));
        assert_eq!(summary.total_slot_ms(), 20_000 * 1_000, "others are summed up");
        assert!(serde_json::to_string(&summary).unwrap().len() < 100_000);
    }

    #[test]
    fn the_noisiest_tenant_comes_first() {
        let mut one = row(1, 0);
        one.slot_ms = BTreeMap::from([(tenant("a"), 10), (tenant("b"), 30), (tenant("c"), 0)]);
        let summary = FleetSummary::of(&[one], now(), by());
        let order: Vec<_> =
            summary.noisiest_tenants().into_iter().map(|(tenant, _)| tenant.as_str()).collect();
        assert_eq!(order, ["b", "a", "c"]);
        assert!((summary.share(&tenant("b")) - 0.75).abs() < 1e-9);
        assert!(summary.share(&tenant("nobody")).abs() < 1e-9);
    }
}
