//! Which pauses and strikes of operators stop a call, as far as its row says enough to tell.

use super::evidence::Evidence;
use super::explanation::{WaitsFor, WaitsForKind};
use crate::call::{CallRow, HeldReason};
use crate::control::{Strike, Switch, SwitchTarget};

/// Whether a pause stops the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stops {
    Yes,
    No,
    /// The row does not say it: no row knows its tool or its queue, and only a held one its server.
    NotKnown,
}

/// The pauses and strikes that stop the call, and those that may.
pub(super) fn pauses(seen: &Evidence<'_>) -> Vec<WaitsFor> {
    let Some(control) = seen.control else {
        return Vec::new();
    };
    let on = control.switches.iter().filter(|switch| switch.is_on(seen.now));
    let switches = on.filter_map(|switch| {
        let kind = match stops(seen, switch) {
            Stops::Yes => WaitsForKind::Pause,
            Stops::NotKnown => WaitsForKind::PossiblePause,
            Stops::No => return None,
        };
        Some(waits_for(kind, switch.detail(), switch.since, switch.until))
    });
    let strikes = control.strikes.iter().filter(|strike| strike.is_on(seen.now) && strikes(seen, strike));
    let strikes =
        strikes.map(|strike| waits_for(WaitsForKind::Pause, strike.detail(), strike.since, strike.until));
    switches.chain(strikes).collect()
}

fn waits_for(
    kind: WaitsForKind,
    detail: String,
    since: crate::time::Timestamp,
    until: Option<crate::time::Timestamp>,
) -> WaitsFor {
    let text = match kind {
        WaitsForKind::PossiblePause => "perhaps a pause (the row does not say whether it concerns this call)",
        WaitsForKind::Pause
        | WaitsForKind::Held
        | WaitsForKind::Worker
        | WaitsForKind::Lease
        | WaitsForKind::Answer
        | WaitsForKind::Task
        | WaitsForKind::Approval
        | WaitsForKind::Redrive => "the end of a pause",
    };
    WaitsFor { since: Some(since), until, detail: Some(detail), ..WaitsFor::new(kind, text) }
}

fn stops(seen: &Evidence<'_>, switch: &Switch) -> Stops {
    if switch.tenant.as_ref().is_some_and(|tenant| *tenant != seen.key.tenant) {
        return Stops::No;
    }
    let held = seen.row.and_then(CallRow::held);
    match &switch.target {
        SwitchTarget::Tenant(tenant) if *tenant == seen.key.tenant => Stops::Yes,
        SwitchTarget::Tenant(_) => Stops::No,
        SwitchTarget::Server(server) => match held.and_then(|held| held.server.as_ref()) {
            Some(own) if own == server => Stops::Yes,
            Some(_) => Stops::No,
            None => Stops::NotKnown,
        },
        SwitchTarget::Tool(_) => {
            let named = held.filter(|held| held.reason == HeldReason::Paused);
            let named = named.and_then(|held| held.detail.as_deref());
            let own = named.is_some_and(|detail| detail.starts_with(&format!("{} ", switch.target)));
            if own { Stops::Yes } else { Stops::NotKnown }
        }
        SwitchTarget::Queue(queue) => match seen.queues {
            // The only queue is the call's.
            [only] if only.priority == *queue => Stops::Yes,
            [] => Stops::NotKnown,
            queues if queues.iter().any(|other| other.priority == *queue) => Stops::NotKnown,
            _ => Stops::No,
        },
    }
}

/// A digest covers the tool and its arguments: equal beginnings are no chance.
fn strikes(seen: &Evidence<'_>, strike: &Strike) -> bool {
    let digest = seen.row.and_then(|row| row.digest.as_ref());
    digest.is_some_and(|digest| strike.matches(digest))
}
