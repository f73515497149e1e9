//! The behaviour of SQS queues as a pure state machine.
//!
//! **Invariant:** no clock, no network, no file and no waiting: a method that needs the time takes `now_ms`.

pub(crate) mod attributes;
pub(crate) mod change;
mod fair;
#[cfg(test)]
mod fair_tests;
pub(crate) mod fifo;
#[cfg(test)]
mod fifo_tests;
pub(crate) mod message;
pub(crate) mod move_task;
mod moves;
pub(crate) mod queue;
mod replay;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::attributes::Redrive;
use self::change::Change;
use self::fifo::{Original, SameAs, sequence_number};
use self::message::{Content, Message, Place, Receipt};
use self::move_task::MoveTask;
use self::queue::{MAX_IN_FLIGHT, Queue};
use crate::names::queue_arn;
use crate::sqs::error::SqsError;

/// The longest a message may stay hidden after one receive (SQS quota).
const MAX_VISIBILITY_MS: u64 = 43_200_000;

/// All queues of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: BTreeMap<String, Queue>,
    /// In the order in which they were started.
    moves: Vec<MoveTask>,
    changes: Vec<Change>,
    woken: Vec<String>,
}

/// A message as a receiver gets it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    pub(crate) handle: String,
    /// Of a message from a FIFO queue.
    pub(crate) sequence_number: Option<String>,
}

/// The answer to the sender of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// That of the message stored before, if this one was a duplicate.
    pub(crate) message_id: String,
    pub(crate) sequence_number: Option<String>,
}

impl Queues {
    /// Puts a message into a queue, unless a FIFO queue remembers it; `delay_ms` overrides the queue's own delay.
    pub(crate) fn send(
        &mut self,
        name: &str,
        content: Arc<Content>,
        delay_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Sent, SqsError> {
        let queue = self.settled(name, now_ms)?;
        let (fifo, mut seq, message_id) = (queue.attributes.fifo, queue.next_seq, content.message_id.clone());
        let same_as = fifo.zip(content.deduplication_id.clone()).map(|(fifo, id)| SameAs {
            id,
            group: if fifo.within_group { content.group_id.clone() } else { None },
        });
        if let Some(original) = same_as.as_ref().and_then(|same_as| queue.memory.find(same_as)) {
            seq = original.seq;
            return Ok(Sent {
                message_id: original.message_id.clone(),
                sequence_number: Some(sequence_number(seq)),
            });
        }
        self.store(name, content, delay_ms, now_ms);
        if let Some(same_as) = same_as {
            let original = Original { message_id: message_id.clone(), seq, sent_ms: now_ms };
            self.change(Change::Remembered { queue: name.to_owned(), same_as, original });
        }
        Ok(Sent { message_id, sequence_number: fifo.map(|_| sequence_number(seq)) })
    }

    /// Puts a new message into a queue that exists.
    fn store(&mut self, name: &str, content: Arc<Content>, delay_ms: Option<u64>, now_ms: u64) {
        let Some(queue) = self.queues.get(name) else { return };
        let delay_ms = delay_ms.unwrap_or(queue.attributes.delay_ms);
        let seq = queue.next_seq;
        let place = if delay_ms == 0 { Place::Visible } else { Place::Delayed };
        let message = Message {
            content,
            sent_ms: now_ms,
            place,
            due_ms: now_ms.saturating_add(delay_ms),
            receive_count: 0,
            receives_here: 0,
            first_received_ms: None,
            last_received_ms: 0,
            dead_letter_of: None,
        };
        self.change(Change::Stored { queue: name.to_owned(), seq, message });
    }

    /// Takes up to `max` visible messages and hides them for `visibility_ms`, or for the queue's own timeout.
    ///
    /// Messages that were received too often go to the dead-letter queue instead.
    pub(crate) fn receive(
        &mut self,
        name: &str,
        max: usize,
        visibility_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Vec<Delivery>, SqsError> {
        let queue = self.settled(name, now_ms)?;
        let due_ms = now_ms.saturating_add(visibility_ms.unwrap_or(queue.attributes.visibility_ms));
        let redrive = queue.attributes.redrive.clone();
        let is_fifo = queue.attributes.fifo.is_some();
        let mut deliveries: Vec<Delivery> = Vec::new();
        while deliveries.len() < max {
            let queue = self.queue(name)?;
            let held = deliveries.last().and_then(|delivery| delivery.message.content.group_id.as_deref());
            let Some(seq) = queue.next_receivable(held, now_ms) else { break };
            if queue.in_flight_count() >= MAX_IN_FLIGHT {
                // A full FIFO queue answers nothing instead of an error.
                if deliveries.is_empty() && !is_fifo {
                    return Err(SqsError::OverLimit(MAX_IN_FLIGHT));
                }
                break;
            }
            if let Some(target) = self.dead_letter_target(name, seq, redrive.as_ref()) {
                self.give_up(name, seq, &target, now_ms);
                continue;
            }
            self.change(Change::Received { queue: name.to_owned(), seq, at_ms: now_ms, due_ms });
            deliveries.extend(self.delivery(name, seq));
        }
        Ok(deliveries)
    }

    fn delivery(&self, name: &str, seq: u64) -> Option<Delivery> {
        let queue = self.queues.get(name)?;
        let message = queue.get(seq)?.clone();
        let sequence_number = queue.attributes.fifo.map(|_| sequence_number(seq));
        let receipt = Receipt {
            queue: name.to_owned(),
            seq,
            receive_count: message.receive_count,
            message_id: message.content.message_id.clone(),
        };
        Some(Delivery { message, handle: receipt.to_handle(), sequence_number })
    }

    /// Where a message goes if it was received too often. Without a target it stays, rather than being lost.
    fn dead_letter_target(&self, name: &str, seq: u64, redrive: Option<&Redrive>) -> Option<String> {
        let redrive = redrive?;
        let message = self.queues.get(name)?.get(seq)?;
        let exhausted = message.receives_here >= redrive.max_receive_count;
        let target = &redrive.dead_letter_queue;
        (exhausted && target != name && self.queues.contains_key(target)).then(|| target.clone())
    }

    fn give_up(&mut self, name: &str, seq: u64, target: &str, now_ms: u64) {
        let message = self.queues.get(name).and_then(|queue| queue.get(seq)).cloned();
        let target_queue = self.queues.get(target);
        if let (Some(mut message), Some(target_queue)) = (message, target_queue) {
            // A FIFO queue counts the retention of a dead letter anew; a standard queue goes on counting.
            if target_queue.attributes.fifo.is_some() {
                message.sent_ms = now_ms;
            }
            let target_seq = target_queue.next_seq;
            message.place = Place::Visible;
            message.due_ms = now_ms;
            message.receives_here = 0;
            message.dead_letter_of = Some(queue_arn(name));
            // Stored before it is removed: a journal cut off in between keeps the message twice rather than not at all.
            self.change(Change::Stored { queue: target.to_owned(), seq: target_seq, message });
        }
        self.change(Change::Removed { queue: name.to_owned(), seq });
    }

    /// Deletes the message of that receipt handle. A handle that a later receive replaced deletes nothing, without an error;
    /// in a FIFO queue it is refused, and so is one whose visibility timeout is over.
    pub(crate) fn delete(&mut self, name: &str, handle: &str, now_ms: u64) -> Result<(), SqsError> {
        let (receipt, current) = self.resolve(name, handle, now_ms)?;
        let is_current = current.is_some_and(|message| message.receive_count == receipt.receive_count);
        let is_expired = current.is_some_and(|message| !is_current || message.place != Place::InFlight);
        if is_expired && self.queue(name)?.attributes.fifo.is_some() {
            let reason = "The receipt handle has expired.";
            let problem = format!("Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}");
            return Err(SqsError::InvalidParameterValue(problem));
        }
        if is_current {
            self.note_processed(name, receipt.seq, now_ms);
            self.change(Change::Removed { queue: name.to_owned(), seq: receipt.seq });
        }
        Ok(())
    }

    /// Hides a message in flight for `timeout_ms` from now; 0 gives it back.
    pub(crate) fn change_visibility(
        &mut self,
        name: &str,
        handle: &str,
        timeout_ms: u64,
        now_ms: u64,
    ) -> Result<(), SqsError> {
        let (receipt, current) = self.resolve(name, handle, now_ms)?;
        let Some(message) = current else {
            let reason = "Message does not exist or is not available for visibility timeout change.";
            let problem = format!("Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}");
            return Err(SqsError::InvalidParameterValue(problem));
        };
        if message.place != Place::InFlight || message.receive_count != receipt.receive_count {
            return Err(SqsError::MessageNotInflight);
        }
        let due_ms = now_ms.saturating_add(timeout_ms);
        if due_ms > message.last_received_ms.saturating_add(MAX_VISIBILITY_MS) {
            let problem = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
            return Err(SqsError::InvalidParameterValue(problem.to_owned()));
        }
        let (queue, seq) = (name.to_owned(), receipt.seq);
        if timeout_ms == 0 {
            self.note_processed(name, seq, now_ms);
        }
        self.change(if timeout_ms == 0 {
            Change::Released { queue, seq, at_ms: now_ms }
        } else {
            Change::Hidden { queue, seq, due_ms }
        });
        Ok(())
    }

    fn note_processed(&mut self, name: &str, seq: u64, now_ms: u64) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.note_processed(seq, now_ms);
        }
    }

