//! The model of the simulation: calls, tables and a queue, and the writes of a delivery in the order in which the worker makes them.

use std::collections::{BTreeMap, BTreeSet};

use toolfleet_core::group::{
    Binding, Decider, Decision, GroupNotice, GroupRow, Join, Occasion, Place, Terms, decide, join,
};
use toolfleet_core::ids::{CallId, Tenant};
use toolfleet_core::request::{Group, Reply};
use toolfleet_core::time::Timestamp;

/// A defect that is planted to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    None,
    /// The message is deleted before its member is counted.
    DeletedBeforeCount,
    /// The decision is written without its condition.
    Unconditional,
    /// The notice is noted before it is sent.
    NoticeNotedFirst,
    /// The timer is noted before it is sent.
    TimerNotedFirst,
    /// Of the members that share a count, only the first is counted.
    SharedCountLosesOne,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Message {
    /// A call, by its number.
    Call(usize),
    Timer,
    Cancel,
}

/// A call: what its message says, and whether its tool succeeds.
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) group: Group,
    pub(super) good: bool,
    /// Whether it ends without joining: a refusal, a dead letter.
    pub(super) refused: bool,
}

/// The tables and the queue. A write happens whole or not at all.
#[derive(Default)]
pub(super) struct World {
    pub(super) row: Option<GroupRow>,
    pub(super) bindings: BTreeMap<u32, CallId>,
    /// How each call ended, and how often each ran.
    pub(super) ended: BTreeMap<usize, bool>,
    pub(super) runs: BTreeMap<usize, u32>,
    pub(super) queue: Vec<Message>,
    pub(super) notices: Vec<GroupNotice>,
    pub(super) decisions: Vec<Decision>,
    /// When a write of a call that began before the decision may still be under way.
    pub(super) now_ms: i64,
}

/// A delivery under way: the writes that it still makes, one at a time.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Message,
    pub(super) step: Step,
    /// The worker that has it: members that end in one worker at the same time share a count.
    pub(super) worker: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Enter,
    SendTimer,
    NoteTimer,
    Execute,
    Store { good: bool },
    EnterEnded,
    Count,
    Decide(Decision),
    Notify,
    NoteNotice,
    Delete,
    Gone,
}

pub(super) struct Simulation {
    pub(super) world: World,
    pub(super) calls: Vec<Call>,
    pub(super) planted: Planted,
}

