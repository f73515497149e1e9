//! Judges what was seen of the groups: one decision each that never changes, at least one notice, and a result that its members explain.
//!
//! **Invariant:** pure.

use std::collections::{BTreeMap, HashMap};

use toolfleet_core::group::{Decision, GroupNotice, GroupResult, GroupRow};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::{GroupKey, Policy};

use super::plan::{PlannedGroup, UNSAFE};

/// What was seen of all groups.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The first decision that was read of each group.
    pub(super) first: BTreeMap<GroupKey, Decision>,
    /// The groups of which another decision was read later.
    pub(super) changed: Vec<String>,
    /// The rows at the end.
    pub(super) rows: BTreeMap<GroupKey, GroupRow>,
    /// The notices, in the order in which they came.
    pub(super) notices: Vec<GroupNotice>,
    /// How each call ended, and how often it was executed.
    pub(super) outcomes: HashMap<String, OutcomeKind>,
    pub(super) executions: HashMap<String, u32>,
}

impl Seen {
    /// A row as it is read while the load runs.
    pub(super) fn read(&mut self, row: GroupRow) {
        if let Some(decision) = row.decision {
            let first = *self.first.entry(row.key.clone()).or_insert(decision);
            if first != decision {
                self.changed.push(format!("{}: the decision was {first:?} and became {decision:?}", row.key));
            }
        } else if let Some(first) = self.first.get(&row.key) {
            self.changed.push(format!("{}: the decision {first:?} is gone", row.key));
        }
        self.rows.insert(row.key.clone(), row);
    }

    /// The notices of a group.
    pub(super) fn notices_of(&self, key: &GroupKey) -> impl Iterator<Item = &GroupNotice> {
        self.notices.iter().filter(move |notice| {
            (&notice.tenant, &notice.group, notice.round) == (&key.tenant, &key.id, key.round)
        })
    }

    /// Whether the group is decided, its notice has come, and all its calls have ended.
    pub(super) fn is_over(&self, group: &PlannedGroup) -> bool {
        self.first.contains_key(&group.key)
            && self.notices_of(&group.key).next().is_some()
            && group.members.iter().all(|member| self.outcomes.contains_key(&member.id))
    }
}

/// Everything that is wrong.
pub(super) fn violations(planned: &[PlannedGroup], seen: &Seen) -> Vec<String> {
    let mut found = seen.changed.clone();
    for group in planned {
        let key = &group.key;
        match seen.rows.get(key) {
            None => found.push(format!("{key}: it has no row")),
            Some(row) => {
                let wrong = wrong_with(group, row, seen);
                found.extend(wrong.into_iter().map(|what| format!("{key} ({}): {what}", group.policy)));
            }
        }
        for member in &group.members {
            let times = seen.executions.get(&member.id).copied().unwrap_or(0);
            if member.tool == UNSAFE && times > 1 {
                found.push(format!("{}: it is not safe to repeat and was executed {times} times", member.id));
            }
            if !seen.outcomes.contains_key(&member.id) {
                found.push(format!("{}: it has no result", member.id));
            }
        }
    }
    found
}

fn wrong_with(group: &PlannedGroup, row: &GroupRow, seen: &Seen) -> Vec<String> {
    let Some(decision) = row.decision else { return vec!["it is not decided".to_owned()] };
    let mut wrong = Vec::new();
    let notices: Vec<_> = seen.notices_of(&group.key).collect();
    if notices.is_empty() {
        wrong.push("its notice is lost".to_owned());
    }
    let says = (decision.result, decision.at, decision.succeeded, decision.failed);
    let differs =
        |notice: &&&GroupNotice| (notice.result, notice.decided_at, notice.succeeded, notice.failed) != says;
    if let Some(notice) = notices.iter().find(differs) {
        wrong.push(format!("a notice differs from its decision {decision:?}: {notice:?}"));
    }
    wrong.extend(unexplained(group, row, decision));
    // A member that is counted is counted as it ended.
    for member in &group.members {
        let succeeded = seen.outcomes.get(&member.id) == Some(&OutcomeKind::Succeeded);
        if row.ok.contains(&member.index) && !succeeded {
            wrong.push(format!("{} counts as succeeded and did not", member.id));
        }
        if row.failed.contains(&member.index) && succeeded {
            wrong.push(format!("{} counts as failed and succeeded", member.id));
        }
    }
    let known = |index: &u32| group.members.iter().any(|member| member.index == *index);
    wrong.extend(
        row.ok
            .union(&row.failed)
            .filter(|index| !known(index))
            .map(|index| format!("no call has index {index}")),
    );
    wrong
}

/// Why the result cannot be, if it cannot.
fn unexplained(group: &PlannedGroup, row: &GroupRow, decision: Decision) -> Option<String> {
    let Decision { result, at, succeeded, failed, .. } = decision;
    let explained = match result {
        GroupResult::Cancelled => group.cancelled,
        GroupResult::Incomplete => {
            group.lacks_a_member() && at >= row.terms.deadline && succeeded + failed < group.size
        }
        GroupResult::Succeeded | GroupResult::Failed => by_policy(group.policy, group.size, decision),
    };
    (!explained).then(|| format!("its members do not explain {decision:?}"))
}

