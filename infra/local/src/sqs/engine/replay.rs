//! Applies changes to the queues, when they are decided and again when a journal is read.
//!
//! **Invariant:** a change to an unknown queue or message is ignored, so that the endpoint always starts.

use super::Queues;
use super::attributes::Attributes;
use super::change::Change;
use super::message::Place;
use super::queue::{MAX_IN_FLIGHT, Queue};

impl Queues {
    /// Rebuilds queues from a journal.
    pub(crate) fn replay(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut queues = Self::default();
        for change in changes {
            queues.apply(&change);
        }
        queues.woken.clear();
        queues
    }

    /// The fewest changes that give these queues.
    pub(crate) fn snapshot(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, queue) in &self.queues {
            changes.push(Change::Created {
                queue: name.clone(),
                attributes: queue.attributes.given().clone(),
                tags: queue.tags.clone(),
                at_ms: queue.created_ms,
                next_seq: queue.next_seq,
            });
            if queue.modified_ms != queue.created_ms {
                changes.push(Change::AttributesSet {
                    queue: name.clone(),
                    attributes: queue.attributes.given().clone(),
                    at_ms: queue.modified_ms,
                });
            }
            let stored = |(seq, message): (u64, &super::message::Message)| Change::Stored {
                queue: name.clone(),
                seq,
                message: message.clone(),
            };
            changes.extend(queue.messages().map(stored));
            changes.extend(queue.memory.all().map(|(same_as, original)| Change::Remembered {
                queue: name.clone(),
                same_as: same_as.clone(),
                original: original.clone(),
            }));
        }
        changes.extend(self.moves.iter().cloned().map(|task| Change::MoveSet { task }));
        changes
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Created { queue, attributes, tags, at_ms, next_seq } => {
                if let Ok(attributes) = Attributes::check(attributes.clone()) {
                    let mut created = Queue::new(attributes, tags.clone(), *at_ms);
                    created.next_seq = *next_seq;
                    self.queues.insert(queue.clone(), created);
                }
            }
            Change::Dropped { queue } => {
                self.queues.remove(queue);
                self.moves.retain(|task| task.source != *queue);
                self.woken.push(queue.clone());
            }
            Change::MoveSet { task } => self.set_move(task),
            Change::AttributesSet { queue, .. }
            | Change::TagsSet { queue, .. }
            | Change::Purged { queue }
            | Change::Stored { queue, .. }
            | Change::Remembered { queue, .. }
            | Change::Received { queue, .. }
            | Change::Hidden { queue, .. }
            | Change::Released { queue, .. }
            | Change::Removed { queue, .. } => {
                if let Some(found) = self.queues.get_mut(queue)
                    && apply_to(found, change)
                {
                    self.woken.push(queue.clone());
                }
            }
        }
    }
}

/// Applies a change to its queue, and tells whether receivers should look again.
fn apply_to(queue: &mut Queue, change: &Change) -> bool {
    match change {
        Change::Created { .. } | Change::Dropped { .. } | Change::MoveSet { .. } => false,
        Change::AttributesSet { attributes, at_ms, .. } => {
            if let Ok(attributes) = Attributes::check(attributes.clone()) {
                queue.attributes = attributes;
                queue.modified_ms = *at_ms;
            }
            false
        }
        Change::TagsSet { tags, .. } => {
            queue.tags.clone_from(tags);
            false
        }
        Change::Purged { .. } => {
            queue.clear();
            false
        }
        Change::Stored { seq, message, .. } => {
            queue.insert(*seq, message.clone());
            message.place == Place::Visible
        }
        Change::Remembered { same_as, original, .. } => {
            queue.memory.remember(same_as.clone(), original.clone());
            false
        }
        Change::Received { seq, at_ms, due_ms, .. } => {
            queue.received(*seq, *at_ms, *due_ms);
            false
        }
        Change::Hidden { seq, due_ms, .. } => {
            queue.put(*seq, Place::InFlight, *due_ms);
            false
        }
        Change::Released { seq, at_ms, .. } => {
            queue.put(*seq, Place::Visible, *at_ms);
            true
        }
        Change::Removed { seq, .. } => {
            let was_full = queue.in_flight_count() >= MAX_IN_FLIGHT;
            queue.remove(*seq);
            // What is gone from a FIFO queue may have been all that held its group back.
            was_full || queue.attributes.fifo.is_some()
        }
    }
}
