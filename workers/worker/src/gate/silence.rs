//! The places of calls at servers and tools that may be silent, and the requests by which silence is noticed.
//!
//! The decisions are core's [`Silences`]. A call to what is silent goes back to its queue unless a place is free. Such a call that has one
//! lends its slot to other calls after a while, because it does nothing but wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use toolfleet_core::fairness::{Placed, SILENT_MS, Silences, Silent, SlotUse};
use toolfleet_core::ids::ServerId;

/// What this worker knows of the answers of its servers.
#[derive(Debug)]
pub(super) struct Silence {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Mutex<Silences>,
    begun: Instant,
    /// Rung at each answer while a call waits for one.
    answered: Notify,
}

/// A call's place at its server and its tool, left when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    inner: Arc<Inner>,
    server: ServerId,
    tool: Box<str>,
    reserve: u64,
    /// The server or the tool was silent or unknown when the call came.
    watched: bool,
    placed: Placed,
}

/// A request under way. Dropped without an end, it ends without an answer.
#[derive(Debug)]
pub(super) struct Request<'a> {
    silence: &'a Silence,
    server: &'a ServerId,
    tool: Option<&'a str>,
    sent_ms: u64,
    over: bool,
}

impl Silence {
    pub(super) fn new() -> Self {
        let (known, begun) = (Mutex::default(), Instant::now());
        Self { inner: Arc::new(Inner { known, begun, answered: Notify::new() }) }
    }

    /// A place for a call. Where the first requests to its server are under way, it waits for an answer, a second at most. `slots` gives the
    /// slots of the worker.
    ///
    /// # Errors
    /// What is silent, as a sentence.
    pub(super) async fn enter(
        &self,
        server: &ServerId,
        tool: &str,
        slots: impl Fn() -> SlotUse,
    ) -> Result<Place, String> {
        let until_ms = self.inner.now_ms().saturating_add(SILENT_MS);
        loop {
            let mut answered = std::pin::pin!(self.inner.answered.notified());
            answered.as_mut().enable();
            let (slots, now_ms) = (slots(), self.inner.now_ms());
            let silent = match self.try_enter(server, tool, slots, now_ms) {
                Ok(place) => return Ok(place),
                Err(silent) => silent,
            };
            match silent {
                Silent::Unknown { ask_again_ms } if now_ms < until_ms => {
                    let wait = Duration::from_millis(ask_again_ms.min(until_ms.saturating_sub(now_ms)));
                    let _elapsed = timeout(wait, answered).await.is_err();
                }
                Silent::Unknown { .. } | Silent::For { .. } => {
                    return Err(sentence(server, tool, silent, slots));
                }
            }
        }
    }

    fn try_enter(&self, server: &ServerId, tool: &str, slots: SlotUse, now_ms: u64) -> Result<Place, Silent> {
        let mut known = self.inner.lock();
        let placed = known.enter(server, tool, slots, now_ms)?;
        let watched = !known.answers(server, tool, now_ms);
        drop(known);
        let (inner, server, tool) = (self.inner.clone(), server.clone(), tool.into());
        Ok(Place { inner, server, tool, reserve: slots.reserve, watched, placed })
    }

    /// A request under way made progress.
    pub(super) fn heard(&self, server: &ServerId, tool: Option<&str>) {
        self.inner.lock().heard(server, tool, self.inner.now_ms());
    }

