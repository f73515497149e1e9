//! Dead letters: reading them hides them for a moment only; a redrive keeps age, sender and group, and runs nothing twice.

use std::collections::BTreeMap;

use serde_json::json;
use toolfleet_aws::queue::{Delivery, Outgoing, Queue};
use toolfleet_client::{
    DeadLetters, LetterFilter, RECEIVED_TOO_OFTEN, Redrive, RedriveError, RedriveReport, RedriveRules,
    Redriven, RedrivenAs, RequestBuilder,
};
use toolfleet_core::call::Event;
use toolfleet_core::dead_letter::RedriveClass;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::RateLimit;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::world::{World, answer, call, key};

const OWN: &str = "AKIATEST";
const MOST_RECEIVES: u32 = 8;

/// What the catalog says in these tests: `safe` is safe to repeat.
struct Rules {
    fleet: Option<&'static [&'static str]>,
    senders: &'static [&'static str],
}

const FLEET: Rules = Rules { fleet: Some(&[OWN]), senders: &[] };

impl RedriveRules for Rules {
    fn is_fleet(&self, sender: &str) -> Option<bool> {
        self.fleet.map(|fleet| fleet.contains(&sender))
    }
    fn may_speak_for(&self, sender: &str, _: &Tenant) -> Option<bool> {
        self.fleet.map(|_| self.senders.contains(&sender))
    }
    fn is_repeatable(&self, request: &CallRequest) -> bool {
        request.key.call_id.as_str().starts_with("safe")
    }
    fn may_be_claimless(&self, request: &CallRequest) -> bool {
        self.is_repeatable(request)
    }
}

/// Nothing is known of what the workers' catalog says.
struct NoCatalog;

impl RedriveRules for NoCatalog {
    fn is_fleet(&self, _: &str) -> Option<bool> {
        None
    }
    fn may_speak_for(&self, _: &str, _: &Tenant) -> Option<bool> {
        None
    }
    fn is_repeatable(&self, request: &CallRequest) -> bool {
        request.idempotent
    }
}

async fn dead(world: &World) -> DeadLetters {
    world.client.dead_letters().await.unwrap().expect("a dead-letter queue")
}

fn calls(world: &World) -> Queue {
    world.client.queue().clone()
}

/// Sends the call and receives it until it goes to the dead-letter queue.
async fn give_up(world: &World, request: &CallRequest) -> String {
    let id = world.client.send(request, None).await.unwrap();
    for _ in 0..=MOST_RECEIVES {
        for delivery in calls(world).receive(10, 0, 30).await.unwrap() {
            calls(world).change_visibility(&delivery.receipt, 0).await.unwrap();
        }
    }
    id
}

/// Puts a message into the dead-letter queue as a worker would.
async fn keep(world: &World, body: &str, attributes: &[(&str, &str)]) -> String {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let attributes: BTreeMap<_, _> = attributes.collect();
    let message = Outgoing { body: body.to_owned(), attributes, ..Outgoing::default() };
    dead(world).await.queue().send(message).await.unwrap()
}

fn redrive(rules: &dyn RedriveRules, act: bool) -> Redrive<'_> {
    Redrive {
        filter: LetterFilter::default(),
        may_have_run: false,
        act,
        rate: RateLimit::new(1_000, 1).unwrap(),
        rules,
        own_sender: Some(OWN),
    }
}

async fn run(world: &World, redrive: &Redrive<'_>) -> (RedriveReport, Vec<Redriven>) {
    let dead = dead(world).await;
    let (mut look, mut moves) = (dead.look(), Vec::new());
    let report = dead.redrive(&mut look, redrive, |one| moves.push(one)).await.unwrap();
    assert_eq!(look.release().await, 0);
    (report, moves)
}

