//! Tests of FIFO queues: order within a group, deduplication by the clock, and what a restart keeps.
//!
//! **Invariant:** time passes only when a test advances the clock.

use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName as Name};
use toolfleet_local::Clock;

use crate::durability::Scratch;
use crate::harness::{Local, START_MS};

const ORDERS: &str = "orders.fifo";

async fn with_queue(local: Local, more: &[(Name, &str)]) -> Local {
    let create = local.sqs.create_queue().queue_name(ORDERS).attributes(Name::FifoQueue, "true");
    more.iter()
        .fold(create, |create, (name, value)| create.attributes(name.clone(), *value))
        .send()
        .await
        .unwrap();
    local
}

async fn send(local: &Local, group: &str, body: &str, id: &str) -> SendMessageOutput {
    let send = local.sqs.send_message().queue_url(local.url(ORDERS)).message_body(body);
    send.message_group_id(group).message_deduplication_id(id).send().await.unwrap()
}

async fn receive(local: &Local, max: i32) -> Vec<Message> {
    let ask = local.sqs.receive_message().queue_url(local.url(ORDERS)).max_number_of_messages(max);
    let ask = ask.message_system_attribute_names(MessageSystemAttributeName::All);
    ask.send().await.unwrap().messages.unwrap_or_default()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

async fn delete(local: &Local, message: &Message) {
    let handle = message.receipt_handle().unwrap();
    local.sqs.delete_message().queue_url(local.url(ORDERS)).receipt_handle(handle).send().await.unwrap();
}

#[tokio::test]
async fn a_group_with_a_message_in_flight_waits_and_others_do_not() {
    let local = with_queue(Local::start().await, &[]).await;
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&local, group, body, body).await;
    }
    let first = receive(&local, 1).await;
    assert_eq!(bodies(&first), ["a1"]);
    assert_eq!(bodies(&receive(&local, 10).await), ["b1"]);
    delete(&local, &first[0]).await;
    assert_eq!(bodies(&receive(&local, 10).await), ["a2"]);
    assert!(receive(&local, 10).await.is_empty());
    local.clock.advance_ms(30_000);
    assert_eq!(bodies(&receive(&local, 10).await), ["a2", "b1"]);
}

#[tokio::test]
async fn a_request_takes_as_much_of_one_group_as_it_can_in_order() {
    let local = with_queue(Local::start().await, &[]).await;
    for (group, body) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("a", "a3")] {
        send(&local, group, body, body).await;
    }
    assert_eq!(bodies(&receive(&local, 4).await), ["a1", "a2", "a3", "b1"]);
    assert!(receive(&local, 10).await.is_empty());
}

#[tokio::test]
async fn a_deduplication_id_is_forgotten_after_five_minutes_to_the_millisecond() {
    let local = with_queue(Local::start().await, &[]).await;
    let first = send(&local, "a", "x", "same").await;
    delete(&local, &receive(&local, 1).await[0]).await;
    local.clock.advance_ms(299_999);
    let again = send(&local, "a", "x", "same").await;
    assert_eq!((again.message_id(), again.sequence_number()), (first.message_id(), first.sequence_number()));
    assert!(receive(&local, 1).await.is_empty());
    local.clock.advance_ms(1);
    let other = send(&local, "a", "x", "same").await;
    assert_ne!(other.message_id(), first.message_id());
    assert_eq!(receive(&local, 10).await.len(), 1);
}

#[tokio::test]
async fn a_restart_keeps_order_blocked_groups_sequence_numbers_and_deduplication_ids() {
    let scratch = Scratch::new("fifo");
    let clock = Clock::manual(START_MS);
    let local = with_queue(Local::start_at(clock.clone(), scratch.options()).await, &[]).await;
    let first = send(&local, "a", "1", "1").await;
    let second = send(&local, "a", "2", "2").await;
    delete(&local, &receive(&local, 1).await[0]).await;
    let held = receive(&local, 1).await;
    drop(local);

    // Twice: the second start reads what the first one rewrote.
    drop(Local::start_at(clock.clone(), scratch.options()).await);
    let local = Local::start_at(clock.clone(), scratch.options()).await;
    assert_eq!(send(&local, "a", "1", "1").await.message_id(), first.message_id());
    let third = send(&local, "a", "3", "3").await;
    let number = |sent: &SendMessageOutput| sent.sequence_number().unwrap().parse::<u128>().unwrap();
    assert!(number(&third) > number(&second));
    assert!(receive(&local, 10).await.is_empty(), "the group of a message in flight was not held back");
    delete(&local, &held[0]).await;
    assert_eq!(bodies(&receive(&local, 10).await), ["3"]);
}

#[tokio::test]
async fn what_a_fifo_queue_needs_is_asked_for_by_the_right_error() {
    let local = with_queue(Local::start().await, &[]).await;
    let send = || local.sqs.send_message().queue_url(local.url(ORDERS)).message_body("x");
    let code =
        |error: aws_sdk_sqs::operation::send_message::SendMessageError| error.code().map(str::to_owned);
    let no_group = send().message_deduplication_id("1").send().await.unwrap_err().into_service_error();
    assert_eq!(code(no_group).as_deref(), Some("MissingParameter"));
    let no_id = send().message_group_id("g").send().await.unwrap_err().into_service_error();
    assert_eq!(code(no_id).as_deref(), Some("InvalidParameterValue"));
    let late = send().message_group_id("g").message_deduplication_id("1").delay_seconds(1);
    let late = late.send().await.unwrap_err().into_service_error();
    assert_eq!(code(late).as_deref(), Some("InvalidParameterValue"));
}

#[tokio::test]
async fn the_delay_of_the_queue_holds_for_every_message_in_order() {
    let local = with_queue(Local::start().await, &[(Name::DelaySeconds, "5")]).await;
    send(&local, "a", "1", "1").await;
    local.clock.advance_ms(4_999);
    send(&local, "a", "2", "2").await;
    assert!(receive(&local, 10).await.is_empty());
    local.clock.advance_ms(1);
    assert_eq!(bodies(&receive(&local, 10).await), ["1"]);
}

#[tokio::test]
async fn a_receiver_that_waits_is_woken_when_its_group_is_free_again() {
    let local = with_queue(Local::start().await, &[]).await;
    send(&local, "a", "1", "1").await;
    send(&local, "a", "2", "2").await;
    let held = receive(&local, 1).await;
    let ask = local.sqs.receive_message().queue_url(local.url(ORDERS)).wait_time_seconds(20);
    let waiting = tokio::spawn(ask.send());
    local.sqs.list_queues().send().await.unwrap();
    delete(&local, &held[0]).await;
    assert_eq!(bodies(waiting.await.unwrap().unwrap().messages()), ["2"]);
}
