//! Tests of queue operations: what exists, with which attributes, and how it is refused.
//!
//! **Invariant:** every refusal is seen as the SDK's typed error.

use std::collections::HashMap;

use aws_sdk_sqs::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sqs::types::QueueAttributeName as Name;

use crate::harness::Local;

#[tokio::test]
async fn a_queue_that_does_not_exist_is_the_typed_error_of_every_operation() {
    let local = Local::start().await;
    let url = local.url("nobody");
    let sqs = &local.sqs;
    let sent = sqs.send_message().queue_url(&url).message_body("x").send().await.unwrap_err();
    assert!(sent.as_service_error().unwrap().is_queue_does_not_exist());
    let received = sqs.receive_message().queue_url(&url).wait_time_seconds(20).send().await.unwrap_err();
    assert!(received.as_service_error().unwrap().is_queue_does_not_exist());
    let deleted = sqs.delete_message().queue_url(&url).receipt_handle("x").send().await.unwrap_err();
    assert!(deleted.as_service_error().unwrap().is_queue_does_not_exist());
    let named = sqs.get_queue_url().queue_name("nobody").send().await.unwrap_err();
    assert!(named.as_service_error().unwrap().is_queue_does_not_exist());
    let read = sqs.get_queue_attributes().queue_url(&url).send().await.unwrap_err();
    assert!(read.as_service_error().unwrap().is_queue_does_not_exist());
    let purged = sqs.purge_queue().queue_url(&url).send().await.unwrap_err();
    assert!(purged.as_service_error().unwrap().is_queue_does_not_exist());
}

#[tokio::test]
async fn creating_a_queue_twice_is_harmless_unless_an_attribute_differs() {
    let local = Local::start().await;
    let create = |delay: &str| local.sqs.create_queue().queue_name("q").attributes(Name::DelaySeconds, delay);
    let first = create("5").send().await.unwrap();
    assert_eq!(first.queue_url(), Some(local.url("q").as_str()));
    assert_eq!(create("5").send().await.unwrap().queue_url(), first.queue_url());
    assert!(local.sqs.create_queue().queue_name("q").send().await.is_ok());
    let error = create("6").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_queue_name_exists());
}

#[tokio::test]
async fn attributes_out_of_range_unknown_or_pointing_nowhere_are_refused() {
    let local = Local::start().await;
    let refused = async |name: Name, value: &str| {
        let sent = local.sqs.create_queue().queue_name("q").attributes(name, value).send().await;
        sent.unwrap_err().into_service_error()
    };
    assert!(refused(Name::VisibilityTimeout, "43201").await.is_invalid_attribute_value());
    assert!(refused(Name::MaximumMessageSize, "1048577").await.is_invalid_attribute_value());
    assert!(refused(Name::from("Colour"), "red").await.is_invalid_attribute_name());
    assert!(refused(Name::Policy, "no json").await.is_invalid_attribute_value());
    assert!(refused(Name::FifoQueue, "false").await.is_invalid_attribute_name());
    let nowhere =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:nowhere","maxReceiveCount":3}"#;
    assert_eq!(refused(Name::RedrivePolicy, nowhere).await.code(), Some("InvalidParameterValue"));
    let named = local.sqs.create_queue().queue_name("no spaces").send().await.unwrap_err();
    assert_eq!(named.code(), Some("InvalidParameterValue"));
}

