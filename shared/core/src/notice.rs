//! The notice that is sent when a call ends. It may come twice or never; the row decides. It carries no content of the tool.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CallId, GroupId, SessionId, Tenant};
use crate::outcome::{Code, OutcomeKind};
use crate::time::Timestamp;

/// The body of the message sent to a reply queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// The version of this contract: 1.
    pub v: u32,
    /// Always `call_ended`.
    pub event: String,
    /// Who the call was for.
    pub tenant: Tenant,
    /// The call.
    pub call_id: CallId,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// Why, unless it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// When it ended.
    pub finished_at: Timestamp,
}
