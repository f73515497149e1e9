//! Control entries as rows of a table.

use toolfleet_core::control::{ControlEntry, LimitChange};
use toolfleet_core::time::Timestamp;

/// The columns of an entry.
pub(super) const HEADER: &[&str] = &["kind", "what", "by", "since", "until", "why"];

/// One entry for people.
pub(super) fn row(entry: &ControlEntry) -> Vec<String> {
    let for_tenant = |tenant: Option<&str>| tenant.map_or_else(String::new, |t| format!(" for tenant {t}"));
    let (kind, what, since) = match entry {
        ControlEntry::Pause(switch) => {
            let tenant = for_tenant(switch.tenant.as_ref().map(|tenant| tenant.as_str()));
            ("pause", format!("{}{tenant}", switch.target), switch.since)
        }
        ControlEntry::Strike(strike) => ("strike", format!("digest {}", strike.digest), strike.since),
        ControlEntry::Drain { worker, since, .. } => ("drain", worker.to_string(), *since),
        ControlEntry::Limit { limit, change, since, .. } => {
            ("limit", format!("{limit}: {}", self::change(change)), *since)
        }
        ControlEntry::Weight { tenant, weight, since, .. } => {
            ("weight", format!("tenant:{tenant} {weight}"), *since)
        }
        ControlEntry::Cancel(rule) => ("cancel", format!("rule {}: {}", rule.id, rule.filter), rule.since),
    };
    let (by, why) = entry.by();
    let until = entry.until().as_ref().map_or_else(|| "ended by hand".to_owned(), Timestamp::to_string);
    vec![kind.to_owned(), what, by.to_owned(), since.to_string(), until, why.to_owned()]
}

/// A change for people.
pub(super) fn change(change: &LimitChange) -> String {
    let rate = change.rate.map(|rate| format!("rate {rate}"));
    let concurrency = change.concurrency.map(|limit| format!("at most {limit} at once"));
    [rate, concurrency].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
