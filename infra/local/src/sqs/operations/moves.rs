//! The operations on tasks that move dead letters, and the handle of a task.
//!
//! **Invariant:** only a running task has a handle in a listing, because only a running task can be cancelled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request::within;
use crate::sqs::engine::move_task::{MoveOrder, MoveStatus, MoveTask};
use crate::sqs::error::SqsError;
use crate::sqs::service::SqsService;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartRequest {
    #[serde(default)]
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListRequest {
    #[serde(default)]
    source_arn: String,
    max_results: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CancelRequest {
    #[serde(default)]
    task_handle: String,
}

/// What a task handle says, in the form SQS gives it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handle {
    task_id: String,
    source_arn: String,
}

impl Handle {
    fn write(&self) -> String {
        STANDARD.encode(json!(self).to_string())
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
    }
}

pub(super) fn start(service: &SqsService, request: StartRequest) -> Result<Value, SqsError> {
    given("SourceArn", &request.source_arn)?;
    let rate = request.max_number_of_messages_per_second;
    let order = MoveOrder {
        id: uuid::Uuid::new_v4().to_string(),
        source_arn: request.source_arn,
        destination_arn: request.destination_arn,
        per_second: within("MaxNumberOfMessagesPerSecond", rate, 1, 500)?,
    };
    let handle = Handle { task_id: order.id.clone(), source_arn: order.source_arn.clone() }.write();
    service.run(|queues, now_ms| queues.start_move(order, now_ms))?;
    Ok(json!({ "TaskHandle": handle }))
}

pub(super) fn list(service: &SqsService, request: &ListRequest) -> Result<Value, SqsError> {
    given("SourceArn", &request.source_arn)?;
    let most = within("MaxResults", request.max_results, 1, 10)?.unwrap_or(1);
    let tasks = service.run(|queues, _| queues.moves_of(&request.source_arn))?;
    let shown = tasks.iter().take(usize::try_from(most).unwrap_or(1)).map(result);
    Ok(json!({ "Results": shown.collect::<Vec<_>>() }))
}

fn result(task: &MoveTask) -> Value {
    let mut shown = json!({
        "Status": task.status.name(),
        "SourceArn": task.source_arn(),
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": task.started_ms,
    });
    let running = task.status == MoveStatus::Running;
    let handle = || Handle { task_id: task.id.clone(), source_arn: task.source_arn() }.write();
    let more = [
        ("TaskHandle", running.then(handle).map(Value::from)),
        ("DestinationArn", task.destination_arn().map(Value::from)),
        ("MaxNumberOfMessagesPerSecond", task.per_second.map(Value::from)),
        ("FailureReason", task.failure.clone().map(Value::from)),
    ];
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    shown
}

pub(super) fn cancel(service: &SqsService, request: &CancelRequest) -> Result<Value, SqsError> {
    given("TaskHandle", &request.task_handle)?;
    let handle = Handle::parse(&request.task_handle).ok_or_else(|| {
        SqsError::InvalidParameterValue("Value for parameter TaskHandle is invalid.".to_owned())
    })?;
    let moved = service.run(|queues, _| queues.cancel_move(&handle.source_arn, &handle.task_id))?;
    Ok(json!({ "ApproximateNumberOfMessagesMoved": moved }))
}

fn given(parameter: &'static str, text: &str) -> Result<(), SqsError> {
    if text.is_empty() { Err(SqsError::MissingParameter(parameter)) } else { Ok(()) }
}
