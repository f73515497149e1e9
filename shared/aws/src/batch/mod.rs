//! Batching: the items of concurrent callers go out in one request, and each caller gets its own reply.
//!
//! An item is sent at once while fewer than [`decide::AT_ONCE`] requests are in flight; otherwise it goes with the next request, which is sent
//! when one of them returns or the batch is full. So items share requests without a timer. Only while the runtime lags (`run_queue`)
//! does a batch wait up to `linger` for more items. The number of requests in flight is bounded.
//!
//! An item that may wait (`BatchItem::may_wait`), because no caller needs it soon, waits for its time, or until a request is full, or until there are
//! some and nothing is in flight. It goes with no other request before, because somebody waits for that one.
//!
//! **Invariant:** two items with the same key are never in one request. A caller that is dropped affects no other caller.

mod decide;
mod rules;
mod run_queue;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use decide::{Gather, Senders};
pub(crate) use rules::Rules;
pub use run_queue::RunQueue;

use crate::error::AwsError;

/// An item that can share a request with others.
pub(crate) trait BatchItem: Send + 'static {
    /// What it is about; items with the same key go into different requests.
    fn key(&self) -> Option<&str>;
    /// Its share of the request, in bytes.
    fn bytes(&self) -> usize;
    /// How long it may wait for a request that is sent anyway. `None`: a request is sent for it.
    fn may_wait(&self) -> Option<Duration> {
        None
    }
}

/// An item and its caller, who waits for the reply.
struct Pending<I, R> {
    item: I,
    reply: oneshot::Sender<R>,
    /// Until when it waits for a request that is sent anyway.
    waits_until: Option<Instant>,
}

/// Collects items and sends them in batches.
pub(crate) struct Batcher<I, R>(Arc<Shared<I, R>>);

impl<I, R> fmt::Debug for Batcher<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batcher")
    }
}

impl<I, R> Clone for Batcher<I, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Sends a batch; one reply per item, in order.
type Request<I, R> = Box<dyn Fn(Vec<I>) -> BoxFuture<'static, Vec<R>> + Send + Sync>;

struct Shared<I, R> {
    rules: Rules,
    run_queue: RunQueue,
    request: Request<I, R>,
    state: Mutex<State<I, R>>,
    /// The items that wait fill a request.
    full: Notify,
}

struct State<I, R> {
    /// The items for which a request is to be sent.
    due: VecDeque<Pending<I, R>>,
    /// Those that may wait.
    patient: VecDeque<Pending<I, R>>,
    /// The bytes of both.
    bytes: usize,
    senders: Senders,
    /// A task sends what has waited long enough.
    has_timer: bool,
    /// No item waits longer than it must.
    at_once: bool,
}

impl<I, R> State<I, R> {
    /// How many items wait.
    fn len(&self) -> usize {
        self.due.len() + self.patient.len()
    }

    /// When the first of the items that may wait has waited long enough.
    fn next_end(&self) -> Option<Instant> {
        self.patient.iter().filter_map(|pending| pending.waits_until).min()
    }

    /// Once the time of one item has come, none waits longer: they go together, before those that came later.
    fn end_waits(&mut self, now: Instant) {
        if self.at_once || self.next_end().is_some_and(|end| end <= now) {
            self.release();
        }
    }

    /// What waits is due now.
    fn release(&mut self) {
        self.patient.append(&mut self.due);
        std::mem::swap(&mut self.patient, &mut self.due);
    }
}

