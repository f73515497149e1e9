//! The decoded request and its parts, and the error of a message that is not a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::RequestError;
use super::group::Group;
use super::input_kind::InputKind;
use super::reply::Reply;
use super::resume::Resume;
use crate::digest::Digest;
use crate::ids::{CallKey, ServerId, SessionId, ToolId};
use crate::payload::{ArgumentsRef, ObjectAt};
use crate::time::Timestamp;

/// The version of the request contract that this fleet accepts.
pub const REQUEST_VERSION: u32 = 1;

/// The largest body in bytes: the SQS limit for one message (1 MiB).
pub const MAX_BODY_BYTES: usize = 1_048_576;

/// A request that keeps every rule of the contract.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// Tenant and id of the call.
    pub key: CallKey,
    /// The caller's key from which the id was derived, where it gave no id.
    pub idempotency_key: Option<String>,
    /// Which tool, and which of its functions.
    pub target: Target,
    /// What to do with it.
    pub operation: Operation,
    /// A JSON object, byte for byte as it was sent: the tool's, or what the operation needs, see [`OperationParams`](crate::request::OperationParams).
    pub arguments: Box<RawValue>,
    /// Where the arguments are until [`CallRequest::with_arguments`] loads them. Until then `arguments` is `{}` and `digest` is of the
    /// reference.
    pub arguments_ref: Option<Box<ArgumentsRef>>,
    /// The conversation this call belongs to.
    pub session: Option<SessionId>,
    /// Who asks, for the tool's access rules.
    pub user: Option<User>,
    /// The agent that asks.
    pub agent: Option<String>,
    /// Its place in a group.
    pub group: Option<Box<Group>>,
    /// Before which it is not started. It is a part of neither the digest nor the id.
    pub not_before: Option<Timestamp>,
    /// Of the calls of this key that were not started, the newest replaces the others.
    pub supersede: Option<String>,
    /// Until when the call is worth anything.
    pub time_limit: Option<TimeLimit>,
    /// How urgent it is.
    pub priority: Priority,
    /// A wish for fewer attempts than the tool allows.
    pub retry: Option<RetryWish>,
    /// The caller's promise that the call is safe to repeat.
    pub idempotent: bool,
    /// Whether a stored answer of an equal call will do.
    pub cache: bool,
    /// Where the notice goes.
    pub reply: Option<Reply>,
    /// The earlier call that it goes on with, and the answers to what was asked there.
    pub resume: Option<Resume>,
    /// What the caller can answer if the server asks for input, if it says so.
    pub can_answer: Option<Vec<InputKind>>,
    /// The digest of what is asked: operation, target and arguments, and of `resume`.
    pub digest: Digest,
    /// The digest that workers of earlier versions gave the same question, where it differs.
    pub earlier_digest: Option<Digest>,
}

impl CallRequest {
    /// The instant after which this call is worth nothing, for a message sent at `enqueued_at`.
    /// A time-out counts from `not_before` where that is later.
    pub fn deadline(&self, enqueued_at: Timestamp, default_ms: u64) -> Timestamp {
        let begin = self.not_before.map_or(enqueued_at, |at| at.max(enqueued_at));
        match self.time_limit {
            Some(TimeLimit::Deadline(at)) => at,
            Some(TimeLimit::TimeoutMs(ms)) => begin.plus_ms(ms),
            None => begin.plus_ms(default_ms),
        }
    }

    /// Whether each of its deliveries claims it, whatever a catalog says of its tool: something of it is kept in its row from the start.
    pub const fn is_always_claimed(&self) -> bool {
        self.resume.is_some()
            // Its row tells of the updates.
            || matches!(self.operation, Operation::ResourcesSubscribe)
            || self.supersede.is_some()
            || self.not_before.is_some()
            // A group counts its members by their claims.
            || self.group.is_some()
    }
}

