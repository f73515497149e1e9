//! Unreadable messages: the record is stored, the sender finds an answer, and the body is kept in the dead-letter queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::queue::{Delivery, MAX_MESSAGE_BYTES, Outgoing, Queue};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::outcome::{Code, OutcomeKind};
use toolfleet_worker::context::{DeadLetters, WorkerContext};
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::pipeline::{self, Reaped};

use crate::rig::{Rig, SENDER, connect, request};

const MESSAGES: &str = include_str!("../../../../shared/core/tests/data/messages.json");

fn dead(rig: &Rig) -> Queue {
    rig.direct.queue(rig.local.queue_url("toolfleet-calls-dlq"))
}

/// Every message of the dead-letter queue; they stay hidden.
async fn dead_letters(rig: &Rig) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let some = dead(rig).receive(10, 0, 600).await.unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

async fn send(queue: &Queue, body: &str, attributes: &[(&str, &str)]) -> String {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (body, attributes) = (body.to_owned(), attributes.collect::<BTreeMap<_, _>>());
    queue.send(Outgoing { body, attributes, ..Outgoing::default() }).await.unwrap()
}

/// What the sender of a message finds under its id.
async fn answer(rig: &Rig, message_id: &str) -> Option<(OutcomeKind, Code, String)> {
    let calls = rig.direct.calls(&Tables::with_prefix("toolfleet"));
    let row = calls.read(&CallKey::of_message(message_id)).await.unwrap()?;
    let outcome = row.finished.unwrap().outcome;
    let why = outcome.error.unwrap();
    Some((outcome.kind, why.code, why.message))
}

