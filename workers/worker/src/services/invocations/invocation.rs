//! One invocation: a batch of messages, each of which goes through the pipeline like a message that the worker has received.
//!
//! The invocation ends before Lambda's deadline, whatever its calls do. At the end of its window what runs is handed back as in a drain. What
//! has not ended soon after is dropped, as a crash would: no part of the pipeline runs while the environment is frozen, or after Lambda has given
//! the message to another.
//!
//! **Invariant:** the response names each message that the pipeline has not deleted, so Lambda deletes no other than those it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::event::{EventError, deliveries};
use toolfleet_aws::queue::Delivery;
use toolfleet_core::request::Priority;

use super::runtime_api::Invoked;
use crate::context::WorkerContext;
use crate::pipeline::origin::{Origin, Window};
use crate::services::intake::{Calls, is_queue_paused, make_visible};
use crate::shutdown::Shutdown;

/// What is left of an invocation for its response, and for what is written before it.
pub(super) const RESPONSE: Duration = Duration::from_secs(2);
/// What calls that still run may take to be handed back.
const HAND_BACK: Duration = Duration::from_secs(6);
/// The shortest useful time-out of the function.
const SHORTEST: Duration = Duration::from_secs(10);

/// Why an invocation fails as a whole. All its messages stay in their queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvocationError {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(
        "the function's time-out leaves {left_ms} ms of this invocation, too few to run a call and to hand it back; set its Timeout to a \
         minute or more"
    )]
    TooShort { left_ms: u64 },
}

impl InvocationError {
    /// Its name for Lambda.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Event(EventError::Form(_)) => "Toolfleet.NoSqsEvent",
            Self::Event(EventError::UnknownQueue { .. }) => "Toolfleet.UnknownQueue",
            Self::TooShort { .. } => "Toolfleet.TimeoutTooShort",
        }
    }
}

/// The response to a batch: the messages that are not to be deleted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchResponse {
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

/// A message of the batch.
struct Message {
    delivery: Delivery,
    queue: Priority,
    origin: Origin,
}

/// When an invocation ends, and how it tells its calls.
pub(super) struct End {
    shutdown: Shutdown,
    window: Window,
    /// When what runs is dropped.
    drop_at: Instant,
}

impl End {
    /// Of an invocation that Lambda gives up after `left`.
    pub(super) fn after(context: &WorkerContext, left: Duration) -> Result<Self, InvocationError> {
        if left < SHORTEST {
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            return Err(InvocationError::TooShort { left_ms });
        }
        let begun = Instant::now();
        let drop_at = begun + left.saturating_sub(RESPONSE);
        let until = begun + left.saturating_sub(RESPONSE + HAND_BACK);
        Ok(Self { shutdown: context.shutdown.child(), window: Window { begun, until }, drop_at })
    }
}

/// Runs the calls of an invocation. Returns what its response says.
pub(super) async fn run(
    calls: &Calls,
    context: &WorkerContext,
    invoked: &Invoked,
) -> Result<BatchResponse, InvocationError> {
    let end = End::after(context, Duration::from_millis(invoked.deadline.ms_since(context.now())))?;
    let messages = messages(context, invoked, &end)?;
    let origins: Vec<_> =
        messages.iter().map(|one| (one.delivery.message_id.clone(), one.origin.clone())).collect();
    let mut running = JoinSet::new();
    for sequence in sequences(messages) {
        running.spawn(in_order(calls.clone(), sequence));
    }
    if timeout_at(end.window.until, ended(&mut running)).await.is_err() {
        end.shutdown.end();
        if timeout_at(end.drop_at, ended(&mut running)).await.is_err() {
            tracing::error!(
                request_id = invoked.id,
                sequences = running.len(),
                code = "invocation_cut",
                "calls have not ended before their invocation; they are dropped, and their messages received again"
            );
            running.shutdown().await;
        }
    }
    // Of a message that was delivered twice, both deliveries count.
    let kept: BTreeSet<_> =
        origins.into_iter().filter(|(_, origin)| !origin.may_be_deleted()).map(|(id, _)| id).collect();
    let failures = kept.into_iter().map(|item_identifier| ItemFailure { item_identifier });
    Ok(BatchResponse { batch_item_failures: failures.collect() })
}

async fn ended(running: &mut JoinSet<()>) {
    while let Some(ended) = running.join_next().await {
        if ended.is_err() {
            tracing::error!(
                code = "internal_error",
                "a part of an invocation panicked; its messages are received again"
            );
        }
    }
}

fn messages(context: &WorkerContext, invoked: &Invoked, end: &End) -> Result<Vec<Message>, InvocationError> {
    let queues: Vec<_> = context.queues.all().collect();
    let read: Vec<_> = queues.iter().map(|(_, queue)| *queue).collect();
    let control = context.gate.control().current();
    let of = |delivery: Delivery| {
        let queue = queues.iter().find(|(_, queue)| queue.url() == delivery.queue.url());
        let queue = queue.map_or(Priority::Normal, |(priority, _)| *priority);
        let is_paused =
            control.as_ref().is_some_and(|control| is_queue_paused(control, queue, context.now()));
        context.intake_health.received(queue);
        let origin = Origin::invoked(end.shutdown.clone(), end.window, is_paused);
        Message { delivery, queue, origin }
    };
    let messages: Vec<_> = deliveries(&invoked.event, &read)?.into_iter().map(of).collect();
    context.meters.received(u32::try_from(messages.len()).unwrap_or(u32::MAX));
    Ok(messages)
}

/// The messages that run one after the other: those of one group of a queue that keeps its order. Every other message is alone.
fn sequences(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let (mut groups, mut alone) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    for message in messages {
        if message.delivery.queue.is_fifo() {
            let group = (message.delivery.queue.url().to_owned(), message.delivery.group.clone());
            groups.entry(group).or_default().push(message);
        } else {
            alone.push(vec![message]);
        }
    }
    groups.into_values().chain(alone).collect()
}

/// Runs messages in their order. What follows one that stays in its queue stays, too, and is visible again: SQS hands it out after that one.
async fn in_order(calls: Calls, messages: Vec<Message>) {
    let mut messages = messages.into_iter();
    for Message { delivery, queue, origin } in messages.by_ref() {
        calls.run_in_turn(delivery, queue, origin.clone()).await;
        if !origin.may_be_deleted() {
            break;
        }
    }
    make_visible(messages.map(|message| message.delivery).collect()).await;
}
