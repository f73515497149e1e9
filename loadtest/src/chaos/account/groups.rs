//! The rules of groups: one decision that never changes and that the members explain, and a notice that says the same.

use std::collections::{HashMap, HashSet};

use toolfleet_core::group::{Decider, Decision, GroupNotice, GroupResult};
use toolfleet_core::outcome::{Code, OutcomeKind};

use super::kind::Kind;
use super::result::Account;
use super::times::{CHECKED_BEFORE_US, is_started};
use crate::chaos::evidence::{Ended, Evidence, GroupSeen};
use crate::flow::groups::verdict::by_policy;

type Ends<'a> = HashMap<&'a str, Ended>;

/// Accounts for all groups, and for the calls that ended because of a decision.
pub(super) fn account_groups(evidence: &Evidence, account: &mut Account) {
    let ended = evidence.calls.iter().filter_map(|call| Some((call.id.as_str(), call.ended?)));
    let ends: Ends<'_> = ended.collect();
    for group in &evidence.groups {
        account_group(group, &ends, account);
        account_lateness(group, &ends, evidence.done_within_us, account);
    }
    account_starts(evidence, account);
    let decided = evidence.groups.iter().filter(|group| group.decision.is_some());
    let members: HashSet<_> = decided.flat_map(|group| &group.members).collect();
    let by_decision = evidence.calls.iter().filter(|call| call.ended_with(Code::GroupDecided));
    for call in by_decision.filter(|call| !members.contains(&call.id)) {
        let detail = format!("`{}` ended by the decision of its group, which is not decided", call.id);
        account.violation(Kind::EndedWithoutDecision, detail);
    }
}

fn account_group(group: &GroupSeen, ends: &Ends<'_>, account: &mut Account) {
    let (id, policy) = (&group.id, group.policy);
    account_counts(group, ends, account);
    let Some(decision) = group.decision else {
        return account.violation(Kind::GroupUndecided, format!("group {id} ({policy}) is not decided"));
    };
    *account.groups.entry(decision.result.as_str()).or_default() += 1;
    let succeeded = group.ok.len() - usize::try_from(decision.succeeded).unwrap_or(0).min(group.ok.len());
    account.late_successes += u64::try_from(succeeded).unwrap_or(0);
    if let Some(first) = group.first.filter(|first| *first != decision) {
        let detail = format!("group {id}: the decision was {first:?} and became {decision:?}");
        account.violation(Kind::DecisionChanged, detail);
    }
    if !is_explained(group, decision) {
        let detail =
            format!("group {id} ({policy}, size {}): its members do not explain {decision:?}", group.size);
        account.violation(Kind::DecisionUnexplained, detail);
    }
    account_notices(group, decision, account);
}

fn is_explained(group: &GroupSeen, decision: Decision) -> bool {
    let ended = decision.succeeded + decision.failed;
    match decision.result {
        GroupResult::Cancelled => group.cancelled,
        GroupResult::Incomplete => decision.at >= group.deadline && ended < group.size,
        GroupResult::Succeeded | GroupResult::Failed => by_policy(group.policy, group.size, decision),
    }
}

/// What members, cancellations and deaths leave to be done for a group is done by a delivery soon after, not by its timer, or never.
fn account_lateness(group: &GroupSeen, ends: &Ends<'_>, within_us: u64, account: &mut Account) {
    let (Some(decision), Some(decided_us)) = (group.decision, group.decided_us) else { return };
    let id = &group.id;
    let (mut succeeded, mut failed) = (0, 0);
    for (index, name) in (0..).zip(&group.members) {
        let Some(end) = ends.get(name.as_str()).filter(|end| end.at_us + within_us <= decided_us) else {
            continue;
        };
        if is_counted_later(*end) {
            continue;
        }
        if !group.ok.contains(&index) && !group.failed.contains(&index) {
            let early_ms = (decided_us - end.at_us) / 1_000;
            let detail = format!(
                "group {id} does not count {index} (`{name}`), which ended as {} {early_ms} ms before the decision",
                end.kind
            );
            account.violation(Kind::MemberUncounted, detail);
        }
        let counter = if end.kind == OutcomeKind::Succeeded { &mut succeeded } else { &mut failed };
        *counter += 1;
    }
    let by_then = Decision { succeeded, failed, ..decision };
    let is_judged = matches!(decision.result, GroupResult::Succeeded | GroupResult::Failed);
    if decision.by == Decider::Timer && is_judged && by_policy(group.policy, group.size, by_then) {
        let detail = format!("group {id} was {} long before its timer decided it", decision.result);
        account.violation(Kind::DecidedLate, detail);
    }
    if let Some(late_us) = group.cancelled_us.and_then(|at_us| decided_us.checked_sub(at_us + within_us)) {
        let late_ms = (late_us + within_us) / 1_000;
        let detail =
            format!("group {id} was cancelled {late_ms} ms before it was decided ({})", decision.result);
        account.violation(Kind::CancelIgnored, detail);
    }
}

