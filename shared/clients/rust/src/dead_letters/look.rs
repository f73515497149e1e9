//! Reads through the dead-letter queue, and makes visible again what that has hidden.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Delivery, Queue, Receipt};

use super::letter::DeadLetter;

/// For how long a message that was read is hidden at most, in seconds.
pub(super) const HIDDEN_S: u32 = 30;
/// The most messages SQS hands out at once.
pub(super) const BATCH: u32 = 10;
/// How long a receive waits, in seconds: long enough for SQS to ask all of its servers.
const WAIT_S: u32 = 1;
/// How long a look waits for messages that others have hidden: the reaper of a worker hides them for seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so many receives in a row that bring nothing new everything was read, if all that was read is visible again.
const REPEATS: usize = 3;

/// One reading of the queue. Release it when it is not needed any more, also when it is interrupted.
pub struct Look {
    queue: Queue,
    /// The messages that were read: what makes each visible again, or nothing if it is deleted.
    seen: HashMap<String, Option<Receipt>>,
    until: Option<Instant>,
    /// About how many messages others had hidden when it ended.
    missed: u64,
    stop: Stop,
}

/// Stops a look from elsewhere, for example at an interruption. What it was about to receive is still received, so that it can be
/// released.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops it.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Look {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, seen: HashMap::new(), until: None, missed: 0, stop: Stop::default() }
    }

    /// What stops it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// The next messages that were not read before; none when all were read, or when it was stopped.
    pub async fn next(&mut self) -> Result<Vec<DeadLetter>, AwsError> {
        self.next_of(BATCH).await
    }

    /// The same, at most `max`.
    pub(super) async fn next_of(&mut self, max: u32) -> Result<Vec<DeadLetter>, AwsError> {
        let mut repeats = 0_usize;
        while !self.stop.is_stopped() {
            let received = self.queue.receive(max, WAIT_S, HIDDEN_S).await?;
            if received.is_empty() {
                if self.is_over().await? {
                    return Ok(Vec::new());
                }
                continue;
            }
            let fresh: Vec<_> = received.into_iter().filter_map(|delivery| self.note(delivery)).collect();
            if !fresh.is_empty() {
                self.until = None;
                return Ok(fresh);
            }
            repeats += 1;
            // What is visible again comes first, in the worst case all of it.
            if repeats >= self.seen.len().saturating_add(REPEATS) {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Notes a delivery; the message, unless it was read before.
    fn note(&mut self, delivery: Delivery) -> Option<DeadLetter> {
        let receipt = Some(delivery.receipt.clone());
        match self.seen.insert(delivery.message_id.clone(), receipt) {
            None => Some(DeadLetter::new(delivery)),
            Some(_) => None,
        }
    }

    /// Whether nothing more comes. Messages that others have hidden are waited for.
    async fn is_over(&mut self) -> Result<bool, AwsError> {
        let hidden = self.seen.values().flatten().count();
        let depth = self.queue.depth().await?;
        // In a FIFO queue a hidden message hides those behind it in its group.
        let behind = if self.queue.is_fifo() { depth.visible } else { 0 };
        let of_others = depth.in_flight.saturating_sub(u64::try_from(hidden).unwrap_or(u64::MAX));
        self.missed = of_others.saturating_add(behind);
        let until = *self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
        Ok(self.missed == 0 || Instant::now() >= until)
    }

    /// About how many messages others had hidden when the reading ended, so that they were not read.
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// How many messages were read.
    pub fn read(&self) -> usize {
        self.seen.len()
    }

    /// The newest receipt of a message that was read and not deleted.
    pub(super) fn receipt(&self, message_id: &str) -> Option<&Receipt> {
        self.seen.get(message_id)?.as_ref()
    }

    /// Notes that a message was deleted.
    pub(super) fn forget(&mut self, message_id: &str) {
        self.seen.insert(message_id.to_owned(), None);
    }

    /// Makes visible again what this look has hidden. Returns how many messages stay hidden until their time is over, because SQS did not
    /// take it.
    pub async fn release(&mut self) -> usize {
        let receipts: Vec<_> = self.seen.values_mut().filter_map(Option::take).collect();
        let visible = receipts.iter().map(|receipt| self.queue.change_visibility(receipt, 0));
        join_all(visible).await.into_iter().filter(Result::is_err).count()
    }
}
