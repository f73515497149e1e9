//! The key of a connection: server, tenant, and who shares it.

use toolfleet_core::ids::{ServerId, Tenant};

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) server: ServerId,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) user: User,
    pub(crate) kind: Kind,
}

/// What takes up a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A process of this machine.
    Program,
    /// A connection to another.
    Connection,
}

/// Who shares a connection within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum User {
    /// One conversation has it for itself.
    Conversation(String),
    /// All calls that need none of their own; where there are several of such connections, the one of that number.
    All(usize),
}

impl Kind {
    /// Its name in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Program => "a program",
            Self::Connection => "a connection",
        }
    }
}

impl Key {
    /// Whether no other conversation shares the connection.
    pub(crate) const fn is_one_conversation(&self) -> bool {
        matches!(self.user, User::Conversation(_))
    }

    /// Whether the two take up places of the same server.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.server == other.server && self.kind == other.kind
    }

    pub(crate) fn is_of(&self, conversation: &str) -> bool {
        matches!(&self.user, User::Conversation(own) if own == conversation)
    }
}
