//! Plants a violation of a chosen kind into evidence, to show that the accounting finds it.

use std::collections::{BTreeSet, HashSet};

use toolfleet_core::audit::AuditKind;
use toolfleet_core::group::{Decider, Decision, GroupResult};
use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};

use super::account::Kind;
use super::evidence::{
    Attempt, CallSeen, Ended, EndlessTask, Evidence, GroupSeen, InEffect, Open, RedriveSeen, SharedRequest,
    Start, Stop, Stopped,
};
use super::plan::{MOST_IN_BATCH, Server};

/// Changes the evidence so that a rule of that kind is broken; false if the run has no call to break it with.
pub fn plant(kind: Kind, evidence: &mut Evidence) -> bool {
    match kind {
        Kind::Stranger => evidence.strangers.push("a-stranger".to_owned()),
        Kind::MessagesLeft => evidence.messages_left += 1,
        Kind::DeadLetters => evidence.dead_letters += 1,
        Kind::EndedByItself => {
            evidence.own_ends.push("worker planted ended by itself with exit status: 1".to_owned());
        }
        Kind::BadExit => evidence.bad_exits.push("worker planted exited with signal: 6".to_owned()),
        Kind::NotInjected => drop(evidence.injected.insert("planted".to_owned(), 0)),
        Kind::OverRateByTurn | Kind::StartWithoutTurn | Kind::OverRate | Kind::OverLowered => {
            plant_start(kind, evidence);
        }
        Kind::RoundDiffers => {
            let sent = vec![BTreeSet::from(["one".to_owned()]), BTreeSet::from(["another".to_owned()])];
            evidence.redrives.push(RedriveSeen { group: "planted".to_owned(), sent, refused: Vec::new() });
        }
        Kind::RedrivenWrongly => {
            let Some(call) = plain_call(evidence) else { return false };
            let (id, redrives) = (format!("{}.planted", call.id), Some(call.id.clone()));
            let again = CallSeen { id, redrives, ..call.clone() };
            evidence.calls.push(again);
        }
        Kind::OverConcurrency => {
            let at_us = evidence.narrow.requests.first().map_or(0, |open| open.from_us);
            let open = Open { from_us: at_us, to_us: at_us + 1, after_freeze: false };
            evidence.narrow.requests.extend(std::iter::repeat_n(open, highest(&evidence.narrow.limits) + 1));
        }
        Kind::SharedAcross | Kind::StoredAndRan | Kind::StaleStart => return plant_pair(kind, evidence),
        Kind::MixedBatch => {
            let Some(call) = plain_call(evidence) else { return false };
            let calls = vec![call.id.clone(); MOST_IN_BATCH + 1];
            evidence.shared.push(SharedRequest { server: call.server, calls });
        }
        Kind::GroupUndecided
        | Kind::DecisionChanged
        | Kind::DecisionUnexplained
        | Kind::MemberMiscounted
        | Kind::GroupNoticeLost
        | Kind::WrongGroupNotice
        | Kind::CancelIgnored => {
            let Some(group) = evidence.groups.iter_mut().find(|group| is_whole(group)) else { return false };
            plant_group(kind, group);
        }
        Kind::MemberUncounted | Kind::DecidedLate => return plant_lateness(kind, evidence),
        Kind::IncompleteLate => {
            let late_us = evidence.redelivered_within_us + 1;
            let Some(group) = evidence.groups.iter_mut().find(|group| is_whole(group)) else { return false };
            (group.cancelled_us, group.due_us, group.decided_us) = (None, Some(0), Some(late_us));
        }
        Kind::StartedWhilePaused => {
            let which = Stopped::Question("planted".to_owned());
            evidence.stops.push(Stop { which, from_us: 0, until_us: u64::MAX });
            return plant_plain(kind, evidence);
        }
        Kind::StartedAfterDecision => return plant_start_after_decision(evidence),
        Kind::Lost
        | Kind::RanUnanswered
        | Kind::AskedByNobody
        | Kind::AnswerLost
        | Kind::AnsweredTwice
        | Kind::MixedAnswer
        | Kind::EndChanged
        | Kind::StartedEarly
        | Kind::ReplacedByNone
        | Kind::ForeignAnswer
        | Kind::TaskLeft
        | Kind::EndedWithoutDecision
        | Kind::UnsafeRepeat
        | Kind::UnknownNotCut
        | Kind::RanAfterAll
        | Kind::NeverRan
        | Kind::WrongAnswer
        | Kind::MissingAudit
        | Kind::ExtraAudit
        | Kind::WrongAudit
        | Kind::LateAnswer
        | Kind::UnexpectedAudit
        | Kind::NoticeLost
        | Kind::WrongNotice
        | Kind::EndedLate
        | Kind::CancelledByNobody => return plant_plain(kind, evidence),
    }
    true
}

/// Plants into a plain call.
fn plant_plain(kind: Kind, evidence: &mut Evidence) -> bool {
    let Some(id) = plain_call(evidence).map(|call| call.id.clone()) else { return false };
    evidence.calls.iter_mut().filter(|call| call.id == id).for_each(|call| plant_call(kind, call));
    true
}

