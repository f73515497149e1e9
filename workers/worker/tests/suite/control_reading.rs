//! When a worker reads what operators have set: before it takes calls, and until it exits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::Tables;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::fleet::WorkerRow;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::services::aggregator::Aggregator;
use toolfleet_worker::services::control::ControlReader;
use toolfleet_worker::services::reporter::Reporter;
use toolfleet_worker::start::{self, ServiceOptions};

use crate::rig::{CrashAfter, Rig, SENDER, connect, request, run_service};

fn pause() -> ControlEntry {
    ControlEntry::Pause(Switch {
        target: SwitchTarget::parse("server:mock").unwrap(),
        tenant: None,
        by: "ann".to_owned(),
        why: "it drops orders".to_owned(),
        since: Timestamp::from_ms(0),
        until: None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_reads_pauses_before_it_takes_calls() {
    let rig = Rig::new().await;
    let parked = CrashAfter::new(Step::Reposted);
    let context = rig.context(Some(parked.clone())).await;
    context.fleet.set_control(&pause()).await.unwrap();
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "GetItem", 1).with_body("control#version").times(6));
    let worker = tokio::spawn(start::run(context.clone(), ServiceOptions::default()));
    parked.reached.notified().await;
    assert_eq!((rig.mcp.executions("unsafe"), rig.dynamodb.cuts()), (0, 6));
    worker.abort();
}

/// A table that is missing, or that the worker may not read, is no reason to start calls that may be paused: the error looks permanent, and
/// an operator mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_may_not_read_what_operators_set_takes_no_call() {
    let rig = Rig::new().await;
    let mut context = rig.context(None).await;
    let aws = connect(rig.local.sqs_url(), &rig.dynamodb.url(), rig.local.secretsmanager_url(), SENDER).await;
    Arc::get_mut(&mut context).unwrap().fleet = aws.fleet(&Tables::with_prefix("missing"));
    let (reader, shutdown) = (ControlReader::new(context.clone()), context.shutdown.clone());
    let read = tokio::spawn(async move { reader.read_first(&shutdown).await });
    // It reads again after an error that no other try is expected to change.
    while rig.dynamodb.count("GetItem") < 3 {
        assert!(!read.is_finished(), "it gave up, and the worker takes calls unread");
        tokio::task::yield_now().await;
    }
    read.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_still_reads_pauses() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    context.shutdown.begin(Duration::from_secs(60));
    let reading = tokio::spawn(run_service(ControlReader::new(context.clone()), context.shutdown.clone()));
    context.fleet.set_control(&pause()).await.unwrap();
    let taken = async {
        while context.gate.control().version() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.expect("the calls under way meet the pause");
    assert!(!reading.is_finished());
    reading.abort();
}

/// The row that the worker writes now.
async fn row(rig: &Rig, reporter: &Reporter) -> WorkerRow {
    reporter.beat().await;
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    fleet.worker_rows().await.unwrap().remove(0)
}

/// Else an operator who has paused something would believe that it stopped everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_says_how_old_its_switches_are() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let (reporter, reader) = (Reporter::new(context.clone()), ControlReader::new(context.clone()));
    assert_eq!(row(&rig, &reporter).await.control, None, "it has not read them");
    reader.read_first(&context.shutdown).await;
    let fresh = row(&rig, &reporter).await;
    assert!(fresh.control.is_some() && !fresh.has_old_switches(), "{fresh:?}");

    // As after a minute in which no reading was answered.
    let control = context.gate.control();
    control.note_read(Instant::now().checked_sub(Duration::from_secs(60)).unwrap());
    rig.direct.fleet(&Tables::with_prefix("toolfleet")).set_control(&pause()).await.unwrap();
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "GetItem", 1).with_body("control#version").times(1_000));
    let reading = tokio::spawn(run_service(reader, context.shutdown.clone()));
    rig.dynamodb.cut_made(4).await;
    let old = row(&rig, &reporter).await;
    assert!(old.has_old_switches() && old.switches_age_ms() >= Some(60_000), "{old:?}");
    assert_eq!(old.control.unwrap().version, 0);
    assert!(control.age_ms() >= Some(60_000));
    Aggregator::new(context.clone()).beat().await;
    let summary = context.fleet_view.last().unwrap();
    assert_eq!((summary.workers.old_switches, summary.old_switches.len()), (1, 1));
    assert!(summary.old_switches[&context.worker].age_ms >= 60_000);

    rig.dynamodb.behave();
    let taken = async {
        while control.version() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("it reads again");
    let fresh = row(&rig, &reporter).await;
    assert!(!fresh.has_old_switches() && fresh.control.unwrap().version > 0, "{fresh:?}");
    reading.abort();
}
