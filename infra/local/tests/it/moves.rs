//! Tests of message move tasks: which message moves where, at which rate, and that a task continues after a restart.
//!
//! **Invariant:** time passes only when a test advances the clock; what a task does meanwhile is waited for, not slept for.

use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{ListMessageMoveTasksResultEntry, QueueAttributeName as Name};
use toolfleet_local::Clock;

use crate::durability::Scratch;
use crate::harness::{Local, START_MS};

const CALLS: &str = "toolfleet-calls";
const DEAD: &str = "toolfleet-calls-dlq";
const REPLIES: &str = "toolfleet-replies";

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

async fn count(local: &Local, name: &str) -> u32 {
    let ask = local.sqs.get_queue_attributes().queue_url(local.url(name));
    let shown = ask.attribute_names(Name::ApproximateNumberOfMessages).send().await.unwrap();
    shown.attributes().unwrap().get(&Name::ApproximateNumberOfMessages).unwrap().parse().unwrap()
}

async fn send(local: &Local, name: &str, messages: u32) {
    for at in 0..messages {
        local
            .sqs
            .send_message()
            .queue_url(local.url(name))
            .message_body(at.to_string())
            .send()
            .await
            .unwrap();
    }
}

async fn latest(local: &Local) -> ListMessageMoveTasksResultEntry {
    let listed = local.sqs.list_message_move_tasks().source_arn(arn(DEAD)).send().await.unwrap();
    listed.results().first().unwrap().clone()
}

/// Asks until the timekeeper of the endpoints has done its part.
async fn until(
    local: &Local,
    done: impl Fn(&ListMessageMoveTasksResultEntry) -> bool,
) -> ListMessageMoveTasksResultEntry {
    for asked in 0.. {
        let task = latest(local).await;
        if done(&task) {
            return task;
        }
        assert!(asked < 5_000, "the task got no further: {task:?}");
        tokio::task::yield_now().await;
    }
    unreachable!("the loop ends by what it sees")
}

async fn until_moved(local: &Local, moved: i64) -> ListMessageMoveTasksResultEntry {
    until(local, |task| task.approximate_number_of_messages_moved() >= moved).await
}

async fn until_ended(local: &Local) -> ListMessageMoveTasksResultEntry {
    until(local, |task| task.status() != Some("RUNNING")).await
}

#[tokio::test]
async fn a_call_that_was_given_up_goes_back_as_a_new_message() {
    let local = Local::start().await;
    send(&local, CALLS, 1).await;
    for _ in 0..9 {
        let ask = local.sqs.receive_message().queue_url(local.url(CALLS));
        ask.visibility_timeout(0).wait_time_seconds(0).send().await.unwrap();
    }
    assert_eq!((count(&local, CALLS).await, count(&local, DEAD).await), (0, 1));
    local.clock.advance_ms(60_000);
    local.sqs.start_message_move_task().source_arn(arn(DEAD)).send().await.unwrap();
    let task = until_ended(&local).await;
    assert_eq!((task.status(), task.failure_reason()), (Some("COMPLETED"), None));
    assert_eq!(
        (task.approximate_number_of_messages_moved(), task.started_timestamp()),
        (1, 1_800_000_060_000)
    );
    let ask = local.sqs.receive_message().queue_url(local.url(CALLS));
    let ask = ask.message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::All);
    let back = ask.send().await.unwrap();
    let system = back.messages()[0].attributes().unwrap();
    let shown = |name: &str| system.get(&name.into()).map(String::as_str);
    assert_eq!(shown("ApproximateReceiveCount"), Some("1"));
    assert_eq!(shown("SentTimestamp"), Some("1800000060000"));
    assert_eq!(shown("DeadLetterQueueSourceArn"), None);
}

