//! The servers' ledger: each request for a tool, who sent it, whether the tool ran, and how it was answered.
//!
//! **Invariant:** a request is entered before anything is done with it, and an execution before the tool runs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::flow::server::micros;

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not yet.
    Open,
    /// In full: the tool's own answer.
    Answered,
    /// In full: a refusal that proves that the tool did not run.
    Refused,
    /// With an answer that does not say whether the tool ran.
    Unclear,
    /// The server reset the connection.
    Reset,
    /// The client hung up before the answer.
    Abandoned,
}

impl Fate {
    /// Whether the client cannot know from it whether the tool ran.
    pub(crate) const fn is_cut(self) -> bool {
        match self {
            Self::Open | Self::Unclear | Self::Reset | Self::Abandoned => true,
            Self::Answered | Self::Refused => false,
        }
    }
}

/// A request for a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) call: String,
    pub(crate) server: &'static str,
    /// The worker that sent it.
    pub(crate) worker: String,
    /// When it was read, in microseconds since the start of the servers.
    pub(crate) at_us: u64,
    pub(crate) ran: bool,
    /// When the tool was done.
    pub(crate) end_us: Option<u64>,
    pub(crate) fate: Fate,
}

/// All requests for tools, in the order in which they were read.
pub(crate) struct Ledger {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    /// How many there were of each call.
    of_call: HashMap<String, u32>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), inner: Mutex::default() }
    }

    /// The moment when the servers' clock was 0.
    pub(crate) const fn start_of_clock(&self) -> Instant {
        self.start
    }

    /// The time on the servers' clock, in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Enters a request. Returns its position, and how many requests of its call came before.
    pub(crate) fn enter(&self, call: &str, server: &'static str, worker: &str) -> (usize, u32) {
        let mut inner = self.lock();
        // The time is taken with the lock held, so that the list is sorted.
        let at_us = self.now_us();
        let times = inner.of_call.entry(call.to_owned()).or_default();
        let before = *times;
        *times += 1;
        inner.requests.push(Request {
            call: call.to_owned(),
            server,
            worker: worker.to_owned(),
            at_us,
            ran: false,
            end_us: None,
            fate: Fate::Open,
        });
        (inner.requests.len() - 1, before)
    }

    pub(crate) fn runs(&self, position: usize) {
        self.change(position, |request| request.ran = true);
    }

    pub(crate) fn ended(&self, position: usize) {
        let now_us = self.now_us();
        self.change(position, |request| request.end_us = Some(now_us));
    }

    pub(crate) fn answered(&self, position: usize, fate: Fate) {
        self.change(position, |request| request.fate = fate);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// How many requests have the fate that `of` describes.
    pub(crate) fn count(&self, of: impl Fn(&Request) -> bool) -> u64 {
        u64::try_from(self.lock().requests.iter().filter(|request| of(request)).count()).unwrap_or(u64::MAX)
    }

    fn change(&self, position: usize, change: impl FnOnce(&mut Request)) {
        if let Some(request) = self.lock().requests.get_mut(position) {
            change(request);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_in_doubt_until_it_was_answered_in_full() {
        let ledger = Ledger::new();
        let (first, before) = ledger.enter("a", "steady", "w");
        assert_eq!((first, before, ledger.enter("a", "steady", "w")), (0, 0, (1, 1)));
        assert!(ledger.requests()[0].fate.is_cut());
        ledger.runs(0);
        ledger.ended(0);
        ledger.answered(0, Fate::Answered);
        ledger.answered(1, Fate::Refused);
        let requests = ledger.requests();
        assert!(requests[0].ran && requests[0].end_us.is_some() && !requests[1].ran);
        assert!(requests.iter().all(|request| !request.fate.is_cut()));
        assert_eq!(ledger.count(|request| request.ran), 1);
    }
}
