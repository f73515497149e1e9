//! Control entries as rows of a table.

use serde_json::{Value, json};
use toolfleet_core::control::{ControlEntry, LimitChange};
use toolfleet_core::limits::LimitKey;
use toolfleet_core::time::Timestamp;

use crate::exit::CommandError;
use crate::table::Shape;

/// The table of entries.
pub(super) const SHAPE: Shape<'_> = Shape::of(&["kind", "what", "by", "since", "until", "why"])
    .times(&["since", "until"])
    .below(&["why"])
    .left_out(&["since"]);

/// One entry for people.
pub(super) fn row(entry: &ControlEntry) -> Vec<String> {
    let ((kind, what), (by, why)) = (what(entry), entry.by());
    let until = entry.until().as_ref().map_or_else(|| "ended by hand".to_owned(), Timestamp::to_string);
    vec![kind.to_owned(), what, by.to_owned(), entry.since().to_string(), until, why.to_owned()]
}

/// The entry as a document, with a limit as people name it.
pub(super) fn document(entry: &ControlEntry) -> Result<Value, CommandError> {
    let mut document = serde_json::to_value(entry).map_err(std::io::Error::other)?;
    if let (ControlEntry::Limit { limit, .. }, Some(members)) = (entry, document.as_object_mut()) {
        members.insert("limit".to_owned(), json!(LimitKey::name_of(limit)));
    }
    Ok(document)
}

/// What an entry sets, by whom and why, as a part of a sentence.
pub(super) fn set_by(entry: &ControlEntry) -> String {
    let ((_, what), (by, why)) = (what(entry), entry.by());
    let until = entry.until().map_or_else(String::new, |until| format!(", until {until}"));
    format!("{what}, set by {by}{until}: {why}")
}

/// The kind of an entry, and what it sets.
fn what(entry: &ControlEntry) -> (&'static str, String) {
    let for_tenant = |tenant: Option<&str>| tenant.map_or_else(String::new, |t| format!(" for tenant {t}"));
    match entry {
        ControlEntry::Pause(switch) => {
            let tenant = for_tenant(switch.tenant.as_ref().map(|tenant| tenant.as_str()));
            ("pause", format!("{}{tenant}", switch.target))
        }
        ControlEntry::Strike(strike) => ("strike", format!("digest {}", strike.digest)),
        ControlEntry::Drain { worker, .. } => ("drain", worker.to_string()),
        ControlEntry::Limit { limit, change, .. } => {
            ("limit", format!("{}: {}", LimitKey::name_of(limit), self::change(change)))
        }
        ControlEntry::Weight { tenant, weight, .. } => ("weight", format!("tenant:{tenant} {weight}")),
        ControlEntry::Cancel(rule) => ("cancel", format!("rule {}: {}", rule.id, rule.filter)),
    }
}

/// A change for people.
pub(super) fn change(change: &LimitChange) -> String {
    let rate = change.rate.map(|rate| format!("rate {rate}"));
    let concurrency = change.concurrency.map(|limit| format!("at most {limit} at once"));
    [rate, concurrency].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