impl<I: BatchItem, R: Send + 'static> Batcher<I, R> {
    /// A batcher that gives its batches to `send`, which returns one reply per item, in order.
    pub(crate) fn new<F, S>(rules: Rules, run_queue: RunQueue, send: S) -> Self
    where
        S: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let request: Request<I, R> = Box::new(move |items| send(items).boxed());
        let (due, patient, senders) = (VecDeque::new(), VecDeque::new(), Senders::default());
        let state = State { due, patient, bytes: 0, senders, has_timer: false, at_once: false };
        let (state, full) = (Mutex::new(state), Notify::new());
        Self(Arc::new(Shared { rules, run_queue, request, state, full }))
    }

    /// The reply for `item`; `None` if the sending of its batch panicked. Call this within a tokio runtime.
    pub(crate) async fn send(&self, item: I) -> Option<R> {
        let (reply, received) = oneshot::channel();
        {
            let mut state = self.0.state();
            state.bytes = state.bytes.saturating_add(item.bytes());
            let may_wait = item.may_wait().filter(|_| !state.at_once);
            let waits_until = may_wait.map(|wait| Instant::now() + wait);
            let queue = if waits_until.is_some() { &mut state.patient } else { &mut state.due };
            queue.push_back(Pending { item, reply, waits_until });
            self.0.start_sender(&mut state);
            self.0.start_timer(&mut state);
        }
        received.await.ok()
    }

    /// Sends what waits, and from now on lets no item wait for a request that is sent anyway.
    pub(crate) fn send_at_once(&self) {
        let mut state = self.0.state();
        state.at_once = true;
        state.end_waits(Instant::now());
        self.0.start_sender(&mut state);
    }
}

