use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum as _;
use toolfleet_core::group::{GroupNotice, GroupRow, Terms};
use toolfleet_core::ids::{CallId, GroupId, Tenant};
use toolfleet_core::request::{GroupKey, Policy};
use toolfleet_core::time::Timestamp;

use super::super::account::account;
use super::super::evidence::{Narrow, Rated};
use super::*;

fn call(id: &str) -> CallSeen {
    CallSeen {
        id: id.into(),
        server: "steady",
        sent: true,
        notice: true,
        requests: 1,
        executions: 1,
        ended: Some(Ended {
            kind: OutcomeKind::Succeeded,
            code: None,
            may_have_run: None,
            own_answer: true,
            at_us: 0,
        }),
        audits: vec![OutcomeKind::Succeeded],
        notices: vec![OutcomeKind::Succeeded],
        ..CallSeen::default()
    }
}

/// A group that succeeded; its second member did so after the decision.
fn group() -> GroupSeen {
    let key = GroupKey { tenant: Tenant::parse("t").unwrap(), id: GroupId::parse("g").unwrap(), round: 1 };
    let (at, deadline) = (Timestamp::from_ms(5), Timestamp::from_ms(9));
    let decision =
        Decision { result: GroupResult::Succeeded, by: Decider::Member(0), at, succeeded: 1, failed: 0 };
    let row = GroupRow {
        key,
        terms: Terms { size: 3, policy: Policy::Any, deadline, reply: Some("https://sqs/q".to_owned()) },
        made_by: CallId::parse("first").unwrap(),
        timer_sent: true,
        ok: BTreeSet::from([0, 1]),
        failed: BTreeSet::new(),
        decision: Some(decision),
        notified: true,
        expires_at: Timestamp::from_ms(9_000),
    };
    GroupSeen {
        id: row.key.to_string(),
        round: 1,
        policy: Policy::Any,
        size: 3,
        deadline,
        cancelled: false,
        cancelled_us: None,
        decided_us: None,
        due_us: None,
        read_us: None,
        members: vec!["first".into(), "second".into(), "left out".into()],
        first: Some(decision),
        decision: Some(decision),
        notices: row.notice().into_iter().map(|(notice, _)| notice).collect(),
        ok: row.ok,
        failed: row.failed,
    }
}

/// A call whose answer equal calls share.
fn asks(id: &str) -> CallSeen {
    CallSeen { safe: true, question: Some("question".into()), answer_of: Some(7), ..call(id) }
}

fn replaced(id: &str, enqueued_ms: i64) -> CallSeen {
    let cancelled = OutcomeKind::Cancelled;
    let code = Some(Code::Superseded.as_str());
    CallSeen {
        supersede: Some("key".into()),
        enqueued_ms: Some(enqueued_ms),
        executions: 0,
        requests: 0,
        ended: Some(Ended {
            kind: cancelled,
            code,
            may_have_run: Some(MayHaveRun::No),
            own_answer: false,
            at_us: 0,
        }),
        audits: vec![cancelled],
        notices: vec![cancelled],
        ..call(id)
    }
}

/// The calls that callers sent who sent a group again at the same time.
fn redrive(sent: &[&[&str]]) -> RedriveSeen {
    let calls = |calls: &&[&str]| calls.iter().map(|&call| call.to_owned()).collect();
    RedriveSeen { group: "t/g".into(), sent: sent.iter().map(calls).collect(), refused: Vec::new() }
}

/// A call that has not run and ended with that code.
fn ended_as(id: &str, kind: OutcomeKind, code: Code) -> CallSeen {
    let (code, may_have_run) = (Some(code.as_str()), Some(MayHaveRun::No));
    CallSeen {
        executions: 0,
        ended: Some(Ended { kind, code, may_have_run, own_answer: false, at_us: 0 }),
        first_end: Some(kind),
        audits: vec![kind],
        notices: vec![kind],
        ..call(id)
    }
}

/// A call whose server asked.
fn asked(id: &str) -> CallSeen {
    let call = ended_as(id, OutcomeKind::InputRequired, Code::InputRequired);
    CallSeen { server: "asking", asked: 1, ..call }
}

/// A task that goes on, and was handed over after 2 s.
fn endless(known: bool) -> EndlessTask {
    EndlessTask { id: "task-1".into(), cancelled: false, handed_us: Some(2_000_000), known }
}

