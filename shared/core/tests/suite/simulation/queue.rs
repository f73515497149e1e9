//! A model of a standard SQS queue: at least once, in any order, with visibility time-outs, delays, receive counts and a redrive policy.

use std::cell::RefCell;

use super::limits::OwnTurn;
use super::random::Random;
use super::scheduler::TaskId;

/// A message is moved to the dead-letter queue when it would be received more often.
pub(crate) const MAX_RECEIVES: u32 = 8;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    /// Number of the call.
    pub(crate) call: usize,
    /// What it asks.
    pub(crate) asks: Asks,
    /// When the first message of the call was sent, as a replacement carries it.
    pub(crate) first_sent_ms: Option<u64>,
    /// The id of the first message, as a replacement carries it.
    pub(crate) first_message: Option<u64>,
    /// How often the call was parked.
    pub(crate) parks: u32,
    /// The turns of its next request.
    pub(crate) turns: Vec<OwnTurn>,
    /// Whether it says that it polls the task of its call, whose permit is kept.
    pub(crate) polls: bool,
}

/// The kinds of messages that name a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The question of the call.
    Question,
    /// Another question under the same id.
    OtherQuestion,
    /// The same question, by another agent.
    OtherCaller,
}

#[derive(Debug, Clone)]
struct Message {
    id: u64,
    body: Body,
    sent_ms: u64,
    visible_ms: u64,
    receives: u32,
    receipt: u64,
}

/// One receipt of one message.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) body: Body,
    pub(crate) sent_ms: u64,
    pub(crate) receives: u32,
    pub(crate) receipt: u64,
}

impl Received {
    /// The id that the sender of the first message was given.
    pub(crate) fn first_id(&self) -> u64 {
        self.body.first_message.unwrap_or(self.id)
    }
}

/// How the queue deviates from a simple list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Oddities {
    /// In how many of 1,000 receives a message stays visible for others. Its receive count, which is approximate, may miss such a receive.
    pub(crate) duplicate: u64,
    /// In how many of 1,000 deletes a copy stays that comes back later.
    pub(crate) undead: u64,
}

#[derive(Default)]
struct Stored {
    messages: Vec<Message>,
    next_id: u64,
    waiting: Vec<TaskId>,
}

/// A queue.
#[derive(Default)]
pub(crate) struct Queue {
    stored: RefCell<Stored>,
    oddities: Oddities,
}

impl Queue {
    pub(crate) fn new(oddities: Oddities) -> Self {
        Self { stored: RefCell::default(), oddities }
    }

    /// Adds a message that is visible after the delay. Gives its id.
    pub(crate) fn send(&self, body: Body, now_ms: u64, delay_ms: u64) -> u64 {
        let mut stored = self.stored.borrow_mut();
        stored.next_id += 1;
        let id = stored.next_id;
        let message =
            Message { id, body, sent_ms: now_ms, visible_ms: now_ms + delay_ms, receives: 0, receipt: 0 };
        stored.messages.push(message);
        id
    }

    /// Hands out at most `most` visible messages, in any order, and hides them. One that was received too often goes to `dead`.
    pub(crate) fn receive(
        &self,
        random: &Random,
        now_ms: u64,
        most: usize,
        hidden_ms: u64,
        dead: Option<&Self>,
    ) -> Vec<Received> {
        let mut stored = self.stored.borrow_mut();
        let mut received = Vec::new();
        while received.len() < most {
            let visible: Vec<_> = (0..stored.messages.len())
                .filter(|at| stored.messages[*at].visible_ms <= now_ms)
                .filter(|at| received.iter().all(|other: &Received| other.id != stored.messages[*at].id))
                .collect();
            let Some(at) = visible.get(random.index(visible.len())).copied() else { break };
            if let Some(dead) = dead.filter(|_| stored.messages[at].receives >= MAX_RECEIVES) {
                let message = stored.messages.swap_remove(at);
                dead.stored.borrow_mut().messages.push(Message { receives: 0, ..message });
                continue;
            }
            stored.next_id += 1;
            let receipt = stored.next_id;
            let message = &mut stored.messages[at];
            message.receives += 1;
            message.receipt = receipt;
            if !random.chance(self.oddities.duplicate) {
                message.visible_ms = now_ms + hidden_ms;
            } else if random.chance(500) {
                message.receives -= 1;
            }
            let Message { id, body, sent_ms, receives, receipt, .. } = message.clone();
            received.push(Received { id, body, sent_ms, receives: receives.max(1), receipt });
        }
        received
    }

    /// Sets when the message is visible again. An old receipt, and a message that is not in flight, change nothing.
    pub(crate) fn hide(&self, receipt: u64, now_ms: u64, hidden_ms: u64) -> bool {
        let mut stored = self.stored.borrow_mut();
        let in_flight = |message: &&mut Message| message.receipt == receipt && message.visible_ms > now_ms;
        let found = stored.messages.iter_mut().find(in_flight);
        found.map(|message| message.visible_ms = now_ms + hidden_ms).is_some()
    }

    /// Deletes the message. An old receipt may or may not do so.
    pub(crate) fn delete(&self, random: &Random, id: u64, receipt: u64, now_ms: u64) {
        let mut stored = self.stored.borrow_mut();
        let Some(at) = stored.messages.iter().position(|message| message.id == id) else { return };
        if stored.messages[at].receipt != receipt && random.chance(500) {
            return;
        }
        if random.chance(self.oddities.undead) {
            let visible_ms = now_ms + random.between(0, 40_000);
            stored.messages[at].visible_ms = visible_ms;
            return;
        }
        stored.messages.swap_remove(at);
    }

    /// Whether a message of that call is in it.
    pub(crate) fn has(&self, call: usize) -> bool {
        self.stored.borrow().messages.iter().any(|message| message.body.call == call)
    }

    /// Whether it is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.borrow().messages.is_empty()
    }

    /// When its next message is visible.
    pub(crate) fn next_visible_ms(&self) -> Option<u64> {
        self.stored.borrow().messages.iter().map(|message| message.visible_ms).min()
    }

    /// The task waits for a message.
    pub(crate) fn wait(&self, task: TaskId) {
        self.stored.borrow_mut().waiting.push(task);
    }

    /// The tasks that wait for a message.
    pub(crate) fn take_waiting(&self) -> Vec<TaskId> {
        std::mem::take(&mut self.stored.borrow_mut().waiting)
    }
}