/// A plain call that is in no group.
fn plain_call(evidence: &Evidence) -> Option<&CallSeen> {
    let members: HashSet<_> = evidence.groups.iter().flat_map(|group| &group.members).collect();
    evidence.calls.iter().find(|call| is_plain(call) && !members.contains(&call.id))
}

/// Whether a group is decided, and everything about it was seen.
fn is_whole(group: &GroupSeen) -> bool {
    group.decision.is_some() && group.first == group.decision && !group.notices.is_empty()
}

/// Whether a call is not safe to repeat, ran once, succeeded and has its notice: any change of it breaks a rule.
fn is_plain(call: &CallSeen) -> bool {
    let succeeded = call.ended.is_some_and(|ended| ended.kind == OutcomeKind::Succeeded);
    let whole = !call.safe && !call.answer_cut() && call.executions == 1 && call.notice;
    succeeded && whole && !call.notices.is_empty()
}

/// The highest limit of the run.
fn highest(limits: &[InEffect]) -> usize {
    limits.iter().map(|limit| limit.limit).max().unwrap_or(0)
}

fn plant_start(kind: Kind, evidence: &mut Evidence) {
    let rated = &mut evidence.rated;
    let last =
        rated.starts.last().map_or(0, |start| start.at_us).max(rated.turns.last().copied().unwrap_or(0));
    // A second later, so that what was seen does not matter.
    let at_us = last + 2_000_000;
    if kind == Kind::OverRateByTurn {
        rated.turns.extend(std::iter::repeat_n(at_us, highest(&rated.limits) + 1));
    } else if kind == Kind::OverLowered {
        let from_us = last + 500_000;
        rated.limits.iter_mut().for_each(|limit| limit.until_us = limit.until_us.min(from_us));
        rated.limits.push(InEffect { limit: 1, from_us, until_us: u64::MAX });
        rated.turns.extend([at_us, at_us + 1]);
    } else if kind == Kind::StartWithoutTurn {
        rated.starts.push(Start { at_us, delay_us: None });
    } else {
        let start = Start { at_us, delay_us: Some(1_000) };
        rated.starts.extend(std::iter::repeat_n(start, highest(&rated.limits) + 1));
    }
}

/// Plants into a plain call and another one that succeeded.
fn plant_pair(kind: Kind, evidence: &mut Evidence) -> bool {
    let Some((id, tenant)) = plain_call(evidence).map(|call| (call.id.clone(), call.tenant)) else {
        return false;
    };
    let succeeded = |call: &&mut CallSeen| call.ended.is_some_and(|end| end.kind == OutcomeKind::Succeeded);
    let other = evidence.calls.iter_mut().filter(succeeded).find(|call| call.id != id);
    let Some(other) = other else { return false };
    let question = |of: &str| Some(format!("planted {of}"));
    *other = CallSeen {
        tenant,
        question: question("question"),
        answer_of: Some(usize::MAX),
        cached_from: None,
        supersede: Some("planted".to_owned()),
        enqueued_ms: Some(1),
        not_before_us: None,
        first_request_us: Some(0),
        ..other.clone()
    };
    let from = other.id.clone();
    for call in evidence.calls.iter_mut().filter(|call| call.id == id) {
        if kind == Kind::StaleStart {
            (call.supersede, call.enqueued_ms) = (Some("planted".to_owned()), Some(0));
            call.claimed_us = Some(u64::MAX);
        } else {
            call.answer_of = Some(usize::MAX);
            let stored = kind == Kind::StoredAndRan;
            call.question = question(if stored { "question" } else { "other" });
            call.cached_from = stored.then(|| from.clone());
        }
    }
    true
}

/// Plants into a group that its members decided, and whose first member is counted: that member is not counted, or the timer decides.
fn plant_lateness(kind: Kind, evidence: &mut Evidence) -> bool {
    let succeeded = |call: &&CallSeen| call.ended.is_some_and(|end| end.kind == OutcomeKind::Succeeded);
    let good: HashSet<_> = evidence.calls.iter().filter(succeeded).map(|call| call.id.clone()).collect();
    let fits = |group: &&mut GroupSeen| {
        let first_is_good = group.members.first().is_some_and(|first| good.contains(first));
        let result = group.decision.map(|decision| decision.result);
        is_whole(group) && first_is_good && group.ok.contains(&0) && result == Some(GroupResult::Succeeded)
    };
    let Some(group) = evidence.groups.iter_mut().find(fits) else { return false };
    (group.cancelled_us, group.decided_us) = (None, Some(u64::MAX));
    if kind == Kind::MemberUncounted {
        group.ok.remove(&0);
    } else {
        group.decision = group.decision.map(|decision| Decision { by: Decider::Timer, ..decision });
        group.first = group.decision;
    }
    true
}

