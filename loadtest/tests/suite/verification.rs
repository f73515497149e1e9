//! The verification: a planted violation of each check is found and named.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_loadtest::faults::FaultPlan;
use toolfleet_loadtest::payload::Shape;
use toolfleet_loadtest::plan::{Mix, Planned, plan};
use toolfleet_loadtest::verify::{CallEnd, Check, Observed, Violation, violations};

fn perfect(plan: &[Planned]) -> Observed {
    let mut observed = Observed::default();
    for call in plan {
        observed.results.insert(call.id.clone(), CallEnd { kind: call.tool.ending(), own_answer: true });
        observed.audits.insert(call.id.clone(), vec![call.tool.ending()]);
        observed.executions.insert(call.id.clone(), 1);
    }
    observed
}

fn calls(mix: &str) -> Vec<Planned> {
    plan(20, &mix.parse::<Mix>().unwrap(), 1, &Shape::default())
}

fn after(faults: &str, plan: &[Planned]) -> Observed {
    Observed { allowed: faults.parse::<FaultPlan>().unwrap().allowed_anomalies(), ..perfect(plan) }
}

fn checks(plan: &[Planned], observed: &Observed) -> Vec<Check> {
    violations(plan, observed).iter().map(|found| found.check).collect()
}

/// Plants a violation of that check in an otherwise perfect run, and returns what must stand in its text.
fn plant(check: Check, tool: &str) -> (Vec<Planned>, Observed, String) {
    let plan = calls(&format!("{tool}=1"));
    let id = plan[3].id.clone();
    let mut observed = perfect(&plan);
    let kind = |observed: &mut Observed, kind| observed.results.get_mut(&id).unwrap().kind = kind;
    let text = match check {
        Check::LostCall => {
            observed.results.remove(&id);
            "has no result"
        }
        Check::WrongOutcome => {
            kind(&mut observed, OutcomeKind::Failed);
            "ended as failed"
        }
        Check::WrongResult => {
            observed.results.get_mut(&id).unwrap().own_answer = false;
            "not the answer to it"
        }
        Check::MissingAudit => {
            observed.audits.remove(&id);
            "has no audit record"
        }
        Check::ExtraAudit => {
            observed.audits.get_mut(&id).unwrap().push(OutcomeKind::Succeeded);
            "has 2 audit records"
        }
        Check::WrongAudit => {
            observed.audits.get_mut(&id).unwrap()[0] = OutcomeKind::Failed;
            "is audited as failed"
        }
        Check::UnsafeRepeated | Check::SafeRepeated => {
            observed.executions.insert(id.clone(), 2);
            "was executed 2 times"
        }
        Check::NeverExecuted => {
            observed.executions.remove(&id);
            "was never executed"
        }
        Check::TooManyAnswers => {
            observed.allowed = "stop".parse::<FaultPlan>().unwrap().allowed_anomalies();
            observed.other_audits.push((AuditKind::LateAnswer, id.clone()));
            "has 2 answers"
        }
        Check::UnknownExecution => {
            observed.executions.insert("stranger".into(), 1);
            "`stranger` was executed"
        }
        Check::UnknownAudit => {
            observed.audits.insert("stranger".into(), vec![OutcomeKind::Succeeded]);
            "`stranger` is audited"
        }
        Check::UnexpectedAudit => {
            observed.other_audits.push((AuditKind::LateAnswer, id.clone()));
            "an audit record of kind late_answer"
        }
        Check::MessagesLeft => {
            observed.messages_left = 2;
            "2 messages are left in the queue"
        }
        Check::DeadLetters => {
            observed.dead_letters = 1;
            "1 messages are left in the dead-letter queue"
        }
        Check::WorkerExit => {
            observed.during_load.extend(Violation::of_exit("load-1", ExitStatus::from_raw(1 << 8)));
            "worker load-1 got SIGTERM and exited with exit status: 1"
        }
        Check::MessagesHidden => {
            observed.during_load.extend(Violation::of_hidden_messages("load-1", 3, 4));
            "worker load-1 left 3 messages hidden"
        }
        Check::NotInTime => {
            observed.during_load.push(Violation::not_in_time(300, 19, 20));
            "given up after 300 s: 19 of 20 calls have ended"
        }
    };
    (plan, observed, text.to_owned())
}

#[test]
fn a_perfect_run_has_no_violations() {
    let plan = calls("echo=1,counter=1,failing=1,slow=1,large=1");
    assert!(violations(&plan, &perfect(&plan)).is_empty());
    assert_eq!(Violation::of_exit("load-1", ExitStatus::from_raw(0)), None);
    assert_eq!(Violation::of_hidden_messages("load-1", 0, 4), None);
}

