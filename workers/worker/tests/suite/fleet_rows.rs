//! What workers report: their rows, the summary of one aggregator, and rollups whose counts equal those of the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use toolfleet_aws::Tables;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::fleet::{Minute, OTHER_TOOLS, Rollup, WorkerRow};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::services::aggregator::Aggregator;
use toolfleet_worker::services::reporter::Reporter;

use crate::control::{pause, set};
use crate::limits::used_at_once;
use crate::rig::{Rig, limits, request};
use crate::waiting::cancel;

fn fleet(rig: &Rig) -> Fleet {
    rig.direct.fleet(&Tables::with_prefix("toolfleet"))
}

fn now(rig: &Rig) -> Timestamp {
    Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap())
}

async fn alive(rig: &Rig) -> Vec<WorkerRow> {
    let mut rows = fleet(rig).worker_rows().await.unwrap();
    rows.retain(|row| row.is_alive(now(rig)));
    rows
}

async fn run_calls(rig: &Rig, context: &Arc<WorkerContext>, calls: &[(&str, &str)]) {
    for (id, tool) in calls {
        rig.send(request(id, tool).to_string()).await;
        rig.deliver(context).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_row_appears_and_goes_away_after_its_death() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.clock.advance_ms(5_000);
    run_calls(&rig, &context, &[("c1", "safe"), ("c2", "paused")]).await;
    Reporter::new(context.clone()).beat().await;
    let rows = alive(&rig).await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.id.as_str(), row.slots, row.busy, row.in_hand), ("w-test", 24, 0, 0));
    assert_eq!((row.calls.total(), row.ended_calls, row.window_ms), (2, 2, 5_000));
    assert_eq!(row.pending, Some((Minute::of(now(&rig)), 2)));
    assert_eq!(row.queues["toolfleet-calls"].received, 2);
    assert_eq!(row.queues["toolfleet-calls"].oldest_ms, Some(0));
    let server = &row.servers[&ServerId::parse("mock").unwrap()];
    assert_eq!((server.attempts, server.failures, server.in_flight, server.latency.count()), (1, 0, 0, 1));
    assert_eq!((row.tools["safe"].calls, row.tools["paused"].failures), (1, 1));

    rig.clock.advance_ms(15_001);
    assert!(alive(&rig).await.is_empty());
    let other = rig.context(None).await;
    Reporter::new(other.clone()).beat().await;
    let aggregator = Aggregator::new(other.clone());
    assert!(aggregator.beat().await);
    // It waits three beats of its own before it believes that a worker is dead: clocks differ.
    rig.clock.advance_ms(15_001);
    Reporter::new(other.clone()).beat().await;
    assert!(aggregator.beat().await);
    let (summary, _) = fleet(&rig).summary().await.unwrap();
    let workers = summary.unwrap().workers;
    assert_eq!((workers.alive, workers.dead, workers.slots), (1, 1, 24));
    let minute = Minute::of(now(&rig));
    let lost = fleet(&rig).lost_minutes(minute.plus(-2), minute).await.unwrap();
    assert_eq!(
        (lost.len(), lost[0].calls, &lost[0].boot),
        (1, 2, &context.activity.boot),
        "its minutes are flagged"
    );

    rig.clock.advance_ms(11 * 60_000);
    Reporter::new(other).beat().await;
    aggregator.beat().await;
    assert_eq!(fleet(&rig).worker_rows().await.unwrap().len(), 1, "the dead worker's row is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_names_limits_that_bind_and_those_that_do_not() {
    used_at_once("the first call missed its turn", binding_limits_are_named).await;
}

