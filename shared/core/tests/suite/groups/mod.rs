//! A simulation of groups: workers die between any two writes, messages come twice, late and in any order.
//!
//! The model performs the rules of `toolfleet_core::group` in the order in which the worker does. A seed is a schedule.

mod model;

use toolfleet_core::group::{Decider, GroupResult};
use toolfleet_core::ids::{CallId, GroupId};
use toolfleet_core::request::{Group, Policy, Reply, Tolerance};
use toolfleet_core::time::Timestamp;

use model::{Call, Delivery, Message, Planted, Simulation, Step, World};

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

fn delivery(message: Message, worker: usize) -> Delivery {
    Delivery { message, step: Step::Enter, worker, shared: None, decides: false, looked: false }
}

/// Runs a schedule to its end and says what is wrong with it.
fn run(seed: u64, planted: Planted) -> Result<(), String> {
    let mut random = Random(seed);
    let calls = calls(&mut random);
    let mut simulation = Simulation { world: World::default(), calls, planted };
    let mut late = Vec::new();
    for n in 0..simulation.calls.len() {
        // Some members are never sent or at the deadline, some twice.
        let times = if n == 0 || random.chance(85) { 1 + usize::from(random.chance(15)) } else { 0 };
        if times == 0 && random.chance(50) {
            late.push(Message::Call(n));
        }
        simulation.world.queue.extend(std::iter::repeat_n(Message::Call(n), times));
    }
    let all_in_time = late.is_empty();
    let mut running: Vec<Delivery> = Vec::new();
    if random.chance(15) {
        simulation.world.queue.push(Message::Cancel);
        running.push(delivery(Message::StoreCancel, usize::MAX));
    }
    for turn in 0..4_000 {
        let world = &simulation.world;
        if world.queue.is_empty() && running.is_empty() {
            break;
        }
        // In the end nobody dies, and the deadline comes.
        let calm = turn > 600;
        simulation.world.now_ms += if calm { 10 } else { i64::from(random.chance(20)) };
        if simulation.world.now_ms >= DEADLINE_MS {
            simulation.world.queue.append(&mut late);
        }
        let queue = &simulation.world.queue;
        if running.is_empty() || (running.len() < 4 && random.chance(40)) {
            if queue.is_empty() {
                continue;
            }
            let message = queue[random.below(queue.len())].clone();
            let worker = random.below(2);
            running.push(delivery(message, worker));
        }
        let at = random.below(running.len());
        if !calm && random.chance(12) {
            // The worker dies here, with all that it has, or only loses this delivery. The messages come again.
            let worker = running[at].worker;
            if random.chance(50) {
                running.retain(|delivery| delivery.worker != worker);
            } else {
                running.swap_remove(at);
            }
            continue;
        }
        if running[at].step == Step::Count && random.chance(60) {
            simulation.count_together(&mut running, at);
        } else if !simulation.waits(&mut running, at) {
            simulation.step(&mut running[at]);
            simulation.release(&running[at]);
        }
        running.retain(|delivery| delivery.step != Step::Gone);
    }
    verdict(&simulation, all_in_time)
}

fn verdict(simulation: &Simulation, all_in_time: bool) -> Result<(), String> {
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
    if decision.result == GroupResult::Incomplete && all_came && all_in_time {
        return Err("incomplete although every member came long before the deadline".into());
    }
    // All that a policy needs was counted, so whoever counted the last of it decides, not the timer. A member that comes after the deadline may
    // look between both.
    if all_in_time && decision.by == Decider::Timer && decision.result != GroupResult::Incomplete {
        return Err("decided by the timer although its members had ended long before".into());
    }
    if !simulation.world.started_after_cancel.is_empty() {
        return Err("a member was started after the cancellation was stored".into());
    }
    if !simulation.world.started_after_deadline.is_empty() {
        return Err("a member was started after the deadline".into());
    }
    if decision.result == GroupResult::Incomplete && simulation.world.cancel_is_over {
        return Err("incomplete although it was cancelled long before its deadline".into());
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
        Planted::SharedCountLosesOne,
        Planted::SharedCountTrustsOne,
        Planted::CancelledAheadDropped,
        Planted::CancelledAheadKeptBlindly,
        Planted::CancelledByMessageOnly,
        Planted::DeadlineByTimerOnly,
    ] {
        let found = (0..2_000).any(|seed| run(seed, planted).is_err());
        assert!(found, "{planted:?} is not found");
    }
}
