//! Owns the verification: every call has one result, one audit record and the executions it may have.
//!
//! **Invariant:** pure; what is not as it should be is named, and nothing is excused that the contract does not excuse.

use std::collections::HashMap;

use toolfleet_core::outcome::OutcomeKind;

use crate::plan::Planned;

/// What was seen of a run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How each call ended.
    pub(crate) results: HashMap<String, OutcomeKind>,
    /// How each audit record of a call says it ended.
    pub(crate) audits: HashMap<String, Vec<OutcomeKind>>,
    /// How often each call was executed.
    pub(crate) executions: HashMap<String, u32>,
    /// Whether a worker was killed on purpose.
    pub(crate) killed: bool,
}

/// Everything that is not as it should be.
pub(crate) fn problems(plan: &[Planned], seen: &Seen) -> Vec<String> {
    plan.iter()
        .filter_map(|call| problem(call, seen).map(|p| format!("{} ({}): {p}", call.id, call.tool.name())))
        .collect()
}

fn problem(call: &Planned, seen: &Seen) -> Option<String> {
    let Some(result) = seen.results.get(&call.id) else { return Some("has no result".into()) };
    let executions = seen.executions.get(&call.id).copied().unwrap_or(0);
    // A killed worker leaves a doubt about a call that is not safe to repeat: said, not repeated.
    let doubt = seen.killed && !call.tool.is_safe() && *result == OutcomeKind::OutcomeUnknown;
    if *result != call.tool.ending() && !doubt {
        return Some(format!("ended as {result}, not as {}", call.tool.ending()));
    }
    match seen.audits.get(&call.id).map(Vec::as_slice) {
        Some([audited]) if audited == result => {}
        Some([audited]) => return Some(format!("is audited as {audited} and ended as {result}")),
        Some(several) => return Some(format!("has {} audit records", several.len())),
        None => return Some("has no audit record".into()),
    }
    if executions > 1 && (!call.tool.is_safe() || !seen.killed) {
        return Some(format!("was executed {executions} times"));
    }
    (executions == 0 && !doubt).then(|| "was never executed".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Mix, plan};

    fn perfect(plan: &[Planned]) -> Seen {
        let mut seen = Seen::default();
        for call in plan {
            seen.results.insert(call.id.clone(), call.tool.ending());
            seen.audits.insert(call.id.clone(), vec![call.tool.ending()]);
            seen.executions.insert(call.id.clone(), 1);
        }
        seen
    }

    fn calls(mix: &str) -> Vec<Planned> {
        plan(20, &mix.parse::<Mix>().unwrap(), 1)
    }

    #[test]
    fn a_run_as_it_should_be_has_no_problems() {
        let plan = calls("echo=1,counter=1,failing=1");
        assert!(problems(&plan, &perfect(&plan)).is_empty());
    }

    #[test]
    fn each_deviation_is_found_and_named() {
        let plan = calls("counter=1");
        let id = plan[3].id.clone();
        type Change = fn(&mut Seen, &str);
        let cases: [(Change, &str); 6] = [
            (
                |s, id| {
                    s.results.remove(id);
                },
                "has no result",
            ),
            (
                |s, id| {
                    s.audits.remove(id);
                },
                "has no audit record",
            ),
            (|s, id| s.audits.get_mut(id).unwrap().push(OutcomeKind::Succeeded), "has 2 audit records"),
            (
                |s, id| {
                    s.executions.insert(id.into(), 2);
                },
                "was executed 2 times",
            ),
            (
                |s, id| {
                    s.executions.remove(id);
                },
                "was never executed",
            ),
            (
                |s, id| {
                    s.results.insert(id.into(), OutcomeKind::Failed);
                },
                "ended as failed",
            ),
        ];
        for (change, expected) in cases {
            let mut seen = perfect(&plan);
            change(&mut seen, &id);
            let found = problems(&plan, &seen);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].contains(&id) && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn a_kill_excuses_a_doubt_and_a_repeated_safe_call_but_never_a_repeated_unsafe_one() {
        let plan = calls("counter=1");
        let id = plan[0].id.clone();
        let mut seen = Seen { killed: true, ..perfect(&plan) };
        seen.results.insert(id.clone(), OutcomeKind::OutcomeUnknown);
        seen.audits.insert(id.clone(), vec![OutcomeKind::OutcomeUnknown]);
        assert!(problems(&plan, &seen).is_empty());
        seen.executions.insert(id, 2);
        assert_eq!(problems(&plan, &seen).len(), 1);

        let plan = calls("echo=1");
        let mut seen = Seen { killed: true, ..perfect(&plan) };
        seen.executions.insert(plan[0].id.clone(), 2);
        assert!(problems(&plan, &seen).is_empty());
    }
}