impl<I: BatchItem, R: Send + 'static> Shared<I, R> {
    fn state(&self) -> MutexGuard<'_, State<I, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, state: &State<I, R>) -> bool {
        state.len() >= self.rules.max_items || state.bytes >= self.rules.max_bytes
    }

    /// Starts a sender for the items that wait, if one is due.
    fn start_sender(self: &Arc<Self>, state: &mut State<I, R>) {
        let is_full = self.is_full(state);
        if let Some(gather) = self.due(state, is_full) {
            tokio::spawn(Self::run(self.clone(), gather));
        } else if is_full && state.senders.is_gathering() {
            self.full.notify_one();
        }
    }

    fn due(&self, state: &mut State<I, R>, is_full: bool) -> Option<Gather> {
        if state.due.is_empty() && state.patient.len() >= self.rules.idle_items && state.senders.is_idle() {
            state.release();
        }
        // A full request goes for those that may wait, too.
        if state.due.is_empty() && (state.patient.is_empty() || !is_full) {
            None
        } else {
            state.senders.due(&self.rules, is_full, self.run_queue.is_behind())
        }
    }

    /// Starts the task that sends what has waited long enough, unless it runs or nothing is to wait.
    fn start_timer(self: &Arc<Self>, state: &mut State<I, R>) {
        if !state.has_timer
            && let Some(end) = state.next_end()
        {
            state.has_timer = true;
            tokio::spawn(Self::end_waits(self.clone(), end));
        }
    }

    /// Sends what has waited long enough, until nothing waits.
    async fn end_waits(self: Arc<Self>, mut end: Instant) {
        loop {
            sleep_until(end).await;
            let mut state = self.state();
            state.end_waits(Instant::now());
            self.start_sender(&mut state);
            match state.next_end() {
                Some(next) => end = next,
                None => {
                    state.has_timer = false;
                    return;
                }
            }
        }
    }

    /// Sends batches until none is due.
    async fn run(self: Arc<Self>, mut gather: Gather) {
        loop {
            self.gather(gather).await;
            let (items, replies) = self.next_batch();
            // If it panics, the replies are dropped, which tells the callers.
            let results = if items.is_empty() {
                Ok(Vec::new())
            } else {
                AssertUnwindSafe(async { (self.request)(items).await }).catch_unwind().await
            };
            let next = {
                let mut state = self.state();
                state.senders.returned();
                let is_full = self.is_full(&state);
                self.due(&mut state, is_full)
            };
            for (reply, result) in replies.into_iter().zip(results.into_iter().flatten()) {
                // A caller that was dropped needs no reply.
                let _dropped = reply.send(result);
            }
            match next {
                Some(next) => gather = next,
                None => return,
            }
        }
    }

    /// Waits as long as the decision says, so that other callers add their items.
    async fn gather(&self, gather: Gather) {
        self.run_queue.let_others_run().await;
        if gather == Gather::Ready {
            return;
        }
        let send_at = Instant::now() + self.rules.linger;
        while !self.is_full(&self.state()) {
            if timeout_at(send_at, self.full.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Takes what fits of the waiting items, in order, those first that need not wait, and starts a sender for the rest if one is due.
    fn next_batch(self: &Arc<Self>) -> (Vec<I>, Vec<oneshot::Sender<R>>) {
        let mut state = self.state();
        let mut batch = Batch::new(self.rules);
        let is_full = self.is_full(&state);
        let mut gone = batch.fill(&mut state.due);
        if is_full {
            gone = gone.saturating_add(batch.fill(&mut state.patient));
        }
        state.bytes = state.bytes.saturating_sub(gone);
        state.senders.sent();
        self.start_sender(&mut state);
        batch.split()
    }
}

/// What sends some items in one request.
pub(crate) trait SendPart<I, R>: Sync {
    /// One result for each item, or the error of the whole request.
    fn send(&self, part: &[I]) -> impl Future<Output = Result<Vec<Result<R, AwsError>>, AwsError>> + Send;
}

/// Sends a batch by `request`. If the service rejects it as a whole, each item is sent alone, so that only the rejected one fails.
pub(crate) async fn send_or_split<I, R>(
    batch: &[I],
    request: &impl SendPart<I, R>,
) -> Vec<Result<R, AwsError>> {
    match request.send(batch).await {
        Ok(results) => results,
        Err(error) if error.is_rejection() && batch.len() > 1 => {
            let alone = join_all(batch.chunks(1).map(|one| request.send(one))).await;
            alone.into_iter().flat_map(|results| results.unwrap_or_else(|own| vec![Err(own)])).collect()
        }
        Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
    }
}

struct Batch<I, R> {
    rules: Rules,
    bytes: usize,
    pending: Vec<Pending<I, R>>,
    full: bool,
}

impl<I: BatchItem, R> Batch<I, R> {
    fn new(rules: Rules) -> Self {
        Self { rules, bytes: 0, pending: Vec::new(), full: false }
    }

    /// Takes what fits from the front of a queue, in order; the others keep their places. Returns how many bytes have left it.
    fn fill(&mut self, queue: &mut VecDeque<Pending<I, R>>) -> usize {
        let (mut gone, mut others) = (0_usize, Vec::new());
        while !self.full
            && let Some(next) = queue.pop_front()
        {
            let bytes = next.item.bytes();
            match self.take(next) {
                Some(next) => others.push(next),
                None => gone = gone.saturating_add(bytes),
            }
        }
        for next in others.into_iter().rev() {
            queue.push_front(next);
        }
        gone
    }

    /// Takes an item, or gives it back if it does not fit. An item whose caller was dropped is neither sent nor given back.
    fn take(&mut self, next: Pending<I, R>) -> Option<Pending<I, R>> {
        if next.reply.is_closed() {
            return None;
        }
        let bytes = next.item.bytes();
        let fits = self.pending.is_empty() || self.bytes.saturating_add(bytes) <= self.rules.max_bytes;
        // A request has few items: comparing them costs less than a set of their keys.
        let same = |taken: &Pending<I, R>| taken.item.key() == next.item.key();
        let is_new = next.item.key().is_none() || !self.pending.iter().any(same);
        self.full |= !fits || self.pending.len() >= self.rules.max_items;
        if self.full || !is_new {
            return Some(next);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.pending.push(next);
        None
    }

    fn split(self) -> (Vec<I>, Vec<oneshot::Sender<R>>) {
        self.pending.into_iter().map(|pending| (pending.item, pending.reply)).unzip()
    }
}

#[cfg(test)]
mod tests;
