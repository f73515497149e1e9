//! The rules of groups: one decision that never changes and that the members explain, and a notice that says the same.

use std::collections::{HashMap, HashSet};

use toolfleet_core::group::{Decision, GroupNotice, GroupResult};
use toolfleet_core::outcome::{Code, OutcomeKind};

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{Evidence, GroupSeen};
use crate::flow::groups::verdict::by_policy;

type Ends<'a> = HashMap<&'a str, OutcomeKind>;

/// Accounts for all groups, and for the calls that ended because of a decision.
pub(super) fn account_groups(evidence: &Evidence, account: &mut Account) {
    let ended = evidence.calls.iter().filter_map(|call| Some((call.id.as_str(), call.ended?.kind)));
    let ends: Ends<'_> = ended.collect();
    for group in &evidence.groups {
        account_group(group, &ends, account);
    }
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

/// A member that is counted is counted as it ended.
fn account_counts(group: &GroupSeen, ends: &Ends<'_>, account: &mut Account) {
    let member = |index: &u32| group.members.get(usize::try_from(*index).ok()?);
    let wrong = |index: &&u32, as_succeeded: bool| {
        let end = member(index).and_then(|id| ends.get(id.as_str()));
        end.is_none_or(|end| (*end == OutcomeKind::Succeeded) != as_succeeded)
    };
    let ok = group.ok.iter().filter(|index| wrong(index, true)).map(|index| (index, "succeeded"));
    let failed = group.failed.iter().filter(|index| wrong(index, false)).map(|index| (index, "failed"));
    for (index, counted) in ok.chain(failed) {
        let name = member(index).map_or("nobody", String::as_str);
        let end = ends.get(name).map_or("not ended", |end| end.as_str());
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
