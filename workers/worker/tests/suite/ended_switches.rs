//! What operators have set for a time has an audit record of its end: one, whoever dies or notices.

use std::sync::Arc;

use toolfleet_aws::Tables;
use toolfleet_client::Client;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::services::aggregator::Aggregator;

use crate::control::{pause, set, take};
use crate::rig::Rig;

const PAUSE_MS: u64 = 60_000;

/// The records of ends, as audit records of the fleet.
async fn ends(rig: &Rig) -> Vec<AuditRecord> {
    let mut records = rig.audit(&Tenant::of_fleet()).await;
    records.retain(|record| record.call_id.as_str().starts_with("end-"));
    records
}

/// A worker that knows of a pause which has ended since.
async fn with_an_ended_pause(rig: &Rig) -> Arc<WorkerContext> {
    let context = rig.context(None).await;
    set(rig, &context, &pause(rig, "server:mock", Some(PAUSE_MS))).await;
    rig.clock.advance_ms(PAUSE_MS);
    take(rig, &context).await;
    context
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_pause_by_itself_is_one_record_whoever_dies() {
    let rig = Rig::new().await;
    let context = with_an_ended_pause(&rig).await;
    let aggregator = Aggregator::new(context.clone());
    assert!(aggregator.beat().await);
    assert!(ends(&rig).await.is_empty(), "by another clock it may not have ended");
    rig.clock.advance_ms(2_000);
    // The table takes the record, and the worker does not learn of it.
    rig.dynamodb.cut(Rule::new(Cut::AfterAnswer, "ExecuteStatement", 1).times(8));
    aggregator.beat().await;
    rig.dynamodb.behave();
    aggregator.beat().await;
    let of_first = ends(&rig).await;
    let [record] = of_first.as_slice() else { panic!("{of_first:?}") };
    assert_eq!((record.kind, record.tool.as_deref()), (AuditKind::Switch, Some("pause#server:mock#*")));
    assert_eq!(record.user.as_ref().unwrap().id, "ann");
    let until = Timestamp::from_ms(i64::try_from(rig.clock.now_ms() - 2_000).unwrap());
    assert_eq!(record.at, until, "when it ended, not when somebody noticed");
    // It dies. The next holder of the lease does not know what was recorded.
    rig.clock.advance_ms(60_000);
    let other = rig.context(None).await;
    take(&rig, &other).await;
    assert!(Aggregator::new(other).beat().await);
    assert_eq!(ends(&rig).await, of_first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_pause_that_is_set_anew_is_recorded_before() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "server:mock", Some(PAUSE_MS))).await;
    rig.clock.advance_ms(PAUSE_MS + 1);
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let queue = rig.local.queue_url("toolfleet-calls");
    let client = Client::new(&rig.direct, queue, &Tables::with_prefix("toolfleet"), Arc::new(now));
    assert_eq!(client.controls().set(&pause(&rig, "server:mock", None)).await.unwrap(), None);
    assert_eq!(ends(&rig).await.len(), 1, "no worker could have noticed any more");
    take(&rig, &context).await;
    assert!(Aggregator::new(context).beat().await);
    assert_eq!(ends(&rig).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_removes_what_ended_an_hour_ago_with_its_record() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "server:mock", Some(PAUSE_MS))).await;
    set(&rig, &context, &pause(&rig, "server:other", None)).await;
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let queue = rig.local.queue_url("toolfleet-calls");
    let client = Client::new(&rig.direct, queue, &Tables::with_prefix("toolfleet"), Arc::new(now));
    let change = async |target: &str| client.controls().set(&pause(&rig, target, None)).await.unwrap();
    let count = async || context.fleet.control_entries().await.unwrap().len();
    rig.clock.advance_ms(PAUSE_MS + 59 * 60_000);
    change("server:a").await;
    assert_eq!(count().await, 3);
    rig.clock.advance_ms(60_000);
    change("server:b").await;
    assert_eq!((count().await, ends(&rig).await.len()), (3, 1), "no worker has run since its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ends_are_recorded_over_several_beats() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    for n in 0..110 {
        let entry = pause(&rig, &format!("server:s{n}"), Some(PAUSE_MS));
        context.fleet.set_control(&entry).await.unwrap();
    }
    rig.clock.advance_ms(PAUSE_MS + 2_000);
    take(&rig, &context).await;
    let aggregator = Aggregator::new(context);
    for recorded in [100, 110, 110] {
        assert!(aggregator.beat().await);
        assert_eq!(ends(&rig).await.len(), recorded, "the lease does not wait for all of them");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_ends_has_no_record_of_an_end_by_itself() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let entry = pause(&rig, "server:mock", Some(PAUSE_MS));
    set(&rig, &context, &entry).await;
    context.fleet.clear_control(&entry.key()).await.unwrap();
    rig.clock.advance_ms(2 * PAUSE_MS);
    take(&rig, &context).await;
    assert!(Aggregator::new(context).beat().await);
    assert!(ends(&rig).await.is_empty());
}
