//! The sessions of the server that loses them.

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
    }

    pub(super) fn of(&self, named: Option<&str>, now_us: u64) -> Session {
        let Some(session) = named else { return Session::None };
        let sessions = self.lock();
        if sessions.open.contains_key(session) {
            return Session::Open;
        }
        // It may have been opened for this call, and by any worker.
        let age_us = sessions.lost.get(session).map(|opened| now_us - opened);
        Session::Lost { existed_before: age_us.is_some_and(|age| age > OPENED_FOR_US) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
