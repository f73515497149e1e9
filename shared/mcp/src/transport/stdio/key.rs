//! The key of a child process: server, tenant, and who shares it.

use toolfleet_core::ids::{ServerId, Tenant};

/// Whose child it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) server: ServerId,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) user: User,
}

/// Who shares a child within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum User {
    /// One conversation has it for itself.
    Conversation(String),
    /// All calls that need none of their own; where there are several of such children, the one of that number.
    All(usize),
}

impl Key {
    /// Whether no other conversation shares the child.
    pub(crate) const fn is_one_conversation(&self) -> bool {
        matches!(self.user, User::Conversation(_))
    }

    pub(crate) fn is_of(&self, conversation: &str) -> bool {
        matches!(&self.user, User::Conversation(own) if own == conversation)
    }
}
