//! How a call ends: the outcome, its code, its result, and what a caller may do next.
//!
//! What the tool or the caller did wrong is an outcome (data). A failure of the fleet itself, such as a throttled table, is not.
//!
//! **Invariant:** every outcome but `succeeded` carries a code, a sentence a language model can act on, and whether the
//! tool may have run.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::payload::PayloadRef;
use crate::redact;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The tool ran and its content is stored byte for byte.
    Succeeded,
    /// The tool ran and said `isError`.
    ToolError,
    /// It failed for good, with a code.
    Failed,
    /// It was not allowed to run: access, schema, unknown tool, paused.
    Refused,
    /// Its deadline passed before it ran.
    Expired,
    /// Its deadline passed while it ran.
    TimedOut,
    /// The caller cancelled it.
    Cancelled,
    /// The server asks for something before it goes on; a later request may resume it.
    InputRequired,
    /// It was sent, the answer was lost, and it is not safe to repeat.
    OutcomeUnknown,
}

impl OutcomeKind {
    /// The word used in tables, messages and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::ToolError => "tool_error",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::InputRequired => "input_required",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// Whether an auditor who asks for failures wants to see it.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Succeeded | Self::InputRequired => false,
            Self::ToolError
            | Self::Failed
            | Self::Refused
            | Self::Expired
            | Self::TimedOut
            | Self::Cancelled
            | Self::OutcomeUnknown => true,
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the tool may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MayHaveRun {
    /// Nothing reached the tool.
    No,
    /// The tool answered.
    Yes,
    /// Something was sent and no answer came back.
    Unknown,
}

impl MayHaveRun {
    /// The word that tables and messages carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why a call did not succeed. Each code is explained in docs/reference/runbook.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of docs/reference/runbook.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as tables, messages and the command line carry it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// The message is not a toolfleet request.
    Undecodable = "undecodable",
    /// The sender may not speak for the tenant it names.
    TenantNotAllowed = "tenant_not_allowed",
    /// No such tool or function is registered.
    UnknownTool = "unknown_tool",
    /// No such server is registered.
    UnknownServer = "unknown_server",
    /// The user's type or roles do not open this tool.
    AccessDenied = "access_denied",
    /// The arguments do not fit the tool's schema.
    InvalidArguments = "invalid_arguments",
    /// The reply queue is not on the list.
    ReplyNotAllowed = "reply_not_allowed",
    /// The same id was sent before with other arguments.
    IdempotencyMismatch = "idempotency_mismatch",
    /// What it says of its group differs from what the group's first member said, or another call has its index.
    GroupMismatch = "group_mismatch",
    /// The message is older than the fleet remembers calls for.
    TooOld = "too_old",
    /// The message is so large that its call could not wait in the queue.
    RequestTooLarge = "request_too_large",
    /// The request names an object that its tenant may not name.
    PayloadNotAllowed = "payload_not_allowed",
    /// The object that the request names does not exist.
    PayloadMissing = "payload_missing",
    /// The object that the request names is not the one whose digest it gives.
    PayloadAltered = "payload_altered",
    /// The session does not exist, has ended, or does not grant this tool.
    SessionInvalid = "session_invalid",
    /// The tenant has as many subscriptions at the server as the worker takes.
    SubscriptionsFull = "subscriptions_full",
    /// The request asks for something this fleet does not do.
    Unsupported = "unsupported",
    /// The catalog names the tool or server, but what it says of it cannot be called.
    NotExecutable = "not_executable",
    /// The server lists the tool otherwise than it was approved.
    DefinitionChanged = "definition_changed",
    /// The call that `resume` names cannot be gone on with by this request.
    NotResumable = "not_resumable",
    /// An operator paused the tool.
    Paused = "paused",
    /// The deadline passed before or while the tool ran.
    DeadlineExceeded = "deadline_exceeded",
    /// The caller cancelled.
    CancelledByCaller = "cancelled_by_caller",
    /// A newer call of the same `supersede` key replaced it before it was started.
    Superseded = "superseded",
    /// Its group was decided before it ended.
    GroupDecided = "group_decided",
    /// An operator's rule cancelled it.
    CancelledByOperator = "cancelled_by_operator",
    /// The server itself gave the call's task up.
    TaskCancelled = "task_cancelled",
    /// The server no longer knows the call's task.
    TaskLost = "task_lost",
    /// The tool itself reported an error.
    ToolReportedError = "tool_reported_error",
    /// The server could not be reached in all attempts.
    ServerUnreachable = "server_unreachable",
    /// The server answered with an HTTP error.
    ServerError = "server_error",
    /// The server asked to slow down until the deadline.
    RateLimited = "rate_limited",
    /// The server did not accept the credentials.
    Unauthorized = "unauthorized",
    /// The credentials lack a scope or permission.
    Forbidden = "forbidden",
    /// A secret that the server's configuration names could not be had.
    CredentialUnavailable = "credential_unavailable",
    /// The server answered with a JSON-RPC error.
    RpcError = "rpc_error",
    /// The server's answer breaks the protocol.
    InvalidAnswer = "invalid_answer",
    /// The answer is larger than the bound.
    AnswerTooLarge = "answer_too_large",
    /// The compressed result is larger than a record holds, and the fleet has no bucket for such.
    ResultTooLarge = "result_too_large",
    /// The result could not be stored: the bucket did not take it.
    ResultNotStored = "result_not_stored",
    /// The server's address is not public, or without TLS, and the configuration does not allow it.
    AddressRefused = "address_refused",
    /// The server redirects elsewhere.
    Redirected = "redirected",
    /// The server supports none of our protocol versions.
    VersionUnsupported = "version_unsupported",
    /// The server uses a transport that this fleet does not support.
    TransportUnsupported = "transport_unsupported",
    /// The server's result has a type this fleet does not know.
    UnknownResultType = "unknown_result_type",
    /// The server asks for input before it goes on.
    InputRequired = "input_required",
    /// The request was sent and the connection or the answer was lost.
    AnswerLost = "answer_lost",
    /// A worker stopped while the call ran.
    WorkerLost = "worker_lost",
    /// An attempt took longer than its bound.
    AttemptTimedOut = "attempt_timed_out",
    /// The message was received too often and went to the dead-letter queue.
    DeadLettered = "dead_lettered",
    /// A defect of the fleet itself ended the call.
    InternalError = "internal_error",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sentence is cut to this many characters: whatever a caller or server sent, it fits into a row.
const SENTENCE_CHARS: usize = 2_000;

/// What went wrong, for a caller to act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallError {
    /// Why, as a stable word.
    pub code: Code,
    /// A sentence a language model or a person can act on.
    pub message: String,
    /// Whether a new call with the same arguments may succeed.
    pub retryable: bool,
    /// After how many milliseconds a new call makes sense, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Whether the tool may have had an effect.
    pub may_have_run: MayHaveRun,
    /// The code of the JSON-RPC error by which the server refused the call, where it did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc_code: Option<i32>,
}

/// How a call ended, with all a caller needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub kind: OutcomeKind,
    /// What went wrong; always present unless it succeeded.
    pub error: Option<CallError>,
    /// The server's `result`, where there is one.
    pub payload: Option<Payload>,
    /// Where the answer is from.
    pub source: AnswerSource,
}

