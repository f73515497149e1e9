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
    /// In full: the handle of a task, whose end was not told yet.
    Working,
    /// In full: the question that the tool asks before it runs.
    Asked,
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
            Self::Answered | Self::Working | Self::Asked | Self::Refused => false,
        }
    }
}

/// What a request brings a tool that asks before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brings {
    /// No answer.
    Nothing,
    /// The answer of its own call, with the state of the question that it answers.
    Answer,
    /// An answer or a state of another call.
    Foreign,
}

/// A request for a tool, or the part of one call in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) call: String,
    /// The number of the HTTP request: a batch enters each of its calls.
    pub(crate) number: usize,
    pub(crate) server: &'static str,
    /// The worker that sent it.
    pub(crate) worker: String,
    /// When it was read, in microseconds since the start of the servers.
    pub(crate) at_us: u64,
    pub(crate) ran: bool,
    /// When the tool was done.
    pub(crate) end_us: Option<u64>,
    pub(crate) fate: Fate,
    pub(crate) brings: Brings,
}

/// The place of a request in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    from: usize,
    to: usize,
}

impl Entry {
    /// The number of the request.
    pub(crate) const fn number(self) -> usize {
        self.from
    }
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

    /// Enters a request for those calls. Returns the entry, and how many requests of its first call came before.
    pub(crate) fn enter(&self, calls: &[String], server: &'static str, worker: &str) -> (Entry, u32) {
        let mut inner = self.lock();
        // The time is taken with the lock held, so that the list is sorted.
        let at_us = self.now_us();
        let number = inner.requests.len();
        let mut first = None;
        for call in calls {
            let times = inner.of_call.entry(call.clone()).or_default();
            first.get_or_insert(*times);
            *times += 1;
            inner.requests.push(Request {
                call: call.clone(),
                number,
                server,
                worker: worker.to_owned(),
                at_us,
                ran: false,
                end_us: None,
                fate: Fate::Open,
                brings: Brings::Nothing,
            });
        }
        (Entry { from: number, to: inner.requests.len() }, first.unwrap_or(0))
    }

    pub(crate) fn brings(&self, entry: Entry, brings: Brings) {
        self.change(entry, |request| request.brings = brings);
    }

    pub(crate) fn runs(&self, entry: Entry) {
        self.change(entry, |request| request.ran = true);
    }

    pub(crate) fn ended(&self, entry: Entry) {
        let now_us = self.now_us();
        self.change(entry, |request| request.end_us = Some(now_us));
    }

    pub(crate) fn answered(&self, entry: Entry, fate: Fate) {
        self.change(entry, |request| request.fate = fate);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// How many requests have the fate that `of` describes.
    pub(crate) fn count(&self, of: impl Fn(&Request) -> bool) -> u64 {
        u64::try_from(self.lock().requests.iter().filter(|request| of(request)).count()).unwrap_or(u64::MAX)
    }

    fn change(&self, Entry { from, to }: Entry, change: impl FnMut(&mut Request)) {
        self.lock().requests.get_mut(from..to).into_iter().flatten().for_each(change);
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
        let enter = |call: &str| ledger.enter(&[call.to_owned()], "steady", "w");
        let ((first, before), (second, before_second)) = (enter("a"), enter("a"));
        assert_eq!((before, before_second), (0, 1));
        assert!(ledger.requests()[0].fate.is_cut());
        ledger.runs(first);
        ledger.ended(first);
        ledger.answered(first, Fate::Answered);
        ledger.answered(second, Fate::Refused);
        let requests = ledger.requests();
        assert!(requests[0].ran && requests[0].end_us.is_some() && !requests[1].ran);
        assert!(requests.iter().all(|request| !request.fate.is_cut()));
        assert_eq!(ledger.count(|request| request.ran), 1);
    }

    #[tokio::test]
    async fn a_request_of_several_calls_is_entered_for_each() {
        let ledger = Ledger::new();
        let (entry, _) = ledger.enter(&["a".to_owned(), "b".to_owned()], "batching", "w");
        ledger.enter(&["c".to_owned()], "batching", "w");
        ledger.runs(entry);
        let ran: Vec<_> = ledger.requests().iter().map(|request| (request.number, request.ran)).collect();
        assert_eq!(ran, [(0, true), (0, true), (2, false)]);
    }
}
