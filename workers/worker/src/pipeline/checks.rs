//! Checks of a request that need no server: its age, its size, its deadline, and what this fleet supports.

use toolfleet_catalog::Catalog;
use toolfleet_core::batch::{BatchRule, Parted};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Priority, Reply};
use toolfleet_core::time::Timestamp;

use super::inbound::InboundCall;
use super::latest::latest_deadline;
use super::schedule::check_not_before;
use crate::config::OLDEST_MESSAGE_MS;
use crate::context::WorkerContext;
use crate::queues::{Queues, variable};

/// All of these checks.
pub(super) fn check(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &CallRequest,
    deadline: Timestamp,
    now: Timestamp,
) -> Result<(), Outcome> {
    check_age(inbound.enqueued_at, now)?;
    check_size(inbound.body().len(), context.max_body_bytes)?;
    check_priority(&context.queues, request.priority)?;
    check_not_before(request.not_before, inbound.enqueued_at, inbound.queue().is_fifo())?;
    check_support(inbound.catalog(), request)?;
    check_group(inbound.catalog(), request, inbound.enqueued_at, inbound.queue().is_fifo())?;
    check_deadline(deadline, now)
}

/// Whether a call of a tool that takes batches has the argument that becomes a list.
pub(super) fn check_batch_argument(rule: &BatchRule, request: &CallRequest) -> Result<(), Outcome> {
    let parted = Parted::of(&request.arguments, &rule.argument);
    parted.map(|_| ()).ok_or_else(|| lacks_argument(&rule.argument))
}

/// The end of a call without that argument.
pub(super) fn lacks_argument(argument: &str) -> Outcome {
    let text = format!(
        "The argument `{argument}` is missing. Calls of this tool are sent together, with a list of it (`batch` in the catalog). Add it and \
         send a new call."
    );
    Outcome::refused(Code::InvalidArguments, text)
}

/// Whether there is still time for the call.
pub(super) fn check_time(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &CallRequest,
) -> Result<(), Outcome> {
    let (deadline, now) =
        (request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms()), context.now());
    check_age(inbound.enqueued_at, now).and_then(|()| check_deadline(deadline, now))
}

/// The rows of older messages may have expired, so running one could run it twice.
pub(super) fn check_age(enqueued_at: Timestamp, now: Timestamp) -> Result<(), Outcome> {
    if now.ms_since(enqueued_at) <= OLDEST_MESSAGE_MS {
        return Ok(());
    }
    let text = format!(
        "The message was sent at {enqueued_at}, longer ago than the fleet remembers calls for (28 days). Send it again as a new call."
    );
    Err(Outcome::refused(Code::TooOld, text))
}

/// A call that has to wait becomes a message with attributes beside its body.
fn check_size(bytes: usize, most: usize) -> Result<(), Outcome> {
    if bytes <= most {
        return Ok(());
    }
    let text = format!(
        "The message has {bytes} bytes; accepted are at most {most}, because a call that waits carries attributes beside its body. \
         Nothing was sent to the tool. Send large arguments by reference (`arguments_ref`) in a new call."
    );
    Err(Outcome::refused(Code::RequestTooLarge, text))
}

fn check_deadline(deadline: Timestamp, now: Timestamp) -> Result<(), Outcome> {
    if now < deadline {
        return Ok(());
    }
    let text =
        format!("The call's deadline ({deadline}) passed before it could run. Nothing was sent to the tool.");
    let why = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::No).retryable(None);
    Err(Outcome::ended(OutcomeKind::Expired, why))
}

/// A fleet with a queue of that priority accepts it in every message: the queue decides, not the field.
fn check_priority(queues: &Queues, priority: Priority) -> Result<(), Outcome> {
    if queues.of(priority).is_some() {
        return Ok(());
    }
    let text = format!(
        "priority: this fleet has no queue of priority `{priority}`. Leave the field out, or let an operator set {} for the workers.",
        variable(priority)
    );
    Err(Outcome::refused(Code::Unsupported, text))
}

/// What the contract can say but this fleet does not do is refused by name, not passed over.
fn check_support(catalog: &Catalog, request: &CallRequest) -> Result<(), Outcome> {
    match &request.reply {
        None => Ok(()),
        Some(Reply::SqsQueueUrl(url)) if catalog.allows_reply_queue(&request.key.tenant, url) => Ok(()),
        Some(Reply::SqsQueueUrl(url)) => {
            let text = format!(
                "reply.sqs_queue_url: `{url}` is not on the list of reply queues of tenant `{}`; ask an operator to add it, or poll \
                 for the result.",
                request.key.tenant
            );
            Err(Outcome::refused(Code::ReplyNotAllowed, text))
        }
        Some(Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_)) => {
            let text =
                "reply: only `sqs_queue_url` is supported; name a reply queue, or poll for the result.";
            Err(Outcome::refused(Code::ReplyNotAllowed, text))
        }
    }
}

/// The deadline and the reply queue of the call's group.
fn check_group(
    catalog: &Catalog,
    request: &CallRequest,
    enqueued_at: Timestamp,
    is_fifo: bool,
) -> Result<(), Outcome> {
    let Some(group) = request.group.as_deref() else { return Ok(()) };
    let (most, span) = latest_deadline(is_fifo);
    if let Some(deadline) = group.deadline.filter(|deadline| deadline.ms_since(enqueued_at) > most) {
        let text = format!(
            "group.deadline: {deadline} is too late; accepted is at most {span}, after the message was sent ({enqueued_at}). Give an \
             earlier one."
        );
        return Err(Outcome::refused(Code::Unsupported, text));
    }
    match &group.reply {
        None => Ok(()),
        Some(Reply::SqsQueueUrl(url)) if catalog.allows_reply_queue(&request.key.tenant, url) => Ok(()),
        Some(
            Reply::SqsQueueUrl(_) | Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_),
        ) => {
            let text = format!(
                "group.reply: is no `sqs_queue_url` on the list of reply queues of tenant `{}`; ask an operator to add it, or look at the \
                 group's row.",
                request.key.tenant
            );
            Err(Outcome::refused(Code::ReplyNotAllowed, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn code(refused: Result<(), Outcome>) -> Option<(OutcomeKind, Code, bool)> {
        let outcome = refused.err()?;
        let error = outcome.error.unwrap();
        assert_eq!(error.may_have_run, MayHaveRun::No);
        Some((outcome.kind, error.code, error.retryable))
    }

    #[test]
    fn each_bound_refuses_what_is_beyond_it_and_nothing_else() {
        let oldest = i64::try_from(OLDEST_MESSAGE_MS).unwrap();
        assert_eq!(code(check_age(at(0), at(oldest))), None);
        assert_eq!(code(check_age(at(0), at(oldest + 1))), Some((OutcomeKind::Refused, Code::TooOld, false)));
        assert_eq!(code(check_size(10, 10)), None);
        assert_eq!(code(check_size(11, 10)), Some((OutcomeKind::Refused, Code::RequestTooLarge, false)));
        assert_eq!(code(check_deadline(at(10), at(9))), None);
        let expired = Some((OutcomeKind::Expired, Code::DeadlineExceeded, true));
        assert_eq!(code(check_deadline(at(10), at(10))), expired);
    }
}