/// Where the answer of a call is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AnswerSource {
    /// The server answered the call, or there is no answer.
    #[default]
    Server,
    /// It is the stored answer of an equal call: that call's id, or [`OTHER_TENANT`].
    Cache(String),
    /// The call was sent in a batch: the batch's id. Its answer is a part of the batch's, or the batch has none.
    Batch(String),
}

/// In the place of a call's id where the call is another tenant's. No id can be this text.
pub const OTHER_TENANT: &str = "(a call of another tenant)";

impl AnswerSource {
    /// The call whose stored answer it is.
    pub fn cached_from(&self) -> Option<&str> {
        match self {
            Self::Server | Self::Batch(_) => None,
            Self::Cache(call) => Some(call),
        }
    }

    /// The batch that the call was sent in.
    pub fn batch(&self) -> Option<&str> {
        match self {
            Self::Server | Self::Cache(_) => None,
            Self::Batch(id) => Some(id),
        }
    }
}

/// A result: its text, or the object that holds it.
#[derive(Debug, Clone)]
pub enum Payload {
    /// The JSON text, byte for byte as the server sent it.
    Inline(Box<RawValue>),
    /// The object in the bucket, for a result that is too large for the row.
    Stored(Box<PayloadRef>),
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(text), Self::Inline(other)) => text.get() == other.get(),
            (Self::Stored(object), Self::Stored(other)) => object == other,
            (Self::Inline(_), Self::Stored(_)) | (Self::Stored(_), Self::Inline(_)) => false,
        }
    }
}

