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
    /// Of the members that share a count, only the first decides, and the others wait for nothing.
    SharedCountTrustsOne,
    /// A cancellation that comes before the group has a row is dropped.
    CancelledAheadDropped,
    /// A cancellation is kept without a second look for the row.
    CancelledAheadKeptBlindly,
    /// A cancellation is only sent, and stored by its message alone.
    CancelledByMessageOnly,
    /// Only the timer decides at the deadline.
    DeadlineByTimerOnly,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Message {
    /// A call, by its number.
    Call(usize),
    Timer,
    Cancel,
    /// What the client does after it has sent the cancellation. It is no message: a client that dies does not come again.
    StoreCancel,
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
    /// Whether a cancellation was kept that came before the row.
    pub(super) cancelled_ahead: bool,
    /// Whether a cancellation is stored: its message is gone, or its client has done so.
    pub(super) cancel_is_over: bool,
    /// The calls that were started after the deadline.
    pub(super) started_after_deadline: BTreeSet<usize>,
    /// The calls that were started after that.
    pub(super) started_after_cancel: BTreeSet<usize>,
    /// The shared counts whose decision was written, and how many were shared.
    pub(super) decided_counts: BTreeSet<usize>,
    counts: usize,
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
    /// The count that it shared. One of those that shared it writes the decision that follows from it, and the others wait.
    pub(super) shared: Option<usize>,
    /// Whether it is the one that writes it.
    pub(super) decides: bool,
    /// Whether it has looked for a cancellation that came before the row.
    pub(super) looked: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Enter,
    KeepCancellation,
    LookAgain,
    CancelAsAsked,
    DecideAtDeadline,
    CancelNotify,
    CancelNote,
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
        if self.looks_for_cancellation(delivery) {
            return;
        }
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
            (Message::Call(n), Step::CancelAsAsked) => self.cancel_as_asked(n),
            (Message::Call(_), Step::CancelNotify) => {
                let row = self.world.row.as_ref().unwrap();
                self.world.notices.push(row.notice().unwrap().0);
                Step::CancelNote
            }
            (Message::Call(n), Step::CancelNote) => {
                self.world.row.as_mut().unwrap().notified = true;
                Self::again(self.world.ended.contains_key(&n))
            }
            (Message::Call(n), Step::DecideAtDeadline) => self.decide_at_deadline(n),
            (Message::StoreCancel, Step::Decide(due)) => {
                self.write_decision(due);
                Step::Delete
            }
            (_, Step::Decide(due)) => self.write_decision(due),
            (Message::Cancel | Message::StoreCancel, Step::KeepCancellation) => {
                self.world.cancelled_ahead = true;
                if self.planted == Planted::CancelledAheadKeptBlindly {
                    Step::Delete
                } else {
                    Step::LookAgain
                }
            }
            (_, Step::LookAgain) if self.world.row.is_none() => Step::Delete,
            (Message::Cancel, Step::LookAgain) => self.look(Occasion::Cancel, Decider::Cancel),
            (Message::StoreCancel, Step::LookAgain) => self.store_cancel(),
            (Message::StoreCancel, Step::Enter) if self.planted == Planted::CancelledByMessageOnly => {
                Step::Delete
            }
            (Message::StoreCancel, Step::Enter) if self.world.row.is_some() => self.store_cancel(),
            (Message::StoreCancel, Step::Enter) => Step::KeepCancellation,
            (Message::Cancel, Step::Enter)
                if self.world.row.is_none() && self.planted != Planted::CancelledAheadDropped =>
            {
                Step::KeepCancellation
            }
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

    /// A call that enters a new row looks once for a cancellation that came before it.
    fn looks_for_cancellation(&self, delivery: &mut Delivery) -> bool {
        let enters = matches!(delivery.step, Step::Enter | Step::EnterEnded);
        let Message::Call(_) = delivery.message else { return false };
        let is_new = self.world.row.as_ref().is_some_and(GroupRow::may_be_cancelled_ahead);
        if !enters || delivery.looked || !is_new {
            return false;
        }
        delivery.looked = true;
        if self.world.cancelled_ahead {
            delivery.step = Step::CancelAsAsked;
        }
        true
    }

    /// Decides the group whose row a client has just read, unless it is decided. Its notice is sent by the message.
    fn store_cancel(&self) -> Step {
        let row = self.world.row.as_ref().unwrap();
        decide(row, Occasion::Cancel, Timestamp::from_ms(self.world.now_ms))
            .map_or(Step::Delete, Step::Decide)
    }

    /// A call that enters an open group after its deadline decides it in the timer's place.
    fn decide_at_deadline(&mut self, n: usize) -> Step {
        let row = self.world.row.as_mut().unwrap();
        if let Some(due) = decide(row, Occasion::Timer, Timestamp::from_ms(self.world.now_ms)) {
            row.decision = Some(due);
            self.world.decisions.push(due);
        }
        let owes = self.world.row.as_ref().unwrap().owes_notice(Decider::Timer);
        if owes { Step::CancelNotify } else { Self::again(self.world.ended.contains_key(&n)) }
    }

    fn cancel_as_asked(&mut self, n: usize) -> Step {
        let row = self.world.row.as_mut().unwrap();
        if let Some(due) = decide(row, Occasion::Cancel, Timestamp::from_ms(self.world.now_ms)) {
            row.decision = Some(due);
            self.world.decisions.push(due);
        }
        let owes = row.owes_notice(Decider::Cancel);
        if owes { Step::CancelNotify } else { Self::again(self.world.ended.contains_key(&n)) }
    }

    fn delete(&mut self, message: &Message) -> Step {
        self.world.cancel_is_over |= matches!(message, Message::Cancel | Message::StoreCancel);
        let at = self.world.queue.iter().position(|other| other == message);
        if let Some(at) = at {
            self.world.queue.remove(at);
        }
        Step::Gone
    }

    fn after_join(&mut self, n: usize) -> Step {
        let starts = !self.world.ended.contains_key(&n) && !self.calls[n].refused;
        if starts && self.world.cancel_is_over {
            self.world.started_after_cancel.insert(n);
        }
        let deadline = self.world.row.as_ref().unwrap().terms.deadline;
        if starts && deadline <= Timestamp::from_ms(self.world.now_ms) {
            self.world.started_after_deadline.insert(n);
        }
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
        let now = Timestamp::from_ms(self.world.now_ms);
        let is_due = |row: &GroupRow| decide(row, Occasion::Timer, now).is_some();
        if !ended
            && self.planted != Planted::DeadlineByTimerOnly
            && self.world.row.as_ref().is_some_and(is_due)
        {
            return Step::DecideAtDeadline;
        }
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

    /// Counts all members that are at this step in the worker of `leader`, by one write. One of them decides where that is due.
    pub(super) fn count_together(&mut self, running: &mut [Delivery], leader: usize) {
        let worker = running[leader].worker;
        let counted = |(at, delivery): (usize, &Delivery)| match delivery.message {
            Message::Call(n) if delivery.step == Step::Count && delivery.worker == worker => Some((at, n)),
            Message::Call(_) | Message::Timer | Message::Cancel | Message::StoreCancel => None,
        };
        let together: Vec<_> = running.iter().enumerate().filter_map(counted).collect();
        for (at, n) in &together {
            if self.planted != Planted::SharedCountLosesOne || *at == leader {
                self.add(*n);
            }
        }
        self.world.counts += 1;
        for (at, n) in together {
            running[at].shared = Some(self.world.counts);
            let decides = at == leader || self.planted != Planted::SharedCountTrustsOne;
            running[at].step = self.after_count(n, decides);
        }
    }

    /// Whether a delivery waits for another one that shared its count, and writes the decision. It goes on once that is written.
    pub(super) fn waits(&self, running: &mut [Delivery], at: usize) -> bool {
        let (Step::Decide(_), Some(count)) = (&running[at].step, running[at].shared) else { return false };
        if self.world.decided_counts.contains(&count) {
            running[at].step = Step::Delete;
            return false;
        }
        if running.iter().any(|other| other.shared == Some(count) && other.decides) {
            return !running[at].decides;
        }
        running[at].decides = true;
        false
    }

    /// Notes that the decision of a shared count is written, and its notice sent.
    pub(super) fn release(&mut self, delivery: &Delivery) {
        if let (Some(count), true, Step::Delete) = (delivery.shared, delivery.decides, &delivery.step) {
            self.world.decided_counts.insert(count);
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

    fn after_count(&self, n: usize, decides: bool) -> Step {
        let index = self.calls[n].group.index;
        let row = self.world.row.as_ref().unwrap();
        if row.decision.is_some() {
            return self.after_decision(Decider::Member(index));
        }
        let now = Timestamp::from_ms(self.world.now_ms);
        let due = decide(row, Occasion::Counted(index), now).or_else(|| decide(row, Occasion::Timer, now));
        due.filter(|_| decides).map_or(Step::Delete, Step::Decide)
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
