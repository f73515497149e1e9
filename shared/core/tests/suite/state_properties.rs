//! The state table under any order of claims, crashes, lapses of time, cancellations, duplicates and redeliveries.

use proptest::prelude::*;
use toolfleet_core::call::{
    CallRow, Claim, Decision, DeliveryContext, Effect, Event, Held, HeldReason, State, decide,
};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, Outcome};
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
}

fn act() -> impl Strategy<Value = Act> {
    let worker = 0..3_usize;
    prop_oneof![
        4 => worker.clone().prop_map(|worker| Act::Deliver { worker }),
        2 => worker.clone().prop_map(|worker| Act::Finish { worker }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, may_have_executed)| Act::Release { worker, may_have_executed }),
        1 => worker.clone().prop_map(|worker| Act::Heartbeat { worker }),
        1 => worker.clone().prop_map(|worker| Act::Park { worker }),
        1 => worker.prop_map(|worker| Act::Crash { worker }),
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
            Act::Crash { worker } => self.claims[worker] = None,
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
            row: None, now: Timestamp::from_ms(1), claims: [None, None, None], nonces: 0, repeatable, handed_out: 0, ends: Vec::new(),
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
    }

    #[test]
    fn a_write_with_a_lost_answer_is_recognised(first in 1..100_u128, second in 101..200_u128) {
        let mut world = World {
            row: None, now: Timestamp::from_ms(1), claims: [None, None, None], nonces: first, repeatable: true, handed_out: 0, ends: Vec::new(),
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