/// The messages of the calls queue; they are deleted.
async fn taken(world: &World) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let some = calls(world).receive(10, 0, 30).await.unwrap();
        if some.is_empty() {
            return all;
        }
        for delivery in &some {
            calls(world).delete(&delivery.receipt).await.unwrap();
        }
        all.extend(some);
    }
}

#[tokio::test]
async fn a_look_reads_all_once_and_makes_them_visible_again() {
    let world = World::start().await;
    for n in 0..23 {
        give_up(&world, &call(&format!("c{n}"), "x")).await;
    }
    keep(&world, "not json", &[("toolfleet-reason", "undecodable")]).await;
    let dead = dead(&world).await;
    let mut look = dead.look();
    let mut found = Vec::new();
    loop {
        let some = look.next().await.unwrap();
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    assert_eq!((found.len(), look.read(), look.missed()), (24, 24, 0));
    let hidden = dead.depth().await.unwrap();
    assert_eq!((hidden.visible, hidden.in_flight), (0, 24));
    assert_eq!(look.release().await, 0);
    let visible = dead.depth().await.unwrap();
    assert_eq!((visible.visible, visible.in_flight), (24, 0), "a message move task finds them");

    let of = |id: &str| found.iter().find(|letter| letter.key() == Some(&key(id))).unwrap();
    let letter = of("c7");
    assert_eq!((letter.reason(), letter.queue()), (RECEIVED_TOO_OFTEN, Some("toolfleet-calls")));
    assert_eq!(letter.tool().as_deref(), Some("echo"));
    assert_eq!(letter.arguments_shape().as_deref(), Some(r#"{"text":"string(1)"}"#), "no value is shown");
    let unreadable = found.iter().find(|letter| letter.request().is_none()).unwrap();
    assert_eq!(unreadable.reason(), "undecodable");
    assert!(unreadable.problem().is_some() && unreadable.key().is_none());
}

#[tokio::test]
async fn a_stopped_look_ends_and_releases_what_it_has_read() {
    let world = World::start().await;
    for n in 0..25 {
        give_up(&world, &call(&format!("c{n}"), "x")).await;
    }
    let dead = dead(&world).await;
    let mut look = dead.look();
    assert_eq!(look.next().await.unwrap().len(), 10);
    look.stop().stop();
    assert!(look.next().await.unwrap().is_empty(), "it receives no more");
    look.release().await;
    assert_eq!(dead.depth().await.unwrap().visible, 25);
}

#[tokio::test]
async fn a_filter_takes_tool_tenant_reason_and_age() {
    let world = World::start().await;
    give_up(&world, &call("old", "x")).await;
    world.clock.advance_ms(60_000);
    give_up(&world, &call("new", "x")).await;
    keep(&world, "not json", &[("toolfleet-reason", "undecodable")]).await;
    let all = LetterFilter::default;
    let before = world.now();
    let globex = Tenant::parse("globex").unwrap();
    for (filter, expected) in [
        (all(), 3),
        (LetterFilter { tool: Some("echo".into()), ..all() }, 2),
        (LetterFilter { tool: Some("ech".into()), ..all() }, 0),
        (LetterFilter { tenant: Some(globex), ..all() }, 0),
        (LetterFilter { tenant: Some(key("old").tenant), ..all() }, 2),
        (LetterFilter { reason: Some(RECEIVED_TOO_OFTEN.into()), ..all() }, 2),
        (LetterFilter { reason: Some("undecodable".into()), ..all() }, 1),
        (LetterFilter { sent_before: Some(before), ..all() }, 1),
    ] {
        let (report, moves) =
            run(&world, &Redrive { filter: filter.clone(), ..redrive(&FLEET, false) }).await;
        assert_eq!((moves.len(), report.others), (expected, 3 - expected as u64), "{filter:?}");
    }
}

/// One dead letter of each class.
async fn one_of_each(world: &World) {
    let claimed = |id: &'static str| async move {
        let request = call(id, "x");
        let message_id = give_up(world, &request).await;
        world.claim(&request, &message_id).await
    };
    claimed("safe-lost").await;
    claimed("lost").await;
    let (row, claim) = claimed("task").await;
    let now = world.now();
    let park = Event::Park {
        claim,
        task: "t".into(),
        input_pending: false,
        may_have_executed: true,
        attempts: 1,
        poll_at: now.plus_ms(1_000),
        notes: None,
        now,
    };
    world.apply(Some(&row), &park).await;
    // Their leases end.
    world.clock.advance_ms(61_000);
    claimed("running").await;
    give_up(world, &call("new", "x")).await;
    give_up(world, &call("gone", "x")).await;
    world.client.cancel(&key("gone")).await.unwrap();
    let done = claimed("done").await;
    world.finish(done, answer("done")).await;
    let error = CallError::new(Code::DeadLettered, "reaped", MayHaveRun::No);
    let request = call("reaped", "x");
    let message_id = give_up(world, &request).await;
    world.end(&request, &message_id, Outcome::failed(error)).await;
    let asked = call("other", "x");
    world.claim(&asked, "m").await;
    give_up(world, &call("other", "another question")).await;
    keep(world, "not json", &[("toolfleet-reason", "undecodable")]).await;
}

#[tokio::test]
async fn a_dry_run_splits_the_calls_and_changes_nothing() {
    let world = World::start().await;
    one_of_each(&world).await;
    let (report, moves) = run(&world, &redrive(&FLEET, false)).await;
    let expected = [
        (RedriveClass::NotRun, 1),
        (RedriveClass::Safe, 2),
        (RedriveClass::MayHaveRun, 1),
        (RedriveClass::Cancelled, 1),
        (RedriveClass::Running, 1),
        (RedriveClass::Ended, 2),
        (RedriveClass::OtherQuestion, 1),
        (RedriveClass::Unreadable, 1),
    ];
    assert_eq!(report.classes, BTreeMap::from(expected));
    assert_eq!((report.moved, report.failed, moves.len()), (5, 0, 10));
    let depth = dead(&world).await.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (10, 0));
    assert!(taken(&world).await.is_empty());
}

/// Its worker may have executed it without a claim, and died.
#[tokio::test]
async fn without_a_catalog_a_call_without_a_row_may_have_run() {
    let world = World::start().await;
    let of = |id: &str| RequestBuilder::tool("acme", "echo").arguments(json!({})).call_id(id);
    let deadline = world.now().plus_ms(1_000).to_string();
    for request in [
        of("new"),
        of("expired").set("deadline", deadline),
        of("cancelled"),
        of("timed").not_before(world.now()),
        of("newest").supersede("k"),
        of("resumes").resume("new", json!({"who": {"action": "accept", "content": {}}})),
    ] {
        give_up(&world, &request.build().unwrap()).await;
    }
    world.client.cancel(&key("cancelled")).await.unwrap();
    world.clock.advance_ms(2_000);
    let dead = dead(&world).await;
    let mut look = dead.look();
    let mut judged = BTreeMap::new();
    loop {
        let letters = look.next().await.unwrap();
        if letters.is_empty() {
            break;
        }
        for (letter, is) in letters.iter().zip(dead.judge(&letters, &NoCatalog).await.unwrap()) {
            judged.insert(letter.key().unwrap().call_id.to_string(), (is.class, is.may_have_run()));
        }
    }
    look.release().await;
    let expected = [
        ("new", (RedriveClass::Safe, true)),
        ("expired", (RedriveClass::Expired, true)),
        ("cancelled", (RedriveClass::Cancelled, true)),
        ("timed", (RedriveClass::NotRun, false)),
        ("newest", (RedriveClass::NotRun, false)),
        ("resumes", (RedriveClass::NotRun, false)),
    ];
    assert_eq!(judged, expected.map(|(id, is)| (id.to_owned(), is)).into());
}

#[tokio::test]
async fn a_redrive_leaves_what_has_ended_and_what_may_have_run() {
    let world = World::start().await;
    one_of_each(&world).await;
    let (report, _) = run(&world, &redrive(&FLEET, true)).await;
    assert_eq!((report.moved, report.failed), (5, 0));
    assert_eq!(dead(&world).await.depth().await.unwrap().visible, 5);
    assert_eq!(taken(&world).await.len(), 5);
    let (report, moves) = run(&world, &Redrive { may_have_run: true, ..redrive(&FLEET, true) }).await;
    assert_eq!(report.moved, 1);
    let moved = moves.iter().find(|one| one.done != RedrivenAs::Left).unwrap();
    assert_eq!((moved.class, moved.letter.key()), (RedriveClass::MayHaveRun, Some(&key("lost"))));
    assert_eq!(dead(&world).await.depth().await.unwrap().visible, 4, "their ends stand");
}

#[tokio::test]
async fn a_copy_keeps_age_sender_first_message_and_group() {
    let world = World::start().await;
    let sent_at = world.now();
    let first = give_up(&world, &call("c1", "x")).await;
    world.clock.advance_ms(120_000);
    let (_, moves) = run(&world, &redrive(&FLEET, true)).await;
    assert!(matches!(moves[0].done, RedrivenAs::Moved { keeps_origin: true, .. }), "{:?}", moves[0].done);
    let copy = taken(&world).await.pop().unwrap();
    let attribute = |name: &str| copy.attributes.get(name).map(String::as_str);
    assert_eq!(attribute("toolfleet-first-sent-ms"), Some(sent_at.as_ms().to_string().as_str()));
    assert_eq!(attribute("toolfleet-first-sender"), Some(OWN));
    assert_eq!(attribute("toolfleet-first-message"), Some(first.as_str()));
    assert_eq!(copy.group.as_deref(), Some("acme"), "fair queues see its tenant");
    assert_eq!((copy.receive_count, copy.body.contains("\"c1\"")), (1, true));
}

#[tokio::test]
async fn a_copy_repeats_no_claim_of_a_stranger() {
    let world = World::start().await;
    let body = call("c1", "x").encode();
    let forty_days_ago = (world.now().as_ms() - 40 * 86_400_000).to_string();
    let forged = [
        ("toolfleet-first-sender", "AROAVICTIM"),
        ("toolfleet-first-sent-ms", &forty_days_ago),
        ("toolfleet-first-message", "m-of-another"),
        ("toolfleet-reason", "undecodable"),
        ("toolfleet-turn", "forged"),
        ("mine", "kept"),
    ];
    let id = keep(&world, &body, &forged).await;
    let sent_at = world.now();
    // The letter's sender is no worker; who redrives it is the fleet's.
    let rules = Rules { fleet: Some(&["AROAOPERATOR"]), senders: &[] };
    let redriven = Redrive { own_sender: Some("AROAOPERATOR"), ..redrive(&rules, true) };
    run(&world, &redriven).await;
    let copy = taken(&world).await.pop().unwrap();
    let expected = BTreeMap::from(
        [
            ("mine", "kept"),
            ("toolfleet-first-sender", OWN),
            ("toolfleet-first-sent-ms", &sent_at.as_ms().to_string()),
            ("toolfleet-first-message", &id),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(copy.attributes, expected);
}

#[tokio::test]
async fn what_a_worker_said_of_the_first_message_is_repeated() {
    let world = World::start().await;
    let body = call("c1", "x").encode();
    let first_sent = Timestamp::from_ms(world.now().as_ms() - 5_000).as_ms().to_string();
    let parked = [
        ("toolfleet-first-sender", "AROASENDER"),
        ("toolfleet-first-sent-ms", first_sent.as_str()),
        ("toolfleet-first-message", "m-1"),
        ("toolfleet-parks", "4"),
    ];
    keep(&world, &body, &parked).await;
    // Without a catalog nobody knows whether its sender is a worker.
    let unknown = Rules { fleet: None, senders: &[] };
    let (report, moves) = run(&world, &redrive(&unknown, true)).await;
    assert_eq!((report.moved, report.failed), (0, 1));
    assert!(format!("{:?}", moves[0].done).contains("--catalog"), "{:?}", moves[0].done);
    run(&world, &redrive(&FLEET, true)).await;
    let copy = taken(&world).await.pop().unwrap();
    let attribute = |name: &str| copy.attributes.get(name).map(String::as_str);
    assert_eq!(attribute("toolfleet-first-sender"), Some("AROASENDER"));
    assert_eq!(attribute("toolfleet-first-sent-ms"), Some(first_sent.as_str()));
    assert_eq!(attribute("toolfleet-parks"), None, "its back-off begins again");
}

#[tokio::test]
async fn an_operator_whom_workers_would_refuse_moves_nothing() {
    let world = World::start().await;
    give_up(&world, &call("c1", "x")).await;
    let stranger = Rules { fleet: Some(&["AROAWORKER"]), senders: &[] };
    for act in [false, true] {
        let (report, moves) = run(&world, &redrive(&stranger, act)).await;
        assert_eq!((report.moved, report.failed), (0, 1), "a dry run says it too");
        assert!(format!("{:?}", moves[0].done).contains("tenant_not_allowed"), "{:?}", moves[0].done);
    }
    assert_eq!(dead(&world).await.depth().await.unwrap().visible, 1);
    let sender = Rules { senders: &[OWN], ..stranger };
    let (_, moves) = run(&world, &redrive(&sender, true)).await;
    assert!(matches!(moves[0].done, RedrivenAs::Moved { keeps_origin: false, .. }), "{:?}", moves[0].done);
    let copy = taken(&world).await.pop().unwrap();
    assert!(copy.attributes.keys().all(|name| !name.starts_with("toolfleet-")), "{:?}", copy.attributes);
}

#[tokio::test]
async fn an_expired_call_is_not_moved_by_a_copy_that_counts_as_new() {
    let world = World::start().await;
    let body = r#"{"v":1,"call_id":"c1","tenant":"acme","tool":"echo","arguments":{},"timeout_ms":3000}"#;
    give_up(&world, &CallRequest::decode(body).unwrap()).await;
    world.clock.advance_ms(60_000);
    let sender = Rules { fleet: Some(&["AROAWORKER"]), senders: &[OWN] };
    for act in [false, true] {
        let (report, moves) = run(&world, &redrive(&sender, act)).await;
        assert_eq!((report.moved, report.failed), (0, 1), "its deadline would begin again");
        assert_eq!(moves[0].done, RedrivenAs::Failed(RedriveError::BeginsAgain));
    }
    // A copy that keeps the age ends as expired.
    let (_, moves) = run(&world, &redrive(&FLEET, true)).await;
    assert!(matches!(moves[0].done, RedrivenAs::Moved { keeps_origin: true, .. }), "{:?}", moves[0].done);
}

#[tokio::test]
async fn a_copy_that_comes_back_is_not_moved_again() {
    let world = World::start().await;
    for n in 0..3 {
        give_up(&world, &call(&format!("c{n}"), "x")).await;
    }
    let dead = dead(&world).await;
    let (mut look, mut moved) = (dead.look(), 0);
    let redrive = redrive(&FLEET, true);
    let report = dead.redrive(&mut look, &redrive, |_| moved += 1).await.unwrap();
    assert_eq!((report.moved, moved), (3, 3));
    for copy in taken(&world).await {
        let message = Outgoing { body: copy.body, attributes: copy.attributes, ..Outgoing::default() };
        dead.queue().send(message).await.unwrap();
    }
    look.release().await;
    // A new redrive takes them, the same one would not.
    assert_eq!(run(&world, &redrive).await.0.moved, 3);
}
