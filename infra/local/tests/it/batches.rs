//! Tests of the batch operations: what fails as a whole, and what fails alone.
//!
//! **Invariant:** a failed entry never harms its neighbours.

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry,
};

use crate::harness::Local;

const CALLS: &str = "toolfleet-calls";

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
}

#[tokio::test]
async fn a_bad_entry_fails_alone_with_its_code() {
    let local = Local::start().await;
    let late =
        SendMessageBatchRequestEntry::builder().id("late").message_body("x").delay_seconds(901).build();
    let entries = vec![entry("good", "x"), entry("bad", "a\u{2}"), late.unwrap(), entry("also-good", "y")];
    let sent = local.sqs.send_message_batch().queue_url(local.url(CALLS)).set_entries(Some(entries)).send();
    let sent = sent.await.unwrap();
    let good: Vec<_> = sent.successful().iter().map(|entry| entry.id()).collect();
    let bad: Vec<_> =
        sent.failed().iter().map(|entry| (entry.id(), entry.code(), entry.sender_fault())).collect();
    assert_eq!(good, ["good", "also-good"]);
    assert_eq!(bad, [("bad", "InvalidMessageContents", true), ("late", "InvalidParameterValue", true)]);
    let received =
        local.sqs.receive_message().queue_url(local.url(CALLS)).max_number_of_messages(10).send().await;
    assert_eq!(received.unwrap().messages().len(), 2);
}

#[tokio::test]
async fn a_batch_that_breaks_a_rule_of_batches_fails_as_a_whole() {
    let local = Local::start().await;
    let refused = async |entries: Vec<SendMessageBatchRequestEntry>| {
        let sent =
            local.sqs.send_message_batch().queue_url(local.url(CALLS)).set_entries(Some(entries)).send();
        sent.await.unwrap_err().into_service_error()
    };
    assert!(refused(vec![]).await.is_empty_batch_request());
    let eleven = (0..11).map(|at| entry(&at.to_string(), "x")).collect();
    assert!(refused(eleven).await.is_too_many_entries_in_batch_request());
    assert!(refused(vec![entry("a", "x"), entry("a", "y")]).await.is_batch_entry_ids_not_distinct());
    assert!(refused(vec![entry("a b", "x")]).await.is_invalid_batch_entry_id());
    let half = "x".repeat(524_289);
    assert!(refused(vec![entry("a", &half), entry("b", &half)]).await.is_batch_request_too_long());
    let received = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(0).send().await;
    assert!(received.unwrap().messages().is_empty());
}

#[tokio::test]
async fn ten_messages_are_hidden_longer_and_deleted_in_one_request_each() {
    let local = Local::start().await;
    let url = local.url(CALLS);
    let entries = (0..10).map(|at| entry(&format!("e{at}"), "x")).collect();
    local.sqs.send_message_batch().queue_url(&url).set_entries(Some(entries)).send().await.unwrap();
    let received =
        local.sqs.receive_message().queue_url(&url).max_number_of_messages(10).send().await.unwrap();
    let mut handles: Vec<_> =
        received.messages().iter().map(|found| found.receipt_handle().unwrap()).collect();
    assert_eq!(handles.len(), 10);
    handles[9] = "nonsense";

    let hide = |(at, handle): (usize, &&str)| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(format!("e{at}"));
        entry.receipt_handle(*handle).visibility_timeout(600).build().unwrap()
    };
    let entries = handles.iter().enumerate().map(hide).collect();
    let hidden =
        local.sqs.change_message_visibility_batch().queue_url(&url).set_entries(Some(entries)).send();
    let hidden = hidden.await.unwrap();
    assert_eq!((hidden.successful().len(), hidden.failed()[0].code()), (9, "ReceiptHandleIsInvalid"));

    let forget = |(at, handle): (usize, &&str)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(format!("e{at}"))
            .receipt_handle(*handle)
            .build()
            .unwrap()
    };
    let entries = handles.iter().enumerate().map(forget).collect();
    let deleted =
        local.sqs.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await.unwrap();
    assert_eq!((deleted.successful().len(), deleted.failed()[0].id()), (9, "e9"));
    local.clock.advance_ms(600_000);
    let left = local.sqs.receive_message().queue_url(&url).max_number_of_messages(10).send().await.unwrap();
    assert_eq!(left.messages().len(), 1);
}

#[tokio::test]
async fn one_batch_wakes_as_many_waiting_receivers_as_it_has_messages() {
    let local = Local::start().await;
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20);
        receivers.spawn(ask.send());
    }
    // Answered by the server's one thread after the requests before it: the receivers wait.
    local.sqs.list_queues().send().await.unwrap();
    let entries = (0..10).map(|at| entry(&format!("e{at}"), "x")).collect();
    local
        .sqs
        .send_message_batch()
        .queue_url(local.url(CALLS))
        .set_entries(Some(entries))
        .send()
        .await
        .unwrap();
    let received = receivers.join_all().await;
    assert!(received.into_iter().all(|answer| answer.unwrap().messages().len() == 1));
}
