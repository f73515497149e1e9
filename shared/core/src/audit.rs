//! Owns the audit record: the append-only account of a call, and the keys under which auditors find it.
//!
//! **Invariant:** the same facts give the same key, so that a record inserted twice stands once; no result and no secret is in it.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{CallId, SessionId, Tenant, WorkerId};
use crate::message::{Group, User};
use crate::outcome::{MayHaveRun, OutcomeKind};
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
    pub definition: Option<String>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The agent that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The group it belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
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
    /// When its message was sent.
    pub enqueued_at: Timestamp,
    /// When it was first claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

impl AuditRecord {
    /// The partition key: `tenant#hour#shard`.
    pub fn partition(&self, shards: u32) -> String {
        let shard = Digest::of_text(self.call_id.as_str()).bucket(shards);
        history_partition(&self.tenant, self.at, shard)
    }

    /// The sort key: `time#call_id#kind`, and the message's id where several messages can have a record of that kind.
    pub fn sort(&self) -> String {
        let key = format!("{}#{}#{}", self.at, self.call_id, self.kind.as_str());
        match self.kind {
            AuditKind::IdempotencyMismatch | AuditKind::Duplicate => match &self.message_id {
                Some(message_id) => format!("{key}#{message_id}"),
                None => key,
            },
            AuditKind::Call
            | AuditKind::LateAnswer
            | AuditKind::Undecodable
            | AuditKind::TenantNotAllowed => key,
        }
    }

    /// The key of the index by session: `tenant#session`.
    pub fn session_partition(&self) -> Option<String> {
        self.session.as_ref().map(|session| session_partition(&self.tenant, session))
    }

    /// The key of the sparse index of failures: `tenant#day#shard`, present on failures alone.
    pub fn failure_partition(&self, shards: u32) -> Option<String> {
        let shard = Digest::of_text(self.call_id.as_str()).bucket(shards);
        self.outcome.is_failure().then(|| failure_partition(&self.tenant, self.at, shard))
    }
}

/// The partition key of the history of one tenant in the hour of `at`.
pub fn history_partition(tenant: &Tenant, at: Timestamp, shard: u32) -> String {
    format!("{tenant}#{}#{shard}", at.hour())
}

/// The partition key of the index by session.
pub fn session_partition(tenant: &Tenant, session: &SessionId) -> String {
    format!("{tenant}#{session}")
}

/// The partition key of the index of failures on the day of `at`.
pub fn failure_partition(tenant: &Tenant, at: Timestamp, shard: u32) -> String {
    format!("{tenant}#{}#{shard}", at.hour().chars().take(10).collect::<String>())
}

fn as_text<S: serde::Serializer>(tenant: &Tenant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(tenant)
}

fn stored_tenant<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tenant, D::Error> {
    Tenant::from_stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
