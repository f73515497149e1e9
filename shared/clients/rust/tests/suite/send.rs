//! Sending: one call, many, a body as it is, arguments by reference.

use serde_json::{Value, json};
use toolfleet_client::{AwsErrorKind, RequestBuilder};
use toolfleet_core::request::{CallRequest, Priority};

use crate::world::{World, call};

#[tokio::test]
async fn a_sent_call_is_the_request_that_a_worker_decodes() {
    let world = World::start().await;
    let request = call("c1", "hello");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = world.client.send(&request, Some(trace)).await.unwrap();
    let delivery = world.client.queue().receive(10, 0, 30).await.unwrap().remove(0);
    assert_eq!((delivery.message_id, delivery.group.as_deref()), (id, Some("acme")));
    assert_eq!(delivery.attributes.get("traceparent").map(String::as_str), Some(trace));
    let decoded = CallRequest::decode(&delivery.body).unwrap();
    assert_eq!((&decoded.key, &decoded.digest), (&request.key, &request.digest));
}

#[tokio::test]
async fn a_call_goes_to_the_queue_of_its_priority() {
    let world = World::start().await;
    let of = |priority| {
        RequestBuilder::tool("acme", "echo")
            .call_id(&format!("c-{priority}"))
            .priority(priority)
            .build()
            .unwrap()
    };
    let error = world.client.send(&of(Priority::High), None).await.unwrap_err();
    assert_eq!(error.kind(), AwsErrorKind::Rejection);
    assert!(error.to_string().contains("TOOLFLEET_QUEUE_URL_HIGH"), "{error}");
    let (high, low) =
        (world.local.queue_url("toolfleet-calls-high"), world.local.queue_url("toolfleet-calls-low"));
    let client = world.client.clone().with_priority_queues(Some(&high), Some(&low));
    for priority in Priority::ALL {
        client.send(&of(priority), None).await.unwrap();
        let delivery = client.queue_of(priority).unwrap().receive(10, 0, 0).await.unwrap().remove(0);
        assert_eq!(CallRequest::decode(&delivery.body).unwrap().priority, priority);
    }
    let depths = client.depths().await.unwrap();
    let shown: Vec<_> = depths.iter().map(|q| (q.name.as_str(), q.priority, q.depth.visible)).collect();
    let expected = [
        ("toolfleet-calls", Some(Priority::Normal), 1),
        ("toolfleet-calls-high", Some(Priority::High), 1),
        ("toolfleet-calls-low", Some(Priority::Low), 1),
        ("toolfleet-calls-dlq", None, 0),
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn many_calls_are_sent_in_batches_and_each_has_its_own_result() {
    let world = World::start().await;
    let mut requests: Vec<_> = (0..25).map(|n| call(&format!("c{n}"), "x")).collect();
    // Without a bucket this one is too large for a message, and fails alone.
    requests[7] = call("c7", &"x".repeat(1_100_000));
    let sent = world.client.send_many(&requests).await;
    let failed: Vec<_> = sent.iter().enumerate().filter(|(_, id)| id.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [7]);
    let error = sent[7].as_ref().unwrap_err();
    assert_eq!(error.kind(), AwsErrorKind::Rejection);
    assert!(error.to_string().contains("TOOLFLEET_PAYLOAD_BUCKET"), "{error}");
    assert_eq!(world.client.queue().depth().await.unwrap().visible, 24);
    let depths = world.client.depths().await.unwrap();
    let shown: Vec<_> = depths.iter().map(|q| (q.name.as_str(), q.dead_letter, q.depth.visible)).collect();
    assert_eq!(shown, [("toolfleet-calls", false, 24), ("toolfleet-calls-dlq", true, 0)]);
}

#[tokio::test]
async fn large_arguments_are_sent_by_reference_to_the_bucket() {
    let world = World::start().await;
    let client = world.client.clone().with_payload_bucket(world.bucket());
    let request = call("c1", &"x".repeat(1_100_000));
    client.send(&request, None).await.unwrap();
    client.send_as(&request, request.encode()).await.unwrap();
    let deliveries = client.queue().receive(10, 0, 30).await.unwrap();
    assert_eq!(deliveries.len(), 2);
    for delivery in deliveries {
        let decoded = CallRequest::decode(&delivery.body).unwrap();
        let reference = decoded.arguments_ref.as_ref().unwrap();
        let (at, sha256) = reference.object().unwrap();
        assert!(at.key.starts_with("acme/in/2026-11/"), "{at}");
        let text = world
            .payloads()
            .text(&at, Some(&sha256), reference.bytes, reference.encoding, 2_000_000)
            .await
            .unwrap();
        assert_eq!(text, request.arguments.get());
    }
}

#[tokio::test]
async fn a_body_is_sent_unchecked_unless_it_is_too_large() {
    let world = World::start().await;
    world.client.send_body("{not json".into(), Some("acme")).await.unwrap();
    let delivery = world.client.queue().receive(1, 0, 30).await.unwrap().remove(0);
    assert_eq!(delivery.body, "{not json");
    let error = world.client.send_body("x".repeat(1_048_576), None).await.unwrap_err();
    assert_eq!(error.kind(), AwsErrorKind::Rejection);
}

#[tokio::test]
async fn the_text_of_a_request_is_sent_byte_for_byte() {
    let world = World::start().await;
    let request = RequestBuilder::tool("acme", "echo").call_id("c1").build().unwrap();
    let spelled = request.encode().replace(':', " : ");
    world.client.send_as(&request, spelled.clone()).await.unwrap();
    let delivery = world.client.queue().receive(1, 0, 30).await.unwrap().remove(0);
    assert_eq!(delivery.body, spelled);
    assert_eq!(serde_json::from_str::<Value>(&delivery.body).unwrap()["tool"], json!("echo"));
}
