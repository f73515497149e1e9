//! The rules of times: no call starts before its instant, a newer call replaces those that were not started, and calls and groups end at their deadlines.

use std::collections::BTreeMap;

use toolfleet_core::outcome::Code;

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{CallSeen, Evidence};

/// Two clocks of one machine, read in milliseconds, differ by so much.
const CLOCKS_US: u64 = 2_000;
/// A call that was checked before a newer one came is claimed so much later at most.
pub(super) const CHECKED_BEFORE_US: u64 = 2_000_000;

/// No call starts before the instant that it names.
pub(super) fn account_early(evidence: &Evidence, account: &mut Account) {
    for call in &evidence.calls {
        if let (Some(first), Some(not_before)) = (call.first_request_us, call.not_before_us)
            && first + CLOCKS_US < not_before
        {
            let detail = format!("`{}` started {} ms early", call.id, (not_before - first) / 1_000);
            account.violation(Kind::StartedEarly, detail);
        }
    }
}

/// A call is replaced only by a newer one, and does not start long after it.
pub(super) fn account_replaced(evidence: &Evidence, account: &mut Account) {
    let mut families: BTreeMap<(&str, &str), Vec<&CallSeen>> = BTreeMap::new();
    for call in &evidence.calls {
        if let Some(key) = &call.supersede {
            families.entry((call.tenant, key)).or_default().push(call);
        }
    }
    for call in &evidence.calls {
        let of_key = call.supersede.as_ref().and_then(|key| families.get(&(call.tenant, key.as_str())));
        let newer = || of_key.into_iter().flatten().filter(|other| is_newer(other, call));
        let id = &call.id;
        if call.ended_with(Code::Superseded) && newer().next().is_none() {
            account.violation(
                Kind::ReplacedByNone,
                format!("`{id}` was replaced, and is the newest of its key"),
            );
        }
        let ran = is_started(call);
        let stale = |other: &&&CallSeen| {
            let started = other.first_request_us.map(|first| first + CHECKED_BEFORE_US);
            call.claimed_us.zip(started).is_some_and(|(claimed, started)| claimed > started)
        };
        if let Some(other) = newer().find(stale).filter(|_| ran) {
            let detail = format!("`{id}` was claimed long after `{}` of its key had started", other.id);
            account.violation(Kind::StaleStart, detail);
        }
    }
}

/// Calls end, and groups are decided, at their deadlines: whoever dies with the message then, another worker has it soon after.
pub(super) fn account_late(evidence: &Evidence, account: &mut Account) {
    let within_us = evidence.redelivered_within_us;
    for call in &evidence.calls {
        let Some((ended, due_us)) = call.ended.zip(call.due_us) else { continue };
        let late_us = ended.at_us.saturating_sub(due_us);
        account.latest_end_us = account.latest_end_us.max(late_us);
        if late_us > within_us {
            let (id, late_ms) = (&call.id, late_us / 1_000);
            let detail = format!("`{id}` ended as {} {late_ms} ms after its time was up", ended.kind);
            account.violation(Kind::EndedLate, detail);
        }
    }
    for group in &evidence.groups {
        let Some((decided_us, due_us)) = group.decided_us.zip(group.due_us) else { continue };
        let late_us = decided_us.saturating_sub(due_us);
        account.latest_decision_us = account.latest_decision_us.max(late_us);
        if late_us > within_us {
            let result = group.decision.map_or("nothing", |decision| decision.result.as_str());
            let detail = format!(
                "group {} was decided as {result} {} ms after its time was up",
                group.id,
                late_us / 1_000
            );
            account.violation(Kind::IncompleteLate, detail);
        }
    }
}

/// Whether its first claim was used: a call that has ended is claimed in vain when its message comes again.
pub(super) const fn is_started(call: &CallSeen) -> bool {
    call.requests > 0 && !call.answer_cut()
}

/// Whether the message of that call was sent later.
fn is_newer(other: &CallSeen, call: &CallSeen) -> bool {
    let order = |call: &CallSeen| call.enqueued_ms.map(|sent| (sent, call.id.clone()));
    other.id != call.id && other.sent && order(other).is_none_or(|other| Some(other) > order(call))
}

#[cfg(test)]
mod tests {
    use toolfleet_core::outcome::OutcomeKind;

    use super::*;
    use crate::chaos::evidence::Ended;

    #[test]
    fn a_call_ends_soon_after_its_time_is_up() {
        let late = |late_us: u64| {
            let (kind, at_us) = (OutcomeKind::Expired, 100 + late_us);
            let ended = Some(Ended { kind, code: None, may_have_run: None, own_answer: false, at_us });
            let call = CallSeen { due_us: Some(100), ended, ..CallSeen::default() };
            let evidence = Evidence { calls: vec![call], redelivered_within_us: 7, ..Evidence::default() };
            let mut account = Account::default();
            account_late(&evidence, &mut account);
            (account.latest_end_us, account.violations.iter().map(|broken| broken.kind).collect::<Vec<_>>())
        };
        assert_eq!(late(7), (7, vec![]));
        assert_eq!(late(8), (8, vec![Kind::EndedLate]));
    }
}