#[test]
fn a_planted_violation_of_each_check_is_found_by_name() {
    for check in Check::ALL {
        for tool in ["counter", "echo"] {
            let (plan, observed, text) = plant(check, tool);
            let expected = match (check, tool) {
                (Check::UnsafeRepeated | Check::SafeRepeated, "echo") => Check::SafeRepeated,
                (Check::UnsafeRepeated | Check::SafeRepeated, _) => Check::UnsafeRepeated,
                _ => check,
            };
            let found = violations(&plan, &observed);
            assert_eq!(found.len(), 1, "{check:?}: {found:?}");
            assert_eq!(found[0].check, expected, "{found:?}");
            let shown = found[0].to_string();
            assert!(
                shown.starts_with(&format!("[{}] ", expected.name())) && shown.contains(&text),
                "{shown}"
            );
        }
    }
}

#[test]
fn a_violation_of_a_call_names_the_call() {
    let of_calls = [
        Check::LostCall,
        Check::WrongOutcome,
        Check::WrongResult,
        Check::MissingAudit,
        Check::ExtraAudit,
        Check::WrongAudit,
        Check::UnsafeRepeated,
        Check::NeverExecuted,
        Check::TooManyAnswers,
        Check::UnexpectedAudit,
    ];
    for check in of_calls {
        let (plan, observed, _) = plant(check, "counter");
        let found = violations(&plan, &observed);
        assert!(found[0].detail.contains(&plan[3].id), "{found:?}");
    }
}

#[test]
fn every_check_is_listed_once_under_its_own_name() {
    let names: HashSet<_> = Check::ALL.map(Check::name).into_iter().collect();
    assert_eq!(names.len(), Check::ALL.len());
}

#[test]
fn outcome_unknown_without_a_fault_is_a_wrong_outcome() {
    for tool in ["counter", "echo"] {
        let plan = calls(&format!("{tool}=1"));
        let mut observed = perfect(&plan);
        observed.results.get_mut(&plan[3].id).unwrap().kind = OutcomeKind::OutcomeUnknown;
        observed.audits.insert(plan[3].id.clone(), vec![OutcomeKind::OutcomeUnknown]);
        let found = violations(&plan, &observed);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].detail.contains(&plan[3].id) && found[0].detail.contains("ended as outcome_unknown")
        );
    }
}

#[test]
fn all_violations_of_a_run_are_listed_in_order() {
    let plan = calls("echo=1");
    let mut observed = Observed { messages_left: 2, dead_letters: 1, ..perfect(&plan) };
    observed.executions.insert("stranger".into(), 1);
    observed.audits.insert("stranger".into(), vec![OutcomeKind::Succeeded]);
    let expected = [Check::UnknownExecution, Check::UnknownAudit, Check::MessagesLeft, Check::DeadLetters];
    assert_eq!(checks(&plan, &observed), expected);
}

#[test]
fn a_kill_allows_unknown_outcomes_of_unsafe_calls_and_repeated_safe_ones() {
    let plan = calls("counter=1");
    let id = plan[0].id.clone();
    let mut observed = after("kill", &plan);
    observed.results.insert(id.clone(), CallEnd { kind: OutcomeKind::OutcomeUnknown, own_answer: false });
    observed.audits.insert(id.clone(), vec![OutcomeKind::OutcomeUnknown]);
    assert!(violations(&plan, &observed).is_empty());
    observed.executions.insert(id.clone(), 0);
    assert!(violations(&plan, &observed).is_empty());
    observed.executions.insert(id, 2);
    assert_eq!(checks(&plan, &observed), [Check::UnsafeRepeated]);

    let plan = calls("echo=1");
    let mut observed = after("kill", &plan);
    observed.executions.insert(plan[0].id.clone(), 2);
    assert!(violations(&plan, &observed).is_empty());
    observed.results.get_mut(&plan[0].id).unwrap().kind = OutcomeKind::OutcomeUnknown;
    assert_eq!(checks(&plan, &observed), [Check::WrongOutcome]);
}

#[test]
fn a_drained_worker_allows_no_anomaly() {
    let plan = calls("echo=1");
    let mut observed = after("term", &plan);
    observed.executions.insert(plan[0].id.clone(), 2);
    observed.during_load.extend(Violation::of_exit("load-1", ExitStatus::from_raw(1 << 8)));
    assert_eq!(checks(&plan, &observed), [Check::SafeRepeated, Check::WorkerExit]);
}

#[test]
fn a_stopped_worker_allows_one_late_answer_for_each_execution() {
    let plan = calls("echo=1");
    let id = plan[0].id.clone();
    let late = |id: &str| (AuditKind::LateAnswer, id.to_owned());
    let mut observed = after("stop", &plan);
    observed.executions.insert(id.clone(), 2);
    observed.other_audits.push(late(&id));
    assert!(violations(&plan, &observed).is_empty());
    observed.other_audits.push(late(&id));
    let found = violations(&plan, &observed);
    assert!(found[0].check == Check::TooManyAnswers && found[0].detail.contains("3 answers"), "{found:?}");
    observed.other_audits = vec![late("stranger")];
    assert!(violations(&plan, &observed)[0].detail.contains("`stranger` has an audit record"));
    let observed = Observed { other_audits: vec![late(&id)], ..after("kill", &plan) };
    assert_eq!(checks(&plan, &observed), [Check::UnexpectedAudit]);
}
