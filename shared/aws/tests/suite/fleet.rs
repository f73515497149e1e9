//! The rows of workers in their shards, the summary under its lease, rollups and lost minutes.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;
use toolfleet_aws::Tables;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::rollups::{RolledUpTool, ToolRollup};
use toolfleet_core::fleet::{FleetSummary, LostMinutes, Minute, Rollup, WorkerRow};
use toolfleet_core::ids::{Nonce, ServerId, WorkerId};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;

use crate::{START_MS, World, world};

fn now() -> Timestamp {
    Timestamp::from_ms(i64::try_from(START_MS).unwrap())
}

fn fleet(world: &World) -> Fleet {
    world.aws.fleet(&Tables::with_prefix("toolfleet"))
}

fn row(id: &str, boot: u128, at: Timestamp) -> WorkerRow {
    serde_json::from_value(json!({
        "id": id, "boot": Nonce::from_random(boot), "version": "0.1.0", "started_at": at, "reported_at": at,
        "beat_ms": 5000, "slots": 8, "limits": {"server:crm rate": {"v": "20/s", "w": 3, "r": 4}},
    }))
    .unwrap()
}

fn summary(by: &str, at: Timestamp) -> FleetSummary {
    FleetSummary::of(&[row(by, 1, at)], at, WorkerId::parse(by).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_all_sixteen_shards_are_read() {
    let world = world().await;
    let fleet = fleet(&world);
    let rows: Vec<_> = (0..100).map(|n| row(&format!("w-{n}"), n, now())).collect();
    for put in join_all(rows.iter().map(|row| fleet.put_worker_row(row))).await {
        put.unwrap();
    }
    let mut read = fleet.worker_rows().await.unwrap();
    read.sort_by_key(|row| row.boot.clone());
    let mut written = rows;
    written.sort_by_key(|row| row.boot.clone());
    assert_eq!(read, written, "each row once, with its limits");

    // A later beat replaces the row; another process under the same id does not.
    let later = row("w-7", 7, now().plus_ms(5_000));
    fleet.put_worker_row(&later).await.unwrap();
    fleet.put_worker_row(&row("w-7", 1_007, now())).await.unwrap();
    let read = fleet.worker_rows().await.unwrap();
    assert_eq!((read.len(), read.iter().filter(|row| row.id == later.id).count()), (101, 2));
    assert!(read.contains(&later));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_renewed_is_not_removed_as_stale() {
    let world = world().await;
    let fleet = fleet(&world);
    let (stale, renewed) = (row("w-1", 1, now()), row("w-1", 1, now().plus_ms(20_000)));
    fleet.put_worker_row(&stale).await.unwrap();
    let seen = fleet.worker_rows().await.unwrap().remove(0);
    assert!(seen.is_dead(now().plus_ms(15_001)), "three beats have passed");
    fleet.put_worker_row(&renewed).await.unwrap();
    fleet.remove_worker_row(&seen).await.unwrap();
    assert_eq!(fleet.worker_rows().await.unwrap(), std::slice::from_ref(&renewed), "it lives after all");
    fleet.remove_worker_row(&renewed).await.unwrap();
    fleet.remove_worker_row(&renewed).await.unwrap();
    assert!(fleet.worker_rows().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_aggregators_one_holds_the_lease_and_writes() {
    let world = world().await;
    let fleet = fleet(&world);
    assert_eq!(fleet.summary().await.unwrap(), (None, None), "no worker has reported");
    let boots: Vec<_> = (1..=5).map(Nonce::from_random).collect();
    let until = now().plus_ms(15_000);
    let taken = join_all(boots.iter().map(|boot| fleet.lease_summary(boot, now(), until))).await;
    let taken: Vec<_> = taken.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    let leader = taken.iter().position(|taken| *taken).unwrap();
    let (mine, other) = (&boots[leader], &boots[(leader + 1) % 5]);
    assert!(fleet.put_summary(&summary("w-1", now()), mine, until).await.unwrap());
    assert!(!fleet.put_summary(&summary("w-2", now()), other, until).await.unwrap());
    let (stored, lease_until) = fleet.summary().await.unwrap();
    assert_eq!((stored.unwrap().by.as_str(), lease_until), ("w-1", Some(until)));

    // The lease is over: another takes it, and the first one no longer overwrites.
    let later = until.plus_ms(1);
    assert!(fleet.lease_summary(other, later, later.plus_ms(15_000)).await.unwrap());
    assert!(!fleet.lease_summary(mine, later, later.plus_ms(15_000)).await.unwrap());
    assert!(!fleet.put_summary(&summary("w-1", later), mine, later.plus_ms(15_000)).await.unwrap());
    assert!(fleet.put_summary(&summary("w-2", later), other, later.plus_ms(15_000)).await.unwrap());
    fleet.resign_summary(mine).await.unwrap();
    let still = fleet.lease_summary(mine, later, later.plus_ms(15_000)).await.unwrap();
    assert!(!still, "who does not hold the lease gives nothing back");
    fleet.resign_summary(other).await.unwrap();
    assert!(fleet.lease_summary(mine, later, later.plus_ms(15_000)).await.unwrap());
    assert_eq!(fleet.summary().await.unwrap().0.unwrap().by.as_str(), "w-2", "the lease keeps the summary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_summary_replaces_a_small_one_and_back() {
    let world = world().await;
    let fleet = fleet(&world);
    let (boot, until) = (Nonce::from_random(1), now().plus_ms(15_000));
    assert!(fleet.lease_summary(&boot, now(), until).await.unwrap());
    let small = summary("w-1", now());
    let mut large = small.clone();
    large.configured((0..150).map(|n| (format!("server:server-{n} rate"), format!("{n}/s"))));
    assert!(serde_json::to_string(&large).unwrap().len() > 3_000, "it is stored compressed");
    for one in [&small, &large, &small, &large] {
        assert!(fleet.put_summary(one, &boot, until).await.unwrap());
        assert_eq!(fleet.summary().await.unwrap().0.as_ref(), Some(one));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_of_many_workers_are_read_once_each() {
    let world = world().await;
    let fleet = fleet(&world);
    let (minute, server) = (Minute::of(now()), ServerId::parse("crm").unwrap());
    let of = |tool: &str, minute, calls: u32| {
        let mut rollup = Rollup::default();
        (0..calls).for_each(|_| rollup.add(OutcomeKind::Succeeded, 1, Some(1_000)));
        ToolRollup { tool: tool.into(), server: Some(server.clone()), minute, rollup }
    };
    let tool = RolledUpTool { tool: "find".into(), server: Some(server.clone()) };
    fleet.put_rolled_up_tools(minute, std::slice::from_ref(&tool)).await.unwrap();
    fleet.put_rolled_up_tools(minute, std::slice::from_ref(&tool)).await.unwrap();
    assert_eq!(fleet.rolled_up_tools(minute).await.unwrap().len(), 1);
    for boot in 0..20 {
        let rollups = [of("find", minute, 2), of("find", minute.plus(1), 1), of("other", minute, 9)];
        // A repeated write replaces what the first one wrote.
        for _ in 0..2 {
            fleet.put_rollups(&Nonce::from_random(boot), &rollups).await.unwrap();
        }
    }
    let read = fleet.rollups("find", minute, minute).await.unwrap();
    assert_eq!((read.len(), read.iter().map(|(_, one)| one.calls.total()).sum::<u64>()), (20, 40));
    let read = fleet.rollups("find", minute, minute.plus(1)).await.unwrap();
    assert_eq!((read.len(), read.iter().map(|(_, one)| one.calls.total()).sum::<u64>()), (40, 60));
    assert!(fleet.rollups("find", minute.plus(2), minute.plus(9)).await.unwrap().is_empty());

    let (hour, hours) = (minute.hour(), [of("find", minute.hour(), 60)]);
    fleet.put_rollup_hours(&hours).await.unwrap();
    assert!(fleet.compacted(hour, hour.plus(59)).await.unwrap().is_empty(), "not all tools are written");
    fleet.put_compacted(hour).await.unwrap();
    assert_eq!(fleet.compacted(hour, hour.plus(59)).await.unwrap(), [hour]);
    assert_eq!(fleet.rollup_hours("find", hour, hour).await.unwrap()[0].1, hours[0].rollup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_minutes_are_found_by_any_period_that_they_touch() {
    let world = world().await;
    let fleet = fleet(&world);
    let midnight = Minute::of(now()).next_day();
    let lost = |worker: &str, boot, from: Minute, to: Minute| LostMinutes {
        worker: WorkerId::parse(worker).unwrap(),
        boot: Nonce::from_random(boot),
        from,
        to,
        calls: 5,
    };
    let (over_midnight, early) = (
        lost("w-1", 1, midnight.plus(-2), midnight.plus(3)),
        lost("w-2", 2, midnight.plus(-90), midnight.plus(-80)),
    );
    for one in [&over_midnight, &early, &over_midnight] {
        fleet.put_lost_minutes(one).await.unwrap();
    }
    let found = async |from: i64, to: i64| {
        let all = fleet.lost_minutes(midnight.plus(from), midnight.plus(to)).await.unwrap();
        all.into_iter().map(|lost| lost.worker.to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(2, 10).await, BTreeSet::from(["w-1".into()]), "it began on the day before");
    assert_eq!(found(-100, 0).await.len(), 2);
    assert!(found(-79, -3).await.is_empty() && found(4, 100).await.is_empty());
    let all = fleet.lost_minutes(midnight.plus(-100), midnight.plus(100)).await.unwrap();
    assert_eq!(all.len(), 2, "written twice, found once");
}