async fn binding_limits_are_named() -> bool {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["limits"] = json!({"rate": "1/60s", "concurrency": 4});
    let context = rig.fleet_of(catalog, limits(), None).await;
    run_calls(&rig, &context, &[("c1", "unsafe"), ("c2", "unsafe"), ("c3", "unsafe")]).await;
    if !rig.has_ended("c1").await {
        return false;
    }
    let (reporter, aggregator) = (Reporter::new(context.clone()), Aggregator::new(context));
    reporter.beat().await;
    let rows = alive(&rig).await;
    let names: Vec<_> = rows[0].limits.keys().map(String::as_str).collect();
    assert_eq!(names, ["server:mock rate"], "a limit that made no call wait is in no row");
    assert!(aggregator.beat().await);
    let summary = fleet(&rig).summary().await.unwrap().0.unwrap();
    let [(name, seen)] = summary.binding_limits()[..] else { panic!("{:?}", summary.limits) };
    assert_eq!((name, seen.value.as_deref()), ("server:mock rate", Some("1/m")));
    assert_eq!((seen.waited, seen.requeued), (0, 2), "the first call had its turn at once");
    assert_eq!(seen.tenants, BTreeMap::from([(Tenant::parse("acme").unwrap(), 2)]));
    assert_eq!(summary.limits["server:mock concurrency"].value.as_deref(), Some("4"));
    assert_eq!(summary.held_a_minute.keys().collect::<Vec<_>>(), ["rate_limit"]);

    rig.clock.advance_ms(5 * 60_000);
    reporter.beat().await;
    aggregator.beat().await;
    let later = fleet(&rig).summary().await.unwrap().0.unwrap();
    assert!(later.binding_limits().is_empty(), "it made no call wait in the last five minutes");
    assert_eq!(later.limits["server:mock rate"].value.as_deref(), Some("1/m"));
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aggregators_death_hands_the_summary_over() {
    let rig = Rig::new().await;
    let (first, second) = (rig.context(None).await, rig.context(None).await);
    for context in [&first, &second] {
        Reporter::new(context.clone()).beat().await;
    }
    let (a, b) = (Aggregator::new(first.clone()), Aggregator::new(second.clone()));
    assert!(a.beat().await && !b.beat().await);
    assert_eq!(second.fleet_view.current(now(&rig)).unwrap().workers.alive, 2, "the other one reads it");
    rig.clock.advance_ms(5_000);
    assert!(a.beat().await && !b.beat().await, "the lease is renewed");
    rig.clock.advance_ms(15_001);
    assert!(b.beat().await, "its lease is over");
    assert!(!a.beat().await, "it may be alive after all, and does not overwrite");
    b.resign().await;
    rig.clock.advance_ms(1);
    assert!(a.beat().await, "a worker that drains hands over at once");
}

/// A clock that is an hour ahead leaves a lease that no death of its holder would end for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_from_the_future_ends_once_it_is_not_renewed() {
    let rig = Rig::new().await;
    let aggregator = Aggregator::new(rig.context(None).await);
    let (ahead, hour_ms) = ("ahead-of-all".parse().unwrap(), 60 * 60_000);
    let lease = async || {
        let now = now(&rig).plus_ms(hour_ms);
        fleet(&rig).lease_summary(&ahead, now, now.plus_ms(15_000)).await.unwrap()
    };
    for _ in 0..10 {
        assert!(lease().await);
        assert!(!aggregator.beat().await, "it lives, and renews its lease");
        rig.clock.advance_ms(5_000);
    }
    assert!(!aggregator.beat().await, "it renewed it five seconds ago");
    rig.clock.advance_ms(20_000);
    assert!(!aggregator.beat().await, "a lease of a large fleet lasts for half a minute");
    rig.clock.advance_ms(13_000);
    assert!(aggregator.beat().await, "it died");
    let (summary, until) = fleet(&rig).summary().await.unwrap();
    assert!(summary.is_some() && until.unwrap() < now(&rig).plus_ms(60_000));
}

