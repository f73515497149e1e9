//! Waiting: for one call, for a sent message, for many.

use std::time::Duration;

use toolfleet_client::{AwsErrorKind, CallStatus, PayloadError, WaitError};
use toolfleet_core::call::State;
use toolfleet_core::outcome::{Code, OutcomeKind};

use crate::world::{START_MS, World, answer, call, key, text_of};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_wait_shows_the_open_row_and_returns_the_result() {
    let world = World::start().await;
    let request = call("c1", "hello");
    let claimed = world.claim(&request, "m1").await;
    let (shown, was_shown) = tokio::sync::oneshot::channel();
    let mut shown = Some(shown);
    let wait = world.client.watch(&request.key, LONG, |row| {
        if let Some(shown) = shown.take() {
            shown.send(row.state).unwrap();
        }
    });
    let worker = async {
        assert_eq!(was_shown.await.unwrap(), State::Claimed);
        world.finish(claimed, answer("hello")).await;
    };
    let (result, ()) = tokio::join!(wait, worker);
    let result = result.unwrap();
    assert!(result.answers(&request) && text_of(&result.outcome).contains("hello"));
    assert_eq!((result.attempts, result.enqueued_at.as_ms()), (1, START_MS));
}

#[tokio::test]
async fn a_wait_that_is_too_short_is_a_time_out() {
    let world = World::start().await;
    let request = call("c1", "hello");
    world.claim(&request, "m1").await;
    for key in [&request.key, &key("unknown")] {
        let waited = world.client.wait(key, SHORT).await;
        assert!(matches!(waited, Err(WaitError::TimeOut { waited_ms: 250 })), "{waited:?}");
    }
    let sent = world.client.wait_for_sent(&request, "m1", SHORT).await;
    assert!(matches!(sent, Err(WaitError::TimeOut { .. })), "{sent:?}");
}

#[tokio::test]
async fn a_sent_message_gets_the_result_of_its_call() {
    let world = World::start().await;
    let request = call("c1", "hello");
    world.end(&request, "m1", answer("hello")).await;
    for message_id in ["m1", "a duplicate of m1"] {
        let result = world.client.wait_for_sent(&request, message_id, LONG).await.unwrap();
        assert_eq!(result.outcome, answer("hello"), "{message_id}");
    }
}

#[tokio::test]
async fn a_reused_id_gives_the_refusal_not_the_earlier_result() {
    let world = World::start().await;
    let (first, second) = (call("c1", "one"), call("c1", "two"));
    world.end(&first, "m1", answer("one")).await;
    // No worker has received the second message yet: the earlier result is not its own.
    let early = world.client.wait_for_sent(&second, "m2", SHORT).await;
    assert!(matches!(early, Err(WaitError::TimeOut { .. })), "{early:?}");

    world.refuse_message(&second, "m2").await;
    let result = world.client.wait_for_sent(&second, "m2", LONG).await.unwrap();
    assert_eq!(result.outcome.kind, OutcomeKind::Refused);
    assert_eq!(result.outcome.error.unwrap().code, Code::IdempotencyMismatch);
    let result = world.client.wait_for_sent(&first, "m1", LONG).await.unwrap();
    assert_eq!(result.outcome, answer("one"));
    // By the key alone the earlier call is found, which `answers` tells.
    let result = world.client.wait(&second.key, LONG).await.unwrap();
    assert!(result.answers(&first) && !result.answers(&second));
}

#[tokio::test]
async fn a_message_that_was_refused_without_a_call_gets_its_refusal() {
    let world = World::start().await;
    let request = call("c1", "hello");
    world.refuse_message(&request, "m1").await;
    let result = world.client.wait_for_sent(&request, "m1", LONG).await.unwrap();
    assert_eq!(result.outcome.kind, OutcomeKind::Refused);
    let row = world.client.watch_sent(&request.key, "m1", LONG, |_| {}).await.unwrap();
    assert_eq!(row.finished.unwrap().outcome.kind, OutcomeKind::Refused);
    assert!(world.client.row(&request.key).await.unwrap().is_none(), "nothing is stored of the call");
}

#[tokio::test]
async fn a_wait_for_many_returns_the_status_of_each_in_order() {
    let world = World::start().await;
    let requests: Vec<_> = (0..120).map(|n| call(&format!("c{n}"), "x")).collect();
    let claimed = world.claim(&requests[0], "m").await;
    for request in &requests[1..] {
        world.end(request, "m", answer(request.key.call_id.as_str())).await;
    }
    let keys: Vec<_> = requests.iter().map(|request| request.key.clone()).collect();
    let waited = world.client.wait_many(&keys, SHORT).await.unwrap();
    assert!(matches!(&waited[0], CallStatus::Open(row) if row.state == State::Claimed), "{:?}", waited[0]);

    let worker = world.finish(claimed, answer("c0"));
    let (waited, ()) = tokio::join!(world.client.wait_many(&keys, LONG), worker);
    for (n, status) in waited.unwrap().iter().enumerate() {
        let CallStatus::Ended(result) = status else { panic!("{n}: {status:?}") };
        assert_eq!(result.outcome, answer(&format!("c{n}")));
    }
    assert!(world.client.wait_many(&[], LONG).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_unreadable_result_is_the_status_of_its_call_alone() {
    let world = World::start().await;
    let (stored, inline, open) = (call("stored", "x"), call("inline", "x"), call("open", "x"));
    world.end_stored(&stored, "m1").await;
    world.end(&inline, "m2", answer("in the row")).await;
    world.claim(&open, "m3").await;
    let keys = [stored.key.clone(), inline.key.clone(), open.key.clone(), key("unknown")];
    let unreadable = |status: &CallStatus| match status {
        CallStatus::Unreadable(error) => match &**error {
            PayloadError::Aws(error) => !error.is_permanent(),
            other @ (PayloadError::Missing(_)
            | PayloadError::Altered { .. }
            | PayloadError::TooLarge { .. }) => panic!("{other:?}"),
        },
        other @ (CallStatus::Unknown | CallStatus::Open(_) | CallStatus::Ended(_)) => panic!("{other:?}"),
    };
    let client = world.client_without_bucket().await;
    for statuses in [client.wait_many(&keys, SHORT).await.unwrap(), client.status_many(&keys).await.unwrap()]
    {
        assert!(unreadable(&statuses[0]));
        assert!(matches!(&statuses[1], CallStatus::Ended(result) if result.outcome == answer("in the row")));
        assert!(matches!(statuses[2..], [CallStatus::Open(_), CallStatus::Unknown]), "{statuses:?}");
    }
    let error = client.status(&stored.key).await.unwrap_err();
    assert_eq!(error.kind(), AwsErrorKind::Unreachable, "{error}");
}
