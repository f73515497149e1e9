//! The rules of redrives: nothing leads away from an end, a round has one list of members, and each of them may be sent again.

use std::collections::HashMap;

use toolfleet_core::outcome::OutcomeKind;

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{CallSeen, Evidence, RedriveSeen};

/// Accounts for the redrives, for the calls that they sent, and for every end that was read before the last look.
pub(super) fn account_redrives(evidence: &Evidence, account: &mut Account) {
    let calls: HashMap<_, _> = evidence.calls.iter().map(|call| (call.id.as_str(), call)).collect();
    for call in &evidence.calls {
        account_end(call, account);
        if let Some(before) = call.redrives.as_deref().and_then(|id| calls.get(id))
            && let Some(why) = kept_back(before)
        {
            let detail = format!("`{}` was sent again as `{}`, and {why}", before.id, call.id);
            account.violation(Kind::RedrivenWrongly, detail);
        }
    }
    for redrive in &evidence.redrives {
        account_round(redrive, account);
    }
}

/// Nothing leads away from an end.
fn account_end(call: &CallSeen, account: &mut Account) {
    let Some(first) = call.first_end else { return };
    let now = call.ended.map(|ended| ended.kind);
    if now != Some(first) {
        let now = now.map_or("not ended", OutcomeKind::as_str);
        account.violation(Kind::EndChanged, format!("`{}` had ended as {first}, and is {now}", call.id));
    }
}

/// Why that call may not be sent again.
fn kept_back(call: &CallSeen) -> Option<&'static str> {
    if call.ended.is_some_and(|ended| ended.kind == OutcomeKind::Succeeded) {
        Some("had succeeded")
    } else if call.executions > 0 && !call.safe {
        Some("ran, and is not safe to repeat")
    } else {
        None
    }
}

/// One that finds nothing to send stores no list; all others send the same calls.
fn account_round(redrive: &RedriveSeen, account: &mut Account) {
    let group = &redrive.group;
    for why in &redrive.refused {
        account.violation(Kind::RoundDiffers, format!("group {group} could not be sent again: {why}"));
    }
    let mut lists = redrive.sent.iter().filter(|calls| !calls.is_empty());
    if let Some(first) = lists.next()
        && let Some(other) = lists.find(|other| *other != first)
    {
        let detail = format!("group {group}: one redrive sent {first:?}, another {other:?}");
        account.violation(Kind::RoundDiffers, detail);
    }
}
