//! Tests of messages: send, wait, receive, hide, delete, and move to the dead-letter queue.
//!
//! **Invariant:** time passes only when a test advances the clock.

use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue,
};

use crate::harness::{Local, START_MS};

const CALLS: &str = "toolfleet-calls";

async fn send(local: &Local, body: &str) -> String {
    let sent = local.sqs.send_message().queue_url(local.url(CALLS)).message_body(body).send().await.unwrap();
    sent.message_id().unwrap().to_owned()
}

async fn receive_from(local: &Local, name: &str) -> Vec<Message> {
    let ask = local
        .sqs
        .receive_message()
        .queue_url(local.url(name))
        .max_number_of_messages(10)
        .wait_time_seconds(0);
    let ask =
        ask.message_system_attribute_names(MessageSystemAttributeName::All).message_attribute_names("All");
    ask.send().await.unwrap().messages.unwrap_or_default()
}

async fn receive(local: &Local) -> Vec<Message> {
    receive_from(local, CALLS).await
}

async fn delete(local: &Local, message: &Message) {
    let handle = message.receipt_handle().unwrap();
    local.sqs.delete_message().queue_url(local.url(CALLS)).receipt_handle(handle).send().await.unwrap();
}

fn string(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap()
}

#[tokio::test]
async fn a_message_comes_with_what_was_sent_and_when() {
    let local = Local::start().await;
    let binary =
        MessageAttributeValue::builder().data_type("Binary.png").binary_value(Blob::new([0, 255])).build();
    let trace = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value("Root=1-2-3")
        .build()
        .unwrap();
    let sent = local
        .sqs
        .send_message()
        .queue_url(local.url(CALLS))
        .message_body("hello")
        .message_attributes("tenant", string("acme"))
        .message_attributes("bytes", binary.unwrap())
        .message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, trace)
        .message_group_id("acme")
        .send()
        .await
        .unwrap();
    // Digests computed by an independent implementation (Python, from the description in the developer guide).
    assert_eq!(sent.md5_of_message_body(), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(sent.md5_of_message_attributes(), Some("aa8346b49460bc1c5de3958899877a4d"));
    assert_eq!(sent.md5_of_message_system_attributes(), Some("3f71502e2b401dca4ffefa0d1f324c78"));
    local.clock.advance_ms(250);
    let messages = receive(&local).await;
    let [message] = messages.as_slice() else { panic!("one message, not {messages:?}") };
    assert_eq!(message.message_id(), sent.message_id());
    assert_eq!(message.body(), Some("hello"));
    assert_eq!(message.md5_of_message_attributes(), sent.md5_of_message_attributes());
    let attributes = message.message_attributes().unwrap();
    assert_eq!(attributes["tenant"], string("acme"));
    assert_eq!(attributes["bytes"].binary_value(), Some(&Blob::new([0, 255])));
    let system = message.attributes().unwrap();
    for (name, value) in [
        (MessageSystemAttributeName::SenderId, "AKIDTEST".to_owned()),
        (MessageSystemAttributeName::SentTimestamp, START_MS.to_string()),
        (MessageSystemAttributeName::ApproximateReceiveCount, "1".to_owned()),
        (MessageSystemAttributeName::ApproximateFirstReceiveTimestamp, (START_MS + 250).to_string()),
        (MessageSystemAttributeName::AwsTraceHeader, "Root=1-2-3".to_owned()),
        (MessageSystemAttributeName::MessageGroupId, "acme".to_owned()),
    ] {
        assert_eq!(system[&name], value, "{name}");
    }
}

