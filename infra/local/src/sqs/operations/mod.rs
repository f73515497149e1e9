//! Dispatches a request to its operation.
//!
//! **Invariant:** an operation that does not exist is refused; none succeeds without doing its work.

mod deliver;
mod moves;
mod queues;
mod request;
mod send;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use self::request::read;
use super::error::SqsError;
use super::service::SqsService;

pub(super) async fn dispatch(
    service: &Arc<SqsService>,
    operation: &str,
    body: &Bytes,
    caller: &str,
) -> Result<Value, SqsError> {
    match operation {
        "SendMessage" => send::one(service, &read(body)?, caller),
        "SendMessageBatch" => send::batch(service, read(body)?, caller),
        "ReceiveMessage" => deliver::receive(service, read(body)?).await,
        "DeleteMessage" => deliver::delete(service, &read(body)?),
        "DeleteMessageBatch" => deliver::delete_batch(service, read(body)?),
        "ChangeMessageVisibility" => deliver::change_visibility(service, &read(body)?),
        "ChangeMessageVisibilityBatch" => deliver::change_visibility_batch(service, read(body)?),
        "CreateQueue" => queues::create(service, read(body)?),
        "GetQueueUrl" => queues::url(service, &read(body)?),
        "ListQueues" => queues::list(service, &read(body)?),
        "GetQueueAttributes" => queues::attributes(service, &read(body)?),
        "SetQueueAttributes" => queues::set_attributes(service, read(body)?),
        "PurgeQueue" => queues::purge(service, &read(body)?),
        "DeleteQueue" => queues::delete(service, &read(body)?),
        "ListDeadLetterSourceQueues" => queues::dead_letter_sources(service, &read(body)?),
        "TagQueue" => queues::tag(service, read(body)?),
        "UntagQueue" => queues::untag(service, read(body)?),
        "ListQueueTags" => queues::tags(service, &read(body)?),
        "StartMessageMoveTask" => moves::start(service, read(body)?),
        "ListMessageMoveTasks" => moves::list(service, &read(body)?),
        "CancelMessageMoveTask" => moves::cancel(service, &read(body)?),
        "AddPermission" | "RemovePermission" => {
            let problem = format!("The local endpoints do not offer {operation}.");
            Err(SqsError::Unsupported(problem))
        }
        _ => Err(SqsError::UnknownOperation(operation.to_owned())),
    }
}
