//! A simulation of groups: workers die between any two writes, messages come twice, late and in any order.
//!
//! The model performs the rules of `toolfleet_core::group` in the order in which the worker does. A seed is a schedule.

use std::collections::{BTreeMap, BTreeSet};

use toolfleet_core::group::{
    Binding, Decider, Decision, GroupNotice, GroupResult, GroupRow, Join, Occasion, Place, Terms, decide,
    join,
};
use toolfleet_core::ids::{CallId, GroupId, Tenant};
use toolfleet_core::request::{Group, Policy, Reply, Tolerance};
use toolfleet_core::time::Timestamp;

/// How many schedules.
const SCHEDULES: u64 = 10_000;
/// The group's deadline.
const DEADLINE_MS: i64 = 5_000;
/// Where its notice goes.
const REPLIES: &str = "https://sqs/replies";

/// SplitMix64: the randomness of a schedule.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// A defect that is planted to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    None,
    /// The message is deleted before its member is counted.
    DeletedBeforeCount,
    /// The decision is written without its condition.
    Unconditional,
    /// The notice is noted before it is sent.
    NoticeNotedFirst,
    /// The timer is noted before it is sent.
    TimerNotedFirst,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    /// A call, by its number.
    Call(usize),
    Timer,
    Cancel,
}

/// A call: what its message says, and whether its tool succeeds.
struct Call {
    id: CallId,
    group: Group,
    good: bool,
    /// Whether it ends without joining: a refusal, a dead letter.
    refused: bool,
}

/// The tables and the queue. A write happens whole or not at all.
#[derive(Default)]
struct World {
    row: Option<GroupRow>,
    bindings: BTreeMap<u32, CallId>,
    /// How each call ended, and how often each ran.
    ended: BTreeMap<usize, bool>,
    runs: BTreeMap<usize, u32>,
    queue: Vec<Message>,
    notices: Vec<GroupNotice>,
    decisions: Vec<Decision>,
    /// When a write of a call that began before the decision may still be under way.
    now_ms: i64,
}

/// A delivery under way: the writes that it still makes, one at a time.
#[derive(Debug, Clone)]
struct Delivery {
    message: Message,
    step: Step,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
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

struct Simulation {
    world: World,
    calls: Vec<Call>,
    planted: Planted,
}

impl Simulation {
    fn place(&self, n: usize) -> Place<'_> {
        Place { call: &self.calls[n].id, group: &self.calls[n].group }
    }

