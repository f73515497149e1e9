//! The rules of answers and requests that several calls share.

use std::collections::{BTreeMap, HashMap};

use toolfleet_core::outcome::OutcomeKind;

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{CallSeen, Evidence};
use crate::chaos::plan::MOST_IN_BATCH;

/// A stored answer is that of an equal call which succeeded, and the call that was given it did not run.
pub(super) fn account_stored(evidence: &Evidence, account: &mut Account) {
    let calls: HashMap<_, _> = evidence.calls.iter().map(|call| (call.id.as_str(), call)).collect();
    for call in &evidence.calls {
        let (id, Some(from)) = (&call.id, &call.cached_from) else { continue };
        account.stored += 1;
        if let Some(why) = calls.get(from.as_str()).map_or(Some("was never sent"), |from| differs(call, from))
        {
            let detail = format!("`{id}` was given the stored answer of `{from}`, which {why}");
            account.violation(Kind::ForeignAnswer, detail);
        }
        if call.executions > 0 && !call.answer_cut() && !call.claimless {
            account.violation(Kind::StoredAndRan, format!("`{id}` was given a stored answer, and ran"));
        }
    }
}

/// Why a call may not have the stored answer of that one.
fn differs(call: &CallSeen, from: &CallSeen) -> Option<&'static str> {
    if from.tenant != call.tenant {
        Some("is of another tenant")
    } else if from.question.is_none() || from.question != call.question {
        Some("asked something else")
    } else if from.ended.is_none_or(|ended| ended.kind != OutcomeKind::Succeeded) {
        Some("did not succeed")
    } else if from.cached_from.is_some() {
        Some("was given a stored answer itself")
    } else if from.answer_of != call.answer_of {
        Some("has another answer")
    } else {
        None
    }
}

/// One answer is only for calls of one tenant with one question.
pub(super) fn account_shared(evidence: &Evidence, account: &mut Account) {
    let mut askers: BTreeMap<usize, &CallSeen> = BTreeMap::new();
    for call in &evidence.calls {
        let Some(answer) = call.answer_of else { continue };
        let first = *askers.entry(answer).or_insert(call);
        if (first.tenant, &first.question) != (call.tenant, &call.question) {
            let detail = format!(
                "`{}` of {} has the answer of `{}` of {}",
                call.id, call.tenant, first.id, first.tenant
            );
            account.violation(Kind::SharedAcross, detail);
        }
    }
}

/// One request serves only calls of one tenant to one server, and not too many.
pub(super) fn account_batches(evidence: &Evidence, account: &mut Account) {
    let calls: HashMap<_, _> = evidence.calls.iter().map(|call| (call.id.as_str(), call)).collect();
    for request in &evidence.shared {
        let of = |id: &String| calls.get(id.as_str()).map(|call| (call.tenant, call.server));
        let first = request.calls.first().and_then(of);
        if request.calls.len() > MOST_IN_BATCH || request.calls.iter().any(|id| of(id) != first) {
            let detail = format!("a request to {} served `{}`", request.server, request.calls.join("`, `"));
            account.violation(Kind::MixedBatch, detail);
        }
    }
}
