//! The queue and the secrets.

use std::collections::BTreeMap;

use futures::future::join_all;
use toolfleet_aws::queue::Outgoing;

use crate::{START_MS, world};

#[tokio::test]
async fn a_message_is_received_with_its_attributes() {
    let world = world().await;
    let queue = world.aws.queue(world.local.queue_url("toolfleet-calls"));
    let attributes = BTreeMap::from([("traceparent".to_owned(), "00-abc".to_owned())]);
    let sent = Outgoing {
        body: "{}".into(),
        delay_s: 0,
        group: Some("acme".into()),
        attributes: attributes.clone(),
        deduplication: None,
    };
    let id = queue.send(sent).await.unwrap();
    let delivery = queue.receive(10, 0, 30).await.unwrap().remove(0);
    assert_eq!((delivery.message_id, delivery.body.as_str()), (id, "{}"));
    assert_eq!((delivery.attributes, delivery.group.as_deref()), (attributes, Some("acme")));
    assert_eq!((delivery.sender.as_deref(), delivery.receive_count), (Some("AKIATEST"), 1));
    assert_eq!(delivery.sent_at.as_ms(), i64::try_from(START_MS).unwrap());
    queue.delete(&delivery.receipt).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().in_flight, 0);
}

#[tokio::test]
async fn concurrent_sends_and_deletes_are_batched() {
    let world = world().await;
    let queue = world.aws.queue(world.local.queue_url("toolfleet-calls"));
    let send = |n: usize| {
        // A body over the limit fails for its sender alone.
        let body = if n == 3 { "x".repeat(1_048_577) } else { n.to_string() };
        queue.send(Outgoing { body, ..Outgoing::default() })
    };
    let answers = join_all((0..25).map(send)).await;
    let failed: Vec<_> = (0..25).filter(|&n| answers[n].is_err()).collect();
    assert_eq!(failed, [3]);
    let mut seen = 0;
    while seen < 24 {
        let deliveries = queue.receive(10, 0, 30).await.unwrap();
        seen += deliveries.len();
        for deleted in join_all(deliveries.iter().map(|d| queue.delete(&d.receipt))).await {
            deleted.unwrap();
        }
    }
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

#[tokio::test]
async fn a_message_is_visible_again_when_its_time_out_ends() {
    let world = world().await;
    let queue = world.aws.queue(world.local.queue_url("toolfleet-calls"));
    queue.send(Outgoing { body: "x".into(), ..Outgoing::default() }).await.unwrap();
    let first = queue.receive(1, 0, 30).await.unwrap().remove(0);
    queue.change_visibility(&first.receipt, 0).await.unwrap();
    let second = queue.receive(1, 0, 30).await.unwrap().remove(0);
    assert_eq!(second.receive_count, 2);
    queue.change_visibility(&second.receipt, 5).await.unwrap();
    assert!(queue.receive(1, 0, 30).await.unwrap().is_empty());
    world.clock.advance_ms(5_000);
    assert_eq!(queue.receive(1, 0, 30).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_queue_is_an_error_with_its_remedy() {
    let world = world().await;
    let queue = world.aws.queue(world.local.queue_url("toolfleet-calls"));
    assert_eq!(queue.dead_letter_name().await.unwrap().as_deref(), Some("toolfleet-calls-dlq"));
    assert_eq!(queue.dead_letter_queue().await.unwrap().unwrap().depth().await.unwrap().visible, 0);
    let missing = world.aws.queue(world.local.queue_url("nowhere"));
    let error = missing.depth().await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("TOOLFLEET_QUEUE_URL"), "{error}");
}

#[tokio::test]
async fn a_missing_secret_is_a_permanent_error_that_names_it() {
    let world = world().await;
    let error = world.aws.secrets().get("crm/token").await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("crm/token"), "{error}");
}