    /// Makes the next write of a delivery.
    fn step(&mut self, delivery: &mut Delivery) {
        delivery.step = match (delivery.message.clone(), delivery.step.clone()) {
            (Message::Call(n), Step::Enter) => self.enter(n, false),
            (Message::Call(n), Step::EnterEnded) => self.enter(n, true),
            (Message::Call(n), Step::SendTimer) => {
                self.world.queue.push(Message::Timer);
                match self.planted {
                    Planted::TimerNotedFirst => Self::again(self.world.ended.contains_key(&n)),
                    _ => Step::NoteTimer,
                }
            }
            (Message::Call(n), Step::NoteTimer) => {
                self.world.row.as_mut().unwrap().timer_sent = true;
                match self.planted {
                    Planted::TimerNotedFirst => Step::SendTimer,
                    _ => Self::again(self.world.ended.contains_key(&n)),
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
            Join::SendTimer => match self.planted {
                Planted::TimerNotedFirst => Step::NoteTimer,
                _ => Step::SendTimer,
            },
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
        let (index, good) = (self.calls[n].group.index, self.world.ended[&n]);
        let row = self.world.row.as_mut().unwrap();
        if good {
            row.ok.insert(index)
        } else {
            row.failed.insert(index)
        };
        match row.decision {
            Some(_) => self.after_decision(Decider::Member(index)),
            None => match decide(row, Occasion::Counted(index), Timestamp::from_ms(self.world.now_ms)) {
                Some(due) => Step::Decide(due),
                None => Step::Delete,
            },
        }
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
        match self.planted {
            _ if !self.world.row.as_ref().unwrap().owes_notice(own) => Step::Delete,
            Planted::NoticeNotedFirst => Step::NoteNotice,
            _ => Step::Notify,
        }
    }
}

fn policy(random: &mut Random) -> Policy {
    let all = [
        Policy::All,
        Policy::Any,
        Policy::FirstSuccess,
        Policy::Tolerate(Tolerance::Count(1)),
        Policy::Tolerate(Tolerance::Percent(40)),
    ];
    all[random.below(all.len())]
}

fn calls(random: &mut Random) -> Vec<Call> {
    let size = u32::try_from(1 + random.below(5)).unwrap();
    let policy = policy(random);
    let call = |random: &mut Random, name: String, index, size| Call {
        id: CallId::parse(name).unwrap(),
        group: Group {
            id: GroupId::parse("g").unwrap(),
            index,
            size,
            round: 1,
            policy,
            deadline: Some(Timestamp::from_ms(DEADLINE_MS)),
            reply: Some(Reply::SqsQueueUrl(REPLIES.into())),
        },
        good: random.chance(70),
        refused: random.chance(15),
    };
    let mut calls: Vec<Call> =
        (0..size).map(|index| call(random, format!("c{index}"), index, size)).collect();
    // A call that takes an index that is another's.
    if random.chance(20) {
        calls.push(call(random, "stranger".into(), 0, size));
    }
    calls
}

/// Runs a schedule to its end and says what is wrong with it.
fn run(seed: u64, planted: Planted) -> Result<(), String> {
    let mut random = Random(seed);
    let calls = calls(&mut random);
    let mut simulation = Simulation { world: World::default(), calls, planted };
    for n in 0..simulation.calls.len() {
        // Some members are never sent, some twice.
        let times = if n == 0 || random.chance(85) { 1 + usize::from(random.chance(15)) } else { 0 };
        simulation.world.queue.extend(std::iter::repeat_n(Message::Call(n), times));
    }
    if random.chance(15) {
        simulation.world.queue.push(Message::Cancel);
    }
    let mut running: Vec<Delivery> = Vec::new();
    for turn in 0..4_000 {
        let world = &simulation.world;
        if world.queue.is_empty() && running.is_empty() {
            break;
        }
        // In the end nobody dies, and the deadline comes.
        let calm = turn > 600;
        simulation.world.now_ms += if calm { 10 } else { i64::from(random.chance(20)) };
        let queue = &simulation.world.queue;
        if running.is_empty() || (running.len() < 4 && random.chance(40)) {
            if queue.is_empty() {
                continue;
            }
            let message = queue[random.below(queue.len())].clone();
            running.push(Delivery { message, step: Step::Enter });
        }
        let at = random.below(running.len());
        if !calm && random.chance(12) {
            // It dies here; its message comes again.
            running.swap_remove(at);
            continue;
        }
        simulation.step(&mut running[at]);
        if running[at].step == Step::Gone {
            running.swap_remove(at);
        }
    }
    verdict(&simulation)
}

fn verdict(simulation: &Simulation) -> Result<(), String> {
    let World { row, queue, notices, decisions, bindings, .. } = &simulation.world;
    if !queue.is_empty() {
        return Err(format!("messages are left: {queue:?}"));
    }
    let Some(row) = row else { return Ok(()) };
    let Some(decision) = row.decision else { return Err("never decided".into()) };
    if decisions.len() != 1 {
        return Err(format!("decided {} times", decisions.len()));
    }
    let Some(first) = notices.first() else { return Err("the notice is lost".into()) };
    if notices.iter().any(|notice| notice != first) {
        return Err("two notices differ".into());
    }
    if first.result != decision.result {
        return Err("the notice is not of the decision".into());
    }
    // Each index that counts is that of one call, and the sets hold no other.
    let strangers = row.ok.union(&row.failed).any(|index| !bindings.contains_key(index));
    if strangers || decision.succeeded + decision.failed > row.terms.size {
        return Err("a stranger counts".into());
    }
    let all_came = (0..row.terms.size).all(|index| bindings.contains_key(&index));
    if decision.result == GroupResult::Incomplete && all_came {
        return Err("incomplete although every member came long before the deadline".into());
    }
    if decision.result == GroupResult::Incomplete && decision.at < row.terms.deadline {
        return Err("incomplete before its deadline".into());
    }
    if decision.result == GroupResult::Succeeded && decision.succeeded == 0 && row.terms.policy != Policy::All
    {
        let tolerant = matches!(row.terms.policy, Policy::Tolerate(tolerance) if tolerance.of(row.terms.size) >= decision.failed);
        if !tolerant {
            return Err("it succeeded without a success".into());
        }
    }
    Ok(())
}

/// celery #4207: the chord's callback is lost or doubled.
#[test]
fn whoever_dies_a_group_is_decided_once_and_its_notice_is_sent() {
    for seed in 0..SCHEDULES {
        if let Err(problem) = run(seed, Planted::None) {
            panic!("seed {seed}: {problem}");
        }
    }
}

#[test]
fn each_planted_defect_of_a_group_is_found() {
    for planted in [
        Planted::DeletedBeforeCount,
        Planted::Unconditional,
        Planted::NoticeNotedFirst,
        Planted::TimerNotedFirst,
    ] {
        let found = (0..2_000).any(|seed| run(seed, planted).is_err());
        assert!(found, "{planted:?} is not found");
    }
}