#[tokio::test]
async fn attributes_are_counted_described_and_replaced() {
    let local = Local::start().await;
    let url = local.url("toolfleet-calls");
    for delay in [0, 0, 0, 60] {
        local.sqs.send_message().queue_url(&url).message_body("x").delay_seconds(delay).send().await.unwrap();
    }
    local.sqs.receive_message().queue_url(&url).send().await.unwrap();
    local
        .sqs
        .set_queue_attributes()
        .queue_url(&url)
        .attributes(Name::DelaySeconds, "9")
        .send()
        .await
        .unwrap();
    let read =
        local.sqs.get_queue_attributes().queue_url(&url).attribute_names(Name::All).send().await.unwrap();
    let shown = read.attributes().unwrap();
    let wanted = HashMap::from([
        (Name::ApproximateNumberOfMessages, "2"),
        (Name::ApproximateNumberOfMessagesNotVisible, "1"),
        (Name::ApproximateNumberOfMessagesDelayed, "1"),
        (Name::VisibilityTimeout, "30"),
        (Name::DelaySeconds, "9"),
        (Name::MessageRetentionPeriod, "1209600"),
        (Name::QueueArn, "arn:aws:sqs:us-east-1:000000000000:toolfleet-calls"),
        (Name::CreatedTimestamp, "1800000000"),
    ]);
    for (name, value) in wanted {
        assert_eq!(shown[&name], value, "{name}");
    }
    let two = [Name::QueueArn, Name::DelaySeconds];
    let read = local.sqs.get_queue_attributes().queue_url(&url).set_attribute_names(Some(two.to_vec()));
    assert_eq!(read.send().await.unwrap().attributes().unwrap().len(), 2);
    let unknown =
        local.sqs.get_queue_attributes().queue_url(&url).attribute_names(Name::from("Colour")).send().await;
    assert!(unknown.unwrap_err().into_service_error().is_invalid_attribute_name());
}

#[tokio::test]
async fn queues_are_listed_by_prefix_and_page_by_page() {
    let local = Local::start().await;
    for name in ["many-1", "many-2", "many-3"] {
        local.sqs.create_queue().queue_name(name).send().await.unwrap();
    }
    let mut pages = local.sqs.list_queues().queue_name_prefix("many").max_results(2).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.push(page.unwrap().queue_urls().to_vec());
    }
    assert_eq!(found, [vec![local.url("many-1"), local.url("many-2")], vec![local.url("many-3")]]);
}

#[tokio::test]
async fn the_sources_of_a_dead_letter_queue_are_listed() {
    let local = Local::start().await;
    let asked = local.sqs.list_dead_letter_source_queues().queue_url(local.url("toolfleet-calls-dlq"));
    assert_eq!(asked.send().await.unwrap().queue_urls(), [local.url("toolfleet-calls")]);
}

#[tokio::test]
async fn purging_forgets_messages_and_deleting_forgets_the_queue() {
    let local = Local::start().await;
    let url = local.url("toolfleet-replies");
    local.sqs.send_message().queue_url(&url).message_body("x").send().await.unwrap();
    local.sqs.purge_queue().queue_url(&url).send().await.unwrap();
    let received = local.sqs.receive_message().queue_url(&url).wait_time_seconds(0).send().await.unwrap();
    assert!(received.messages().is_empty());
    local.sqs.delete_queue().queue_url(&url).send().await.unwrap();
    let named = local.sqs.get_queue_url().queue_name("toolfleet-replies").send().await.unwrap_err();
    assert!(named.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn tags_are_added_listed_and_removed() {
    let local = Local::start().await;
    let url = local.url("toolfleet-calls");
    local.sqs.tag_queue().queue_url(&url).tags("team", "a").tags("env", "dev").send().await.unwrap();
    local.sqs.untag_queue().queue_url(&url).tag_keys("env").send().await.unwrap();
    let tags = local.sqs.list_queue_tags().queue_url(&url).send().await.unwrap();
    assert_eq!(tags.tags(), Some(&HashMap::from([("team".to_owned(), "a".to_owned())])));
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let local = Local::start().await;
    let url = local.url("toolfleet-calls");
    let granted = local.sqs.add_permission().queue_url(&url).label("x").aws_account_ids("1").actions("*");
    let refusal = granted.send().await.unwrap_err();
    assert!(matches!(&refusal, SdkError::ServiceError(error) if error.err().is_unsupported_operation()));
}

#[tokio::test]
async fn a_receive_that_waits_on_a_queue_that_is_deleted_is_told_so() {
    let local = Local::start().await;
    let url = local.url("toolfleet-replies");
    let waiting = tokio::spawn(local.sqs.receive_message().queue_url(&url).wait_time_seconds(20).send());
    local.sqs.list_queues().send().await.unwrap();
    local.sqs.delete_queue().queue_url(&url).send().await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
}
