//! The caller of a call, as its row keeps it: that of the message that made the row, whatever later messages say.

use crate::digest::Digest;
use crate::ids::SessionId;
use crate::request::{CallRequest, Group, Membership, User};
use crate::user_binding::bind;

/// Who asked for a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The conversation.
    pub session: Option<SessionId>,
    /// The user, as the message says.
    pub user: Option<User>,
    /// The agent, as the message says.
    pub agent: Option<String>,
    /// Its place in a group.
    pub group: Option<Membership>,
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
            group: request.group.as_deref().map(Group::membership),
            ..Self::unknown(sender, message_id)
        }
    }

    /// A caller of whom no more is known than who sent the message.
    pub fn unknown(sender: Option<&str>, message_id: Option<&str>) -> Self {
        let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self { sender: own(sender), message_id: own(message_id), ..Self::default() }
    }

    /// Whether the request names the same conversation, user and agent: as far as a message says it, the same caller.
    ///
    /// The row holds the user that a session or a sender is bound to. A message may leave that user, its type or its roles out.
    pub fn could_ask(&self, request: &CallRequest) -> bool {
        self.session == request.session && self.agent == request.agent && self.acts_for(request.user.as_ref())
    }

    fn acts_for(&self, said: Option<&User>) -> bool {
        match (&self.user, said) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(user), Some(_)) => bind(user, said).is_ok_and(|bound| bound == *user),
        }
    }

    /// Whether `other` came in another message than this one.
    pub fn came_again(&self, other: &Self) -> bool {
        matches!((&self.message_id, &other.message_id), (Some(first), Some(other)) if first != other)
    }

    /// Whether `other` is somebody else, who may not claim this one's call.
    ///
    /// The sender alone makes no difference: an operator who moves a dead letter back sends it under a role of its own, and
    /// only that message can finish the call then.
    pub fn is_another(&self, other: &Self) -> bool {
        let who = |caller: &Self| (caller.session.clone(), caller.user.clone(), caller.agent.clone());
        self.message_id.as_ref().is_none_or(|first| other.message_id.as_ref() != Some(first))
            && who(self) != who(other)
    }

    /// Whether `other` is somebody else, who may neither learn nor decide how this one's call ends.
    ///
    /// A message can end its call before its user is bound (too old, too large, past its deadline, a dead letter), and its session
    /// may be gone by then. It says less of its user than the row, and only it can end the call.
    pub fn may_not_be_ended_by(&self, other: &Self) -> bool {
        self.is_another(other)
            && !(self.session == other.session
                && self.agent == other.agent
                && self.acts_for(other.user.as_ref()))
    }
}

impl CallRequest {
    /// Whether a digest that is stored with that caller is the one of this request.
    pub fn is_of(&self, stored: &Digest, caller: Option<&Caller>) -> bool {
        // Of arguments that were not loaded the digest says nothing.
        self.arguments_ref.is_some() || *stored == self.digest || self.earlier_for(caller) == Some(stored)
    }

    /// A worker of an earlier version wrote no caller into a row, and the digest that it knew.
    fn earlier_for(&self, caller: Option<&Caller>) -> Option<&Digest> {
        self.earlier_digest.as_ref().filter(|_| caller.is_none())
    }

    /// Whether a digest that is stored with that caller is the one of this request's question, whatever either resumes.
    pub fn has_question_of(&self, stored: &Digest, caller: Option<&Caller>) -> bool {
        let own = [Some(&self.digest), self.earlier_for(caller)];
        own.into_iter().flatten().any(|digest| digest.question() == stored.question())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: &str) -> CallRequest {
        let body = format!(
            r#"{{"v":1,"call_id":"c1","tenant":"acme","tool":"t","arguments":{{}},"session":"s1","agent":"a"{user}}}"#
        );
        CallRequest::decode(&body).unwrap()
    }

    #[test]
    fn a_request_may_say_less_of_its_bound_user() {
        let bound = request(r#","user":{"id":"ann","type":"internal","roles":["support","admin"]}"#);
        let row = Caller::of(&bound, None, None);
        for own in [
            "",
            r#","user":{"id":"ann"}"#,
            r#","user":{"id":"ann","type":"internal"}"#,
            r#","user":{"id":"ann","roles":["support","admin"]}"#,
        ] {
            assert!(row.could_ask(&request(own)), "{own}");
        }
        for other in [
            r#","user":{"id":"eve"}"#,
            r#","user":{"id":"ann","type":"guest"}"#,
            r#","user":{"id":"ann","roles":["support"]}"#,
            r#","user":{"id":"ann","roles":["root"]}"#,
        ] {
            assert!(!row.could_ask(&request(other)), "{other}");
        }
        assert!(!row.could_ask(&CallRequest { session: None, ..request("") }));
        assert!(!row.could_ask(&CallRequest { agent: None, ..request("") }));
        let anonymous = Caller::of(&request(""), None, None);
        assert!(anonymous.could_ask(&request("")) && !anonymous.could_ask(&bound));
    }
}
