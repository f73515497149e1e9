//! One queue: finds visible, hidden and expired messages without a scan.
//!
//! **Invariant:** every message stands in exactly one of `visible` and `hidden`, under its own `due_ms`, and in `ages`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::attributes::Attributes;
use super::fair::Fair;
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
    order: Order,
    pub(crate) memory: Memory,
}

/// What decides which message is handed out next.
#[derive(Debug)]
enum Order {
    Fifo(Groups),
    Standard(Fair),
}

impl Queue {
    pub(crate) fn new(attributes: Attributes, tags: BTreeMap<String, String>, now_ms: u64) -> Self {
        Self {
            order: match attributes.fifo {
                Some(_) => Order::Fifo(Groups::default()),
                None => Order::Standard(Fair::default()),
            },
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
            self.note_processed(seq, due_ms);
            self.put(seq, Place::Visible, due_ms);
        }
        while let Some(&(sent_ms, seq)) = self.ages.first() {
            if sent_ms.saturating_add(self.attributes.retention_ms) > now_ms {
                break;
            }
            self.remove(seq);
        }
        self.memory.forget_old(now_ms);
        if let Order::Standard(fair) = &mut self.order {
            fair.begin_window(now_ms);
        }
    }

    pub(crate) fn insert(&mut self, seq: u64, message: Message) {
        self.remove(seq);
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
        self.ages.insert((message.sent_ms, seq));
        self.file(seq, message.place, message.due_ms);
        if let Order::Standard(fair) = &mut self.order {
            fair.sent(message.content.group_id.as_deref(), message.sent_ms);
        }
        self.reorder(&message, seq, None, Some((message.place, message.due_ms)));
        self.messages.insert(seq, message);
    }

    pub(crate) fn remove(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.ages.remove(&(message.sent_ms, seq));
        self.unfile(seq, message.place, message.due_ms);
        self.reorder(&message, seq, Some((message.place, message.due_ms)), None);
        Some(message)
    }

    /// Tells the order of this queue that a message went from one place to another.
    fn reorder(&mut self, message: &Message, seq: u64, from: Option<(Place, u64)>, to: Option<(Place, u64)>) {
        let group = message.content.group_id.as_deref();
        match (&mut self.order, group) {
            (Order::Fifo(groups), Some(group)) => groups.place(group, seq, to.map(|(place, _)| place)),
            (Order::Fifo(_), None) => {}
            (Order::Standard(fair), group) => fair.moved(group, seq, from, to),
        }
    }

    /// Moves a message to another place.
    pub(crate) fn put(&mut self, seq: u64, place: Place, due_ms: u64) {
        let Some(mut message) = self.messages.remove(&seq) else { return };
        let from = (message.place, message.due_ms);
        (message.place, message.due_ms) = (place, due_ms);
        self.reorder(&message, seq, Some(from), Some((place, due_ms)));
        self.unfile(seq, from.0, from.1);
        self.file(seq, place, due_ms);
        self.messages.insert(seq, message);
    }

    /// Counts the time for which a message was in flight until `until_ms`. A restart forgets it, as it forgets deletes' times.
    pub(crate) fn note_processed(&mut self, seq: u64, until_ms: u64) {
        if let (Order::Standard(fair), Some(message)) = (&mut self.order, self.messages.get(&seq))
            && message.place == Place::InFlight
        {
            let spent_ms = until_ms.saturating_sub(message.last_received_ms);
            fair.processed(message.content.group_id.as_deref(), spent_ms, until_ms);
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
        match &mut self.order {
            Order::Fifo(groups) => groups.clear(),
            Order::Standard(fair) => fair.clear(),
        }
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (u64, &Message)> {
        self.messages.iter().map(|(seq, message)| (*seq, message))
    }

    /// The next message to hand out: in a standard queue the one that has been visible longest, those of noisy groups last; in a FIFO
    /// queue what its order allows. `held` is the group that this very request already takes from.
    pub(crate) fn next_receivable(&self, held: Option<&str>, now_ms: u64) -> Option<u64> {
        match &self.order {
            Order::Fifo(groups) => groups.next(held),
            Order::Standard(fair) => fair.next(now_ms),
        }
    }

    #[cfg(test)]
    pub(crate) fn noisy_count(&self, now_ms: u64) -> usize {
        match &self.order {
            Order::Fifo(_) => 0,
            Order::Standard(fair) => fair.noisy_count(now_ms),
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