/// What a request wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A registered tool, and its function where it offers several.
    Tool {
        /// The registered id.
        id: ToolId,
        /// The function, where the tool offers several.
        function: Option<String>,
    },
    /// A tool of a registered server, by the server's own name for it.
    OnServer {
        /// The registered server.
        server: ServerId,
        /// The tool's name there.
        name: String,
    },
    /// A registered server itself, for every operation but `tools/call`.
    Server {
        /// The registered server.
        server: ServerId,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tool { id, function: None } => write!(f, "{id}"),
            Self::Tool { id, function: Some(function) } => write!(f, "{id}.{function}"),
            Self::OnServer { server, name } => write!(f, "{server}/{name}"),
            // As the grant that opens it.
            Self::Server { server } => write!(f, "{server}/*"),
        }
    }
}

/// What to do with the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// Run the tool.
    #[default]
    #[serde(rename = "tools/call")]
    ToolsCall,
    /// List the server's tools.
    #[serde(rename = "tools/list")]
    ToolsList,
    /// Read a resource.
    #[serde(rename = "resources/read")]
    ResourcesRead,
    /// List the server's resources.
    #[serde(rename = "resources/list")]
    ResourcesList,
    /// List the server's templates of resources.
    #[serde(rename = "resources/templates/list")]
    ResourceTemplatesList,
    /// Be told of updates of a resource, as progress, until the call's deadline.
    #[serde(rename = "resources/subscribe")]
    ResourcesSubscribe,
    /// Get a prompt.
    #[serde(rename = "prompts/get")]
    PromptsGet,
    /// List the server's prompts.
    #[serde(rename = "prompts/list")]
    PromptsList,
    /// Complete an argument of a prompt or of a resource template.
    #[serde(rename = "completion/complete")]
    CompletionComplete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::ToolsCall,
        Self::ToolsList,
        Self::ResourcesRead,
        Self::ResourcesList,
        Self::ResourceTemplatesList,
        Self::ResourcesSubscribe,
        Self::PromptsGet,
        Self::PromptsList,
        Self::CompletionComplete,
    ];

    /// The operation of that name in the protocol.
    pub fn parse(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == method)
    }

    /// Its name, the protocol's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolsCall => "tools/call",
            Self::ToolsList => "tools/list",
            Self::ResourcesRead => "resources/read",
            Self::ResourcesList => "resources/list",
            Self::ResourceTemplatesList => "resources/templates/list",
            Self::ResourcesSubscribe => "resources/subscribe",
            Self::PromptsGet => "prompts/get",
            Self::PromptsList => "prompts/list",
            Self::CompletionComplete => "completion/complete",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user's id, for the audit record.
    pub id: String,
    /// The user's type, for access rules.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The user's roles, for access rules.
    #[serde(default, deserialize_with = "super::lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<String>>")]
    pub roles: Vec<String>,
}

/// Until when a call is worth anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// At this instant.
    Deadline(Timestamp),
    /// This many milliseconds after the message was sent, or after `not_before` where that is later.
    TimeoutMs(u64),
}

/// How urgent a call is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before the others.
    High,
    /// As the others.
    #[default]
    Normal,
    /// After the others.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its word in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A caller's wish about retries, within the tool's own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryWish {
    /// At most this many attempts, the first included; the tool's own limit stays the upper bound.
    #[serde(deserialize_with = "super::lenient::needed_whole")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
}

/// A message that is not a request, with as much of it as can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub error: RequestError,
    /// The call it names, where tenant and id could be read: its caller waits for an answer under that id.
    pub addressed: Option<CallKey>,
    /// Where it wants its notice, where that could be read.
    pub reply: Option<Reply>,
    /// Its place in a group, where that could be read.
    pub group: Option<Box<Group>>,
    /// The digest of the whole text.
    pub digest: Digest,
    /// The object in which an SQS extended client put the body, where the text is its pointer.
    pub pointer: Option<ObjectAt>,
}
