//! The start of a worker: it waits while AWS does not answer, and ends at once where only a person can help.

use std::time::Duration;

use tokio::net::TcpListener;
use toolfleet_catalog::Catalog;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::start::Starting;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{StartError, WorkerConfig};

use crate::rig::SENDER;
use crate::rig::{Rig, connect};
use crate::telemetry::get;

const DRAIN: Duration = Duration::from_secs(5);

fn config(rig: &Rig, prefix: &str) -> WorkerConfig {
    let queue_url = rig.queue().url().to_owned();
    let read = WorkerConfig::read(&|name| match name {
        "TOOLFLEET_QUEUE_URL" => Some(queue_url.clone()),
        "TOOLFLEET_CATALOG" => Some("catalog.json".to_owned()),
        "TOOLFLEET_TABLE_PREFIX" => Some(prefix.to_owned()),
        _ => None,
    });
    read.unwrap()
}

fn catalog() -> Catalog {
    Catalog::parse(r#"{"servers": [], "tenants": {"queue": ["*"]}}"#).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_alive_and_not_ready_while_the_tables_do_not_answer() {
    let rig = Rig::new().await;
    let config = config(&rig, "toolfleet");
    // The SDK tries each request three times, so that two checks fail.
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "GetItem", 1).times(7));
    let aws = connect(&rig.sqs.url(), &rig.dynamodb.url(), rig.local.secretsmanager_url(), SENDER).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let starting = Starting::new(DRAIN, Some((listener, None))).unwrap();
    let started =
        tokio::spawn(async move { starting.start(&config, aws, catalog(), Meters::none(), None).await });
    while rig.dynamodb.cuts() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(address, "/health/ready").await, (503, "the worker starts\n".to_owned()));
    assert_eq!(get(address, "/health/live").await, (200, "ok\n".to_owned()));
    let mut worker = started.await.unwrap().unwrap();
    assert_eq!(rig.dynamodb.cuts(), 7);
    while get(address, "/health/ready").await.0 != 200 {}
    worker.drain();
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_while_its_credentials_are_refused() {
    let rig = Rig::new().await;
    let expired = Rule::new(Cut::Refused("ExpiredToken"), "GetQueueAttributes", 1).times(2);
    rig.sqs.cut(expired);
    let aws = connect(&rig.sqs.url(), &rig.dynamodb.url(), rig.local.secretsmanager_url(), SENDER).await;
    let starting = Starting::new(DRAIN, None).unwrap();
    let started = starting.start(&config(&rig, "toolfleet"), aws, catalog(), Meters::none(), None).await;
    let mut worker = started.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rig.sqs.cuts(), 2);
    worker.drain();
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_its_tables_ends_at_once_with_the_remedy() {
    let rig = Rig::new().await;
    let aws = connect(&rig.sqs.url(), &rig.dynamodb.url(), rig.local.secretsmanager_url(), SENDER).await;
    let starting = Starting::new(DRAIN, None).unwrap();
    let started = starting.start(&config(&rig, "nowhere"), aws, catalog(), Meters::none(), None).await;
    let Err(error @ StartError::Aws(_)) = started else { panic!("it has started") };
    assert!(error.to_string().contains("deploy infra/cloudformation/data.yaml"), "{error}");
}