#[tokio::test]
async fn a_task_with_a_rate_moves_by_the_clock_and_stops_when_it_is_cancelled() {
    let local = Local::start().await;
    send(&local, DEAD, 5).await;
    let start = local.sqs.start_message_move_task().source_arn(arn(DEAD)).destination_arn(arn(REPLIES));
    let started = start.max_number_of_messages_per_second(2).send().await.unwrap();
    assert_eq!(until_moved(&local, 1).await.approximate_number_of_messages_to_move(), Some(5));
    local.clock.advance_ms(499);
    assert_eq!(count(&local, REPLIES).await, 1);
    local.clock.advance_ms(1);
    until_moved(&local, 2).await;
    let cancelled = local.sqs.cancel_message_move_task().task_handle(started.task_handle().unwrap());
    assert_eq!(cancelled.send().await.unwrap().approximate_number_of_messages_moved(), 2);
    let task = latest(&local).await;
    assert_eq!((task.status(), task.task_handle()), (Some("CANCELLED"), None));
    local.clock.advance_ms(60_000);
    assert_eq!((count(&local, REPLIES).await, count(&local, DEAD).await), (2, 3));
}

#[tokio::test]
async fn a_task_goes_on_after_a_restart() {
    let scratch = Scratch::new("moves");
    let clock = Clock::manual(START_MS);
    let local = Local::start_at(clock.clone(), scratch.options()).await;
    send(&local, DEAD, 3).await;
    let start = local.sqs.start_message_move_task().source_arn(arn(DEAD)).destination_arn(arn(REPLIES));
    start.max_number_of_messages_per_second(1).send().await.unwrap();
    until_moved(&local, 1).await;
    drop(local);

    let local = Local::start_at(clock.clone(), scratch.options()).await;
    assert_eq!(latest(&local).await.status(), Some("RUNNING"));
    for moved in [2, 3] {
        clock.advance_ms(1_000);
        until_moved(&local, moved).await;
    }
    clock.advance_ms(1_000);
    assert_eq!(until_ended(&local).await.status(), Some("COMPLETED"));
    drop(local);

    let local = Local::start_at(clock, scratch.options()).await;
    assert_eq!(latest(&local).await.status(), Some("COMPLETED"));
    assert_eq!((count(&local, REPLIES).await, count(&local, DEAD).await), (3, 0));
}

#[tokio::test]
async fn a_deep_dead_letter_queue_is_moved_without_a_rate() {
    let local = Local::start().await;
    send(&local, DEAD, 1_200).await;
    let start = local.sqs.start_message_move_task().source_arn(arn(DEAD)).destination_arn(arn(REPLIES));
    start.send().await.unwrap();
    assert_eq!(until_ended(&local).await.approximate_number_of_messages_moved(), 1_200);
    assert_eq!(count(&local, REPLIES).await, 1_200);
}

#[tokio::test]
async fn a_letter_that_nobody_gave_up_has_nowhere_to_go_back_to() {
    let local = Local::start().await;
    send(&local, DEAD, 1).await;
    local.sqs.start_message_move_task().source_arn(arn(DEAD)).send().await.unwrap();
    let task = until_ended(&local).await;
    assert_eq!(
        (task.status(), task.failure_reason()),
        (Some("FAILED"), Some("CouldNotDetermineMessageSource"))
    );
    assert_eq!(count(&local, DEAD).await, 1);
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_by_the_typed_error() {
    let local = Local::start().await;
    let start = |source: &str, destination: &str| {
        local.sqs.start_message_move_task().source_arn(arn(source)).destination_arn(arn(destination)).send()
    };
    let nowhere = start("nowhere", REPLIES).await.unwrap_err().into_service_error();
    assert!(nowhere.is_resource_not_found_exception(), "{nowhere:?}");
    let not_dead = start(CALLS, REPLIES).await.unwrap_err().into_service_error();
    assert_eq!(not_dead.code(), Some("InvalidParameterValue"));
    let itself = start(DEAD, DEAD).await.unwrap_err().into_service_error();
    assert_eq!(itself.code(), Some("InvalidParameterValue"));
    let cancelled = local.sqs.cancel_message_move_task().task_handle("x").send().await.unwrap_err();
    assert_eq!(cancelled.into_service_error().code(), Some("InvalidParameterValue"));
}
