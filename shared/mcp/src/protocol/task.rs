//! Reads task results (extension `io.modelcontextprotocol/tasks` of 2026-07-28).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::fault::invalid;
use crate::protocol::frame::text_in;
use crate::protocol::notifications::line;

/// A longer id is no handle but an attack on whoever stores it.
pub(crate) const MAX_ID_BYTES: usize = 1024;

/// The handle of work that goes on at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskHandle {
    /// The server's name for it.
    pub id: String,
    /// How long the server wants to be left alone before it is asked, in milliseconds, where it says so.
    pub poll_interval_ms: Option<u64>,
}

/// Members are raw, so that one of a wrong type spoils no other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told<'a> {
    #[serde(borrow, default)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status_message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    poll_interval_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Told<'a> {
    pub(crate) fn read(result: &'a RawValue) -> Result<Self, Fault> {
        // A derived struct would also be read from an array.
        let object = result.get().starts_with('{').then(|| serde_json::from_str(result.get()).ok());
        object.flatten().ok_or_else(|| invalid("a task", result.get()))
    }

    pub(crate) fn id(&self) -> Option<Cow<'a, str>> {
        text(self.task_id)
    }

    pub(crate) fn message(&self, endpoint: &Endpoint) -> String {
        self.status_message
            .and_then(text_in)
            .map_or_else(String::new, |message| line(message.into_owned(), endpoint))
    }

    /// A server that asks for parts of milliseconds is heard as well.
    pub(crate) fn poll_interval_ms(&self) -> Option<u64> {
        let ms: f64 = serde_json::from_str(self.poll_interval_ms?.get()).ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        ms.is_finite().then_some(ms as u64)
    }
}

pub(crate) fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Cow<'_, str>>(raw?.get()).ok()
}

/// The handle in a result of the type `task`.
pub(crate) fn handle_in(result: &RawValue) -> Result<TaskHandle, Fault> {
    let told = Told::read(result)?;
    let id = told.id().filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES);
    let id = id.ok_or_else(|| invalid("a task without a usable taskId", result.get()))?.into_owned();
    let working = text(told.status).is_none_or(|status| status == "working");
    // What is over at once, or waits for us, need not be left alone.
    let poll_interval_ms = if working { told.poll_interval_ms() } else { Some(0) };
    Ok(TaskHandle { id, poll_interval_ms })
}

/// The id of the task that this result of `tasks/get` says asks for something.
pub(crate) fn asking_task(result: &RawValue) -> Option<String> {
    let told = Told::read(result).ok()?;
    let asks = text(told.status).is_some_and(|status| status == "input_required");
    told.id().filter(|id| asks && !id.is_empty()).map(Cow::into_owned)
}
