//! Batching: the items of concurrent callers go out in one request, and each caller gets its own reply.
//!
//! While no request is in flight, an item is sent at once. While requests are in flight, the next batch waits up to `linger` for
//! more items. Items with `always_linger` wait in any case, because no caller waits for them. The number of requests in flight is
//! bounded; items that arrive meanwhile fill the next batches.
//!
//! **Invariant:** two items with the same key are never in one request. A caller that is dropped affects no other caller.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::AwsError;

/// The limits of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The most items in one request.
    pub(crate) max_items: usize,
    /// The most bytes in one request.
    pub(crate) max_bytes: usize,
    /// How long the first item of a batch waits for others.
    pub(crate) linger: Duration,
    /// Whether it waits even if no request is in flight.
    pub(crate) always_linger: bool,
    /// The most requests in flight at once.
    pub(crate) max_in_flight: usize,
}

/// An item that can share a request with others.
pub(crate) trait BatchItem: Send + 'static {
    /// What it is about; items with the same key go into different requests.
    fn key(&self) -> Option<&str>;
    /// Its share of the request, in bytes.
    fn bytes(&self) -> usize;
}

/// An item and its caller, who waits for the reply.
struct Pending<I, R> {
    item: I,
    reply: oneshot::Sender<R>,
}

/// Collects items and sends them in batches.
#[derive(Debug)]
pub(crate) struct Batcher<I, R> {
    items: mpsc::UnboundedSender<Pending<I, R>>,
}

impl<I, R> Clone for Batcher<I, R> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

impl<I: BatchItem, R: Send + 'static> Batcher<I, R> {
    /// A batcher that gives its batches to `send`, which returns one reply per item, in order. It ends with its last clone and
    /// belongs to the tokio runtime in which it is made.
    pub(crate) fn new<F, S>(rules: Rules, send: S) -> Self
    where
        S: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (items, incoming) = mpsc::unbounded_channel();
        tokio::spawn(run(rules, incoming, Arc::new(send)));
        Self { items }
    }

    /// The reply for `item`; `None` if the sending of its batch panicked.
    pub(crate) async fn send(&self, item: I) -> Option<R> {
        let (reply, received) = oneshot::channel();
        self.items.send(Pending { item, reply }).ok()?;
        received.await.ok()
    }
}

async fn run<I, R, F, S>(rules: Rules, mut incoming: mpsc::UnboundedReceiver<Pending<I, R>>, send: Arc<S>)
where
    I: BatchItem,
    R: Send + 'static,
    S: Fn(Vec<I>) -> F + Send + Sync + 'static,
    F: Future<Output = Vec<R>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(rules.max_in_flight));
    let mut deferred = VecDeque::new();
    loop {
        if deferred.is_empty() {
            match incoming.recv().await {
                Some(first) => deferred.push_back(first),
                None => return,
            }
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let is_idle =
            || !rules.always_linger && slots.available_permits().saturating_add(1) == rules.max_in_flight;
        let mut batch = Batch::new(rules);
        batch.take_from(&mut deferred);
        fill(&mut batch, &mut incoming, &mut deferred, is_idle).await;
        let (items, replies) = batch.split();
        if items.is_empty() {
            continue;
        }
        let send = send.clone();
        tokio::spawn(async move {
            let results = send(items).await;
            // Released before the callers go on, and also if `send` panics.
            drop(slot);
            for (reply, result) in replies.into_iter().zip(results) {
                // A caller that was dropped needs no reply.
                let _dropped = reply.send(result);
            }
        });
    }
}

/// Adds incoming items until the batch is full, the linger time is over, or nothing is incoming while no request is in flight.
async fn fill<I: BatchItem, R>(
    batch: &mut Batch<I, R>,
    incoming: &mut mpsc::UnboundedReceiver<Pending<I, R>>,
    deferred: &mut VecDeque<Pending<I, R>>,
    is_idle: impl Fn() -> bool,
) {
    let send_at = Instant::now() + batch.rules.linger;
    while !batch.is_full() {
        match incoming.try_recv() {
            Ok(next) => batch.take(next, deferred),
            Err(mpsc::error::TryRecvError::Disconnected) => return,
            Err(mpsc::error::TryRecvError::Empty) if is_idle() => {
                // Callers that are ready at this moment can still add their items.
                tokio::task::yield_now().await;
                match incoming.try_recv() {
                    Ok(next) => batch.take(next, deferred),
                    Err(_) => return,
                }
            }
            Err(mpsc::error::TryRecvError::Empty) => {
                match tokio::time::timeout_at(send_at, incoming.recv()).await {
                    Ok(Some(next)) => batch.take(next, deferred),
                    Ok(None) | Err(_) => return,
                }
            }
        }
    }
}

/// Sends a batch by `request`. If the service rejects it as a whole, each item is sent alone, so that only the rejected one fails.
/// The future of `request` borrows nothing of the items.
pub(crate) async fn send_or_split<I, R, F>(
    batch: &[I],
    request: impl Fn(&[I]) -> F,
) -> Vec<Result<R, AwsError>>
where
    F: Future<Output = Result<Vec<Result<R, AwsError>>, AwsError>>,
{
    match request(batch).await {
        Ok(results) => results,
        Err(error) if error.is_rejection() && batch.len() > 1 => {
            let alone = join_all(batch.chunks(1).map(request)).await;
            alone.into_iter().flat_map(|results| results.unwrap_or_else(|own| vec![Err(own)])).collect()
        }
        Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
    }
}

struct Batch<I, R> {
    rules: Rules,
    keys: HashSet<String>,
    bytes: usize,
    pending: Vec<Pending<I, R>>,
    full: bool,
}

impl<I: BatchItem, R> Batch<I, R> {
    fn new(rules: Rules) -> Self {
        Self { rules, keys: HashSet::new(), bytes: 0, pending: Vec::new(), full: false }
    }

    fn is_full(&self) -> bool {
        self.full || self.pending.len() >= self.rules.max_items
    }

    /// Takes what fits of the deferred items, in order, and leaves the rest.
    fn take_from(&mut self, deferred: &mut VecDeque<Pending<I, R>>) {
        for _ in 0..deferred.len() {
            if let Some(next) = deferred.pop_front() {
                self.take(next, deferred);
            }
        }
    }

    fn take(&mut self, next: Pending<I, R>, deferred: &mut VecDeque<Pending<I, R>>) {
        if next.reply.is_closed() {
            // Its caller was dropped before it was sent.
            return;
        }
        let bytes = next.item.bytes();
        let fits = self.pending.is_empty() || self.bytes.saturating_add(bytes) <= self.rules.max_bytes;
        let is_new = next.item.key().is_none_or(|key| !self.keys.contains(key));
        if self.is_full() || !fits || !is_new {
            self.full |= !fits;
            deferred.push_back(next);
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.keys.extend(next.item.key().map(str::to_owned));
        self.pending.push(next);
    }

    fn split(self) -> (Vec<I>, Vec<oneshot::Sender<R>>) {
        self.pending.into_iter().map(|pending| (pending.item, pending.reply)).unzip()
    }
}

#[cfg(test)]
mod tests;