/// A call that was sent, and ended then at its deadline.
fn timed_out(id: &str, at_us: u64) -> CallSeen {
    let call = ended_as(id, OutcomeKind::TimedOut, Code::DeadlineExceeded);
    let ended = call.ended.map(|end| Ended { may_have_run: Some(MayHaveRun::Unknown), at_us, ..end });
    CallSeen { executions: 1, ended, ..call }
}

/// So many requests prove something about each feature.
const ENOUGH: u32 = 500;

/// What faults do to calls, and what is no violation.
fn evidence() -> Evidence {
    let unknown = OutcomeKind::OutcomeUnknown;
    let ended = Ended {
        kind: unknown,
        code: None,
        may_have_run: Some(MayHaveRun::Unknown),
        own_answer: false,
        at_us: 0,
    };
    let cut = |id: &str| CallSeen {
        ended: Some(ended),
        audits: vec![unknown],
        notices: vec![unknown, unknown],
        other_audits: vec![AuditKind::LateAnswer, AuditKind::Duplicate],
        ..call(id)
    };
    let start = |n: u64| Start { at_us: n * 300_000, delay_us: Some(1_000) };
    let open = |n: u64| Open { from_us: n * 100, to_us: n * 100 + 100, after_freeze: false };
    Evidence {
        calls: vec![
            call("plain"),
            CallSeen { safe: true, executions: 3, ..call("repeated") },
            CallSeen { cut_at_server: true, ..cut("cut at its server") },
            CallSeen { cut_at_worker: true, requests: 0, executions: 0, ..cut("cut at its worker") },
            CallSeen { id: "not sent".into(), server: "steady", ..CallSeen::default() },
            call("first"),
            call("second"),
            asks("leads"),
            CallSeen { cached_from: Some("leads".into()), executions: 0, ..asks("follows") },
            CallSeen { cached_from: Some("leads".into()), cut_at_server: true, ..asks("sent before") },
            CallSeen { not_before_us: Some(1_000), first_request_us: Some(900), ..call("on time") },
            replaced("older", 5),
            CallSeen {
                supersede: Some("key".into()),
                enqueued_ms: Some(6),
                first_request_us: Some(2_000),
                claimed_us: Some(1_500),
                ..call("newer")
            },
            CallSeen { cut_at_worker: true, endless: vec![endless(true)], ..call("its task is not known") },
            CallSeen {
                endless: vec![endless(false)],
                requests: ENOUGH,
                ..timed_out("its task is not read", 3_999_999)
            },
            asked("asked"),
            CallSeen { server: "asking", resumes: Some("asked".into()), answers: 1, ..call("answers") },
            CallSeen { safe: true, resumes: Some("asked".into()), answers: 2, ..call("answers again") },
            ended_as("left out", OutcomeKind::Cancelled, Code::CancelledByCaller),
            CallSeen { redrives: Some("left out".into()), ..call("left out.r2") },
        ],
        groups: vec![group()],
        redrives: vec![redrive(&[&["left out.r2"], &["left out.r2"], &[]])],
        shared: vec![SharedRequest { server: "steady", calls: vec!["first".into(), "second".into()] }],
        rated: Rated {
            limits: vec![InEffect { limit: 4, from_us: 0, until_us: u64::MAX }],
            turns: (0..9).map(|n| n * 300_000).collect(),
            starts: (0..9).map(start).collect(),
        },
        narrow: Narrow {
            limits: vec![InEffect { limit: 2, from_us: 0, until_us: u64::MAX }],
            requests: (0..9).flat_map(|n| [open(n), open(n)]).collect(),
        },
        injected: BTreeMap::from([("kills".to_owned(), 2)]),
        ..Evidence::default()
    }
}

#[test]
fn what_faults_may_do_to_calls_is_no_violation() {
    let account = account(&evidence());
    assert_eq!(account.violations, []);
    assert_eq!(account.unknown, ["cut at its server", "cut at its worker"]);
    assert_eq!(account.cut, ["cut at its server", "cut at its worker", "its task is not known"]);
    assert_eq!(account.unproved, Vec::<String>::new());
    assert_eq!((account.safe_repeats, account.late_answers), (2, 2));
    assert_eq!((account.stored, account.late_successes, account.groups["succeeded"]), (2, 1, 1));
    assert_eq!(account.outcomes["steady"]["succeeded"], 12);
}