    fn resolve(
        &mut self,
        name: &str,
        handle: &str,
        now_ms: u64,
    ) -> Result<(Receipt, Option<&Message>), SqsError> {
        let queue = self.settled(name, now_ms)?;
        match Receipt::parse(handle) {
            Some(receipt) if receipt.queue == name => {
                let message =
                    queue.get(receipt.seq).filter(|found| found.content.message_id == receipt.message_id);
                Ok((receipt, message))
            }
            Some(_) | None => Err(SqsError::ReceiptHandleIsInvalid(handle.to_owned())),
        }
    }

    /// Makes due messages visible everywhere, and tells which queues have some.
    pub(crate) fn settle_all(&mut self, now_ms: u64) -> Vec<String> {
        self.queues.values_mut().for_each(|queue| queue.settle(now_ms));
        let waiting = self.queues.iter().filter(|(_, queue)| queue.visible_count() > 0);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// When time alone next changes something: a hidden message becomes visible, or a task may move the next one.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.queues.values().filter_map(Queue::next_due_ms).chain(self.next_move_ms()).min()
    }

    /// The changes since the last call, for the journal.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The queues whose receivers should look again, since the last call.
    pub(crate) fn take_woken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.woken)
    }

    pub(crate) fn queue(&self, name: &str) -> Result<&Queue, SqsError> {
        self.queues.get(name).ok_or(SqsError::QueueDoesNotExist)
    }

    fn settled(&mut self, name: &str, now_ms: u64) -> Result<&mut Queue, SqsError> {
        let queue = self.queues.get_mut(name).ok_or(SqsError::QueueDoesNotExist)?;
        queue.settle(now_ms);
        Ok(queue)
    }

    fn change(&mut self, change: Change) {
        self.apply(&change);
        self.changes.push(change);
    }
}
