//! Keeps a message that cannot be read: it goes to the dead-letter queue with its body, for an operator.
//!
//! The copy says when and by whom the message was sent, as SQS reports it. The message is deleted only after the dead-letter queue has
//! accepted its copy; a crash between the two leaves both.

use std::collections::BTreeMap;

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{MAX_MESSAGE_BYTES, Outgoing};
use toolfleet_core::outcome::Code;

use super::inbound::{FIRST_MESSAGE, FIRST_SENDER, FIRST_SENT, InboundCall, OWN, REASON};
use super::requeue;
use super::steps::Step;
use crate::context::{DeadLetters, WorkerContext};

/// The most attributes that a message has (SQS quota).
const MOST_ATTRIBUTES: usize = 10;
/// What SQS counts of an attribute beside its name and value: its type.
const TYPE_BYTES: usize = 8;
/// Moves the message to the dead-letter queue. If there is none, or it does not answer, the message stays hidden: SQS moves it
/// after its receives, or keeps it for as long as its queue keeps messages.
pub(super) async fn keep_unreadable(context: &WorkerContext, inbound: &InboundCall) {
    let moved = match &context.dead_letters {
        Some(dead) => moved(context, dead, inbound).await,
        None => Ok(false),
    };
    match moved {
        Ok(true) => {}
        Ok(false) => requeue::unreadable(context, inbound).await,
        Err(error) => {
            tracing::error!(%error, message_id = inbound.message_id(), code = "aws_error", "a message that cannot be read could not be moved to the dead-letter queue; it stays where it is");
            requeue::unreadable(context, inbound).await;
        }
    }
}

async fn moved(context: &WorkerContext, dead: &DeadLetters, inbound: &InboundCall) -> Result<bool, AwsError> {
    let copy = Outgoing {
        body: inbound.body().to_owned(),
        delay_s: 0,
        group: inbound.delivery().group.clone(),
        attributes: attributes(inbound),
        // A message that an operator moves back and that returns within five minutes is another one.
        deduplication: Some(inbound.message_id().to_owned()),
    };
    dead.queue.send(copy).await?;
    context.steps.passed(Step::Reposted).await;
    inbound.delete().await?;
    context.steps.passed(Step::Acknowledged).await;
    Ok(true)
}

/// The fleet's own attributes, then as many of the sender's as SQS accepts beside the body.
fn attributes(inbound: &InboundCall) -> BTreeMap<String, String> {
    let own = [
        (FIRST_SENT, Some(inbound.enqueued_at.as_ms().to_string())),
        (FIRST_SENDER, inbound.sender.clone()),
        (FIRST_MESSAGE, Some(inbound.first_id().to_owned())),
        (REASON, Some(Code::Undecodable.to_string())),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let theirs = inbound.delivery().attributes.iter().filter(|(name, _)| !name.starts_with(OWN));
    let theirs = theirs.map(|(name, value)| (name.clone(), value.clone()));
    let mut left = MAX_MESSAGE_BYTES.saturating_sub(inbound.body().len());
    let mut attributes = BTreeMap::new();
    for (name, value) in own.chain(theirs) {
        let bytes = name.len() + value.len() + TYPE_BYTES;
        if attributes.len() < MOST_ATTRIBUTES && bytes <= left && !value.is_empty() {
            left -= bytes;
            attributes.insert(name, value);
        }
    }
    attributes
}
