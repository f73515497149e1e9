//! The session's row and its state table: which tools a session may call, and when it ends.

use crate::grants::{self, GrantError};
use crate::request::User;
use crate::state_table::{Decision, StateTable};
use crate::time::Timestamp;

/// How long workers cache a session's row, in seconds: a change is effective everywhere after this time.
pub const SESSION_CACHE_TTL_S: u64 = 60;

/// What a session may do, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// When it ends.
    pub expires_at: Timestamp,
    /// The tools it may call; `*` for all.
    pub grants: Vec<String>,
    /// The user whose calls it makes, where it is bound to one.
    pub user: Option<User>,
}

/// A change of a session.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// Adds and removes grants of a session that has not ended.
    Grant {
        /// The grants to add.
        add: Vec<String>,
        /// The grants to remove.
        remove: Vec<String>,
        /// Now.
        now: Timestamp,
    },
    /// Moves the end of a session that has not ended.
    Expire {
        /// The new end.
        at: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// Ends a session, also one that has no row yet: the row keeps workers from registering it.
    Revoke {
        /// Now.
        now: Timestamp,
    },
}

/// Why an event changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRejection {
    /// There is no such session.
    Unknown,
    /// It ended at this instant; an end is final.
    Ended(Timestamp),
    /// No grant would be left.
    NoGrant,
    /// A grant that matches no tool.
    Grant(GrantError),
    /// It has these grants already.
    Unchanged,
}

/// The state table of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionTable;

impl StateTable for SessionTable {
    type Row = SessionRow;
    type Event = SessionEvent;
    type Effect = ();
    type Rejection = SessionRejection;

    fn decide(seen: Option<&SessionRow>, event: &SessionEvent) -> Decision<SessionRow, (), SessionRejection> {
        let write = |row| Decision::Write { row: Box::new(row), then: () };
        let changed = match event {
            SessionEvent::Grant { add, remove, now } => {
                open(seen, *now).and_then(|row| granted(row, add, remove))
            }
            SessionEvent::Expire { at, now } => {
                open(seen, *now).map(|row| SessionRow { expires_at: *at, ..row.clone() })
            }
            SessionEvent::Revoke { now } => Ok(match seen {
                Some(row) => SessionRow { expires_at: *now, ..row.clone() },
                None => SessionRow { expires_at: *now, grants: Vec::new(), user: None },
            }),
        };
        changed.map_or_else(Decision::Leave, write)
    }
}

fn open(seen: Option<&SessionRow>, now: Timestamp) -> Result<&SessionRow, SessionRejection> {
    let row = seen.ok_or(SessionRejection::Unknown)?;
    if row.expires_at <= now { Err(SessionRejection::Ended(row.expires_at)) } else { Ok(row) }
}

fn granted(row: &SessionRow, add: &[String], remove: &[String]) -> Result<SessionRow, SessionRejection> {
    let kept: Vec<_> = row.grants.iter().filter(|grant| !remove.contains(grant)).cloned().collect();
    let grants = merged(&kept, add);
    check_grants(&grants)?;
    if grants == row.grants {
        return Err(SessionRejection::Unchanged);
    }
    Ok(SessionRow { grants, ..row.clone() })
}

/// Whether a session may have these grants.
///
/// # Errors
/// There is none, or one of them matches no tool.
pub fn check_grants(grants: &[String]) -> Result<(), SessionRejection> {
    if grants.is_empty() {
        return Err(SessionRejection::NoGrant);
    }
    grants.iter().try_for_each(|grant| grants::check(grant)).map_err(SessionRejection::Grant)
}

/// `grants` and then `more`, each once, in order.
pub fn merged(grants: &[String], more: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for grant in grants.iter().chain(more) {
        if !all.contains(grant) {
            all.push(grant.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn row(grants: &str, ends: i64) -> SessionRow {
        SessionRow { expires_at: at(ends), grants: words(grants), user: None }
    }

    fn decide(seen: Option<&SessionRow>, event: &SessionEvent) -> Result<SessionRow, SessionRejection> {
        match SessionTable::decide(seen, event) {
            Decision::Write { row, then: () } => Ok(*row),
            Decision::Leave(rejection) => Err(rejection),
        }
    }

    fn grant(add: &str, remove: &str) -> SessionEvent {
        SessionEvent::Grant { add: words(add), remove: words(remove), now: at(5) }
    }

    #[test]
    fn a_grant_is_stored_once_and_keeps_its_place() {
        assert_eq!(merged(&words("a b"), &words("b c b")), words("a b c"));
        assert_eq!(decide(Some(&row("a b", 9)), &grant("b c", "a")), Ok(row("b c", 9)));
        assert_eq!(decide(Some(&row("a", 9)), &grant("a", "x")), Err(SessionRejection::Unchanged));
        assert_eq!(decide(Some(&row("a", 9)), &grant("", "a")), Err(SessionRejection::NoGrant));
        assert!(matches!(decide(Some(&row("a", 9)), &grant("x*", "")), Err(SessionRejection::Grant(_))));
    }

    #[test]
    fn only_a_session_that_exists_and_has_not_ended_changes() {
        let expire = SessionEvent::Expire { at: at(99), now: at(5) };
        for event in [grant("b", ""), expire] {
            assert_eq!(decide(None, &event), Err(SessionRejection::Unknown));
            assert_eq!(decide(Some(&row("a", 5)), &event), Err(SessionRejection::Ended(at(5))));
            assert!(decide(Some(&row("a", 6)), &event).is_ok());
        }
    }

    #[test]
    fn a_revocation_ends_every_session_also_an_unknown_one() {
        let revoke = SessionEvent::Revoke { now: at(5) };
        assert_eq!(decide(None, &revoke), Ok(row("", 5)));
        assert_eq!(decide(Some(&row("a", 9)), &revoke), Ok(row("a", 5)));
    }
}