#[test]
fn a_planted_violation_of_every_kind_is_found_and_named() {
    for kind in Kind::value_variants() {
        let mut evidence = evidence();
        assert!(plant(*kind, &mut evidence), "{kind:?}");
        let found = account(&evidence).violations;
        assert!(!found.is_empty() && found.iter().all(|v| v.kind == *kind), "{kind:?}: {found:?}");
        let of_a_call = plant(*kind, &mut Evidence::default());
        let of_a_group = found[0].detail.contains("group t/g");
        assert!(of_a_call || of_a_group || found[0].detail.contains("`plain`"), "{found:?}");
    }
}

#[test]
fn a_start_that_came_late_after_its_turn_is_counted_and_no_violation() {
    let mut evidence = evidence();
    // The fifth start waited half a second in a frozen worker, and came with the others.
    let start = |n: u64, delay_us| Start { at_us: 9_000_000 + n, delay_us: Some(delay_us) };
    evidence.rated.starts.extend([start(0, 500_000), start(1, 0), start(2, 0), start(3, 0), start(4, 0)]);
    let account = account(&evidence);
    assert_eq!((account.violations.len(), account.late_starts), (0, 1));
}

#[test]
fn a_request_that_a_freeze_delayed_is_counted_and_no_violation() {
    let mut evidence = evidence();
    evidence.narrow.requests.push(Open { from_us: 100, to_us: 110, after_freeze: true });
    let account = account(&evidence);
    assert_eq!((account.violations.len(), account.after_freeze), (0, 1));
}

#[test]
fn a_violation_names_its_rule_and_the_call() {
    let mut evidence = evidence();
    plant(Kind::UnsafeRepeat, &mut evidence);
    let found = account(&evidence).violations;
    assert_eq!(found[0].to_string(), "[unsafe-repeat] `plain` was executed 2 times");
}

/// The rules that are broken after a change of that call.
fn broken(id: &str, change: impl Fn(&mut CallSeen)) -> Vec<Kind> {
    let mut evidence = evidence();
    evidence.calls.iter_mut().filter(|call| call.id == id).for_each(change);
    account(&evidence).violations.iter().map(|violation| violation.kind).collect()
}

#[test]
fn a_stored_answer_is_of_an_equal_call_that_succeeded() {
    let foreign = [Kind::ForeignAnswer];
    assert_eq!(broken("follows", |call| call.answer_of = None), foreign);
    assert_eq!(broken("follows", |call| call.cached_from = Some("first".into())), foreign);
    assert_eq!(broken("follows", |call| call.cached_from = Some("sent before".into())), foreign);
    let both = [Kind::ForeignAnswer, Kind::SharedAcross];
    assert_eq!(broken("follows", |call| call.tenant = "another"), both);
    assert_eq!(broken("follows", |call| call.question = Some("another".into())), both);
    let failed = |call: &mut CallSeen| {
        call.ended = call.ended.map(|end| Ended { kind: OutcomeKind::ToolError, ..end });
        call.audits = vec![OutcomeKind::ToolError];
        call.notices = vec![OutcomeKind::ToolError];
    };
    assert_eq!(broken("leads", failed), [Kind::ForeignAnswer, Kind::ForeignAnswer]);
    assert_eq!(broken("follows", |call| call.executions = 1), [Kind::StoredAndRan]);
    // Two deliveries of a call without a claim know nothing of each other.
    assert_eq!(broken("follows", |call| (call.executions, call.claimless) = (1, true)), []);
}

#[test]
fn a_request_serves_calls_of_one_tenant_and_server() {
    for change in
        [|call: &mut CallSeen| call.tenant = "another", |call: &mut CallSeen| call.server = "another"]
    {
        assert_eq!(broken("second", change), [Kind::MixedBatch]);
    }
}