/// A worker with another dead-letter queue, or none.
async fn fleet_with(rig: &Rig, dead_letter_url: Option<String>) -> Arc<WorkerContext> {
    let mut context = Arc::into_inner(rig.context(None).await).unwrap();
    let queue = dead_letter_url.map(|url| rig.direct.queue(url));
    context.dead_letters = queue.map(|queue| Arc::new(DeadLetters { queue, reap_after: rig.reap_after }));
    Arc::new(context)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_messages_are_recorded_or_dead_lettered() {
    let rig = Rig::new().await;
    let messages: Vec<Value> = serde_json::from_str(MESSAGES).unwrap();
    let mut ids = Vec::new();
    for message in &messages {
        ids.push(send(&rig.queue(), message["body"].as_str().unwrap(), &[]).await);
    }
    rig.work_off(messages.len()).await;
    let kept: Vec<String> = dead_letters(&rig).await.into_iter().map(|letter| letter.body).collect();
    let records = rig.audit(&Tenant::undecodable()).await;
    for (message, message_id) in messages.iter().zip(&ids) {
        let [from, id, body] = ["from", "call_id", "body"].map(|key| message[key].as_str().unwrap());
        let recorded =
            records.iter().filter(|record| record.message_id.as_deref() == Some(message_id)).count();
        if message["ends"] == "taken" {
            assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{from}");
            assert_eq!(recorded, 0, "{from}");
            continue;
        }
        let says = message["says"].as_str().unwrap();
        let (kind, code, told) = if message["ends"] == "refused" {
            let seen = rig.outcome(id).await;
            (seen.kind, seen.row.finished.unwrap().outcome.error.unwrap().code, seen.message)
        } else {
            assert!(kept.iter().any(|kept| kept == body), "{from}: its body is gone");
            answer(&rig, message_id).await.unwrap_or_else(|| panic!("{from}: its sender finds nothing"))
        };
        assert_eq!((kind, code), (OutcomeKind::Refused, Code::Undecodable), "{from}");
        assert!(told.contains(says), "{from}: {told}");
        assert_eq!(recorded, 1, "{from}");
    }
    assert_eq!(kept.len(), messages.iter().filter(|message| message["ends"] == "kept").count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_message_survives_a_crash_after_any_step() {
    for step in [Step::ResultStored, Step::Recorded, Step::Reposted] {
        let rig = Rig::new().await;
        let message_id = send(&rig.queue(), "not json", &[]).await;
        rig.crash_after(step).await;
        rig.clock.advance_ms(crate::rig::LEASE_MS + crate::rig::SKEW_MS + 1);
        rig.settle().await;
        let kept = dead_letters(&rig).await;
        let copies = if step == Step::Reposted { 2 } else { 1 };
        assert_eq!(kept.len(), copies, "{step:?}");
        assert!(kept.iter().all(|letter| letter.body == "not json"), "{step:?}");
        assert_eq!(rig.audit(&Tenant::undecodable()).await.len(), 1, "{step:?}");
        assert!(answer(&rig, &message_id).await.is_some(), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_message_names_its_real_sender_not_a_claimed_one() {
    let rig = Rig::new().await;
    let (sqs, dynamodb) = (rig.local.sqs_url(), rig.local.dynamodb_url());
    let other_sender = connect(sqs, dynamodb, rig.local.secretsmanager_url(), "AKIASTRANGER").await;
    let mut wrong = request("c1", "safe");
    wrong["colour"] = json!(1);
    let forged = [
        ("toolfleet-first-sender", SENDER),
        ("toolfleet-reason", "x"),
        ("mine", "kept"),
        ("traceparent", "00-a"),
    ];
    let queue = other_sender.queue(rig.local.queue_url("toolfleet-calls"));
    let message_id = send(&queue, &wrong.to_string(), &forged).await;
    rig.work_off(1).await;
    let context = rig.context(None).await;
    let letter = dead(&rig).receive(1, 0, 1).await.unwrap().pop().unwrap();
    let told = |name: &str| letter.attributes.get(name).map(String::as_str);
    assert_eq!(told("toolfleet-first-sender"), Some("AKIASTRANGER"));
    assert_eq!(told("toolfleet-first-message"), Some(message_id.as_str()));
    assert_eq!((told("toolfleet-reason"), told("mine")), (Some("undecodable"), Some("kept")));
    // No reaper takes it for the fleet's own, and no record is written twice.
    let reaped = pipeline::reap(context.clone(), context.dead_letters.clone().unwrap(), letter.clone()).await;
    assert!(matches!(reaped, Reaped::NotDue { .. }), "{reaped:?}");
    assert!(rig.row("c1").await.is_none(), "nothing stands under a tenant of others");
    assert_eq!(rig.audit(&Tenant::undecodable()).await.len(), 1);
    // Moved back, it comes to the same end.
    let attributes = letter.attributes.clone();
    rig.queue()
        .send(Outgoing { body: letter.body.clone(), attributes, ..Outgoing::default() })
        .await
        .unwrap();
    dead(&rig).delete(&letter.receipt).await.unwrap();
    rig.settle().await;
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 1);
    assert_eq!(rig.audit(&Tenant::undecodable()).await.len(), 1);
    assert!(rig.row("c1").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_dead_letter_queue_unreadable_messages_stay() {
    let rig = Rig::new().await;
    let missing = rig.local.queue_url("no-such-queue");
    for dead_letter_url in [None, Some(missing)] {
        let context = fleet_with(&rig, dead_letter_url).await;
        send(&rig.queue(), "not json", &[]).await;
        for wait_s in [30, 60, 120] {
            rig.deliver(&context).await;
            rig.clock.advance_ms(wait_s * 1_000 - 1);
            assert!(rig.receive(&context).await.is_none(), "hidden for {wait_s} s");
            rig.clock.advance_ms(2);
        }
        let delivery = rig.receive(&context).await.expect("it is still there");
        assert_eq!((delivery.body.as_str(), delivery.receive_count), ("not json", 4));
        rig.queue().delete(&delivery.receipt).await.unwrap();
    }
    assert_eq!(rig.audit(&Tenant::undecodable()).await.len(), 2, "one record for each message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_size_body_is_kept_with_the_attributes_that_fit() {
    let rig = Rig::new().await;
    let full = "x".repeat(MAX_MESSAGE_BYTES);
    send(&rig.queue(), &full, &[]).await;
    let names: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    send(&rig.queue(), "many", &many).await;
    rig.work_off(2).await;
    let kept = dead_letters(&rig).await;
    let of = |body: &str| kept.iter().find(|letter| letter.body == body).expect("it is kept");
    assert!(of(&full).attributes.is_empty());
    assert_eq!(of("many").attributes.len(), 10);
    assert_eq!(of("many").attributes["toolfleet-reason"], "undecodable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_fifo_message_keeps_its_group_under_a_new_id() {
    let rig = Rig { queue_name: "calls.fifo", ..Rig::new().await };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for name in ["calls.fifo", "calls-dlq.fifo"] {
        let body = json!({"QueueName": name, "Attributes": {"FifoQueue": "true"}});
        let create = client.post(rig.local.sqs_url()).header("x-amz-target", "AmazonSQS.CreateQueue");
        let create = create.header("content-type", "application/x-amz-json-1.0").body(body.to_string());
        assert!(create.send().await.unwrap().status().is_success());
    }
    let context = fleet_with(&rig, Some(rig.local.queue_url("calls-dlq.fifo"))).await;
    let letters = context.dead_letters.as_ref().unwrap().queue.clone();
    for n in 0..2 {
        // As an operator moves it back: within the five minutes of deduplication, under an id of its own.
        let message = Outgoing {
            body: "not json".into(),
            group: Some("g".into()),
            deduplication: Some(format!("moved-{n}")),
            ..Outgoing::default()
        };
        rig.queue().send(message).await.unwrap();
        rig.deliver(&context).await;
        let letter = letters.receive(1, 0, 600).await.unwrap().pop().expect("it is kept each time");
        assert_eq!((letter.body.as_str(), letter.group.as_deref()), ("not json", Some("g")));
        letters.delete(&letter.receipt).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_without_a_right_to_the_id_is_answered_by_message_id() {
    let rig = Rig::new().await;
    let mut foreign = request("c1", "safe");
    foreign["tenant"] = json!("globex");
    let refused = send(&rig.queue(), &foreign.to_string(), &[]).await;
    rig.settle().await;
    let (kind, code, told) = answer(&rig, &refused).await.expect("the sender finds an answer");
    assert_eq!((kind, code), (OutcomeKind::Refused, Code::TenantNotAllowed), "{told}");
    assert!(rig.row_of("globex", "c1").await.is_none(), "nothing stands under the other tenant");

    let first = send(&rig.queue(), &request("c2", "safe").to_string(), &[]).await;
    rig.settle().await;
    let mut other = request("c2", "safe");
    other["arguments"] = json!({"call": "other"});
    let second = send(&rig.queue(), &other.to_string(), &[]).await;
    rig.settle().await;
    assert!(answer(&rig, &first).await.is_none(), "a call's own answer stands in its row alone");
    assert_eq!(answer(&rig, &second).await.unwrap().1, Code::IdempotencyMismatch);
    other["colour"] = json!(1);
    let third = send(&rig.queue(), &other.to_string(), &[]).await;
    rig.settle().await;
    assert_eq!(answer(&rig, &third).await.unwrap().1, Code::Undecodable, "the id it names is another call's");
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 0, "what could be read is not kept");
}