/// Two workers that both take a lease for abandoned: one write wins, and a holder that renewed it in between keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_lease_is_taken_once_and_only_as_it_was_seen() {
    let rig = Rig::new().await;
    let (fleet, now) = (fleet(&rig), now(&rig));
    let [ahead, first, second] = ["ahead", "first", "second"].map(|boot| boot.parse().unwrap());
    let future = now.plus_ms(60 * 60_000);
    assert!(fleet.lease_summary(&ahead, future, future).await.unwrap());
    let renewed = future.plus_ms(5_000);
    assert!(fleet.lease_summary(&ahead, future, renewed).await.unwrap());
    let until = now.plus_ms(15_000);
    assert!(!fleet.take_abandoned_summary(&first, future, until).await.unwrap(), "it was renewed since");
    assert!(fleet.take_abandoned_summary(&first, renewed, until).await.unwrap());
    assert!(!fleet.take_abandoned_summary(&second, renewed, until).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_row_and_the_last_rollups_are_written_at_the_exit() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    run_calls(&rig, &context, &[("c1", "safe")]).await;
    context.shutdown.begin(std::time::Duration::ZERO);
    let reporter = Reporter::new(context.clone());
    reporter.beat().await;
    let draining = alive(&rig).await;
    assert!(draining[0].draining && !draining[0].ended && draining[0].pending.is_some());
    reporter.report_last().await;
    reporter.beat().await;
    let rows = fleet(&rig).worker_rows().await.unwrap();
    assert!(rows[0].ended && rows[0].pending.is_none(), "{rows:?}");
    assert!(alive(&rig).await.is_empty());
    let minute = Minute::of(now(&rig));
    let rollups = fleet(&rig).rollups("safe", minute, minute).await.unwrap();
    assert_eq!(rollups.iter().map(|(_, rollup)| rollup.calls.total()).sum::<u64>(), 1);
}

