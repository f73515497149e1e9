//! One standard queue of the SQS endpoint without its server, for simulations: the caller brings the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sqs::engine::Queues;
use crate::sqs::engine::message::Content;
use crate::sqs::error::SqsError;

const NAME: &str = "model";

/// The engine of one standard queue. Times are milliseconds of any clock that does not go back.
#[derive(Debug)]
pub struct QueueModel {
    queues: Queues,
    sent: u64,
}

/// A message that the model has handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMessage {
    /// What was sent.
    pub body: String,
    /// Its `MessageGroupId`.
    pub group: Option<String>,
    /// For [`QueueModel::delete`] and [`QueueModel::hide`].
    pub handle: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// When it was sent.
    pub sent_ms: u64,
}

impl QueueModel {
    /// An empty queue whose visibility time-out is that many seconds.
    ///
    /// # Errors
    /// More seconds than the 43,200 that SQS allows.
    pub fn new(visibility_s: u32) -> Result<Self, String> {
        let mut queues = Queues::default();
        let attributes = BTreeMap::from([("VisibilityTimeout".to_owned(), visibility_s.to_string())]);
        queues.create(NAME, attributes, BTreeMap::new(), 0).map_err(text)?;
        Ok(Self { queues, sent: 0 })
    }

    /// Sends a message that becomes visible after `delay_ms`.
    ///
    /// # Errors
    /// None for this queue, which exists.
    pub fn send(
        &mut self,
        body: String,
        group: Option<&str>,
        delay_ms: u64,
        now_ms: u64,
    ) -> Result<(), String> {
        self.sent = self.sent.saturating_add(1);
        let content = Content {
            message_id: self.sent.to_string(),
            body,
            body_md5: String::new(),
            attributes: BTreeMap::new(),
            trace_header: None,
            group_id: group.map(str::to_owned),
            deduplication_id: None,
            sender_id: String::new(),
        };
        self.run(|queues| queues.send(NAME, Arc::new(content), Some(delay_ms), now_ms).map(drop))
    }

    /// Up to `max` messages, hidden for the queue's visibility time-out.
    ///
    /// # Errors
    /// More messages in flight than SQS allows.
    pub fn receive(&mut self, max: usize, now_ms: u64) -> Result<Vec<ModelMessage>, String> {
        let deliveries = self.run(|queues| queues.receive(NAME, max, None, now_ms))?;
        let message = |delivery: crate::sqs::engine::Delivery| ModelMessage {
            body: delivery.message.content.body.clone(),
            group: delivery.message.content.group_id.clone(),
            receive_count: delivery.message.receive_count,
            sent_ms: delivery.message.sent_ms,
            handle: delivery.handle,
        };
        Ok(deliveries.into_iter().map(message).collect())
    }

    /// Deletes the message of that handle.
    ///
    /// # Errors
    /// A handle of no message of this queue.
    pub fn delete(&mut self, handle: &str, now_ms: u64) -> Result<(), String> {
        self.run(|queues| queues.delete(NAME, handle, now_ms))
    }

    /// Hides a message in flight for `timeout_ms` from now; 0 makes it visible.
    ///
    /// # Errors
    /// A handle of no message in flight.
    pub fn hide(&mut self, handle: &str, timeout_ms: u64, now_ms: u64) -> Result<(), String> {
        self.run(|queues| queues.change_visibility(NAME, handle, timeout_ms, now_ms))
    }

    /// When the next hidden or delayed message becomes visible.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.queues.next_due_ms()
    }

    /// How many messages are visible, in flight and delayed.
    ///
    /// # Errors
    /// None for this queue, which exists.
    pub fn counts(&mut self, now_ms: u64) -> Result<[usize; 3], String> {
        self.queues.settle_all(now_ms);
        let queue = self.queues.queue(NAME).map_err(text)?;
        Ok([queue.visible_count(), queue.in_flight_count(), queue.delayed_count()])
    }

    fn run<T>(&mut self, operation: impl FnOnce(&mut Queues) -> Result<T, SqsError>) -> Result<T, String> {
        let done = operation(&mut self.queues).map_err(text);
        // Nothing is journalled, and nobody waits.
        self.queues.take_changes();
        self.queues.take_woken();
        done
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn text(error: SqsError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_engine_without_its_server() {
        let mut queue = QueueModel::new(30).unwrap();
        queue.send("one".to_owned(), Some("acme"), 0, 0).unwrap();
        queue.send("two".to_owned(), None, 500, 0).unwrap();
        assert_eq!((queue.counts(0).unwrap(), queue.next_due_ms()), ([1, 0, 1], Some(500)));
        let received = queue.receive(10, 100).unwrap();
        assert_eq!((received.len(), received[0].group.as_deref()), (1, Some("acme")));
        queue.hide(&received[0].handle, 1_000, 200).unwrap();
        assert_eq!(queue.receive(10, 600).unwrap()[0].body, "two");
        let again = queue.receive(10, 1_200).unwrap();
        assert_eq!(again[0].receive_count, 2);
        queue.delete(&again[0].handle, 1_300).unwrap();
        assert_eq!(queue.counts(1_300).unwrap(), [0, 1, 0]);
        assert!(queue.delete("nonsense", 0).is_err());
    }
}
