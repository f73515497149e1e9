//! The session that a server keeps for one of our sessions, its row and its state table: one worker registers it, all others reuse it.

use std::fmt;

use crate::ids::ServerId;
use crate::state_table::{Decision, StateTable};
use crate::time::Timestamp;

/// The session that a server keeps (`Mcp-Session-Id`) for one of our sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSession {
    /// The server.
    pub server: ServerId,
    /// `Mcp-Session-Id`, as the server gave it.
    pub id: String,
    /// The protocol version the server chose.
    pub version: String,
    /// The digest of the address it was opened at: the id is never sent to another address.
    pub address: String,
    /// The cookies that lead to the replica that opened it, as a `Cookie` header carries them; may be empty.
    pub cookies: String,
    /// When it was opened.
    pub opened_at: Timestamp,
}

impl ServerSession {
    /// The beginning of its id: enough to tell sessions apart, too little to use one.
    pub fn shortened(&self) -> String {
        let shown = (self.id.chars().count() / 2).min(8);
        format!("{}..", self.id.chars().take(shown).collect::<String>())
    }
}

impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerSession({} at {})", self.shortened(), self.server)
    }
}

/// A worker has opened a session with the server.
#[derive(Debug, Clone)]
pub struct Register {
    /// The one that was opened.
    pub opened: ServerSession,
    /// The id of the one that the server no longer knows, where that was the reason to open another.
    pub lost: Option<String>,
}

/// Another one is registered and usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered;

/// The state table of servers' sessions.
#[derive(Debug, Clone, Copy)]
pub struct ServerSessionTable;

impl StateTable for ServerSessionTable {
    type Row = ServerSession;
    type Event = Register;
    type Effect = ();
    type Rejection = Registered;

    fn decide(seen: Option<&ServerSession>, event: &Register) -> Decision<ServerSession, (), Registered> {
        let Register { opened, lost } = event;
        match seen {
            Some(row) if row == opened => Decision::Leave(Registered),
            Some(row) if Some(&row.id) != lost.as_ref() && row.address == opened.address => {
                Decision::Leave(Registered)
            }
            Some(_) | None => Decision::Write { row: Box::new(opened.clone()), then: () },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, address: &str) -> ServerSession {
        ServerSession {
            server: ServerId::parse("s").unwrap(),
            id: id.to_owned(),
            version: "2025-11-25".into(),
            address: address.into(),
            cookies: String::new(),
            opened_at: Timestamp::from_ms(0),
        }
    }

    #[test]
    fn no_more_than_half_of_an_id_is_ever_shown() {
        let session = |id: &str| session(id, "a");
        assert_eq!(session("0123456789abcdef0123456789abcdef").shortened(), "01234567..");
        assert_eq!(session("session-1").shortened(), "sess..");
        assert!(!format!("{:?}", session("secret")).contains("secret"));
    }

    #[test]
    fn a_session_is_replaced_if_lost_or_at_another_address() {
        let stored = session("one", "here");
        for (opened, lost, replaces) in [
            (session("two", "here"), None, false),
            (session("two", "here"), Some("zero"), false),
            (session("two", "here"), Some("one"), true),
            (session("two", "there"), None, true),
            (session("one", "here"), Some("one"), false),
        ] {
            let event = Register { opened: opened.clone(), lost: lost.map(str::to_owned) };
            let decision = ServerSessionTable::decide(Some(&stored), &event);
            let expected = match replaces {
                true => Decision::Write { row: Box::new(opened), then: () },
                false => Decision::Leave(Registered),
            };
            assert_eq!(decision, expected, "{event:?}");
        }
    }
}
