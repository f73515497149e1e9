//! The state diagram of docs/ARCHITECTURE.md has exactly the transitions of the state table.

use std::collections::BTreeSet;

use toolfleet_core::call::{
    CallRow, Claim, Decision, DeliveryContext, Effect, Event, Held, HeldReason, Unclaimed, decide,
};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::time::Timestamp;

const LEASE_MS: u64 = 1_000;
/// From one event to the next: within a lease, and after it.
const STEPS_MS: [u64; 2] = [1, 10_000];
/// How many events in a row are tried: enough to reach each state in each of its forms.
const DEPTH: usize = 4;

/// A row, the claim of the one who holds it, and the time.
#[derive(Clone)]
struct Point {
    row: Option<CallRow>,
    claim: Option<Claim>,
    now: Timestamp,
}

fn key() -> CallKey {
    CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
}

fn delivery(now: Timestamp, nonce: u128, repeatable: bool) -> DeliveryContext {
    DeliveryContext {
        key: key(),
        digest: Digest::of_text("question"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(nonce),
        worker: WorkerId::parse("w1").unwrap(),
        enqueued_at: Timestamp::from_ms(0),
        deadline: None,
        now,
        skew_ms: 0,
        may_be_claimless: false,
        repeatable,
        expires_at: Timestamp::from_ms(1_000_000_000),
    }
}

/// Every event that can come to a row at that time.
fn events(claim: Option<&Claim>, now: Timestamp, nonce: u128) -> Vec<Event> {
    let refusal = || Outcome::refused(Code::AccessDenied, "no");
    let mut events = vec![
        Event::Conclude { delivery: delivery(now, nonce, false), outcome: refusal(), definition: None },
        Event::Hold {
            delivery: delivery(now, nonce, false),
            held: Held::new(HeldReason::BackOff, None, now, 5_000),
        },
        Event::AwaitApproval { delivery: delivery(now, nonce, false) },
        Event::Approve,
        Event::Cancel { key: key(), now, expires_at: Timestamp::from_ms(1_000_000_000) },
    ];
    events.extend([false, true].map(|repeatable| Event::Claim {
        delivery: delivery(now, nonce, repeatable),
        lease_ms: LEASE_MS,
        definition: None,
        answers: None,
    }));
    let execution = |task: Option<&str>| {
        Box::new(Unclaimed {
            delivery: delivery(now, nonce, true),
            attempts: 1,
            started_at: now,
            definition: None,
            task: task.map(str::to_owned),
            notes: None,
        })
    };
    events.push(Event::FinishUnclaimed { execution: execution(None), outcome: refusal() });
    events.push(Event::ParkUnclaimed { execution: execution(Some("t")), poll_at: now });
    let Some(claim) = claim.cloned() else {
        return events;
    };
    events.push(Event::Heartbeat { claim: claim.clone(), lease_until: now.plus_ms(LEASE_MS), notes: None });
    events.extend([false, true].map(|may_have_executed| Event::Release {
        claim: claim.clone(),
        attempts: 1,
        may_have_executed,
        held: None,
        now,
    }));
    events.push(Event::Park {
        claim: claim.clone(),
        task: "t".into(),
        input_pending: false,
        may_have_executed: true,
        attempts: 1,
        poll_at: now,
        notes: None,
        now,
    });
    events.push(Event::Finish { claim, outcome: refusal(), attempts: 1, task: None, now, notes: None });
    events
}

fn name(row: Option<&CallRow>) -> &'static str {
    row.map_or("[*]", |row| row.state.as_str())
}

/// The transitions that the table makes, by the words of the diagram.
fn of_the_table() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut points = vec![Point { row: None, claim: None, now: Timestamp::from_ms(1_000) }];
    for depth in 0..DEPTH {
        let mut next = Vec::new();
        for point in &points {
            for now in STEPS_MS.map(|ms| point.now.plus_ms(ms)) {
                for event in events(point.claim.as_ref(), now, depth as u128) {
                    let Decision::Write { row, then } = decide(point.row.as_ref(), &event) else { continue };
                    found.insert((name(point.row.as_ref()).to_owned(), row.state.as_str().to_owned()));
                    let claim = match then {
                        Effect::Execute(claim) => Some(claim),
                        Effect::Ended | Effect::Extended { .. } | Effect::Waits | Effect::Noted => {
                            point.claim.clone()
                        }
                    };
                    next.push(Point { row: Some(*row), claim, now });
                }
            }
        }
        points = next;
    }
    found
}

#[test]
fn the_diagram_has_exactly_the_transitions_of_the_table() {
    let document = include_str!("../../../../docs/ARCHITECTURE.md");
    let diagram = document.split("stateDiagram-v2").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let drawn: BTreeSet<_> = diagram
        .lines()
        .filter_map(|line| line.trim().split_once(" --> "))
        .map(|(from, to)| (from.to_owned(), to.split(':').next().unwrap_or(to).to_owned()))
        .filter(|(_, to)| to != "[*]")
        .collect();
    assert_eq!(drawn, of_the_table());
}
