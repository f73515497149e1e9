//! The state table under any order of claims, crashes, lapses of time, cancellations, duplicates and redeliveries.

use proptest::prelude::*;
use toolfleet_core::call::{
    CallRow, Claim, Decision, DeliveryContext, Effect, Event, Held, HeldReason, State, Unclaimed, decide,
};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome};
use toolfleet_core::progress::CallProgress;
use toolfleet_core::time::Timestamp;

const LEASE_MS: u64 = 1_000;

#[derive(Debug, Clone)]
enum Act {
    /// A worker receives the message (or a duplicate of it) and tries to claim.
    Deliver {
        worker: usize,
    },
    /// A worker with a claim finishes, however late.
    Finish {
        worker: usize,
    },
    /// A worker with a claim gives it back; `may_have_executed` only where sending was not ambiguous for an unsafe tool.
    Release {
        worker: usize,
        may_have_executed: bool,
    },
    Heartbeat {
        worker: usize,
    },
    /// A worker with a claim leaves it with the server as a task; from then on nothing is sent but questions.
    Park {
        worker: usize,
    },
    /// A worker dies: its claim is forgotten.
    Crash {
        worker: usize,
    },
    /// A worker receives the message and cannot execute it yet.
    Hold,
    Refuse,
    Cancel,
    Pass {
        ms: u64,
    },
    /// A duplicate asks something else.
    OtherQuestion,
    /// A worker executes the call without a claim, if the row allows it.
    BeginUnclaimed {
        worker: usize,
    },
    /// A worker that executes it without a claim stores the end.
    FinishUnclaimed {
        worker: usize,
    },
    /// A worker that executes it without a claim leaves it with the server as a task.
    ParkUnclaimed {
        worker: usize,
    },
    /// The first heartbeat of a worker that executes it without a claim.
    ClaimLate {
        worker: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let worker = 0..3_usize;
    prop_oneof![
        4 => worker.clone().prop_map(|worker| Act::Deliver { worker }),
        2 => worker.clone().prop_map(|worker| Act::Finish { worker }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, may_have_executed)| Act::Release { worker, may_have_executed }),
        1 => worker.clone().prop_map(|worker| Act::Heartbeat { worker }),
        1 => worker.clone().prop_map(|worker| Act::Park { worker }),
        1 => worker.clone().prop_map(|worker| Act::Crash { worker }),
        2 => worker.clone().prop_map(|worker| Act::BeginUnclaimed { worker }),
        2 => worker.clone().prop_map(|worker| Act::FinishUnclaimed { worker }),
        1 => worker.clone().prop_map(|worker| Act::ParkUnclaimed { worker }),
        1 => worker.prop_map(|worker| Act::ClaimLate { worker }),
        1 => Just(Act::Hold),
        1 => Just(Act::Refuse),
        1 => Just(Act::Cancel),
        3 => (0..2_500_u64).prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::OtherQuestion),
    ]
}

struct World {
    row: Option<CallRow>,
    now: Timestamp,
    claims: [Option<Claim>; 3],
    nonces: u128,
    repeatable: bool,
    /// Executions without a claim that run.
    unclaimed: [Option<DeliveryContext>; 3],
    /// Whether one was ever begun.
    ran_unclaimed: bool,
    handed_out: u32,
    ends: Vec<CallRow>,
}

impl World {
    fn delivery(&mut self, question: &str) -> DeliveryContext {
        self.nonces += 1;
        DeliveryContext {
            key: key(),
            digest: Digest::of_text(question),
            earlier_digest: None,
            caller: Box::default(),
            nonce: Nonce::from_random(self.nonces),
            worker: WorkerId::parse("w").unwrap(),
            enqueued_at: Timestamp::from_ms(0),
            deadline: None,
            now: self.now,
            skew_ms: 100,
            // Calls that are safe to repeat may be executed without a claim.
            may_be_claimless: self.repeatable,
            repeatable: self.repeatable,
            expires_at: Timestamp::from_ms(1_000_000_000),
        }
    }