/// The rollups of each tool, by minutes and by hours.
async fn rolled_up(rig: &Rig, from: Minute, to: Minute) -> [BTreeMap<String, Rollup>; 2] {
    let (fleet, mut minutes, mut hours) = (fleet(rig), BTreeMap::new(), BTreeMap::new());
    for tool in fleet.rolled_up_tools(from).await.unwrap() {
        for (_, rollup) in fleet.rollups(&tool.tool, from, to).await.unwrap() {
            minutes.entry(tool.tool.clone()).or_insert_with(Rollup::default).merge(&rollup);
        }
        for (_, rollup) in fleet.rollup_hours(&tool.tool, from.hour(), to).await.unwrap() {
            hours.entry(tool.tool.clone()).or_insert_with(Rollup::default).merge(&rollup);
        }
    }
    [minutes, hours]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lost_minutes_of_a_worker_that_goes_on_are_taken_back() {
    let rig = Rig::new().await;
    let (frozen, leader) = (rig.context(None).await, rig.context(None).await);
    let (reporter, aggregator) = (Reporter::new(frozen.clone()), Aggregator::new(leader));
    run_calls(&rig, &frozen, &[("c1", "safe")]).await;
    reporter.beat().await;
    let lost = async || {
        let minute = Minute::of(now(&rig));
        fleet(&rig).lost_minutes(minute.plus(-5), minute).await.unwrap().len()
    };
    aggregator.beat().await;
    rig.clock.advance_ms(16_000);
    aggregator.beat().await;
    assert_eq!(lost().await, 1);
    // Another worker has the lease when it goes on.
    aggregator.resign().await;
    let aggregator = Aggregator::new(rig.context(None).await);
    rig.clock.advance_ms(1);
    reporter.beat().await;
    aggregator.beat().await;
    assert_eq!(lost().await, 0);
    rig.clock.advance_ms(16_000);
    aggregator.beat().await;
    assert_eq!(lost().await, 1, "it died after all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_does_not_take_the_dead_for_alive() {
    let rig = Rig::new().await;
    let (dead, leader) = (rig.context(None).await, rig.context(None).await);
    Reporter::new(dead.clone()).beat().await;
    let first = Aggregator::new(leader.clone());
    first.beat().await;
    rig.clock.advance_ms(16_000);
    first.beat().await;
    let dead_and_lost = async || {
        let (summary, _) = fleet(&rig).summary().await.unwrap();
        let minute = Minute::of(now(&rig));
        let lost = fleet(&rig).lost_minutes(minute.plus(-5), minute).await.unwrap().len();
        (summary.unwrap().workers.dead, lost)
    };
    assert_eq!(dead_and_lost().await, (1, 1));
    for _ in 0..3 {
        // Leaders die too: their lease ends by itself.
        rig.clock.advance_ms(60_000);
        let next = Aggregator::new(rig.context(None).await);
        assert!(next.beat().await);
        assert_eq!(dead_and_lost().await, (1, 1));
    }
    Reporter::new(dead).beat().await;
    let next = Aggregator::new(rig.context(None).await);
    rig.clock.advance_ms(60_000);
    assert!(next.beat().await);
    assert_eq!(dead_and_lost().await, (0, 0), "it was frozen and goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_is_dead_for_its_own_or_the_leaders_clock() {
    let rig = Rig::new().await;
    let (worker, leader) = (rig.context(None).await, rig.context(None).await);
    let aggregator = Aggregator::new(leader.clone());
    Reporter::new(worker).beat().await;
    let mut row = alive(&rig).await.remove(0);
    for behind_ms in [-60_000, 60_000, 900_000] {
        for _ in 0..5 {
            rig.clock.advance_ms(5_000);
            row.reported_at = Timestamp::from_ms(now(&rig).as_ms() - behind_ms);
            fleet(&rig).put_worker_row(&row).await.unwrap();
            assert!(aggregator.beat().await);
            let summary = leader.fleet_view.current(now(&rig)).unwrap();
            assert_eq!((summary.workers.alive, summary.workers.dead), (1, 0), "{behind_ms}");
        }
    }
    rig.clock.advance_ms(15_001);
    assert!(aggregator.beat().await);
    let summary = leader.fleet_view.current(now(&rig)).unwrap();
    assert_eq!((summary.workers.alive, summary.workers.dead), (0, 1), "it is not renewed any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hours_before_a_long_weekend_are_added_up_after_it() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    run_calls(&rig, &context, &[("c1", "safe")]).await;
    let hour = Minute::of(now(&rig)).hour();
    Reporter::new(context.clone()).report_last().await;
    rig.clock.advance_ms(100 * 60 * 60_000);
    let aggregator = Aggregator::new(rig.context(None).await);
    for _ in 0..200 {
        aggregator.beat().await;
    }
    assert_eq!(fleet(&rig).compacted(hour, hour).await.unwrap(), [hour]);
    assert_eq!(rolled_up(&rig, hour, hour.plus(59)).await[1]["safe"].calls.total(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_that_are_given_up_are_flagged_as_lost_minutes() {
    let rig = Rig::new().await;
    let (context, leader) = (rig.context(None).await, rig.context(None).await);
    let (reporter, aggregator) = (Reporter::new(context.clone()), Aggregator::new(leader));
    let minute = Minute::of(now(&rig));
    run_calls(&rig, &context, &[("c1", "safe"), ("c2", "safe")]).await;
    // The worker's row can be written, its rollups cannot.
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "BatchWriteItem", 1).times(1_000));
    let lost = async || fleet(&rig).lost_minutes(minute, Minute::of(now(&rig))).await.unwrap();
    rig.clock.advance_ms(62 * 60_000);
    reporter.beat().await;
    assert!(lost().await.is_empty(), "that cannot be written either");
    assert_eq!(alive(&rig).await[0].pending, Some((minute, 2)), "if it died now, this would be flagged");
    // Another outage gives up more before the first is told.
    run_calls(&rig, &context, &[("c3", "safe")]).await;
    rig.clock.advance_ms(62 * 60_000);
    reporter.beat().await;
    rig.dynamodb.behave();
    reporter.beat().await;
    let flagged = lost().await;
    let [one] = flagged.as_slice() else { panic!("{flagged:?}") };
    assert_eq!((one.from, one.to, one.calls), (minute, minute.plus(62), 3));
    assert_eq!(alive(&rig).await[0].pending, None);
    assert!(aggregator.beat().await);
    reporter.beat().await;
    assert_eq!(lost().await, flagged, "the worker is alive, and they stay lost");
}

/// A worker may write its rollups for an hour after their minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_is_added_up_once_all_its_rollups_are_written_or_given_up() {
    let rig = Rig::new().await;
    let aggregator = Aggregator::new(rig.context(None).await);
    let hour = Minute::of(now(&rig)).hour();
    let until = |minutes: i64| hour.plus(60 + minutes).start().ms_since(now(&rig));
    let is_added_up = async || {
        // One hour at a beat.
        for _ in 0..200 {
            aggregator.beat().await;
        }
        fleet(&rig).compacted(hour, hour).await.unwrap() == [hour]
    };
    rig.clock.advance_ms(until(74));
    assert!(!is_added_up().await);
    rig.clock.advance_ms(until(76));
    assert!(is_added_up().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_of_rollups_equal_those_of_the_history() {
    let rig = Rig::new().await;
    let (first, second) = (rig.context(None).await, rig.context(None).await);
    let from = Minute::of(now(&rig));
    run_calls(
        &rig,
        &first,
        &[("c1", "safe"), ("c2", "safe"), ("c3", "unsafe"), ("c4", "paused"), ("c5", "nosuch")],
    )
    .await;
    rig.clock.advance_ms(60_000);
    run_calls(&rig, &second, &[("c6", "safe"), ("c7", "strict")]).await;
    // A redelivery of an ended call is counted nowhere.
    rig.send(request("c1", "safe").to_string()).await;
    rig.deliver(&second).await;
    let mut listing =
        json!({"v": 1, "call_id": "c8", "tenant": "acme", "server": "mock", "operation": "tools/list"});
    rig.send(listing.take().to_string()).await;
    rig.deliver(&second).await;
    // The next claim ends the call of a worker that was killed.
    rig.send(request("c9", "unsafe").to_string()).await;
    rig.crash_after(Step::Claimed).await;
    rig.settle_with(&second).await;
    // The cancellation itself ends a call that waits; a worker records it.
    set(&rig, &second, &pause(&rig, "server:mock", None)).await;
    run_calls(&rig, &second, &[("c10", "safe")]).await;
    cancel(&rig, "c10").await;
    rig.settle_with(&second).await;
    for context in [&first, &second] {
        let reporter = Reporter::new(context.clone());
        // Written twice, counted once.
        rig.clock.advance_ms(120_000);
        reporter.beat().await;
        reporter.report_last().await;
    }
    let to = Minute::of(now(&rig));
    let records = rig.audit(&Tenant::parse("acme").unwrap()).await;
    let calls: Vec<_> = records.iter().filter(|record| record.kind == AuditKind::Call).collect();
    assert_eq!(calls.len(), 10);
    let mut expected = BTreeMap::new();
    for record in &calls {
        let tool = record.tool.clone().unwrap();
        let tool = if tool == "nosuch" { OTHER_TOOLS.to_owned() } else { tool };
        let duration_us = record.started_at.map(|at| record.at.ms_since(at) * 1_000);
        expected.entry(tool).or_insert_with(Rollup::default).add(
            record.outcome,
            record.attempts,
            duration_us,
        );
    }
    assert_eq!(rolled_up(&rig, from, to).await[0], expected);

    // The hours are added up once they are over, and say the same.
    rig.clock.advance_ms(3 * 60 * 60_000);
    let aggregator = Aggregator::new(first);
    for _ in 0..200 {
        aggregator.beat().await;
    }
    assert_eq!(rolled_up(&rig, from, to).await[1], expected);
    let compacted = fleet(&rig).compacted(from.hour(), to).await.unwrap();
    assert!(compacted.contains(&from.hour()), "{compacted:?}");
}
