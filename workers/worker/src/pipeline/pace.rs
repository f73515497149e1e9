//! The turns of the requests of one attempt: of its first one, of one that is repeated with another token or session, and of each further one
//! that the server asks for.
//!
//! **Invariant:** each request has turns of its own, and is sent at most 20 ms after them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use toolfleet_executors::Pacer;

use super::passes::Passes;
use super::turn::Limits;
use super::wait::Wait;

/// How many turns a request may miss before its call goes back to the queue.
pub(super) const MOST_TURNS: u32 = 3;

/// The turns of an attempt's requests.
pub(super) struct Pace<'a> {
    limits: Limits<'a>,
    /// When the attempt ends.
    until: Instant,
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    /// Those of the next request.
    held: Option<Passes>,
    /// Those of a request that is written now.
    used: Option<Passes>,
    /// What the next request waits for, where it gets none.
    lacks: Option<Wait>,
}

impl Pacer for Pace<'_> {
    fn next(&self) -> BoxFuture<'_, bool> {
        self.admitted().boxed()
    }
}

impl<'a> Pace<'a> {
    /// The first request has those turns.
    pub(super) fn new(limits: Limits<'a>, until: Instant, first: Passes) -> Self {
        Self { limits, until, turns: Mutex::new(Turns { held: Some(first), ..Turns::default() }) }
    }

    async fn admitted(&self) -> bool {
        let mut held = self.turns().held.take();
        let mut missed = false;
        for _ in 0..MOST_TURNS {
            let mut passes = match held.take() {
                Some(passes) => passes,
                None => match self.limits.more_turns(self.left(), missed).await {
                    Ok(passes) => passes,
                    Err(wait) => return self.lacks(wait),
                },
            };
            if let Some(due) = passes.due {
                sleep_until(due).await;
            }
            if passes.are_in_time() {
                passes.use_turns(&self.limits.call.request.key);
                self.turns().used = Some(passes);
                return true;
            }
            missed = true;
            self.limits.context.meters.turn_missed();
        }
        self.lacks(Wait::after_missed_turns(self.limits.context, &self.limits.call.server.id))
    }

    /// Runs the attempt, and counts its requests that are too late for their turns: the worker was frozen after the last look at the clock. What
    /// is admitted is written in the same poll, where its connection is open.
    pub(super) async fn watch<T>(&self, mut attempt: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|context| {
            let polled = attempt.as_mut().poll(context);
            if self.turns().used.take().is_some_and(|used| !used.are_in_time()) {
                self.limits.sent_late();
            }
            polled
        })
        .await
    }

    /// What the attempt's last request waits for, where it was not sent for want of a turn.
    pub(super) fn lacking(self) -> Option<Wait> {
        self.turns.into_inner().unwrap_or_else(PoisonError::into_inner).lacks
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn lacks(&self, wait: Wait) -> bool {
        self.turns().lacks = Some(wait);
        false
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