    fn apply(&mut self, event: &Event) -> Option<Effect> {
        match decide(self.row.as_ref(), event) {
            Decision::Leave(_) => None,
            Decision::Write { row, then } => {
                if let Some(before) = &self.row {
                    assert_ne!(before.state, State::Done, "nothing leads away from the end");
                    assert!(row.fence >= before.fence, "a fence never falls");
                    assert_eq!(row.rev, before.rev + 1, "every write has its own revision");
                    let changed = row.notes.as_ref().filter(|_| row.notes != before.notes);
                    let writer = changed.map(|notes| notes.at.as_ms());
                    let holder = i64::try_from(before.fence).unwrap();
                    assert!(writer.is_none_or(|fence| fence == holder), "only the holder notes anything");
                    assert!(row.notes.is_some() || before.notes.is_none(), "what was told is not forgotten");
                }
                if row.state == State::Done {
                    assert!(row.finished.is_some(), "an end has an outcome");
                    self.ends.push((*row).clone());
                }
                self.row = Some(*row);
                Some(then)
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Deliver { worker } => {
                let delivery = self.delivery("question");
                let event = Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None };
                let asks = self.row.as_ref().is_some_and(|row| row.task.is_some());
                if let Some(Effect::Execute(claim)) = self.apply(&event) {
                    self.handed_out += u32::from(!asks);
                    self.claims[worker] = Some(claim);
                }
            }
            Act::Finish { worker } => {
                if let Some(claim) = self.claims[worker].take() {
                    let outcome = Outcome::refused(Code::AccessDenied, format!("by fence {}", claim.fence()));
                    let fence = claim.fence();
                    let finished = self.apply(&Event::Finish {
                        claim,
                        outcome,
                        attempts: 1,
                        task: None,
                        now: self.now,
                        notes: noted(fence),
                    });
                    if finished.is_some() {
                        assert_eq!(self.row.as_ref().unwrap().fence, fence, "only the newest claim finishes");
                    }
                }
            }
            Act::Release { worker, may_have_executed } => {
                // A worker gives an unsafe call back only while nothing can have reached the tool.
                if let Some(claim) = self.claims[worker].take() {
                    let may_have_executed = may_have_executed && self.repeatable;
                    if !self.repeatable {
                        let gives_back = |r: &CallRow| r.fence == claim.fence() && r.task.is_none();
                        self.handed_out -= u32::from(self.row.as_ref().is_some_and(gives_back));
                    }
                    self.apply(&Event::Release {
                        claim,
                        attempts: 1,
                        may_have_executed,
                        held: None,
                        now: self.now,
                    });
                }
            }
            Act::Heartbeat { worker } => {
                if let Some(claim) = self.claims[worker].clone() {
                    let notes = noted(claim.fence());
                    self.apply(&Event::Heartbeat { claim, lease_until: self.now.plus_ms(LEASE_MS), notes });
                }
            }
            Act::Park { worker } => {
                if let Some(claim) = self.claims[worker].take() {
                    let (task, poll_at) = ("t".to_owned(), self.now.plus_ms(300));
                    self.apply(&Event::Park {
                        claim,
                        task,
                        input_pending: false,
                        may_have_executed: true,
                        attempts: 1,
                        poll_at,
                        notes: None,
                        now: self.now,
                    });
                }
            }
            Act::Crash { worker } => {
                self.claims[worker] = None;
                self.unclaimed[worker] = None;
            }
            Act::BeginUnclaimed { worker } => {
                if self.repeatable && self.row.is_none() {
                    self.unclaimed[worker] = Some(self.delivery("question"));
                    self.ran_unclaimed = true;
                }
            }
            Act::FinishUnclaimed { worker } => {
                if let Some(execution) = self.unclaimed[worker].take().map(|of| executed(of, None)) {
                    let outcome = Outcome::refused(Code::AccessDenied, "executed");
                    self.apply(&Event::FinishUnclaimed { execution, outcome });
                }
            }
            Act::ParkUnclaimed { worker } => {
                if let Some(execution) = self.unclaimed[worker].take().map(|of| executed(of, Some("t"))) {
                    self.apply(&Event::ParkUnclaimed { execution, poll_at: self.now.plus_ms(300) });
                }
            }
            Act::ClaimLate { worker } => {
                if let Some(delivery) = self.unclaimed[worker].take() {
                    let delivery = DeliveryContext { now: self.now, ..delivery };
                    let event =
                        Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None };
                    if let Some(Effect::Execute(claim)) = self.apply(&event) {
                        self.claims[worker] = Some(claim);
                    }
                }
            }
            Act::Hold => {
                let delivery = self.delivery("question");
                let held = Held::new(HeldReason::ServerFailing, None, self.now, 500);
                self.apply(&Event::Hold { delivery, held });
            }
            Act::Refuse => {
                let delivery = self.delivery("question");
                self.apply(&Event::Conclude {
                    delivery,
                    outcome: Outcome::refused(Code::Paused, "paused"),
                    definition: None,
                });
            }
            Act::Cancel => {
                let event = Event::Cancel {
                    key: key(),
                    now: self.now,
                    expires_at: Timestamp::from_ms(1_000_000_000),
                };
                self.apply(&event);
            }
            Act::Pass { ms } => self.now = self.now.plus_ms(ms),
            Act::OtherQuestion => {
                let known = self.row.as_ref().is_some_and(|r| r.digest.is_some());
                let delivery = self.delivery("another question");
                let event = Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None };
                if known {
                    assert!(self.apply(&event).is_none(), "another question never touches the row");
                }
            }
        }
    }
}