    /// A request is sent.
    pub(super) fn sent<'a>(&'a self, server: &'a ServerId, tool: Option<&'a str>) -> Request<'a> {
        let sent_ms = self.inner.now_ms();
        self.inner.lock().sent(server, tool, sent_ms);
        Request { silence: self, server, tool, sent_ms, over: false }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Silences> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Place {
    /// Returns when the call may lend its slot to others: its server or its tool is silent. Never for a call to what answers.
    pub(crate) async fn lends(&mut self) {
        if !self.watched {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(Duration::from_millis(SILENT_MS)).await;
            let (reserve, now_ms) = (self.reserve, self.inner.now_ms());
            if self.inner.lock().lend(&self.server, &self.tool, &mut self.placed, reserve, now_ms) {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.lock().leave(&self.server, &self.tool, self.placed, self.inner.now_ms());
    }
}

impl Request<'_> {
    /// It has ended. `answered` says that the server answered anything.
    pub(super) fn ended(mut self, answered: bool) {
        self.end(answered);
    }

    fn end(&mut self, answered: bool) {
        self.over = true;
        let inner = &self.silence.inner;
        let now_ms = inner.now_ms();
        let took_ms = now_ms.saturating_sub(self.sent_ms);
        inner.lock().ended(self.server, self.tool, answered, took_ms, now_ms);
        if answered {
            inner.answered.notify_waiters();
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.end(false);
        }
    }
}

fn sentence(server: &ServerId, tool: &str, silent: Silent, slots: SlotUse) -> String {
    match silent {
        Silent::For { ms, tool_only, held } => {
            let what = if tool_only {
                format!("tool {tool} of server {server}")
            } else {
                format!("server {server}")
            };
            format!(
                "{what} has answered no request of this worker for {} s; its calls hold {held} of the {} slots, and no more are for it \
                 until it answers",
                ms / 1_000,
                slots.all
            )
        }
        Silent::Unknown { .. } => format!(
            "server {server} has not answered this worker's first requests yet, so the other {} slots are for calls to other servers",
            slots.all
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: SlotUse = SlotUse { all: 20, reserve: 2, free: 0, of_tenant: 1 };

    fn server(id: &str) -> ServerId {
        ServerId::parse(id).unwrap()
    }

    async fn with_a_live_server() -> Silence {
        let (silence, live) = (Silence::new(), server("live"));
        drop(silence.enter(&live, "find", || SLOTS).await.unwrap());
        silence.sent(&live, Some("find")).ended(true);
        silence
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_to_an_unknown_server_waits_for_its_first_answer() {
        let (silence, crm) = (with_a_live_server().await, server("crm"));
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(silence.enter(&crm, "find", || SLOTS).await.unwrap());
        }
        let request = silence.sent(&crm, Some("find"));
        let begun = Instant::now();
        let answer = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            request.ended(true);
        };
        let (fifth, ()) = tokio::join!(silence.enter(&crm, "find", || SLOTS), answer);
        assert_eq!((fifth.is_ok(), begun.elapsed()), (true, Duration::from_millis(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_to_a_silent_server_goes_back_at_once() {
        let (silence, dead) = (with_a_live_server().await, server("dead"));
        let _two = [
            silence.enter(&dead, "find", || SLOTS).await.unwrap(),
            silence.enter(&dead, "find", || SLOTS).await.unwrap(),
        ];
        let _request = silence.sent(&dead, Some("find"));
        tokio::time::advance(Duration::from_secs(3)).await;
        let begun = Instant::now();
        let refused = silence.enter(&dead, "find", || SLOTS).await.unwrap_err();
        assert!(begun.elapsed().is_zero());
        assert!(refused.contains("server dead has answered no request of this worker for 3 s"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_lends_its_slot_only_while_its_server_is_silent() {
        let (silence, crm) = (with_a_live_server().await, server("crm"));
        let mut place = silence.enter(&crm, "find", || SLOTS).await.unwrap();
        let first = silence.sent(&crm, Some("find"));
        let lends = timeout(Duration::from_millis(1_100), place.lends()).await;
        assert!(lends.is_ok());
        drop((first, place));
        silence.sent(&crm, Some("find")).ended(true);
        let mut place = silence.enter(&crm, "find", || SLOTS).await.unwrap();
        let _request = silence.sent(&crm, Some("find"));
        assert!(timeout(Duration::from_secs(60), place.lends()).await.is_err(), "it had answered before");
    }
}
