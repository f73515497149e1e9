//! The rules of what operators stop: such calls do not start, and only such calls are cancelled.

use toolfleet_core::outcome::Code;

use super::kind::Kind;
use super::result::Account;
use super::times::CHECKED_BEFORE_US;
use crate::chaos::evidence::{CallSeen, Evidence, Stop, Stopped};

/// Accounts for all that operators have stopped.
pub(super) fn account_stops(evidence: &Evidence, account: &mut Account) {
    for stop in &evidence.stops {
        for call in evidence.calls.iter().filter(|call| stop.which.has(call)) {
            account_attempts(stop, call, account);
        }
    }
    let is_meant = |call: &CallSeen| {
        let rules = evidence.stops.iter().filter(|stop| matches!(stop.which, Stopped::SentBefore(..)));
        rules.into_iter().any(|rule| rule.which.has(call))
    };
    let cancelled = evidence.calls.iter().filter(|call| call.ended_with(Code::CancelledByOperator));
    for call in cancelled.filter(|call| !is_meant(call)) {
        let detail = format!("`{}` was cancelled by an operator, and no rule fits it", call.id);
        account.violation(Kind::CancelledByNobody, detail);
    }
}

/// What was checked before its worker knew of the stop is sent soon after. A frozen worker knows nothing.
fn account_attempts(stop: &Stop, call: &CallSeen, account: &mut Account) {
    let from_us = stop.from_us.saturating_add(CHECKED_BEFORE_US);
    let is_stopped = |at_us: u64| from_us < at_us && at_us < stop.until_us;
    let attempts = call.attempts.iter().filter(|attempt| !attempt.after_freeze);
    if let Some(attempt) = attempts.into_iter().find(|attempt| is_stopped(attempt.at_us)) {
        let known_ms = (attempt.at_us - stop.from_us) / 1_000;
        let detail = format!(
            "`{}` was sent to its server {known_ms} ms after every worker was to know that {:?} is stopped",
            call.id, stop.which
        );
        account.violation(Kind::StartedWhilePaused, detail);
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::outcome::OutcomeKind;

    use super::*;
    use crate::chaos::evidence::{Attempt, Ended};

    /// The rules that a call of `acme` breaks, which was sent at 4 ms, while that is stopped.
    fn broken(which: Stopped, change: impl Fn(&mut CallSeen)) -> Vec<Kind> {
        let stop = Stop { which, from_us: 1_000_000, until_us: 9_000_000 };
        let mut call =
            CallSeen { tenant: "acme", server: "steady", enqueued_ms: Some(4), ..CallSeen::default() };
        change(&mut call);
        let evidence = Evidence { calls: vec![call], stops: vec![stop], ..Evidence::default() };
        let mut account = Account::default();
        account_stops(&evidence, &mut account);
        account.violations.iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn no_call_starts_while_an_operator_stops_it() {
        let started = |at_us: u64, after_freeze: bool, which: Stopped| {
            broken(which, |call| {
                call.attempts =
                    vec![Attempt { at_us: 1, after_freeze: false }, Attempt { at_us, after_freeze }];
            })
        };
        let tenant = || Stopped::Tenant("acme");
        for which in [tenant(), Stopped::Server("steady"), Stopped::SentBefore("acme", 5)] {
            assert_eq!(started(3_000_001, false, which), [Kind::StartedWhilePaused]);
        }
        assert_eq!(started(8_999_999, false, tenant()), [Kind::StartedWhilePaused]);
        assert_eq!(started(3_000_000, false, tenant()), [], "it was checked before");
        assert_eq!(started(5_000_000, true, tenant()), [], "a frozen worker knows nothing");
        assert_eq!(started(9_000_000, false, tenant()), []);
        let others = [Stopped::Tenant("blue"), Stopped::SentBefore("acme", 4), Stopped::Server("slow")];
        assert!(others.into_iter().all(|which| started(5_000_000, false, which).is_empty()));
    }

    #[test]
    fn a_rule_cancels_only_the_calls_that_fit_it() {
        let cancelled = |before_ms: i64| {
            broken(Stopped::SentBefore("acme", before_ms), |call| {
                let (kind, code) = (OutcomeKind::Cancelled, Some(Code::CancelledByOperator.as_str()));
                call.ended = Some(Ended { kind, code, may_have_run: None, own_answer: false, at_us: 0 });
            })
        };
        assert_eq!((cancelled(5), cancelled(4)), (vec![], vec![Kind::CancelledByNobody]));
    }
}