impl Simulation {
    fn place(&self, n: usize) -> Place<'_> {
        Place { call: &self.calls[n].id, group: &self.calls[n].group }
    }

    /// Makes the next write of a delivery.
    pub(super) fn step(&mut self, delivery: &mut Delivery) {
        delivery.step = match (delivery.message.clone(), delivery.step.clone()) {
            (Message::Call(n), Step::Enter) => self.enter(n, false),
            (Message::Call(n), Step::EnterEnded) => self.enter(n, true),
            (Message::Call(n), Step::SendTimer) => {
                self.world.queue.push(Message::Timer);
                if self.planted == Planted::TimerNotedFirst {
                    Self::again(self.world.ended.contains_key(&n))
                } else {
                    Step::NoteTimer
                }
            }
            (Message::Call(n), Step::NoteTimer) => {
                self.world.row.as_mut().unwrap().timer_sent = true;
                if self.planted == Planted::TimerNotedFirst {
                    Step::SendTimer
                } else {
                    Self::again(self.world.ended.contains_key(&n))
                }
            }
            (Message::Call(n), Step::Execute) => {
                if self.world.ended.contains_key(&n) {
                    Step::Count
                } else {
                    *self.world.runs.entry(n).or_default() += 1;
                    Step::Store { good: self.calls[n].good }
                }
            }
            (Message::Call(n), Step::Store { good }) => {
                self.world.ended.entry(n).or_insert(good);
                if self.planted == Planted::DeletedBeforeCount {
                    self.delete(&Message::Call(n))
                } else {
                    Step::Count
                }
            }
            (Message::Call(n), Step::Count) => self.count(n),
            (_, Step::Decide(due)) => self.write_decision(due),
            (Message::Timer, Step::Enter) => self.look(Occasion::Timer, Decider::Timer),
            (Message::Cancel, Step::Enter) => self.look(Occasion::Cancel, Decider::Cancel),
            (_, Step::Notify) => {
                let row = self.world.row.as_ref().unwrap();
                self.world.notices.push(row.notice().unwrap().0);
                if self.planted == Planted::NoticeNotedFirst { Step::Delete } else { Step::NoteNotice }
            }
            (_, Step::NoteNotice) => {
                self.world.row.as_mut().unwrap().notified = true;
                if self.planted == Planted::NoticeNotedFirst { Step::Notify } else { Step::Delete }
            }
            (message, Step::Delete) => self.delete(&message),
            (message, step) => panic!("{message:?} has no step {step:?}"),
        };
    }

    fn delete(&mut self, message: &Message) -> Step {
        let at = self.world.queue.iter().position(|other| other == message);
        if let Some(at) = at {
            self.world.queue.remove(at);
        }
        Step::Gone
    }

    fn after_join(&self, n: usize) -> Step {
        if self.world.ended.contains_key(&n) || self.calls[n].refused { Step::Count } else { Step::Execute }
    }

    fn again(ended: bool) -> Step {
        if ended { Step::EnterEnded } else { Step::Enter }
    }

    fn enter(&mut self, n: usize, ended: bool) -> Step {
        // A refused call ends before it joins.
        if self.calls[n].refused && !self.world.ended.contains_key(&n) {
            self.world.ended.insert(n, false);
            return Step::EnterEnded;
        }
        let again = Self::again(ended);
        let index = self.calls[n].group.index;
        let binding = self.world.bindings.get(&index).map_or(Binding::Free, |call| Binding::Of(call.clone()));
        match join(self.world.row.as_ref(), &binding, self.place(n)) {
            Join::Create => {
                self.world.row = Some(self.first_row(n));
                again
            }
            Join::Bind => {
                self.world.bindings.insert(index, self.calls[n].id.clone());
                again
            }
            Join::SendTimer if self.planted == Planted::TimerNotedFirst => Step::NoteTimer,
            Join::SendTimer => Step::SendTimer,
            Join::Member => self.after_join(n),
            Join::Decided(_) => {
                self.world.ended.entry(n).or_insert(false);
                self.after_decision(Decider::Member(index))
            }
            Join::Mismatch(_) => {
                self.world.ended.entry(n).or_insert(false);
                Step::Delete
            }
        }
    }

    fn first_row(&self, n: usize) -> GroupRow {
        let Call { id, group, .. } = &self.calls[n];
        GroupRow {
            key: group.key(&Tenant::parse("acme").unwrap()),
            terms: Terms {
                size: group.size,
                policy: group.policy,
                deadline: group.deadline.unwrap(),
                reply: group.reply.as_ref().and_then(Reply::sqs_queue_url).map(str::to_owned),
            },
            made_by: id.clone(),
            timer_sent: false,
            ok: BTreeSet::new(),
            failed: BTreeSet::new(),
            decision: None,
            notified: false,
            expires_at: Timestamp::from_ms(1_000_000),
        }
    }

    fn count(&mut self, n: usize) -> Step {
        self.add(n);
        self.after_count(n, true)
    }

    /// Counts all members that are at this step in the worker of `leader`, by one write. Only the leader looks whether the group is to be
    /// decided.
    pub(super) fn count_together(&mut self, running: &mut [Delivery], leader: usize) {
        let worker = running[leader].worker;
        let counted = |(at, delivery): (usize, &Delivery)| match delivery.message {
            Message::Call(n) if delivery.step == Step::Count && delivery.worker == worker => Some((at, n)),
            Message::Call(_) | Message::Timer | Message::Cancel => None,
        };
        let together: Vec<_> = running.iter().enumerate().filter_map(counted).collect();
        for (at, n) in &together {
            if self.planted != Planted::SharedCountLosesOne || *at == leader {
                self.add(*n);
            }
        }
        for (at, n) in together {
            running[at].step = self.after_count(n, at == leader);
        }
    }

    fn add(&mut self, n: usize) {
        let (index, good) = (self.calls[n].group.index, self.world.ended[&n]);
        let row = self.world.row.as_mut().unwrap();
        if good {
            row.ok.insert(index)
        } else {
            row.failed.insert(index)
        };
    }

    fn after_count(&self, n: usize, leads: bool) -> Step {
        let index = self.calls[n].group.index;
        let row = self.world.row.as_ref().unwrap();
        if row.decision.is_some() {
            return self.after_decision(Decider::Member(index));
        }
        let due = decide(row, Occasion::Counted(index), Timestamp::from_ms(self.world.now_ms));
        due.filter(|_| leads).map_or(Step::Delete, Step::Decide)
    }

    fn look(&mut self, occasion: Occasion, own: Decider) -> Step {
        let now = Timestamp::from_ms(self.world.now_ms);
        let Some(row) = &self.world.row else { return Step::Delete };
        match (row.decision, decide(row, occasion, now)) {
            (Some(_), _) => self.after_decision(own),
            (None, Some(due)) => Step::Decide(due),
            // It goes back to the queue for a hop.
            (None, None) => Step::Gone,
        }
    }

    fn write_decision(&mut self, due: Decision) -> Step {
        let row = self.world.row.as_mut().unwrap();
        if row.decision.is_none() || self.planted == Planted::Unconditional {
            row.decision = Some(due);
            self.world.decisions.push(due);
        }
        self.after_decision(due.by)
    }

    fn after_decision(&self, own: Decider) -> Step {
        if !self.world.row.as_ref().unwrap().owes_notice(own) {
            Step::Delete
        } else if self.planted == Planted::NoticeNotedFirst {
            Step::NoteNotice
        } else {
            Step::Notify
        }
    }
}
