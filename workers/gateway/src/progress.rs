//! Tells clients how far their calls are, by notifications on the response that they wait for.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_core::call::CallRow;
use toolfleet_core::progress::CallProgress;
use toolfleet_mcp_protocol::{Request as Notification, meta_key, method};

use crate::handle::Handle;
use crate::message::{Notifications, Request};

/// Sends what a server reports of a call, where the client asked for it.
pub(crate) struct ProgressReporter<'a> {
    token: Option<Value>,
    /// The id of the task that it is of.
    task: Option<&'a str>,
    notifications: &'a Notifications,
    /// The greatest progress so far: it has to grow.
    last: Option<f64>,
}

impl<'a> ProgressReporter<'a> {
    pub(crate) fn new(request: &'a Request, notifications: &'a Notifications) -> Self {
        Self::under(request.meta.progress_token.as_deref().map(RawValue::get), None, notifications)
    }

    /// That of a task, under the token of the request that made it.
    pub(crate) fn of_task(id: &'a str, handle: &Handle, notifications: &'a Notifications) -> Self {
        Self::under(handle.progress_token.as_deref(), Some(id), notifications)
    }

    fn under(token: Option<&str>, task: Option<&'a str>, notifications: &'a Notifications) -> Self {
        let token = token.and_then(|token| serde_json::from_str(token).ok());
        Self { token, task, notifications, last: None }
    }

    /// Sends the progress of that row, if it has grown.
    pub(crate) fn see(&mut self, row: &CallRow) {
        let (Some(token), Some(notifications)) = (&self.token, self.notifications) else { return };
        let Some(CallProgress { progress: Some(progress), .. }) = row.notes.as_deref() else { return };
        let amount = progress.progress.get();
        if self.last.is_some_and(|last| amount <= last) {
            return;
        }
        self.last = Some(amount);
        let mut params = serde_json::to_value(progress).unwrap_or_default();
        if let Some(params) = params.as_object_mut() {
            params.insert("progressToken".to_owned(), token.clone());
            if let Some(id) = self.task {
                params.insert("_meta".to_owned(), json!({ meta_key::RELATED_TASK: {"taskId": id} }));
            }
        }
        let notification = Notification::notification(method::PROGRESS, Some(params));
        // Nobody listens any more: the request is dropped soon.
        let _gone = notifications.unbounded_send(serde_json::to_string(&notification).unwrap_or_default());
    }
}