impl Outcome {
    /// The tool ran and answered.
    pub const fn succeeded(content: Box<RawValue>) -> Self {
        Self {
            kind: OutcomeKind::Succeeded,
            error: None,
            payload: Some(Payload::Inline(content)),
            source: AnswerSource::Server,
        }
    }

    /// The same answer that `call` had from its server.
    pub fn from_cache(content: Box<RawValue>, call: impl Into<String>) -> Self {
        Self { source: AnswerSource::Cache(call.into()), ..Self::succeeded(content) }
    }

    /// The tool ran and said `isError`; `sentence` is its own text where it gave one.
    pub fn tool_error(content: Box<RawValue>, sentence: impl Into<String>) -> Self {
        let error = CallError::new(Code::ToolReportedError, sentence, MayHaveRun::Yes);
        Self::answered(OutcomeKind::ToolError, error, content)
    }

    /// It was not allowed to run; nothing was sent.
    pub fn refused(code: Code, sentence: impl Into<String>) -> Self {
        Self::ended(OutcomeKind::Refused, CallError::new(code, sentence, MayHaveRun::No))
    }

    /// It failed for good.
    pub const fn failed(error: CallError) -> Self {
        Self::ended(OutcomeKind::Failed, error)
    }

    /// It ended as `kind`, without content.
    pub const fn ended(kind: OutcomeKind, error: CallError) -> Self {
        Self { kind, error: Some(error), payload: None, source: AnswerSource::Server }
    }

    /// It ended as `kind`, with what the server answered.
    pub const fn answered(kind: OutcomeKind, error: CallError, content: Box<RawValue>) -> Self {
        Self {
            kind,
            error: Some(error),
            payload: Some(Payload::Inline(content)),
            source: AnswerSource::Server,
        }
    }

    /// The result's text, unless there is none or it is in the bucket.
    pub fn content(&self) -> Option<&RawValue> {
        match &self.payload {
            Some(Payload::Inline(content)) => Some(content),
            Some(Payload::Stored(_)) | None => None,
        }
    }

    /// The object that holds the result, where it is in the bucket.
    pub fn stored(&self) -> Option<&PayloadRef> {
        match &self.payload {
            Some(Payload::Stored(stored)) => Some(stored),
            Some(Payload::Inline(_)) | None => None,
        }
    }
}

impl CallError {
    /// An error that another try will not fix. What has the form of a credential is taken out of the sentence: it may repeat what a
    /// server said, which may repeat an argument. A tool's own sentence is a part of its content and stays.
    pub fn new(code: Code, message: impl Into<String>, may_have_run: MayHaveRun) -> Self {
        let message = message.into();
        let own = code == Code::ToolReportedError;
        let text = if own { Cow::Borrowed(message.as_str()) } else { redact::text(&message) };
        let message = text.chars().take(SENTENCE_CHARS).collect();
        Self { code, message, retryable: false, retry_after_ms: None, may_have_run, rpc_code: None }
    }

    /// The same, where a new call may succeed.
    #[must_use]
    pub const fn retryable(mut self, after_ms: Option<u64>) -> Self {
        self.retryable = true;
        self.retry_after_ms = after_ms;
        self
    }
}
