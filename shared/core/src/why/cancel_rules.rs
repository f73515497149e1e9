//! Which rules of operators cancel a call, as far as its row says enough to tell.

use super::evidence::Evidence;
use crate::control::CancelRule;

/// A rule that cancels the call.
pub(super) struct Cancelling<'a> {
    pub(super) rule: &'a CancelRule,
    /// Whether it surely does. No row knows its tool, and a call without a row may be of any time and session.
    pub(super) certain: bool,
}

/// The rules that cancel the call, or may.
pub(super) fn cancelling<'a>(seen: &Evidence<'a>) -> Vec<Cancelling<'a>> {
    let on = seen
        .control
        .into_iter()
        .flat_map(|control| &control.cancel_rules)
        .filter(|rule| rule.is_on(seen.now));
    let mut found: Vec<_> = on
        .filter_map(|rule| {
            let filter = &rule.filter;
            let row = seen.row.filter(|row| row.digest.is_some());
            let other_tenant = filter.tenant.as_ref().is_some_and(|tenant| *tenant != seen.key.tenant);
            let later = row.is_some_and(|row| row.enqueued_at >= filter.sent_before);
            let session = filter.session.as_ref().map(|session| {
                let caller = row.and_then(|row| row.caller.as_deref());
                caller.map(|caller| caller.session.as_ref() == Some(session))
            });
            if other_tenant || later || session == Some(Some(false)) {
                return None;
            }
            let certain = row.is_some() && filter.tool.is_none() && session != Some(None);
            Some(Cancelling { rule, certain })
        })
        .collect();
    found.sort_by_key(|rule| !rule.certain);
    found
}
