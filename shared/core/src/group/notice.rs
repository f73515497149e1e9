//! The notice of a decided group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::row::{Decision, GroupResult, GroupRow};
use crate::ids::{GroupId, Tenant};
use crate::request::GroupKey;
use crate::time::Timestamp;

/// The body of the message sent to the group's reply queue. It may come more than once, always with the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupNotice {
    /// The version of this contract: 1.
    pub v: u32,
    /// Always `group_decided`.
    pub event: String,
    /// The same at each sending of this notice, and that of no other one.
    pub notice_id: String,
    /// Whose group it is.
    pub tenant: Tenant,
    /// The group.
    pub group: GroupId,
    /// Its round.
    pub round: u32,
    /// How it was decided.
    pub result: GroupResult,
    /// How many members it has.
    pub size: u32,
    /// How many had succeeded.
    pub succeeded: u32,
    /// How many had ended otherwise.
    pub failed: u32,
    /// How many had not ended.
    pub open: u32,
    /// When it was decided.
    pub decided_at: Timestamp,
}

impl GroupRow {
    /// The notice of its decision, and the queue it goes to. It is the same at each sending.
    pub fn notice(&self) -> Option<(GroupNotice, &str)> {
        let (Decision { result, at, succeeded, failed, .. }, queue) =
            (self.decision?, self.terms.reply.as_deref()?);
        let GroupKey { tenant, id, round } = self.key.clone();
        let notice = GroupNotice {
            v: 1,
            event: "group_decided".into(),
            notice_id: format!("{}@{}", self.key, at.as_ms()),
            tenant,
            group: id,
            round,
            result,
            size: self.terms.size,
            succeeded,
            failed,
            open: self.terms.size.saturating_sub(succeeded).saturating_sub(failed),
            decided_at: at,
        };
        Some((notice, queue))
    }
}
