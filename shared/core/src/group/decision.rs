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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Terms;
    use super::*;
    use crate::ids::{CallId, GroupId, Tenant};
    use crate::request::Tolerance;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn row(size: u32, policy: Policy, ok: &[u32], failed: &[u32]) -> GroupRow {
        let set = |of: &[u32]| of.iter().copied().collect::<BTreeSet<u32>>();
        GroupRow {
            key: GroupKey {
                tenant: Tenant::parse("acme").unwrap(),
                id: GroupId::parse("g").unwrap(),
                round: 1,
            },
            terms: Terms { size, policy, deadline: at(1_000), reply: None },
            made_by: CallId::parse("c").unwrap(),
            timer_sent: true,
            ok: set(ok),
            failed: set(failed),
            decision: None,
            notified: false,
            expires_at: at(9_000),
        }
    }

    #[test]
    fn each_policy_decides_at_its_moment() {
        use GroupResult::{Failed, Succeeded};
        let tolerate = |n| Policy::Tolerate(Tolerance::Count(n));
        type Case<'a> = (Policy, &'a [u32], &'a [u32], Option<GroupResult>);
        let cases: [Case<'_>; 14] = [
            (Policy::All, &[0, 1], &[], None),
            (Policy::All, &[0, 1, 2], &[], Some(Succeeded)),
            (Policy::All, &[0, 1], &[2], Some(Failed)),
            (Policy::Any, &[], &[], None),
            (Policy::Any, &[1], &[], Some(Succeeded)),
            (Policy::Any, &[], &[1], Some(Failed)),
            (Policy::FirstSuccess, &[], &[0, 1], None),
            (Policy::FirstSuccess, &[2], &[0, 1], Some(Succeeded)),
            (Policy::FirstSuccess, &[], &[0, 1, 2], Some(Failed)),
            (tolerate(0), &[0], &[1], Some(Failed)),
            (tolerate(1), &[0], &[1], None),
            (tolerate(1), &[0, 2], &[1], Some(Succeeded)),
            (tolerate(1), &[], &[0, 1], Some(Failed)),
            (Policy::Tolerate(Tolerance::Percent(34)), &[0, 1], &[2], Some(Succeeded)),
        ];
        for (policy, ok, failed, expected) in cases {
            let decided = decide(&row(3, policy, ok, failed), Occasion::Counted(1), at(5));
            assert_eq!(decided.map(|decision| decision.result), expected, "{policy} {ok:?} {failed:?}");
        }
    }

    #[test]
    fn the_timer_decides_only_at_the_deadline_and_a_cancellation_at_once() {
        let open = row(3, Policy::All, &[0], &[1]);
        assert_eq!(decide(&open, Occasion::Timer, at(999)), None);
        let decision = decide(&open, Occasion::Timer, at(1_000)).unwrap();
        let expected = (GroupResult::Incomplete, Decider::Timer, 1, 1);
        assert_eq!((decision.result, decision.by, decision.succeeded, decision.failed), expected);
        let cancelled = decide(&open, Occasion::Cancel, at(5)).unwrap();
        assert_eq!((cancelled.result, cancelled.by), (GroupResult::Cancelled, Decider::Cancel));
        // All have ended, and the member that would have decided died.
        let ended = row(2, Policy::All, &[0, 1], &[]);
        assert_eq!(decide(&ended, Occasion::Timer, at(1_000)).unwrap().result, GroupResult::Succeeded);
        let decided = GroupRow { decision: Some(decision), ..ended };
        for occasion in [Occasion::Counted(0), Occasion::Timer, Occasion::Cancel] {
            assert_eq!(decide(&decided, occasion, at(2_000)), None, "{occasion:?}");
        }
    }

    fn policies() -> impl Strategy<Value = Policy> {
        prop_oneof![
            Just(Policy::All),
            Just(Policy::Any),
            Just(Policy::FirstSuccess),
            (0_u32..=12).prop_map(|n| Policy::Tolerate(Tolerance::Count(n))),
            (0_u32..=100).prop_map(|n| Policy::Tolerate(Tolerance::Percent(n))),
        ]
    }

    proptest! {
        /// A group whose members all end is decided at the latest by the last one, and not before the first.
        #[test]
        fn every_group_whose_members_end_is_decided(
            policy in policies(),
            ends in proptest::collection::vec(any::<bool>(), 1..12),
        ) {
            let size = u32::try_from(ends.len()).unwrap();
            let mut row = row(size, policy, &[], &[]);
            let mut first = None;
            for (index, good) in (0..).zip(&ends) {
                prop_assert!(index > 0 || decide(&row, Occasion::Counted(0), at(1)).is_none());
                if *good { row.ok.insert(index) } else { row.failed.insert(index) };
                let due = decide(&row, Occasion::Counted(index), at(1));
                // Once due, it stays due with the same result, whoever looks.
                if let Some(result) = first {
                    prop_assert!(due.is_some());
                    if !matches!(policy, Policy::Any) {
                        prop_assert_eq!(due.unwrap().result, result);
                    }
                }
                first = first.or(due.map(|decision| decision.result));
            }
            let failed = u32::try_from(ends.iter().filter(|good| !**good).count()).unwrap();
            let expected = match policy {
                Policy::All => failed == 0,
                Policy::Any => ends[0],
                Policy::FirstSuccess => failed < size,
                Policy::Tolerate(tolerance) => failed <= tolerance.of(size),
            };
            prop_assert_eq!(first, Some(if expected { GroupResult::Succeeded } else { GroupResult::Failed }));
        }
    }
}
