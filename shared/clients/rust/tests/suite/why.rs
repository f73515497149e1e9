//! Why a call is not running, read from the tables and the queues.

use toolfleet_aws::fleet::Fleet;
use toolfleet_client::{Tables, Why};
use toolfleet_core::call::{Event, Held, HeldReason};
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::ids::ServerId;
use toolfleet_core::why::{Place, WaitsForKind};

use crate::world::{World, answer, call, key};

async fn why(world: &World, id: &str) -> Why {
    world.client.why(&key(id)).await.unwrap()
}

fn fleet(world: &World) -> Fleet {
    world.aws.fleet(&Tables::with_prefix("toolfleet"))
}

#[tokio::test]
async fn a_call_in_the_queue_and_one_never_sent_are_not_told_apart() {
    let world = World::start().await;
    world.client.send(&call("c1", "x"), None).await.unwrap();
    for id in ["c1", "never"] {
        let why = why(&world, id).await;
        assert_eq!(why.explanation.place, Place::NotReceived, "{id}");
        assert!(why.failures.is_empty(), "{:?}", why.failures);
        let line = why.explanation.line(why.now);
        assert!(line.contains("was never sent") && line.contains("about 1 visible"), "{line}");
        assert_eq!(why.explanation.queues[0].priority, "default");
    }
}

#[tokio::test]
async fn a_held_call_says_reason_pause_and_deadline() {
    let world = World::start().await;
    let request = call("c1", "x");
    let (row, claim) = world.claim(&request, "m1").await;
    let crm = ServerId::parse("crm").unwrap();
    let held = Held::new(HeldReason::ServerFailing, Some(crm), world.now(), 60_000).with_fault("HTTP 500");
    let (held, now) = (Some(Box::new(held)), world.now());
    let release = Event::Release { claim, attempts: 1, may_have_executed: false, held, now };
    world.apply(Some(&row), &release).await;
    let paused = ControlEntry::Pause(Switch {
        target: SwitchTarget::parse("server:crm").unwrap(),
        tenant: None,
        by: "ann".into(),
        why: "it drops orders".into(),
        since: world.now(),
        until: None,
    });
    fleet(&world).set_control(&paused).await.unwrap();
    let why = why(&world, "c1").await;
    let line = why.explanation.line(why.now);
    for part in
        ["server_failing", "HTTP 500", "server crm", "ann", "it drops orders", "when the pause is ended"]
    {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
    assert_eq!(why.explanation.waits_for[1].kind, WaitsForKind::Pause);
    assert_eq!(why.explanation.deadline, why.row.unwrap().deadline);
    fleet(&world).clear_control(&paused.key()).await.unwrap();
    let why = world.client.why(&key("c1")).await.unwrap();
    assert_eq!(why.explanation.next_at, Some(world.now().plus_ms(60_000)));
}

#[tokio::test]
async fn a_dead_letter_is_found_and_visible_again() {
    let world = World::start().await;
    for n in 0..12 {
        let id = format!("c{n}");
        let dead = world.client.dead_letters().await.unwrap().unwrap();
        let body = call(&id, "x").encode();
        dead.queue().send(toolfleet_aws::queue::Outgoing { body, ..Default::default() }).await.unwrap();
    }
    let found = why(&world, "c11").await;
    assert_eq!(found.explanation.place, Place::DeadLetterQueue);
    let dead = world.client.dead_letters().await.unwrap().unwrap();
    assert_eq!(dead.depth().await.unwrap().visible, 12);
    let other = why(&world, "elsewhere").await;
    assert_eq!(other.explanation.place, Place::NotReceived);
    assert!(other.explanation.not_known.iter().all(|text| !text.contains("dead-letter")), "all were read");
}

#[tokio::test]
async fn a_running_call_and_an_ended_one_say_so() {
    let world = World::start().await;
    let claimed = world.claim(&call("c1", "x"), "m1").await;
    let running = why(&world, "c1").await;
    assert_eq!(running.explanation.place, Place::Running);
    assert!(running.explanation.text.contains("worker w runs it, attempt 1"), "{}", running.explanation.text);
    world.clock.advance_ms(60_001);
    assert_eq!(why(&world, "c1").await.explanation.place, Place::WorkerLost);
    world.finish(claimed, answer("done")).await;
    let ended = why(&world, "c1").await;
    assert_eq!(ended.explanation.place, Place::Ended);
    assert!(ended.explanation.text.contains("succeeded"), "{}", ended.explanation.text);
}
