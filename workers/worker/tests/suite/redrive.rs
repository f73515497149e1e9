//! Dead letters that an operator moves back: their calls run once, keep their first sender and age, and never run after they have ended.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use toolfleet_aws::Tables;
use toolfleet_aws::queue::{Outgoing, Queue};
use toolfleet_client::{Client, LetterFilter, Redrive, RedriveReport, RedriveRules, Redriven, RedrivenAs};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::dead_letter::RedriveClass;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::RateLimit;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::request::{CallRequest, Priority};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::pipeline::{self, Reaped};

use crate::rig::{LEASE_MS, Rig, SENDER, SKEW_MS, connect, request};

const MOST_RECEIVES: u32 = 8;
pub(crate) const NO_REAPER: Duration = Duration::from_secs(14 * 24 * 3600);

/// The rig's catalog: `safe` is safe to repeat, and the rig's key is one of the fleet's.
struct Rules;

impl RedriveRules for Rules {
    fn is_fleet(&self, sender: &str) -> Option<bool> {
        Some(sender == SENDER)
    }
    fn may_speak_for(&self, sender: &str, tenant: &Tenant) -> Option<bool> {
        Some(sender == SENDER && tenant.as_str() == "acme")
    }
    fn is_repeatable(&self, request: &CallRequest) -> bool {
        request.target.to_string() == "safe"
    }
    fn may_be_claimless(&self, request: &CallRequest) -> bool {
        self.is_repeatable(request)
    }
}

async fn rig() -> Rig {
    Rig { reap_after: NO_REAPER, ..Rig::new().await }
}

/// An operator's client, which reaches SQS through the proxy.
async fn operator(rig: &Rig) -> Client {
    let aws = connect(&rig.sqs.url(), rig.local.dynamodb_url(), rig.local.secretsmanager_url(), SENDER).await;
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    Client::new(&aws, rig.local.queue_url(rig.queue_name), &Tables::with_prefix("toolfleet"), Arc::new(now))
}

fn dead(rig: &Rig) -> Queue {
    rig.direct.queue(rig.local.queue_url("toolfleet-calls-dlq"))
}

pub(crate) async fn give_up(rig: &Rig, letters: u64) {
    for _ in 0..=MOST_RECEIVES {
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        for delivery in rig.queue().receive(10, 0, 1).await.unwrap() {
            rig.queue().change_visibility(&delivery.receipt, 0).await.unwrap();
        }
    }
    assert_eq!(dead(rig).depth().await.unwrap().visible, letters, "in the dead-letter queue");
}

