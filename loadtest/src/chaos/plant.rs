//! Plants a violation of a chosen kind into evidence, to show that the accounting finds it.

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use super::account::Kind;
use super::evidence::{CallSeen, Ended, Evidence, Open, Start};

/// Changes the evidence so that a rule of that kind is broken; false if the run has no call to break it with.
pub fn plant(kind: Kind, evidence: &mut Evidence) -> bool {
    match kind {
        Kind::Stranger => evidence.strangers.push("a-stranger".to_owned()),
        Kind::MessagesLeft => evidence.messages_left += 1,
        Kind::DeadLetters => evidence.dead_letters += 1,
        Kind::BadExit => evidence.bad_exits.push("worker planted exited with signal: 6".to_owned()),
        Kind::NotInjected => drop(evidence.injected.insert("planted", 0)),
        Kind::OverRateByTurn | Kind::StartWithoutTurn | Kind::OverRate => plant_start(kind, evidence),
        Kind::OverConcurrency => {
            let at_us = evidence.narrow.requests.first().map_or(0, |open| open.from_us);
            let open = Open { from_us: at_us, to_us: at_us + 1, after_freeze: false };
            evidence.narrow.requests.extend(std::iter::repeat_n(open, evidence.narrow.limit + 1));
        }
        Kind::Lost
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
        | Kind::WrongNotice => {
            let Some(call) = evidence.calls.iter_mut().find(|call| is_plain(call)) else { return false };
            plant_call(kind, call);
        }
    }
    true
}

/// Whether a call is not safe to repeat, ran once, succeeded and has its notice: any change of it breaks a rule.
fn is_plain(call: &CallSeen) -> bool {
    let succeeded = call.ended.is_some_and(|ended| ended.kind == OutcomeKind::Succeeded);
    let whole = !call.safe && !call.answer_cut() && call.executions == 1 && call.notice;
    succeeded && whole && !call.notices.is_empty()
}

fn plant_start(kind: Kind, evidence: &mut Evidence) {
    let rated = &mut evidence.rated;
    let last =
        rated.starts.last().map_or(0, |start| start.at_us).max(rated.turns.last().copied().unwrap_or(0));
    // A second later, so that what was seen does not matter.
    let at_us = last + 2_000_000;
    if kind == Kind::OverRateByTurn {
        rated.turns.extend(std::iter::repeat_n(at_us, rated.limit + 1));
    } else if kind == Kind::StartWithoutTurn {
        rated.starts.push(Start { at_us, delay_us: None });
    } else {
        let start = Start { at_us, delay_us: Some(1_000) };
        rated.starts.extend(std::iter::repeat_n(start, rated.limit + 1));
    }
}

fn plant_call(kind: Kind, call: &mut CallSeen) {
    let told = |kind, may_have_run| {
        Some(Ended { kind, code: None, may_have_run: Some(may_have_run), own_answer: false })
    };
    let mut ends_as = |kind, may_have_run| {
        call.ended = told(kind, may_have_run);
        call.audits = vec![kind];
        call.notices = vec![kind];
    };
    match kind {
        Kind::UnknownNotCut => ends_as(OutcomeKind::OutcomeUnknown, MayHaveRun::Unknown),
        Kind::RanAfterAll => ends_as(OutcomeKind::Failed, MayHaveRun::No),
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
        Kind::Stranger
        | Kind::OverRateByTurn
        | Kind::StartWithoutTurn
        | Kind::OverRate
        | Kind::OverConcurrency
        | Kind::MessagesLeft
        | Kind::DeadLetters
        | Kind::BadExit
        | Kind::NotInjected => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::ValueEnum as _;

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
            }),
            audits: vec![OutcomeKind::Succeeded],
            notices: vec![OutcomeKind::Succeeded],
            ..CallSeen::default()
        }
    }

    /// What faults do to calls, and what is no violation.
    fn evidence() -> Evidence {
        let unknown = OutcomeKind::OutcomeUnknown;
        let ended =
            Ended { kind: unknown, code: None, may_have_run: Some(MayHaveRun::Unknown), own_answer: false };
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
            ],
            rated: Rated {
                limit: 4,
                turns: (0..9).map(|n| n * 300_000).collect(),
                starts: (0..9).map(start).collect(),
            },
            narrow: Narrow { limit: 2, requests: (0..9).flat_map(|n| [open(n), open(n)]).collect() },
            injected: BTreeMap::from([("kills", 2)]),
            ..Evidence::default()
        }
    }

    #[test]
    fn what_faults_may_do_to_calls_is_no_violation() {
        let account = account(&evidence());
        assert_eq!(account.violations, []);
        assert_eq!(account.unknown, ["cut at its server", "cut at its worker"]);
        assert_eq!(account.cut, account.unknown);
        assert_eq!((account.safe_repeats, account.late_answers), (2, 2));
        assert_eq!(account.outcomes["steady"]["succeeded"], 2);
    }

    #[test]
    fn a_planted_violation_of_every_kind_is_found_and_named() {
        for kind in Kind::value_variants() {
            let mut evidence = evidence();
            assert!(plant(*kind, &mut evidence), "{kind:?}");
            let found = account(&evidence).violations;
            assert!(!found.is_empty() && found.iter().all(|v| v.kind == *kind), "{kind:?}: {found:?}");
            let of_a_call = plant(*kind, &mut Evidence::default());
            assert!(of_a_call || found[0].detail.contains("`plain`"), "{found:?}");
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
}
