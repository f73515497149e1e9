//! Remembers which servers have answered this worker, so that a call waits for an unavailable server, but not for a misspelt address.
//!
//! A server that has answered within the last hour is waited for until the call's deadline. One that never did is waited for as
//! long as `TOOLFLEET_UNREACHABLE_WAIT_MS` says, counted from the call or from the first failure that this worker saw, whichever
//! is later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use toolfleet_core::failure::{Failure, Reachability};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

/// For how long an answer shows that the address is right.
const ANSWER_COUNTS_MS: u64 = 60 * 60 * 1000;
/// Servers remembered; beyond it the ones with the oldest contact are forgotten.
const MAX_SERVERS: usize = 20_000;

/// The failures after the last answer.
#[derive(Debug, Clone)]
struct Failing {
    since: Timestamp,
    last: Arc<str>,
}

#[derive(Debug, Clone, Default)]
struct Contact {
    answered: Option<Timestamp>,
    failing: Option<Failing>,
}

impl Contact {
    fn latest(&self) -> Option<Timestamp> {
        self.answered.max(self.failing.as_ref().map(|failing| failing.since))
    }
}

/// The last contact with each server.
#[derive(Debug, Default)]
pub struct Reachable(Mutex<HashMap<ServerId, Contact>>);

impl Reachable {
    /// Learns how an attempt, a listing or a poll ended.
    pub fn learn<T>(&self, server: &ServerId, ended: &Result<T, Failure>, now: Timestamp) {
        let failure = match ended {
            Ok(_) => None,
            Err(failure) => match failure.reachability {
                Reachability::Unknown => return,
                Reachability::NotReached => Some(Arc::from(failure.summary.as_str())),
                Reachability::Answered => None,
            },
        };
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contact) = servers.get_mut(server) {
            contact.take(failure, now);
            return;
        }
        if servers.len() >= MAX_SERVERS {
            let mut times: Vec<_> = servers.values().map(Contact::latest).collect();
            let (_, cut, _) = times.select_nth_unstable(MAX_SERVERS / 8);
            let cut = *cut;
            servers.retain(|_, contact| contact.latest() > cut);
        }
        servers.entry(server.clone()).or_default().take(failure, now);
    }

    /// Whether the server has answered recently enough to show that its address is right.
    pub fn has_answered(&self, server: &ServerId, now: Timestamp) -> bool {
        self.contact(server).answered.is_some_and(|at| at.plus_ms(ANSWER_COUNTS_MS) > now)
    }

    /// Since when the server has failed without an answer, as far as this worker knows.
    pub fn failing_since(&self, server: &ServerId) -> Option<Timestamp> {
        Some(self.contact(server).failing?.since)
    }

    /// What the last try to reach the server ended with, if it failed.
    pub fn last_failure(&self, server: &ServerId) -> Option<Arc<str>> {
        Some(self.contact(server).failing?.last)
    }

    fn contact(&self, server: &ServerId) -> Contact {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned().unwrap_or_default()
    }
}

impl Contact {
    fn take(&mut self, failure: Option<Arc<str>>, now: Timestamp) {
        self.failing = match failure {
            None => {
                self.answered = Some(now);
                None
            }
            Some(last) => {
                let since = self.failing.as_ref().map_or(now, |failing| failing.since);
                Some(Failing { since, last })
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_executors::failure_of;
    use toolfleet_mcp::{Fault, NotSentCause};

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_ms(s * 1_000)
    }

    fn away() -> Result<(), Failure> {
        Err(failure_of(&Fault::Connect { detail: "refused".into() }))
    }

    #[test]
    fn an_answer_of_any_kind_counts_for_an_hour() {
        let (reachable, server) = (Reachable::default(), ServerId::parse("s").unwrap());
        reachable.learn(&server, &away(), at(50));
        reachable.learn(&server, &away(), at(60));
        assert_eq!(
            (reachable.has_answered(&server, at(60)), reachable.failing_since(&server)),
            (false, Some(at(50)))
        );
        reachable.learn(
            &server,
            &Err::<(), _>(failure_of(&Fault::Unauthorized { detail: String::new() })),
            at(200),
        );
        assert_eq!(
            (reachable.has_answered(&server, at(210)), reachable.failing_since(&server)),
            (true, None)
        );
        reachable.learn(&server, &away(), at(220));
        assert_eq!(reachable.failing_since(&server), Some(at(220)));
        assert!(reachable.last_failure(&server).unwrap().contains("refused"));
        assert!(reachable.has_answered(&server, at(3_799)));
        assert!(!reachable.has_answered(&server, at(3_800)));
    }

    #[test]
    fn what_says_nothing_of_the_server_is_no_answer() {
        let (reachable, server) = (Reachable::default(), ServerId::parse("s").unwrap());
        for fault in [
            Fault::AttemptTimeout { after_ms: 1, detail: String::new() },
            Fault::Credential { detail: String::new() },
            Fault::NotSent { detail: String::new(), cause: NotSentCause::Command },
        ] {
            reachable.learn(&server, &Err::<(), _>(failure_of(&fault)), at(1));
        }
        assert!(!reachable.has_answered(&server, at(1)));
    }
}
