//! When a group is decided, and how.

use super::row::{Decider, Decision, GroupResult, GroupRow};
use crate::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use crate::request::{GroupKey, Policy};
use crate::time::Timestamp;

/// Why a group is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The member of that index has ended and is counted.
    Counted(u32),
    /// The timer.
    Timer,
    /// Its caller cancels it.
    Cancel,
}

/// The decision that is due. `None` while members are awaited, and where the group is decided.
pub fn decide(row: &GroupRow, occasion: Occasion, now: Timestamp) -> Option<Decision> {
    if row.decision.is_some() {
        return None;
    }
    let by_policy = by_policy(row);
    let (result, by) = match occasion {
        Occasion::Counted(index) => (by_policy?, Decider::Member(index)),
        // What the policy says comes first: the member that would have decided may have died.
        Occasion::Timer if row.terms.deadline <= now => {
            (by_policy.unwrap_or(GroupResult::Incomplete), Decider::Timer)
        }
        Occasion::Timer => return None,
        Occasion::Cancel => (by_policy.unwrap_or(GroupResult::Cancelled), Decider::Cancel),
    };
    let (succeeded, failed) = counts(row);
    Some(Decision { result, by, at: now, succeeded, failed })
}

/// How many members succeeded, and how many ended otherwise. A member that is in both sets succeeded.
fn counts(row: &GroupRow) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(row.ok.len()), count(row.failed.difference(&row.ok).count()))
}

/// What the policy says of the members that have ended.
fn by_policy(row: &GroupRow) -> Option<GroupResult> {
    let size = row.terms.size;
    let ((succeeded, failed), all_ended) = (counts(row), row.open() == 0);
    let judged = |good: bool| if good { GroupResult::Succeeded } else { GroupResult::Failed };
    match row.terms.policy {
        Policy::All => all_ended.then(|| judged(succeeded >= size)),
        // Where two have ended at once, one that succeeded counts first.
        Policy::Any => (succeeded + failed > 0).then(|| judged(succeeded > 0)),
        Policy::FirstSuccess => (succeeded > 0 || all_ended).then(|| judged(succeeded > 0)),
        Policy::Tolerate(tolerance) => {
            let too_many = failed > tolerance.of(size);
            (too_many || all_ended).then(|| judged(!too_many))
        }
    }
}

/// The end of a call whose group was decided before it ended.
pub fn ended_by_decision(key: &GroupKey, result: GroupResult, may_have_run: bool) -> Outcome {
    let (when, may_have_run) = if may_have_run {
        ("while this call ran; whether the tool had an effect is not known", MayHaveRun::Unknown)
    } else {
        ("before this call was started; nothing was sent to the tool", MayHaveRun::No)
    };
    let text = format!("Group `{}` was decided ({result}) {when}.", key.id);
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::GroupDecided, text, may_have_run))
}
