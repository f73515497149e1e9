//! The sessions of the server that loses them.
//!
//! **Invariant:** each loss meets a call: if no request came in a lost session, the next call in an open one finds it lost too. Else it would
//! be chance whether a short run has an answer in a lost session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A session may have been opened for the call that it is used for, if it was opened so recently.
const OPENED_FOR_US: u64 = 10_000_000;

/// All sessions, open or lost.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    opened: u64,
    /// When each was opened.
    open: HashMap<String, u64>,
    lost: HashMap<String, u64>,
    /// Whether no request has met the last loss yet.
    unmet: bool,
}

/// The session that a request names.
pub(super) enum Session {
    None,
    Open,
    Lost { existed_before: bool },
}

impl Sessions {
    pub(super) fn open(&self, now_us: u64) -> String {
        let mut sessions = self.lock();
        sessions.opened += 1;
        let session = format!("session-{}", sessions.opened);
        sessions.open.insert(session.clone(), now_us);
        session
    }

    pub(super) fn lose(&self) {
        let mut sessions = self.lock();
        let open = std::mem::take(&mut sessions.open);
        sessions.lost.extend(open);
        sessions.unmet = true;
    }

    /// The session that a request names.
    pub(super) fn of(&self, named: Option<&str>, now_us: u64) -> Session {
        let Some(session) = named else { return Session::None };
        let mut sessions = self.lock();
        if sessions.open.contains_key(session) {
            return Session::Open;
        }
        sessions.unmet = false;
        // It may have been opened for this call, and by any worker.
        let age_us = sessions.lost.get(session).map(|opened| now_us - opened);
        Session::Lost { existed_before: age_us.is_some_and(|age| age > OPENED_FOR_US) }
    }

    /// The session that a call names.
    pub(super) fn of_call(&self, named: Option<&str>, now_us: u64) -> Session {
        self.meet(named);
        self.of(named, now_us)
    }

    /// Loses that session if no request has met the last loss yet.
    fn meet(&self, named: Option<&str>) {
        let mut sessions = self.lock();
        if sessions.unmet
            && let Some(opened) = named.and_then(|named| sessions.open.remove_entry(named))
        {
            sessions.lost.extend([opened]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_meets_a_call() {
        let sessions = Sessions::default();
        let is_lost =
            |session: &str, now_us| matches!(sessions.of_call(Some(session), now_us), Session::Lost { .. });
        let [first, second] = [sessions.open(0), sessions.open(0)];
        assert!(!is_lost(&first, 1));
        sessions.lose();
        assert!(is_lost(&first, 2) && is_lost(&second, 2));
        let third = sessions.open(3);
        assert!(!is_lost(&third, 4), "a call has met the loss");
        sessions.lose();
        let [fourth, fifth] = [sessions.open(5), sessions.open(5)];
        assert!(matches!(sessions.of(Some(&fourth), 6), Session::Open), "only a call meets it");
        assert!(is_lost(&fourth, 7), "nobody came in a session that was lost");
        assert!(!is_lost(&fifth, 8));
    }
}