/// Whether the policy decides so, with that many members that had ended.
pub(crate) fn by_policy(policy: Policy, size: u32, decision: Decision) -> bool {
    let Decision { result, succeeded, failed, .. } = decision;
    let (good, all_ended) = (result == GroupResult::Succeeded, succeeded + failed == size);
    match policy {
        Policy::All => all_ended && good == (succeeded == size),
        Policy::Any => succeeded + failed > 0 && good == (succeeded > 0),
        Policy::FirstSuccess => (succeeded > 0 || all_ended) && good == (succeeded > 0),
        Policy::Tolerate(tolerance) => {
            let too_many = failed > tolerance.of(size);
            (too_many || all_ended) && good != too_many
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use toolfleet_core::group::{Decider, Terms};
    use toolfleet_core::ids::{CallId, GroupId, Tenant};
    use toolfleet_core::time::Timestamp;

    use super::super::plan::PlannedMember;
    use super::*;

    fn group() -> PlannedGroup {
        let key = GroupKey {
            tenant: Tenant::parse("load").unwrap(),
            id: GroupId::parse("turn-0").unwrap(),
            round: 1,
        };
        let member = |index| PlannedMember {
            id: format!("turn-0-{index}"),
            index,
            tool: UNSAFE,
            at: Duration::ZERO,
            again_at: None,
        };
        PlannedGroup {
            key,
            policy: Policy::All,
            size: 2,
            members: vec![member(0), member(1)],
            cancelled: false,
        }
    }

    fn decision() -> Decision {
        let (by, at) = (Decider::Member(1), Timestamp::from_ms(5));
        Decision { result: GroupResult::Succeeded, by, at, succeeded: 2, failed: 0 }
    }

    fn row(decision: Option<Decision>) -> GroupRow {
        let (deadline, reply) = (Timestamp::from_ms(9_000), Some("https://sqs/q".to_owned()));
        GroupRow {
            key: group().key,
            terms: Terms { size: 2, policy: Policy::All, deadline, reply },
            made_by: CallId::parse("turn-0-0").unwrap(),
            timer_sent: true,
            ok: BTreeSet::from([0, 1]),
            failed: BTreeSet::new(),
            decision,
            notified: true,
            expires_at: Timestamp::from_ms(90_000),
        }
    }

    fn seen(row: GroupRow) -> Seen {
        let mut seen = Seen::default();
        seen.notices.extend(row.notice().map(|(notice, _)| notice));
        for id in ["turn-0-0", "turn-0-1"] {
            seen.outcomes.insert(id.to_owned(), OutcomeKind::Succeeded);
            seen.executions.insert(id.to_owned(), 1);
        }
        seen.read(row);
        seen
    }

    #[test]
    fn every_planted_violation_of_a_group_is_found() {
        let good = || seen(row(Some(decision())));
        assert_eq!(violations(&[group()], &good()), Vec::<String>::new());
        assert!(good().is_over(&group()));
        let plant = |what: &str, change: &dyn Fn(&mut Seen)| {
            let mut seen = good();
            change(&mut seen);
            let found = violations(&[group()], &seen);
            assert!(found.iter().any(|text| text.contains(what)), "{what}: {found:?}");
        };
        let with = |decision: Decision| row(Some(decision));
        plant("has no row", &|seen| seen.rows.clear());
        plant("is not decided", &|seen| *seen = self::seen(row(None)));
        plant("and became", &|seen| seen.read(with(Decision { failed: 1, ..decision() })));
        plant("is gone", &|seen| seen.read(row(None)));
        plant("its notice is lost", &|seen| seen.notices.clear());
        plant("differs from its decision", &|seen| seen.notices[0].failed = 1);
        plant("do not explain", &|seen| {
            *seen = self::seen(with(Decision { succeeded: 1, ..decision() }));
        });
        plant("do not explain", &|seen| {
            *seen = self::seen(with(Decision { result: GroupResult::Cancelled, ..decision() }));
        });
        plant("do not explain", &|seen| {
            *seen = self::seen(with(Decision { result: GroupResult::Incomplete, ..decision() }));
        });
        plant("counts as succeeded and did not", &|seen| {
            seen.outcomes.insert("turn-0-1".into(), OutcomeKind::ToolError);
        });
        plant("counts as failed and succeeded", &|seen| {
            seen.rows.get_mut(&group().key).unwrap().failed.insert(0);
        });
        plant("no call has index 7", &|seen| {
            seen.rows.get_mut(&group().key).unwrap().ok.insert(7);
        });
        plant("executed 2 times", &|seen| {
            seen.executions.insert("turn-0-0".into(), 2);
        });
        plant("has no result", &|seen| {
            seen.outcomes.remove("turn-0-0");
        });
    }
}
