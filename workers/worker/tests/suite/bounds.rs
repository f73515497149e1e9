//! Limits of bodies, receives and leases that follow from SQS: what does not fit is refused with the remedy.

use std::collections::BTreeMap;

use serde_json::json;
use toolfleet_aws::queue::MAX_BODY_BYTES;
use toolfleet_catalog::Catalog;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_local::{LocalEndpoints, LocalOptions};
use toolfleet_testkit::MockFault;
use toolfleet_worker::config::WorkerConfig;
use toolfleet_worker::start;
use toolfleet_worker::telemetry::Meters;

use crate::rig::{Rig, SENDER, connect, request};

/// A call whose message has so many bytes.
fn of_size(id: &str, bytes: usize) -> String {
    let mut request = request(id, "unsafe");
    request["arguments"]["pad"] = json!("");
    let pad = bytes - request.to_string().len();
    request["arguments"]["pad"] = json!("x".repeat(pad));
    let body = request.to_string();
    assert_eq!(body.len(), bytes);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_body_that_is_taken_can_be_parked() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.mcp.tool("unsafe", |_| json!({"content": []}));
    rig.send(of_size("c1", MAX_BODY_BYTES)).await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    rig.deliver(&context).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.delayed), (0, 1), "it waits as a message of its own");
    rig.clock.advance_ms(300_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_large_to_park_is_refused_with_the_remedy() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    for (id, bytes) in [("one-more", MAX_BODY_BYTES + 1), ("all", 1_048_576)] {
        rig.send(of_size(id, bytes)).await;
        rig.deliver(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("request_too_large")));
        assert!(seen.message.contains(&MAX_BODY_BYTES.to_string()), "{}", seen.message);
        assert_eq!(rig.mcp.executions_of(id), 0);
    }
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!(depth.visible + depth.in_flight + depth.delayed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_gives_messages_up_too_early_refuses_the_start() {
    for (count, starts) in [("4", false), ("5", true)] {
        let parameters = BTreeMap::from([("MaxReceiveCount".to_owned(), count.to_owned())]);
        let options = LocalOptions { parameters, ..LocalOptions::default() };
        let local = LocalEndpoints::start(options).await.unwrap();
        let aws = connect(local.sqs_url(), local.dynamodb_url(), local.secretsmanager_url(), SENDER).await;
        let queue_url = local.queue_url("toolfleet-calls");
        let config = WorkerConfig::read(&|name| match name {
            "TOOLFLEET_QUEUE_URL" => Some(queue_url.clone()),
            "TOOLFLEET_CATALOG" => Some("catalog.json".to_owned()),
            _ => None,
        });
        let catalog = Catalog::parse(r#"{"servers": [], "tenants": {"queue": ["*"]}}"#).unwrap();
        let started = start::context(&config.unwrap(), aws, catalog, Meters::none()).await;
        match started {
            Ok(_) => assert!(starts, "maxReceiveCount {count}"),
            Err(error) => {
                assert!(!starts, "{error}");
                let text = error.to_string();
                assert!(text.contains("MaxReceiveCount") && text.contains("5 or more"), "{text}");
            }
        }
    }
}
