//! Which calls this gateway has just sent with their answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::ids::CallKey;

/// How long a call counts as sent that no worker has received.
const COUNTS_AS_SENT: Duration = Duration::from_secs(60);
/// The most calls that are noted; one that is not noted is sent once more.
const MOST_NOTED: usize = 10_000;

/// Those calls: who polls a task costs no message at each poll.
#[derive(Default)]
pub(crate) struct SentAnswers(Mutex<HashMap<CallKey, Instant>>);

impl SentAnswers {
    pub(crate) fn note(&self, key: CallKey) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|_, at| at.elapsed() < COUNTS_AS_SENT);
        if sent.len() < MOST_NOTED {
            sent.insert(key, Instant::now());
        }
    }

    pub(crate) fn has(&self, key: &CallKey) -> bool {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(key).is_some_and(|at| at.elapsed() < COUNTS_AS_SENT)
    }
}