/// Plants into a member that ran: it was claimed long after its group was decided.
fn plant_start_after_decision(evidence: &mut Evidence) -> bool {
    for group in evidence.groups.iter_mut().filter(|group| is_whole(group)) {
        let ran = |call: &&mut CallSeen| {
            group.members.contains(&call.id) && call.requests > 0 && !call.answer_cut()
        };
        if let Some(member) = evidence.calls.iter_mut().find(ran) {
            (group.read_us, member.claimed_us) = (Some(0), Some(u64::MAX));
            return true;
        }
    }
    false
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other rules are not about a group")]
fn plant_group(kind: Kind, group: &mut GroupSeen) {
    match kind {
        Kind::GroupUndecided => group.decision = None,
        Kind::GroupNoticeLost => group.notices.clear(),
        Kind::MemberMiscounted => {
            group.ok.insert(group.size);
        }
        Kind::DecisionChanged => {
            group.first = group.first.map(|first| Decision { failed: first.failed + 1, ..first })
        }
        Kind::CancelIgnored => (group.cancelled_us, group.decided_us) = (Some(0), Some(u64::MAX)),
        Kind::WrongGroupNotice => group.notices.iter_mut().for_each(|notice| notice.failed += 1),
        Kind::DecisionUnexplained => {
            // Its caller did not cancel it.
            let result = GroupResult::Cancelled;
            group.cancelled = false;
            group.decision = group.decision.map(|decision| Decision { result, ..decision });
            group.first = group.decision;
            group.notices.iter_mut().for_each(|notice| notice.result = result);
        }
        _ => {}
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other rules are not about one call")]
fn plant_call(kind: Kind, call: &mut CallSeen) {
    let mut ends_as = |kind, code: Option<Code>, may_have_run| {
        let code = code.map(Code::as_str);
        call.ended =
            Some(Ended { kind, code, may_have_run: Some(may_have_run), own_answer: false, at_us: 0 });
        call.audits = vec![kind];
        call.notices = vec![kind];
    };
    match kind {
        Kind::UnknownNotCut => ends_as(OutcomeKind::OutcomeUnknown, None, MayHaveRun::Unknown),
        Kind::RanAfterAll => ends_as(OutcomeKind::Failed, None, MayHaveRun::No),
        Kind::ReplacedByNone => {
            ends_as(OutcomeKind::Cancelled, Some(Code::Superseded), MayHaveRun::No);
            call.executions = 0;
        }
        Kind::EndedWithoutDecision => {
            ends_as(OutcomeKind::Cancelled, Some(Code::GroupDecided), MayHaveRun::No);
            call.executions = 0;
        }
        Kind::CancelledByNobody => {
            ends_as(OutcomeKind::Cancelled, Some(Code::CancelledByOperator), MayHaveRun::Yes);
            call.enqueued_ms = Some(i64::MAX);
        }
        Kind::EndedLate => {
            call.due_us = Some(0);
            call.ended = call.ended.map(|ended| Ended { at_us: u64::MAX, ..ended });
        }
        Kind::StartedWhilePaused => {
            call.question = Some("planted".to_owned());
            call.attempts = vec![Attempt { at_us: u64::MAX / 2, after_freeze: false }];
        }
        Kind::StartedEarly => {
            call.first_request_us = Some(0);
            call.not_before_us = Some(u64::MAX);
        }
        Kind::ForeignAnswer => {
            call.cached_from = Some("nobody".to_owned());
            call.executions = 0;
        }
        Kind::AskedByNobody => {
            ends_as(OutcomeKind::InputRequired, Some(Code::InputRequired), MayHaveRun::Unknown);
            call.executions = 0;
        }
        Kind::AnswerLost => {
            ends_as(OutcomeKind::Refused, Some(Code::NotResumable), MayHaveRun::No);
            call.executions = 0;
            call.resumes = Some("planted".to_owned());
        }
        Kind::RanUnanswered => (call.server, call.resumes) = (Server::Asking.name(), None),
        Kind::AnsweredTwice => call.answers = 2,
        Kind::MixedAnswer => call.foreign_answers = 1,
        Kind::EndChanged => call.first_end = Some(OutcomeKind::Failed),
        Kind::TaskLeft => call.endless.push(EndlessTask { known: true, ..EndlessTask::default() }),
        Kind::Lost => call.ended = None,
        Kind::UnsafeRepeat => call.executions = 2,
        Kind::NeverRan => call.executions = 0,
        Kind::WrongAnswer => {
            if let Some(ended) = &mut call.ended {
                ended.own_answer = false;
            }
        }
        Kind::MissingAudit => call.audits.clear(),
        Kind::ExtraAudit => call.audits.push(OutcomeKind::Succeeded),
        Kind::WrongAudit => call.audits = vec![OutcomeKind::Failed],
        Kind::LateAnswer => call.other_audits.push(AuditKind::LateAnswer),
        Kind::UnexpectedAudit => call.other_audits.push(AuditKind::IdempotencyMismatch),
        Kind::NoticeLost => call.notices.clear(),
        Kind::WrongNotice => call.notices.push(OutcomeKind::Failed),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