#[test]
fn a_call_is_replaced_by_a_newer_one_alone_and_before_that_starts() {
    assert_eq!(broken("older", |call| call.enqueued_ms = Some(7)), [Kind::ReplacedByNone]);
    assert_eq!(broken("newer", |call| call.tenant = "another"), [Kind::ReplacedByNone]);
    // It was checked before the newer one came, or long after.
    assert_eq!(broken("older", |call| call.claimed_us = Some(1_000_000)), []);
    let claimed =
        |requests| move |call: &mut CallSeen| (call.claimed_us, call.requests) = (Some(3_000_000), requests);
    assert_eq!(broken("older", claimed(1)), [Kind::StaleStart]);
    assert_eq!(broken("older", claimed(0)), []);
}

#[test]
fn what_is_due_for_a_group_is_done_soon_and_not_by_its_timer() {
    let broken = |within_us: u64, change: &dyn Fn(&mut GroupSeen)| {
        let mut evidence = evidence();
        evidence.done_within_us = within_us;
        evidence.groups.iter_mut().for_each(|group| group.decided_us = Some(10));
        evidence.groups.iter_mut().for_each(change);
        account(&evidence).violations.iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    // Its members ended at 0.
    let uncounted = |group: &mut GroupSeen| group.ok.retain(|index| *index != 1);
    assert_eq!(broken(10, &uncounted), [Kind::MemberUncounted]);
    assert_eq!(broken(11, &uncounted), []);
    let by_timer = |group: &mut GroupSeen| {
        group.decision = group.decision.map(|decision| Decision { by: Decider::Timer, ..decision });
        group.first = group.decision;
    };
    assert_eq!((broken(10, &by_timer), broken(11, &by_timer)), (vec![Kind::DecidedLate], vec![]));
    let cancelled = |group: &mut GroupSeen| (group.cancelled, group.cancelled_us) = (true, Some(3));
    assert_eq!((broken(7, &cancelled), broken(8, &cancelled)), (vec![Kind::CancelIgnored], vec![]));
}

#[test]
fn a_member_is_not_started_after_the_decision() {
    let broken = |change: &dyn Fn(&mut CallSeen)| {
        let mut evidence = evidence();
        evidence.groups.iter_mut().for_each(|group| group.read_us = Some(10));
        evidence.calls.iter_mut().filter(|call| call.id == "second").for_each(change);
        account(&evidence).violations.iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    // It looked at its group before the decision, or after it.
    assert_eq!(broken(&|call| call.claimed_us = Some(2_000_010)), []);
    let late = |call: &mut CallSeen| call.claimed_us = Some(2_000_011);
    assert_eq!(broken(&late), [Kind::StartedAfterDecision]);
    // Its row was claimed in vain, or the answer to its first claim was lost.
    assert_eq!(broken(&|call| (call.claimed_us, call.requests) = (Some(3_000_000), 0)), []);
    assert_eq!(broken(&|call| (call.claimed_us, call.cut_at_server) = (Some(3_000_000), true)), []);
}

#[test]
fn a_group_is_decided_as_its_members_explain() {
    let broken = |change: &dyn Fn(&mut GroupSeen)| {
        let mut evidence = evidence();
        evidence.groups.iter_mut().for_each(change);
        account(&evidence).violations.iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    let decide = |group: &mut GroupSeen, decision: Decision| {
        (group.first, group.decision) = (Some(decision), Some(decision));
        for notice in &mut group.notices {
            (notice.result, notice.decided_at) = (decision.result, decision.at);
            (notice.succeeded, notice.failed) = (decision.succeeded, decision.failed);
        }
    };
    let of_group = group().decision.unwrap();
    let unexplained = [Kind::DecisionUnexplained];
    // One of two is not all, and the deadline has not come.
    assert_eq!(broken(&|group| group.policy = Policy::All), unexplained);
    let incomplete = Decision { result: GroupResult::Incomplete, ..of_group };
    assert_eq!(broken(&|group| decide(group, incomplete)), unexplained);
    let at = Timestamp::from_ms(9);
    assert_eq!(broken(&|group| decide(group, Decision { at, ..incomplete })), []);
    let cancelled = Decision { result: GroupResult::Cancelled, ..of_group };
    let by_caller = |group: &mut GroupSeen| {
        group.cancelled = true;
        decide(group, cancelled);
    };
    assert_eq!(broken(&by_caller), []);
    let miscounted = [Kind::MemberMiscounted];
    assert_eq!(broken(&|group| group.failed = BTreeSet::from([1])), miscounted);
    assert_eq!(broken(&|group| group.members.truncate(1)), miscounted);
    let another_id = |group: &mut GroupSeen| {
        let notice = GroupNotice { notice_id: "another".into(), ..group.notices[0].clone() };
        group.notices.push(notice);
    };
    assert_eq!(broken(&another_id), [Kind::WrongGroupNotice]);
}

#[test]
fn a_task_is_left_only_where_no_worker_had_read_of_it_when_its_call_ended() {
    let id = "its task is not read";
    assert_eq!(broken(id, |_| {}), []);
    assert_eq!(broken(id, |call| call.endless[0].known = true), [Kind::TaskLeft]);
    assert_eq!(broken(id, |call| (call.endless[0].known, call.endless[0].cancelled) = (true, true)), []);
    let at = |at_us| move |call: &mut CallSeen| call.ended = timed_out(id, at_us).ended;
    assert_eq!(broken(id, at(4_000_000)), [Kind::TaskLeft], "there was time to read it");
    let denied = |call: &mut CallSeen| {
        call.ended = call.ended.map(|end| Ended { may_have_run: Some(MayHaveRun::No), ..end });
    };
    assert_eq!(broken(id, denied), [Kind::RanAfterAll, Kind::TaskLeft]);
    assert_eq!(account(&evidence()).unread_tasks, 1);
}

#[test]
fn a_feature_that_was_not_used_is_a_violation_where_enough_requests_came() {
    let not_used = |requests: u32| {
        let mut evidence = evidence();
        evidence.used = BTreeMap::from([("stored answers".to_owned(), 0), ("questions".to_owned(), 1)]);
        evidence.calls.iter_mut().for_each(|call| call.requests = 0);
        evidence.calls[0].requests = requests;
        let account = account(&evidence);
        (account.violations.iter().map(|broken| broken.kind).collect::<Vec<_>>(), account.unproved)
    };
    assert_eq!(not_used(ENOUGH), (vec![Kind::NotInjected], vec![]));
    assert_eq!(not_used(ENOUGH - 1), (vec![], vec!["stored answers".to_owned()]));
}

#[test]
fn a_question_is_asked_by_the_server_and_its_answer_is_given_once() {
    assert_eq!(broken("asked", |call| call.asked = 0), [Kind::AskedByNobody]);
    assert_eq!(broken("asked", |call| call.executions = 1), [Kind::RanAfterAll, Kind::RanUnanswered]);
    assert_eq!(broken("answers", |call| call.answers = 2), [Kind::AnsweredTwice]);
    assert_eq!(broken("answers again", |call| call.safe = false), [Kind::AnsweredTwice]);
    assert_eq!(broken("answers", |call| call.foreign_answers = 1), [Kind::MixedAnswer]);
}

#[test]
fn nothing_leads_away_from_an_end_and_what_may_not_repeat_is_sent_again_by_no_redrive() {
    let succeeds = |call: &mut CallSeen| {
        *call = CallSeen { id: call.id.clone(), first_end: call.first_end, ..self::call("x") };
    };
    // It ended as cancelled, and runs after all; and its next round was sent.
    assert_eq!(broken("left out", succeeds), [Kind::EndChanged, Kind::RedrivenWrongly]);
    let ran = |call: &mut CallSeen| {
        call.executions = 1;
        call.ended = call.ended.map(|end| Ended { may_have_run: Some(MayHaveRun::Yes), ..end });
    };
    assert_eq!(broken("left out", ran), [Kind::RedrivenWrongly]);
    assert_eq!(broken("left out", |call| (ran(call), call.safe = true).1), []);
    assert_eq!(broken("asked", |call| call.ended = None), [Kind::Lost, Kind::EndChanged]);
}

#[test]
fn redrives_of_a_group_that_send_anything_send_the_same() {
    let broken = |redrive: RedriveSeen| {
        let mut evidence = evidence();
        evidence.redrives.push(redrive);
        account(&evidence).violations.iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    assert_eq!(broken(redrive(&[&["a", "b"], &["a", "b"]])), []);
    assert_eq!(broken(redrive(&[&["a", "b"], &["a"]])), [Kind::RoundDiffers]);
    let refused = vec!["it is not decided yet".to_owned()];
    assert_eq!(broken(RedriveSeen { refused, ..redrive(&[]) }), [Kind::RoundDiffers]);
}