fn executed(delivery: DeliveryContext, task: Option<&str>) -> Box<Unclaimed> {
    let (started_at, task) = (delivery.now, task.map(str::to_owned));
    Box::new(Unclaimed { delivery, attempts: 1, started_at, definition: None, task, notes: None })
}

/// What the holder of that fence heard.
fn noted(fence: u64) -> Option<Box<CallProgress>> {
    Some(Box::new(CallProgress::none(Timestamp::from_ms(i64::try_from(fence).unwrap()))))
}

fn key() -> CallKey {
    CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_a_call_ends_once_and_unsafe_is_sent_once(
        acts in prop::collection::vec(act(), 1..60),
        repeatable in any::<bool>(),
    ) {
        let mut world = World {
            row: None, now: Timestamp::from_ms(1), claims: [None, None, None], nonces: 0, repeatable, unclaimed: [None, None, None], ran_unclaimed: false, handed_out: 0, ends: Vec::new(),
        };
        for act in &acts {
            world.act(act);
            if !repeatable {
                prop_assert!(world.handed_out <= 1, "sent twice after {acts:?}");
            }
        }
        // The queue delivers until the call ends.
        for _ in 0..4 {
            world.act(&Act::Pass { ms: LEASE_MS + 200 });
            world.act(&Act::Deliver { worker: 0 });
            world.act(&Act::Finish { worker: 0 });
        }
        prop_assert_eq!(world.ends.len(), 1);
        prop_assert_eq!(world.row.as_ref(), world.ends.first());
        let error = world.row.as_ref().and_then(|row| row.finished.as_ref()).and_then(|end| end.outcome.error.clone());
        if let Some(why) = error.filter(|why| world.ran_unclaimed && why.code != Code::AccessDenied) {
            prop_assert_eq!(why.may_have_run, MayHaveRun::Unknown, "after {:?}", acts);
        }
    }

    #[test]
    fn a_write_with_a_lost_answer_is_recognised(first in 1..100_u128, second in 101..200_u128) {
        let mut world = World {
            row: None, now: Timestamp::from_ms(1), claims: [None, None, None], nonces: first, repeatable: true, unclaimed: [None, None, None], ran_unclaimed: false, handed_out: 0, ends: Vec::new(),
        };
        let event = Event::Claim { delivery: world.delivery("question"), lease_ms: LEASE_MS, definition: None, answers: None };
        let Decision::Write { row, .. } = decide(None, &event) else { panic!("a first claim is written") };
        let Decision::Write { row: again, .. } = decide(None, &event) else { panic!("the same claim, sent again") };
        prop_assert_eq!(&row, &again);
        world.nonces = second;
        let rival = Event::Claim { delivery: world.delivery("question"), lease_ms: LEASE_MS, definition: None, answers: None };
        let Decision::Write { row: other, .. } = decide(None, &rival) else { panic!("a rival's claim") };
        prop_assert_ne!(row, other);
    }
}
