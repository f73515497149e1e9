//! The requests about a task (extension `io.modelcontextprotocol/tasks` of 2026-07-28): `tasks/get`, `tasks/update`, `tasks/cancel`.
//!
//! **Invariant:** none of them runs a tool, and a repeated update changes nothing, so each may be sent again.

use std::borrow::Cow;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use toolfleet_egress::sanitize_text_to;

use crate::answer::{Answer, kind_of, result_without_echo};
use crate::blocking::{LARGE_BYTES, beside};
use crate::client::call::answered;
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Negotiated, Shared};
use crate::fault::Fault;
use crate::fault::invalid;
use crate::protocol::frame::error_of;
use crate::protocol::task::{Told, text};
use crate::protocol::wire::{INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::tool_call::TaskQuestion;

/// Where a task stands.
#[derive(Debug)]
pub enum TaskState {
    /// The server works on it, or says something of it that we do not know.
    Working {
        /// How long the server wants to be left alone, in milliseconds.
        poll_interval_ms: Option<u64>,
        /// What the server says of it, one short line; may be empty.
        message: String,
    },
    /// The server asks for something before it goes on.
    InputRequired {
        /// The whole result of `tasks/get`, byte for byte.
        asks: Box<RawValue>,
        /// How long the server wants to be left alone, in milliseconds.
        poll_interval_ms: Option<u64>,
    },
    /// The tool's answer, as a call that was no task would have had it.
    Completed(Answer),
    /// The request failed with a JSON-RPC error while it was executed.
    Failed {
        /// Its code.
        code: i64,
        /// Its message, shortened.
        message: String,
    },
    /// The server gave it up.
    Cancelled {
        /// Why, shortened; may be empty.
        message: String,
    },
    /// The server does not know the task (any more), or no tasks at all.
    Unknown {
        /// What it says, shortened.
        message: String,
    },
}

/// Reads the state beside the runtime where the answer is large.
async fn state_beside(
    result: Box<RawValue>,
    question: &TaskQuestion<'_>,
    tongue: Negotiated,
) -> Result<TaskState, Fault> {
    if result.get().len() < LARGE_BYTES {
        return state_in(result, question, tongue);
    }
    let (endpoint, task) = (question.endpoint.clone(), question.task.to_owned());
    let deadline = question.deadline;
    let read = move || {
        let (conversation, traceparent, tracestate) = (None, None, None);
        let endpoint = &endpoint;
        let question =
            TaskQuestion { endpoint, conversation, task: &task, traceparent, tracestate, deadline };
        state_in(result, &question, tongue)
    };
    beside(read).await.unwrap_or_else(|| Err(invalid("a task", "it cannot be read")))
}

fn state_in(
    result: Box<RawValue>,
    question: &TaskQuestion<'_>,
    tongue: Negotiated,
) -> Result<TaskState, Fault> {
    let TaskQuestion { endpoint, task: asked, .. } = *question;
    let result = result_without_echo(result, endpoint);
    let told = Told::read(&result)?;
    if told.id().is_some_and(|id| id != asked) {
        return Err(invalid("another task than was asked for", result.get()));
    }
    let status = text(told.status).map(Cow::into_owned);
    Ok(match status.as_deref() {
        Some("completed") => {
            let of_tool =
                told.result.ok_or_else(|| invalid("a completed task without result", result.get()))?;
            TaskState::Completed(answered(kind_of(of_tool)?, of_tool.to_owned(), tongue))
        }
        Some("failed") => {
            let error = told.error.map(|raw| error_of(raw, true));
            let (code, message) = error.map_or_else(|| (0, told.message(endpoint)), |e| (e.code, e.message));
            TaskState::Failed { code, message: endpoint.text_without_echo(message) }
        }
        Some("cancelled") => TaskState::Cancelled { message: told.message(endpoint) },
        Some("input_required") => {
            let poll_interval_ms = told.poll_interval_ms();
            TaskState::InputRequired { asks: result, poll_interval_ms }
        }
        Some(_) => {
            let (poll_interval_ms, message) = (told.poll_interval_ms(), told.message(endpoint));
            TaskState::Working { poll_interval_ms, message }
        }
        None => return Err(invalid("a task without status", &sanitize_text_to(result.get(), 100))),
    })
}

impl McpClient {
    /// Asks where a task stands (`tasks/get`). It runs no tool: whatever fault comes back, it may be asked again.
    pub async fn task(&self, question: TaskQuestion<'_>) -> Result<TaskState, Fault> {
        let asked = within(question.deadline, self.0.of_task("tasks/get", &question, None)).await;
        match asked {
            Ok((result, tongue)) => state_beside(result, &question, tongue).await,
            Err(Fault::Rpc { code: INVALID_PARAMS | METHOD_NOT_FOUND, message }) => {
                Ok(TaskState::Unknown { message: question.endpoint.text_without_echo(message) })
            }
            Err(fault) => Err(fault),
        }
        .map_err(|fault| question.endpoint.without_echo(fault))
    }

    /// Asks the server to stop (`tasks/cancel`); it decides whether and when it does.
    pub async fn cancel_task(&self, question: TaskQuestion<'_>) -> Result<(), Fault> {
        let asked = within(question.deadline, self.0.of_task("tasks/cancel", &question, None)).await;
        asked.map(|_| ()).map_err(|fault| question.endpoint.without_echo(fault))
    }

    /// Gives a task what it asks for (`tasks/update`), an object keyed like its `inputRequests`. Servers pass over what they know
    /// already, so it may be sent again; where the task stands then, `tasks/get` tells.
    pub async fn update_task(&self, question: TaskQuestion<'_>, answers: &RawValue) -> Result<(), Fault> {
        let told = within(question.deadline, self.0.of_task("tasks/update", &question, Some(answers))).await;
        told.map(|_| ()).map_err(|fault| question.endpoint.without_echo(fault))
    }
}

async fn within<T>(deadline: Instant, asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let begun = Instant::now();
    let late = |_| {
        let after_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Err(Fault::AttemptTimeout { after_ms, detail: String::new() })
    };
    timeout_at(deadline, Box::pin(asked)).await.unwrap_or_else(late)
}

impl Shared {
    async fn of_task(
        &self,
        method: &'static str,
        question: &TaskQuestion<'_>,
        input_responses: Option<&RawValue>,
    ) -> Result<(Box<RawValue>, Negotiated), Fault> {
        let (begun, mut taken) = (Instant::now(), Taken { headers: true, ..Taken::default() });
        loop {
            let tongue = self.tongue(question.endpoint, question.conversation).await?;
            let asked = self.exchange.of_task(method, question, input_responses, tongue.connection());
            let trouble = match asked.await {
                Ok(result) => return Ok((result, tongue)),
                Err(trouble) => trouble,
            };
            let (endpoint, conversation) = (question.endpoint, question.conversation);
            let refused = Refused { endpoint, conversation, tongue: &tongue, begun, repeatable: true };
            Box::pin(self.remedy(refused, trouble, &mut taken)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::ServerId;

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::protocol::task::{MAX_ID_BYTES, handle_in};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_handle_needs_an_id_that_can_be_stored_and_forgives_the_rest() {
        let read = |text: &str| handle_in(&raw(text)).map(|handle| (handle.id, handle.poll_interval_ms)).ok();
        let working =
            |more: &str| format!(r#"{{"resultType":"task","taskId":"t","status":"working"{more}}}"#);
        assert_eq!(read(&working(r#","pollIntervalMs":500"#)), Some(("t".to_owned(), Some(500))));
        assert_eq!(read(&working(r#","pollIntervalMs":1.5e3"#)), Some(("t".to_owned(), Some(1500))));
        assert_eq!(read(&working(r#","pollIntervalMs":"soon","ttlMs":null"#)), Some(("t".to_owned(), None)));
        assert_eq!(
            read(r#"{"taskId":"t","status":"completed","pollIntervalMs":9}"#),
            Some(("t".to_owned(), Some(0)))
        );
        let long = format!(r#"{{"taskId":"{}"}}"#, "x".repeat(MAX_ID_BYTES + 1));
        for no_handle in [r#"{"status":"working"}"#, r#"{"taskId":""}"#, r#"{"taskId":7}"#, "[]", &long] {
            assert_eq!(read(no_handle), None, "{no_handle:.60}");
        }
    }

    #[test]
    fn each_status_of_a_task_means_one_thing() {
        let mut headers = http::HeaderMap::new();
        let mut secret = http::HeaderValue::from_static("sk-live-12345");
        secret.set_sensitive(true);
        headers.insert("x-api-key", secret);
        let (server, url) = (ServerId::parse("s").unwrap(), "https://example.com/mcp".parse().unwrap());
        let endpoint = Endpoint {
            server,
            url,
            headers,
            auth: None,
            tenant: None,
            transport: crate::endpoint::EndpointTransport::Http,
        };
        let question = TaskQuestion {
            endpoint: &endpoint,
            conversation: None,
            task: "t",
            traceparent: None,
            tracestate: None,
            deadline: Instant::now(),
        };
        let read = |text: &str| state_in(raw(text), &question, Negotiated::Modern);
        let Ok(TaskState::Completed(done)) =
            read(r#"{"taskId":"t","status":"completed","result": {"content":[ ],"isError":true} }"#)
        else {
            panic!("a completed task")
        };
        assert_eq!(done.result.get(), r#"{"content":[ ],"isError":true}"#);
        assert!(matches!(done.kind, crate::answer::AnswerKind::ToolError { .. }));
        assert!(matches!(
            read(r#"{"taskId":"t","status":"working","pollIntervalMs":7,"statusMessage":"with sk-live-12345"}"#),
            Ok(TaskState::Working { poll_interval_ms: Some(7), message }) if !message.contains("12345")
        ));
        assert!(matches!(
            read(r#"{"status":"dreaming"}"#),
            Ok(TaskState::Working { poll_interval_ms: None, .. })
        ));
        assert!(matches!(
            read(r#"{"taskId":"t","status":"failed","error":{"code":-32603,"message":"boom"}}"#),
            Ok(TaskState::Failed { code: -32603, message }) if message == "boom"
        ));
        assert!(matches!(
            read(r#"{"taskId":"t","status":"cancelled","statusMessage":"no more"}"#),
            Ok(TaskState::Cancelled { message }) if message == "no more"
        ));
        assert!(matches!(
            read(r#"{"taskId":"t","status":"input_required","inputRequests":{}}"#),
            Ok(TaskState::InputRequired { poll_interval_ms: None, .. })
        ));
        for wrong in
            [r#"{"taskId":"u","status":"working"}"#, r#"{"taskId":"t","status":"completed"}"#, "{}", "[]"]
        {
            assert!(matches!(read(wrong), Err(Fault::InvalidAnswer { .. })), "{wrong}");
        }
    }
}
