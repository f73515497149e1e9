//! The audit record: what is stored for auditors about a call, a refusal or an event. It holds no result and no secret.

use serde::{Deserialize, Serialize};

use crate::definition::ShortDefinitionDigest;
use crate::ids::{CallId, SessionId, Tenant, WorkerId};
use crate::outcome::{MayHaveRun, OutcomeKind};
use crate::request::{Membership, User};
use crate::time::Timestamp;

/// What a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A call ended.
    Call,
    /// An answer came after the claim was lost.
    LateAnswer,
    /// A known id came with another question.
    IdempotencyMismatch,
    /// A known id came with the same question in another message.
    Duplicate,
    /// A message could not be decoded.
    Undecodable,
    /// A sender spoke for a tenant it may not speak for.
    TenantNotAllowed,
    /// An operator changed a switch, a limit, a weight or a rule of the fleet.
    Switch,
}

impl AuditKind {
    /// The word in the sort key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::LateAnswer => "late_answer",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::Duplicate => "duplicate",
            Self::Undecodable => "undecodable",
            Self::TenantNotAllowed => "tenant_not_allowed",
            Self::Switch => "switch",
        }
    }
}

/// The account of one call, refusal or event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// What it tells of.
    pub kind: AuditKind,
    /// Who the call was for; a reserved tenant for messages without one.
    #[serde(serialize_with = "as_text", deserialize_with = "stored_tenant")]
    pub tenant: Tenant,
    /// The call; the message's id for messages without one.
    pub call_id: CallId,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// Why, unless it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The sentence, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the tool may have had an effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_have_run: Option<MayHaveRun>,
    /// The tool that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What was asked of it, unless `tools/call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The earlier call that it went on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<CallId>,
    /// The digest of the definition it ran under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<ShortDefinitionDigest>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The agent that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Its place in a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Membership>,
    /// The SQS SenderId of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The SQS MessageId of its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The shape of the arguments, and the values that the tool's registration allows to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The digest of what was asked.
    pub digest: String,
    /// Attempts made.
    pub attempts: u32,
    /// The number of the claim under which it ended.
    pub fence: u64,
    /// The worker that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// The call whose stored answer it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<String>,
    /// The batch that it was sent in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// The trace of its message: the sender's, else the one that a worker began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// When its message was sent.
    pub enqueued_at: Timestamp,
    /// When it was first claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

fn as_text<S: serde::Serializer>(tenant: &Tenant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(tenant)
}

fn stored_tenant<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tenant, D::Error> {
    Tenant::from_stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
