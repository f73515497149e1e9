//! The messages of a group itself: its timer, and its cancellation. They go through the queue of calls, so that no death loses them.

use serde::{Deserialize, Serialize};

use super::decision::Occasion;
use super::row::Decider;
use crate::request::GroupKey;
use crate::time::Timestamp;

/// The longest delay of one message, in milliseconds (SQS quota).
pub const LONGEST_HOP_MS: u64 = 900_000;

/// What a message of a group is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupEvent {
    /// Its deadline.
    Timer,
    /// Its caller cancels it.
    Cancel,
}

/// The body of a message of a group. A worker knows it by the message attribute `toolfleet-group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMessage {
    /// The version of this contract: 1.
    pub v: u32,
    /// What it is about.
    pub group_event: GroupEvent,
    /// Which group.
    pub key: GroupKey,
    /// The group's deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

impl GroupMessage {
    /// The timer of a group.
    pub const fn timer(key: GroupKey, deadline: Timestamp) -> Self {
        Self { v: 1, group_event: GroupEvent::Timer, key, deadline: Some(deadline) }
    }

    /// The cancellation of a group.
    pub const fn cancel(key: GroupKey) -> Self {
        Self { v: 1, group_event: GroupEvent::Cancel, key, deadline: None }
    }

    /// Its text.
    pub fn encode(&self) -> String {
        // Serialising owned strings and numbers has no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads its text. A text of another version or form is none.
    pub fn decode(body: &str) -> Option<Self> {
        serde_json::from_str::<Self>(body).ok().filter(|message| message.v == 1)
    }

    /// Milliseconds until it has something to do.
    pub fn due_in_ms(&self, now: Timestamp) -> u64 {
        match self.group_event {
            GroupEvent::Timer => self.deadline.map_or(0, |deadline| deadline.ms_since(now)),
            GroupEvent::Cancel => 0,
        }
    }

    /// Why the group is looked at, once it is due.
    pub const fn occasion(&self) -> Occasion {
        match self.group_event {
            GroupEvent::Timer => Occasion::Timer,
            GroupEvent::Cancel => Occasion::Cancel,
        }
    }

    /// Who it is as a decider.
    pub const fn decider(&self) -> Decider {
        match self.group_event {
            GroupEvent::Timer => Decider::Timer,
            GroupEvent::Cancel => Decider::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, Tenant};

    #[test]
    fn a_message_is_read_as_it_is_written_and_nothing_else_is_one() {
        let key =
            GroupKey { tenant: Tenant::parse("acme").unwrap(), id: GroupId::parse("g").unwrap(), round: 2 };
        for message in
            [GroupMessage::timer(key.clone(), Timestamp::from_ms(1_000)), GroupMessage::cancel(key.clone())]
        {
            assert_eq!(GroupMessage::decode(&message.encode()), Some(message));
        }
        let other = GroupMessage { v: 2, ..GroupMessage::cancel(key) };
        assert_eq!(GroupMessage::decode(&other.encode()), None);
        assert_eq!(GroupMessage::decode(r#"{"v":1,"call_id":"c"}"#), None);
    }
}
