//! One attempt of a call, and a request about a task, as the caller hands them in.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_core::progress::ProgressNote;
use toolfleet_core::request::{InputKind, Operation};

use crate::endpoint::Endpoint;
use crate::fault::{Fault, NotSentCause};

/// Hears what the server tells while the call runs.
pub type OnNote<'a> = &'a (dyn Fn(ProgressNote) + Send + Sync);

/// Decides when the requests of a call are sent.
pub trait Pacer: Send + Sync {
    /// Waits until the next request may be sent; false where it may not within the call's time.
    fn next(&self) -> BoxFuture<'_, bool>;
}

/// Asked right before each request of a call is sent.
pub type Admit<'a> = &'a dyn Pacer;

/// Waits until a request may be sent.
///
/// # Errors
/// It may not in time.
pub async fn admitted(admit: Option<Admit<'_>>) -> Result<(), Fault> {
    match admit {
        Some(admit) if !admit.next().await => {
            let detail = "no turn of the call's rate limits came within the attempt's time".to_owned();
            Err(Fault::NotSent { detail, cause: NotSentCause::Time })
        }
        Some(_) | None => Ok(()),
    }
}

/// What a server that answered `input_required` wants to see again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resume<'a> {
    /// `requestState` as the server gave it.
    pub request_state: Option<&'a str>,
    /// `inputResponses`, an object keyed like the server's `inputRequests`.
    pub input_responses: Option<&'a RawValue>,
}

impl Resume<'_> {
    /// Whether it is the first request of a call after all.
    pub(crate) const fn is_none(&self) -> bool {
        self.request_state.is_none() && self.input_responses.is_none()
    }
}

/// One attempt of `tools/call`, or of another operation.
#[derive(Clone, Copy)]
pub struct ToolCall<'a> {
    /// The server and the credentials.
    pub endpoint: &'a Endpoint,
    /// Sessions are per conversation; without one, a session that such calls of the same tenant and server share.
    pub conversation: Option<&'a str>,
    /// The method.
    pub operation: Operation,
    /// The tool's or prompt's name at the server, or the resource's address; listings and completions have none.
    pub name: &'a str,
    /// The tool's or prompt's arguments: a JSON object, sent byte for byte. Of a completion: `{"ref", "argument", "context"}`.
    pub arguments: &'a RawValue,
    /// W3C trace context, sent as a header and in `_meta`.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
    /// When this attempt ends, whatever the server does.
    pub deadline: Instant,
    /// Hears progress and log lines. Asking for them makes servers stream, so it is asked only where someone hears.
    pub on_note: Option<OnNote<'a>>,
    /// The attempt ends when no progress was heard for so long, in any case at its deadline.
    pub patience: Option<Duration>,
    /// Answers an earlier `input_required`.
    pub resume: Resume<'a>,
    /// What whoever sent the call can answer.
    pub can_answer: &'a [InputKind],
    /// Whether running it twice does no harm. Without it, the request is sent again only where it is proved that nothing ran.
    pub repeatable: bool,
    /// Where requests have to wait for a turn.
    pub admit: Option<Admit<'a>>,
}

impl ToolCall<'_> {
    /// The fault without what the server's words repeat of credentials, ours or those in the arguments.
    pub(crate) fn without_echo(&self, fault: Fault) -> Fault {
        let of_arguments = |text| toolfleet_core::scrub::without_secrets(text, self.arguments.get());
        self.endpoint.without_echo(fault).map_text(of_arguments)
    }
}

impl<'a> ToolCall<'a> {
    /// A call without conversation, trace or progress.
    pub fn new(endpoint: &'a Endpoint, name: &'a str, arguments: &'a RawValue, deadline: Instant) -> Self {
        Self {
            endpoint,
            conversation: None,
            operation: Operation::ToolsCall,
            name,
            arguments,
            traceparent: None,
            tracestate: None,
            deadline,
            on_note: None,
            patience: None,
            resume: Resume::default(),
            can_answer: &InputKind::BY_DEFAULT,
            repeatable: false,
            admit: None,
        }
    }
}

impl fmt::Debug for ToolCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall")
            .field("endpoint", &self.endpoint)
            .field("conversation", &self.conversation)
            .field("operation", &self.operation.as_str())
            .field("name", &self.name)
            .field("arguments_bytes", &self.arguments.get().len())
            .finish_non_exhaustive()
    }
}

/// A request about one task.
#[derive(Debug, Clone, Copy)]
pub struct TaskQuestion<'a> {
    /// The server and the credentials.
    pub endpoint: &'a Endpoint,
    /// The conversation whose session it belongs to, with servers that have sessions.
    pub conversation: Option<&'a str>,
    /// The handle's id.
    pub task: &'a str,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
    /// When the question ends, whatever the server does.
    pub deadline: Instant,
}