pub(crate) async fn redrive(rig: &Rig, may_have_run: bool) -> (RedriveReport, Vec<Redriven>) {
    let dead = operator(rig).await.dead_letters().await.unwrap().unwrap();
    let (mut look, mut moves) = (dead.look(), Vec::new());
    let redrive = Redrive {
        filter: LetterFilter::default(),
        may_have_run,
        act: true,
        rate: RateLimit::new(1_000, 1).unwrap(),
        rules: &Rules,
        own_sender: Some(SENDER),
    };
    let report = dead.redrive(&mut look, &redrive, |one| moves.push(one)).await.unwrap();
    look.release().await;
    (report, moves)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_call_runs_once_with_its_first_sender_and_age() {
    let rig = rig().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let sent_at = i64::try_from(rig.clock.now_ms()).unwrap();
    give_up(&rig, 1).await;
    let (report, moves) = redrive(&rig, false).await;
    assert_eq!((report.moved, moves[0].class), (1, RedriveClass::NotRun));
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 0);
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    let records = rig.audit_of("c1", AuditKind::Call).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].enqueued_at.as_ms(), sent_at, "its age counts from the first message");
    assert_eq!(records[0].sender.as_deref(), Some(SENDER));
    assert_eq!(records[0].message_id.as_deref(), Some(moves[0].letter.message_id()));
    assert!(rig.audit_of("c1", AuditKind::Duplicate).await.is_empty(), "the copy is the same message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_copy_and_delete_leaves_a_duplicate_that_runs_once() {
    let rig = rig().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    give_up(&rig, 1).await;
    // The delete never arrives.
    rig.sqs.cut(Rule::new(Cut::BeforeRequest, "DeleteMessage", 1).times(100));
    let (report, moves) = redrive(&rig, false).await;
    assert!(matches!(moves[0].done, RedrivenAs::Failed(_)), "{:?}", moves[0].done);
    assert_eq!((report.moved, report.failed), (0, 1));
    rig.sqs.behave();
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 1, "the letter is still there");
    assert_eq!(rig.queue().depth().await.unwrap().visible, 1, "and so is its copy");
    // Both are moved to the calls and run.
    let (report, _) = redrive(&rig, false).await;
    assert_eq!(report.moved, 1);
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_accepted_leaves_the_letter() {
    let rig = rig().await;
    rig.send(request("c1", "safe").to_string()).await;
    give_up(&rig, 1).await;
    rig.sqs.cut(Rule::new(Cut::BeforeRequest, "SendMessage", 1).times(100));
    let (report, moves) = redrive(&rig, false).await;
    assert_eq!((report.moved, report.failed), (0, 1), "{:?}", moves[0].done);
    rig.sqs.behave();
    assert_eq!(rig.queue().depth().await.unwrap().visible, 0);
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_have_run_is_not_sent_again() {
    let rig = rig().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.crash_after(Step::Executed).await;
    rig.send(request("c2", "safe").to_string()).await;
    give_up(&rig, 2).await;
    let (report, _) = redrive(&rig, false).await;
    assert_eq!((report.moved, report.classes.get(&RedriveClass::MayHaveRun)), (1, Some(&1)));
    let (report, _) = redrive(&rig, true).await;
    assert_eq!(report.moved, 1);
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)));
    assert_eq!(rig.mcp.executions_of("c1"), 1, "it ran before it was given up");
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_worker_has_ended_is_left() {
    let rig = Rig::new().await;
    rig.send(request("c1", "safe").to_string()).await;
    give_up(&rig, 1).await;
    let context = rig.context(None).await;
    let letters = context.dead_letters.clone().unwrap();
    let letter = letters.queue.receive(1, 0, 60).await.unwrap().pop().unwrap();
    let body = letter.body.clone();
    assert_eq!(pipeline::reap(context.clone(), letters, letter).await, Reaped::Met);
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
    // A second message of the same call is given up later.
    dead(&rig).send(Outgoing { body, ..Outgoing::default() }).await.unwrap();
    let (report, moves) = redrive(&rig, true).await;
    assert_eq!((report.moved, moves[0].class), (0, RedriveClass::Ended));
    assert!(moves[0].class.sentence().contains("its end stands"));
    assert_eq!(rig.queue().depth().await.unwrap().visible, 0);
    assert_eq!(rig.mcp.executions_of("c1"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_message_that_is_given_up_again_gets_its_end() {
    let rig = Rig { reap_after: Duration::ZERO, ..Rig::new().await };
    // A message move task moves all attributes; since then a newer worker can read it.
    let attributes = [("toolfleet-reason".to_owned(), "undecodable".to_owned())].into();
    let body = request("c1", "safe").to_string();
    rig.queue().send(Outgoing { body, attributes, ..Outgoing::default() }).await.unwrap();
    give_up(&rig, 1).await;
    let context = rig.context(None).await;
    let letters = context.dead_letters.clone().unwrap();
    let letter = letters.queue.receive(1, 0, 60).await.unwrap().pop().unwrap();
    assert_eq!(pipeline::reap(context.clone(), letters, letter).await, Reaped::Met);
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_message_that_is_redriven_and_readable_runs() {
    let rig = rig().await;
    let attributes = [("toolfleet-reason".to_owned(), "undecodable".to_owned())].into();
    let body = request("c1", "safe").to_string();
    dead(&rig).send(Outgoing { body, attributes, ..Outgoing::default() }).await.unwrap();
    dead(&rig).send(Outgoing { body: json!("no request").to_string(), ..Outgoing::default() }).await.unwrap();
    let (report, moves) = redrive(&rig, false).await;
    let unreadable = moves.iter().filter(|one| one.class == RedriveClass::Unreadable).count();
    assert_eq!((report.moved, unreadable), (2, 1), "a worker of a later version may read it");
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 1, "it is still no request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_goes_back_to_the_queue_it_came_from() {
    for (priority, name) in [(Priority::High, "toolfleet-calls-high"), (Priority::Low, "toolfleet-calls-low")]
    {
        let rig = Rig { priorities: true, ..rig().await };
        let from = rig.direct.queue(rig.local.queue_url(name));
        let body = request("c1", "unsafe").to_string();
        from.send(Outgoing { body, group: Some("acme".into()), ..Outgoing::default() }).await.unwrap();
        for _ in 0..=MOST_RECEIVES {
            rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
            for delivery in from.receive(10, 0, 1).await.unwrap() {
                from.change_visibility(&delivery.receipt, 0).await.unwrap();
            }
        }
        assert_eq!(dead(&rig).depth().await.unwrap().visible, 1, "{name}");
        let (report, _) = redrive(&rig, false).await;
        assert_eq!((report.moved, report.failed), (1, 0));
        assert_eq!(from.depth().await.unwrap().visible, 1, "{name}");
        assert_eq!(rig.queue().depth().await.unwrap().visible, 0, "not in the default queue");
        let context = rig.context(None).await;
        let queue = context.queues.of(priority).unwrap();
        let delivery = queue.receive(1, 0, 30).await.unwrap().remove(0);
        pipeline::run(context.clone(), delivery, ()).await;
        assert_eq!((rig.outcome("c1").await.kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
    }
}