#[tokio::test]
async fn a_receiver_gets_the_attributes_it_asks_for_and_no_others() {
    let local = Local::start().await;
    let url = local.url(CALLS);
    let send = local.sqs.send_message().queue_url(&url).message_body("x");
    let send = send.message_attributes("user.name", string("a")).message_attributes("user.id", string("b"));
    send.message_attributes("other", string("c")).send().await.unwrap();
    let ask = async |pattern: Option<&str>| {
        let ask = local.sqs.receive_message().queue_url(&url).visibility_timeout(0);
        let ask = ask.set_message_attribute_names(pattern.map(|pattern| vec![pattern.to_owned()]));
        let message = ask.send().await.unwrap().messages.unwrap().remove(0);
        let mut names: Vec<_> = message.message_attributes.unwrap_or_default().into_keys().collect();
        names.sort();
        (names, message.attributes.is_none())
    };
    assert_eq!(ask(None).await, (vec![], true));
    assert_eq!(ask(Some("user.*")).await.0, ["user.id", "user.name"]);
    assert_eq!(ask(Some("other")).await.0, ["other"]);
    assert_eq!(ask(Some(".*")).await.0.len(), 3);
    #[expect(deprecated, reason = "older clients still send AttributeNames")]
    let old = local
        .sqs
        .receive_message()
        .queue_url(&url)
        .attribute_names(aws_sdk_sqs::types::QueueAttributeName::All);
    let attributes = old.send().await.unwrap().messages.unwrap().remove(0).attributes.unwrap();
    assert!(attributes.contains_key(&MessageSystemAttributeName::SenderId));
}

#[tokio::test]
async fn a_waiting_receive_gets_a_message_the_moment_it_is_sent() {
    let local = Local::start().await;
    let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20);
    let (received, sent) = tokio::join!(ask.send(), send(&local, "x"));
    assert_eq!(received.unwrap().messages()[0].message_id(), Some(sent.as_str()));
}

#[tokio::test]
async fn a_waiting_receive_gets_a_delayed_message_when_the_clock_says_so_and_not_before() {
    let local = Local::start().await;
    let send = local.sqs.send_message().queue_url(local.url(CALLS)).message_body("x").delay_seconds(10);
    send.send().await.unwrap();
    local.clock.advance_ms(9_999);
    assert!(receive(&local).await.is_empty());
    let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20).send();
    let (received, ()) = tokio::join!(ask, async { local.clock.advance_ms(1) });
    assert_eq!(received.unwrap().messages().len(), 1);
}

#[tokio::test]
async fn a_waiting_receive_ends_empty_when_the_clock_has_passed_its_wait() {
    let local = Local::start().await;
    let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20);
    let advance = async {
        // Whenever the server begins to wait, a later step of the clock is past its end.
        loop {
            local.clock.advance_ms(5_000);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        received = ask.send() => assert!(received.unwrap().messages().is_empty()),
        () = advance => {}
    }
}

#[tokio::test]
async fn many_waiting_receivers_share_a_burst_without_one_message_twice() {
    let local = std::sync::Arc::new(Local::start().await);
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let local = std::sync::Arc::clone(&local);
        receivers.spawn(async move {
            let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20);
            ask.send().await.unwrap().messages()[0].body().unwrap().to_owned()
        });
    }
    for at in 0..20 {
        send(&local, &at.to_string()).await;
    }
    let mut got: Vec<u32> = receivers.join_all().await.iter().map(|body| body.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receive_whose_client_went_away_swallows_nothing() {
    let local = Local::start().await;
    for _ in 0..5 {
        let ask = local.sqs.receive_message().queue_url(local.url(CALLS)).wait_time_seconds(20).send();
        let waiting = tokio::spawn(ask);
        // A request of the same client answered meanwhile: the waiting one has been sent.
        assert!(receive(&local).await.is_empty());
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
    }
    // The server has seen the closed connections when a fresh one has been served to its end.
    for _ in 0..3 {
        assert!(receive(&local).await.is_empty());
    }
    send(&local, "x").await;
    assert_eq!(receive(&local).await.len(), 1);
}

#[tokio::test]
async fn an_unfinished_message_comes_again_after_its_visibility_and_its_old_handle_deletes_nothing() {
    let local = Local::start().await;
    send(&local, "x").await;
    let first = receive(&local).await.remove(0);
    local.clock.advance_ms(29_999);
    assert!(receive(&local).await.is_empty());
    local.clock.advance_ms(1);
    let second = receive(&local).await.remove(0);
    assert_eq!(second.attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount], "2");

    delete(&local, &first).await;
    let hide = |message: &Message, seconds: i32| {
        let hide = local.sqs.change_message_visibility().queue_url(local.url(CALLS));
        hide.receipt_handle(message.receipt_handle().unwrap()).visibility_timeout(seconds).send()
    };
    let refused = hide(&first, 60).await.unwrap_err();
    assert!(refused.into_service_error().is_message_not_inflight());
    hide(&second, 60).await.unwrap();
    local.clock.advance_ms(59_999);
    assert!(receive(&local).await.is_empty());
    hide(&second, 0).await.unwrap();
    let third = receive(&local).await.remove(0);
    delete(&local, &third).await;
    delete(&local, &third).await;
    local.clock.advance_ms(100_000);
    assert!(receive(&local).await.is_empty());
}