/// A member that was not started before its group's decision is not started after it.
fn account_starts(evidence: &Evidence, account: &mut Account) {
    let calls: HashMap<_, _> = evidence.calls.iter().map(|call| (call.id.as_str(), call)).collect();
    for group in &evidence.groups {
        let Some(read_us) = group.read_us else { continue };
        let members = group.members.iter().filter_map(|id| calls.get(id.as_str()));
        for call in members.filter(|call| is_started(call)) {
            let late_us = call.claimed_us.and_then(|claimed| claimed.checked_sub(read_us));
            if let Some(late_us) = late_us.filter(|late_us| *late_us > CHECKED_BEFORE_US) {
                let (id, late_ms) = (&call.id, late_us / 1_000);
                let detail = format!("`{id}` was claimed {late_ms} ms after group {} was decided", group.id);
                account.violation(Kind::StartedAfterDecision, detail);
            }
        }
    }
}

/// Whether a call counts only when its message is received, however long after its end: its caller has ended it in the queue. One that does not
/// fit its group, or whose group was decided, never counts.
fn is_counted_later(end: Ended) -> bool {
    [Code::CancelledByCaller, Code::GroupMismatch, Code::GroupDecided]
        .iter()
        .any(|code| end.code == Some(code.as_str()))
}

/// A member that is counted is counted as it ended.
fn account_counts(group: &GroupSeen, ends: &Ends<'_>, account: &mut Account) {
    let member = |index: &u32| group.members.get(usize::try_from(*index).ok()?);
    let wrong = |index: &&u32, as_succeeded: bool| {
        let end = member(index).and_then(|id| ends.get(id.as_str()));
        end.is_none_or(|end| (end.kind == OutcomeKind::Succeeded) != as_succeeded)
    };
    let ok = group.ok.iter().filter(|index| wrong(index, true)).map(|index| (index, "succeeded"));
    let failed = group.failed.iter().filter(|index| wrong(index, false)).map(|index| (index, "failed"));
    for (index, counted) in ok.chain(failed) {
        let name = member(index).map_or("nobody", String::as_str);
        let end = ends.get(name).map_or("not ended", |end| end.kind.as_str());
        let detail = format!("group {} counts {index} (`{name}`) as {counted}: it is {end}", group.id);
        account.violation(Kind::MemberMiscounted, detail);
    }
}

fn account_notices(group: &GroupSeen, decision: Decision, account: &mut Account) {
    let id = &group.id;
    if group.notices.is_empty() {
        account.violation(Kind::GroupNoticeLost, format!("group {id} is decided, and has no notice"));
    }
    let says = (decision.result, decision.at, decision.succeeded, decision.failed);
    let first_id = group.notices.first().map(|notice| &notice.notice_id);
    let differs = |notice: &&GroupNotice| {
        (notice.result, notice.decided_at, notice.succeeded, notice.failed) != says
            || Some(&notice.notice_id) != first_id
    };
    if let Some(notice) = group.notices.iter().find(differs) {
        let detail = format!("group {id}: a notice differs from {decision:?}: {notice:?}");
        account.violation(Kind::WrongGroupNotice, detail);
    }
}
