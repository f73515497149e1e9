//! The rules of calls that wait: none starts before its instant, and a newer call replaces those that were not started.

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

/// Whether its first claim was used: a call that has ended is claimed in vain when its message comes again.
pub(super) const fn is_started(call: &CallSeen) -> bool {
    call.requests > 0 && !call.answer_cut()
}

/// Whether the message of that call was sent later.
fn is_newer(other: &CallSeen, call: &CallSeen) -> bool {
    let order = |call: &CallSeen| call.enqueued_ms.map(|sent| (sent, call.id.clone()));
    other.id != call.id && other.sent && order(other).is_none_or(|other| Some(other) > order(call))
}
