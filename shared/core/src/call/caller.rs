//! Owns who asked for a call, as its row keeps it from the first claim on.
//!
//! **Invariant:** a row's caller is that of the message that made the row, whoever brings later ones.

use crate::ids::SessionId;
use crate::message::{CallRequest, Group, User};

/// Who asked for a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The conversation.
    pub session: Option<SessionId>,
    /// The user, as the message says.
    pub user: Option<User>,
    /// The agent, as the message says.
    pub agent: Option<String>,
    /// The group of one agent turn.
    pub group: Option<Group>,
    /// The SQS SenderId of the first message.
    pub sender: Option<String>,
    /// The SQS MessageId of the first message; unknown where an earlier version of a worker sent the message on.
    pub message_id: Option<String>,
}

impl Caller {
    /// Who asks by that request, sent by `sender` in the message `message_id`.
    pub fn of(request: &CallRequest, sender: Option<&str>, message_id: Option<&str>) -> Self {
        Self {
            session: request.session.clone(),
            user: request.user.clone(),
            agent: request.agent.clone(),
            group: request.group.clone(),
            ..Self::unknown(sender, message_id)
        }
    }

    /// A caller of whom no more is known than who sent the message.
    pub fn unknown(sender: Option<&str>, message_id: Option<&str>) -> Self {
        let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self { sender: own(sender), message_id: own(message_id), ..Self::default() }
    }

    /// Whether the request names the same conversation, user and agent: as far as a message says it, the same caller.
    pub fn could_ask(&self, request: &CallRequest) -> bool {
        self.session == request.session && self.user == request.user && self.agent == request.agent
    }

    /// Whether `other` came in another message than this one.
    pub fn came_again(&self, other: &Self) -> bool {
        matches!((&self.message_id, &other.message_id), (Some(first), Some(other)) if first != other)
    }

    /// Whether `other` is somebody else, who may not be told, and may not decide, what becomes of this one's call.
    ///
    /// The sender alone makes no difference: an operator who moves a dead letter back sends it under a role of its own, and
    /// nobody else is left to finish the call then.
    pub fn is_another(&self, other: &Self) -> bool {
        let who = |caller: &Self| (caller.session.clone(), caller.user.clone(), caller.agent.clone());
        self.message_id.as_ref().is_none_or(|first| other.message_id.as_ref() != Some(first))
            && who(self) != who(other)
    }
}
