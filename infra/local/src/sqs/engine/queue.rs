//! One queue: finds visible, hidden and expired messages without a scan.
//!
//! **Invariant:** every message stands in exactly one of `visible` and `hidden`, under its own `due_ms`, and in `ages`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::attributes::Attributes;
use super::fifo::{Groups, Memory};
use super::message::{Message, Place};

/// The most messages in flight (SQS quota, of both kinds of queue).
pub(crate) const MAX_IN_FLIGHT: usize = 120_000;

/// A queue and its messages. All operations are logarithmic in the number of messages.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) attributes: Attributes,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_ms: u64,
    pub(crate) modified_ms: u64,
    pub(crate) next_seq: u64,
    messages: HashMap<u64, Message>,
    visible: BTreeSet<(u64, u64)>,
    hidden: BTreeSet<(u64, u64)>,
    ages: BTreeSet<(u64, u64)>,
    in_flight: usize,
    /// The order of a FIFO queue; None for a standard queue.
    groups: Option<Groups>,
    pub(crate) memory: Memory,
}

impl Queue {
    pub(crate) fn new(attributes: Attributes, tags: BTreeMap<String, String>, now_ms: u64) -> Self {
        Self {
            groups: attributes.fifo.map(|_| Groups::default()),
            attributes,
            tags,
            created_ms: now_ms,
            modified_ms: now_ms,
            next_seq: 0,
            messages: HashMap::new(),
            visible: BTreeSet::new(),
            hidden: BTreeSet::new(),
            ages: BTreeSet::new(),
            in_flight: 0,
            memory: Memory::default(),
        }
    }

    /// Makes visible what is due, and forgets what is older than the retention.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        while let Some(&(due_ms, seq)) = self.hidden.first() {
            if due_ms > now_ms {
                break;
            }
            self.put(seq, Place::Visible, due_ms);
        }
        while let Some(&(sent_ms, seq)) = self.ages.first() {
            if sent_ms.saturating_add(self.attributes.retention_ms) > now_ms {
                break;
            }
            self.remove(seq);
        }
        self.memory.forget_old(now_ms);
    }

    pub(crate) fn insert(&mut self, seq: u64, message: Message) {
        self.remove(seq);
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
        self.ages.insert((message.sent_ms, seq));
        self.file(seq, message.place, message.due_ms);
        self.regroup(&message, seq, Some(message.place));
        self.messages.insert(seq, message);
    }

    pub(crate) fn remove(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.ages.remove(&(message.sent_ms, seq));
        self.unfile(seq, message.place, message.due_ms);
        self.regroup(&message, seq, None);
        Some(message)
    }

    fn regroup(&mut self, message: &Message, seq: u64, place: Option<Place>) {
        if let (Some(groups), Some(group)) = (&mut self.groups, &message.content.group_id) {
            groups.place(group, seq, place);
        }
    }

    /// Moves a message to another place.
    pub(crate) fn put(&mut self, seq: u64, place: Place, due_ms: u64) {
        if let Some(message) = self.messages.get_mut(&seq) {
            let (old_place, old_due_ms) = (message.place, message.due_ms);
            message.place = place;
            message.due_ms = due_ms;
            if let (Some(groups), Some(group)) = (&mut self.groups, &message.content.group_id) {
                groups.place(group, seq, Some(place));
            }
            self.unfile(seq, old_place, old_due_ms);
            self.file(seq, place, due_ms);
        }
    }

    /// Notes that a message was received, and hides it until `due_ms`.
    pub(crate) fn received(&mut self, seq: u64, at_ms: u64, due_ms: u64) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.receive_count = message.receive_count.saturating_add(1);
            message.receives_here = message.receives_here.saturating_add(1);
            message.first_received_ms.get_or_insert(at_ms);
            message.last_received_ms = at_ms;
        }
        self.put(seq, Place::InFlight, due_ms);
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.visible.clear();
        self.hidden.clear();
        self.ages.clear();
        self.in_flight = 0;
        self.groups.iter_mut().for_each(Groups::clear);
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (u64, &Message)> {
        self.messages.iter().map(|(seq, message)| (*seq, message))
    }

    /// The next message to hand out: the one that has been visible longest, or in a FIFO queue what its order allows.
    /// `held` is the group that this very request already takes from.
    pub(crate) fn next_receivable(&self, held: Option<&str>) -> Option<u64> {
        match &self.groups {
            Some(groups) => groups.next(held),
            None => self.visible.first().map(|(_, seq)| *seq),
        }
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.hidden.first().map(|(due_ms, _)| *due_ms)
    }

    pub(crate) fn visible_count(&self) -> usize {
        self.visible.len()
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn delayed_count(&self) -> usize {
        self.hidden.len().saturating_sub(self.in_flight)
    }

    fn file(&mut self, seq: u64, place: Place, due_ms: u64) {
        match place {
            Place::Visible => {
                self.visible.insert((due_ms, seq));
            }
            Place::Delayed => {
                self.hidden.insert((due_ms, seq));
            }
            Place::InFlight => {
                self.hidden.insert((due_ms, seq));
                self.in_flight = self.in_flight.saturating_add(1);
            }
        }
    }

    fn unfile(&mut self, seq: u64, place: Place, due_ms: u64) {
        match place {
            Place::Visible => {
                self.visible.remove(&(due_ms, seq));
            }
            Place::Delayed => {
                self.hidden.remove(&(due_ms, seq));
            }
            Place::InFlight => {
                self.hidden.remove(&(due_ms, seq));
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
    }
}
