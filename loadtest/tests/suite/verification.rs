//! The verification: what is planted is found.

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_loadtest::faults::FaultPlan;
use toolfleet_loadtest::payload::Shape;
use toolfleet_loadtest::plan::{Mix, Planned, plan};
use toolfleet_loadtest::verify::{End, Observed, problems};

fn perfect(plan: &[Planned]) -> Observed {
    let mut seen = Observed::default();
    for call in plan {
        seen.results.insert(call.id.clone(), End { kind: call.tool.ending(), own_answer: true });
        seen.audits.insert(call.id.clone(), vec![call.tool.ending()]);
        seen.executions.insert(call.id.clone(), 1);
    }
    seen
}

fn calls(mix: &str) -> Vec<Planned> {
    plan(20, &mix.parse::<Mix>().unwrap(), 1, &Shape::default())
}

#[test]
fn a_run_as_it_should_be_has_no_problems() {
    let plan = calls("echo=1,counter=1,failing=1,slow=1,large=1");
    assert!(problems(&plan, &perfect(&plan)).is_empty());
}

#[test]
fn each_planted_deviation_is_found_and_named() {
    type Plant = fn(&mut Observed, &str);
    let cases: [(Plant, &str); 10] = [
        (|s, id| s.results.retain(|known, _| known != id), "has no result"),
        (|s, id| s.results.get_mut(id).unwrap().kind = OutcomeKind::Failed, "ended as failed"),
        (|s, id| s.results.get_mut(id).unwrap().own_answer = false, "not the answer to it"),
        (|s, id| s.audits.retain(|known, _| known != id), "has no audit record"),
        (|s, id| s.audits.get_mut(id).unwrap().push(OutcomeKind::Succeeded), "has 2 audit records"),
        (|s, id| s.audits.get_mut(id).unwrap()[0] = OutcomeKind::Failed, "is audited as failed"),
        (|s, id| *s.executions.get_mut(id).unwrap() = 2, "was executed 2 times"),
        (|s, id| s.executions.retain(|known, _| known != id), "was never executed"),
        (|s, id| s.other_audits.push((AuditKind::LateAnswer, id.into())), "late_answer"),
        (
            |s, id| {
                s.results.get_mut(id).unwrap().kind = OutcomeKind::OutcomeUnknown;
                s.audits.get_mut(id).unwrap()[0] = OutcomeKind::OutcomeUnknown;
            },
            "ended as outcome_unknown",
        ),
    ];
    for mix in ["counter=1", "echo=1"] {
        let plan = calls(mix);
        let id = &plan[3].id;
        for (plant, expected) in cases {
            let mut seen = perfect(&plan);
            plant(&mut seen, id);
            let found = problems(&plan, &seen);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].contains(id) && found[0].contains(expected), "{found:?}");
        }
    }
}

#[test]
fn what_nobody_called_and_what_is_left_in_a_queue_is_found() {
    let plan = calls("echo=1");
    let mut seen = Observed { left: 2, dead: 1, ..perfect(&plan) };
    seen.executions.insert("stranger".into(), 1);
    seen.audits.insert("stranger".into(), vec![OutcomeKind::Succeeded]);
    let found = problems(&plan, &seen);
    let expected = [
        "`stranger` was executed",
        "`stranger` is audited",
        "2 messages are left in the queue",
        "1 messages are left in the dead-letter queue",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

fn after(deaths: &str, plan: &[Planned]) -> Observed {
    Observed { allowed: deaths.parse::<FaultPlan>().unwrap().allowed(), ..perfect(plan) }
}

#[test]
fn a_kill_excuses_a_doubt_and_a_repeated_safe_call_but_never_a_repeated_unsafe_one() {
    let plan = calls("counter=1");
    let id = plan[0].id.clone();
    let mut seen = after("kill", &plan);
    seen.results.insert(id.clone(), End { kind: OutcomeKind::OutcomeUnknown, own_answer: false });
    seen.audits.insert(id.clone(), vec![OutcomeKind::OutcomeUnknown]);
    assert!(problems(&plan, &seen).is_empty());
    seen.executions.insert(id.clone(), 0);
    assert!(problems(&plan, &seen).is_empty());
    seen.executions.insert(id, 2);
    assert_eq!(problems(&plan, &seen).len(), 1);

    let plan = calls("echo=1");
    let mut seen = after("kill", &plan);
    seen.executions.insert(plan[0].id.clone(), 2);
    assert!(problems(&plan, &seen).is_empty());
    seen.results.get_mut(&plan[0].id).unwrap().kind = OutcomeKind::OutcomeUnknown;
    assert_eq!(problems(&plan, &seen).len(), 1);
}

#[test]
fn a_worker_that_leaves_when_told_to_excuses_nothing() {
    let plan = calls("echo=1");
    let mut seen = after("term", &plan);
    seen.executions.insert(plan[0].id.clone(), 2);
    seen.incidents.push("worker load-1 was told to leave and left with code 1".into());
    let found = problems(&plan, &seen);
    assert!(found[0].contains("was executed 2 times") && found[1].contains("load-1"), "{found:?}");
}

#[test]
fn a_late_answer_is_excused_after_a_standstill_once_for_each_execution_and_never_for_a_stranger() {
    let plan = calls("echo=1");
    let id = plan[0].id.clone();
    let late = |id: &str| (AuditKind::LateAnswer, id.to_owned());
    let mut seen = after("stop", &plan);
    seen.executions.insert(id.clone(), 2);
    seen.other_audits.push(late(&id));
    assert!(problems(&plan, &seen).is_empty());
    seen.other_audits.push(late(&id));
    assert!(problems(&plan, &seen)[0].contains("3 answers"));
    seen.other_audits = vec![late("stranger")];
    assert!(problems(&plan, &seen)[0].contains("`stranger` has an audit record"));
    let seen = Observed { other_audits: vec![late(&id)], ..after("kill", &plan) };
    assert!(!problems(&plan, &seen).is_empty());
}
