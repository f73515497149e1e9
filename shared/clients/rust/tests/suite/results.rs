//! Results: in the row, in the bucket, and gone from there.

use std::time::Duration;

use toolfleet_client::{CallStatus, PayloadError, WaitError};

use crate::world::{World, answer, call, key};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_result_is_read_from_the_row_or_from_the_bucket() {
    let world = World::start().await;
    let (inline, stored) = (call("inline", "x"), call("stored", "x"));
    world.end(&inline, "m1", answer("in the row")).await;
    world.end_stored(&stored, "m2").await;
    for (request, text) in [(&inline, "in the row"), (&stored, "in the bucket")] {
        let expected = answer(text);
        let CallStatus::Ended(result) = world.client.status(&request.key).await.unwrap() else {
            panic!("{text}")
        };
        assert_eq!(result.outcome.content().unwrap().get(), expected.content().unwrap().get());
        let row = world.client.row(&request.key).await.unwrap().unwrap();
        assert_eq!(row.finished.unwrap().outcome.content().unwrap().get(), expected.content().unwrap().get());
        let waited = world.client.wait(&request.key, LONG).await.unwrap();
        assert_eq!(waited.outcome.content().unwrap().get(), expected.content().unwrap().get());
    }
    assert_eq!(world.client.status(&key("unknown")).await.unwrap(), CallStatus::Unknown);
    assert!(world.client.row(&key("unknown")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_result_that_is_gone_from_the_bucket_is_unreadable() {
    let world = World::start().await;
    let request = call("c1", "x");
    let object = "acme/2026-11/expired";
    world.end_expired(&request, "m1", object).await;
    let missing = |error: &PayloadError| matches!(error, PayloadError::Missing(at) if at.key == object);
    let status = world.client.status(&request.key).await.unwrap();
    assert!(matches!(&status, CallStatus::Unreadable(error) if missing(error)), "{status:?}");
    let many = world.client.wait_many(std::slice::from_ref(&request.key), LONG).await.unwrap();
    assert!(matches!(&many[..], [CallStatus::Unreadable(error)] if missing(error)), "{many:?}");
    let waited = world.client.wait(&request.key, LONG).await.unwrap_err();
    let WaitError::Unreadable(error) = waited else { panic!("{waited:?}") };
    assert!(missing(&error) && error.code() == Some("payload_missing"));
}