#[tokio::test]
async fn a_handle_that_is_none_is_refused() {
    let local = Local::start().await;
    let delete = local.sqs.delete_message().queue_url(local.url(CALLS)).receipt_handle("nonsense");
    assert!(delete.send().await.unwrap_err().into_service_error().is_receipt_handle_is_invalid());
    let hide = local.sqs.change_message_visibility().queue_url(local.url(CALLS)).receipt_handle("nonsense");
    let hidden = hide.visibility_timeout(1).send().await.unwrap_err();
    assert!(hidden.into_service_error().is_receipt_handle_is_invalid());
}

#[tokio::test]
async fn a_message_received_too_often_is_found_in_the_dead_letter_queue() {
    let local = Local::start().await;
    let id = send(&local, "poison").await;
    for _ in 0..8 {
        assert_eq!(receive(&local).await.len(), 1);
        local.clock.advance_ms(30_000);
    }
    assert!(receive(&local).await.is_empty());
    let dead = receive_from(&local, "toolfleet-calls-dlq").await.remove(0);
    assert_eq!(dead.message_id(), Some(id.as_str()));
    let system = dead.attributes().unwrap();
    let source = &system[&MessageSystemAttributeName::DeadLetterQueueSourceArn];
    assert_eq!(source, "arn:aws:sqs:us-east-1:000000000000:toolfleet-calls");
    assert_eq!(system[&MessageSystemAttributeName::SentTimestamp], START_MS.to_string());
}

#[tokio::test]
async fn messages_that_break_a_rule_are_refused() {
    let local = Local::start().await;
    let message = || local.sqs.send_message().queue_url(local.url(CALLS));
    let large = message().message_body("x".repeat(1_048_577)).send().await.unwrap_err();
    assert_eq!(large.code(), Some("InvalidParameterValue"));
    assert!(message().message_body("x".repeat(1_048_576)).send().await.is_ok());
    let control = message().message_body("a\u{1}b").send().await.unwrap_err();
    assert!(control.into_service_error().is_invalid_message_contents());
    let empty = message().message_body("").send().await.unwrap_err();
    assert_eq!(empty.code(), Some("MissingParameter"));
    let late = message().message_body("x").delay_seconds(901).send().await.unwrap_err();
    assert_eq!(late.code(), Some("InvalidParameterValue"));
    let reserved =
        message().message_body("x").message_attributes("aws.x", string("a")).send().await.unwrap_err();
    assert_eq!(reserved.code(), Some("InvalidParameterValue"));
    let eleven = (0..11).fold(message().message_body("x"), |message, at| {
        message.message_attributes(format!("a{at}"), string("v"))
    });
    assert_eq!(eleven.send().await.unwrap_err().code(), Some("InvalidParameterValue"));
    let many =
        local.sqs.receive_message().queue_url(local.url(CALLS)).max_number_of_messages(11).send().await;
    assert_eq!(many.unwrap_err().code(), Some("InvalidParameterValue"));
}
