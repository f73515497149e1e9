//! Tests of a start: what exists after it, and what makes it fail.
//!
//! **Invariant:** a start that fails says what to do, and leaves nothing running.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_local::{Clock, DATA_YAML, LocalEndpoints, LocalError, LocalOptions};

use crate::harness::{Local, START_MS};

#[tokio::test]
async fn the_queues_and_tables_of_the_template_are_there_after_the_start() {
    let local = Local::start().await;
    let queues = local.sqs.list_queues().send().await.unwrap();
    let wanted = ["toolfleet-calls", "toolfleet-calls-dlq", "toolfleet-replies"].map(|name| local.url(name));
    assert_eq!(queues.queue_urls(), wanted);
    let tables = local.dynamodb.list_tables().send().await.unwrap();
    let expected = [
        "toolfleet-calls",
        "toolfleet-catalogs",
        "toolfleet-fleet",
        "toolfleet-history",
        "toolfleet-sessions",
    ];
    assert_eq!(tables.table_names(), expected);
    for table in tables.table_names() {
        let ttl = local.dynamodb.describe_time_to_live().table_name(table).send().await.unwrap();
        // A catalog stays until it is replaced.
        let expected = (table != "toolfleet-catalogs").then_some("expires_at");
        let description = ttl.time_to_live_description().unwrap();
        assert_eq!(description.attribute_name(), expected, "{table}");
    }
    local.endpoints.shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = LocalOptions { dynamodb_port: port, ..LocalOptions::default() };
    let error = LocalEndpoints::start(options).await.unwrap_err();
    assert!(matches!(error, LocalError::Port { .. }));
    let wanted = format!(
        "port {port} of 127.0.0.1 cannot be used for DynamoDB; stop what uses it or choose another port (0 takes any)"
    );
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test]
async fn a_prefix_lets_several_fleets_live_side_by_side() {
    let local =
        Local::start_with(LocalOptions { prefix: "other".to_owned(), ..LocalOptions::default() }).await;
    let names: Vec<_> = local.endpoints.template().queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["other-calls-dlq", "other-replies", "other-calls"]);
    assert!(local.sqs.get_queue_url().queue_name("other-calls").send().await.is_ok());
}

#[tokio::test]
async fn a_row_past_its_time_to_live_is_deleted_by_the_clock_of_the_endpoints() {
    let local = Local::start().await;
    let put =
        local.dynamodb.put_item().table_name("toolfleet-calls").item("pk", AttributeValue::S("a".to_owned()));
    put.item("expires_at", AttributeValue::N((START_MS / 1000 + 60).to_string())).send().await.unwrap();
    assert_eq!(local.endpoints.delete_expired_rows().unwrap(), 0);
    local.clock.advance_ms(61_000);
    assert_eq!(local.endpoints.delete_expired_rows().unwrap(), 1);
}

#[tokio::test]
async fn a_template_that_cannot_be_used_names_the_resource_and_the_property() {
    let template = Some(DATA_YAML.replace("Ref: MaxReceiveCount", "Ref: MaxReceives"));
    let error =
        LocalEndpoints::start(LocalOptions { template, ..LocalOptions::default() }).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "resource CallsQueue, property RedrivePolicy.maxReceiveCount: Ref names MaxReceives, which is neither a parameter \
         nor a resource"
    );
}

#[tokio::test]
async fn waiting_receives_are_answered_empty_when_the_endpoints_shut_down() {
    let local = Local::start_at(Clock::system(), LocalOptions::default()).await;
    let ask = local.sqs.receive_message().queue_url(local.url("toolfleet-calls")).wait_time_seconds(20);
    let waiting = tokio::spawn(ask.send());
    // Answered on the same thread of the server: the waiting request is there.
    local.sqs.list_queues().send().await.unwrap();
    let shutdown = local.endpoints.shutdown();
    let (received, ()) = tokio::join!(waiting, shutdown);
    assert!(received.unwrap().unwrap().messages().is_empty());
}
