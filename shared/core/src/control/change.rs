//! The audit records of what operators change, and of what ends by itself.

use super::entry::ControlEntry;
use crate::audit::{AuditKind, AuditRecord};
use crate::digest::Digest;
use crate::ids::{CallId, Tenant};
use crate::outcome::OutcomeKind;
use crate::request::User;
use crate::time::Timestamp;

/// The record of a change that an operator makes at `at`: `verb` is `set` or `clear`, `key` the entry's.
pub fn change_record(verb: &str, key: &str, by: &str, text: String, at: Timestamp) -> AuditRecord {
    let digest = Digest::of_text(&format!("{verb} {key} {at} {by} {text}"));
    record(verb, key, by, text, at, &digest)
}

impl ControlEntry {
    /// The record that the entry has ended by itself, from its end on. Whoever notices builds the same record under the same key, so that the
    /// history holds one. Nothing of an entry that has no end of its own, and of a drain, whose effect is not ended by its row's end.
    pub fn end_record(&self, now: Timestamp) -> Option<AuditRecord> {
        let until = match self {
            Self::Pause(_) | Self::Strike(_) | Self::Limit { .. } | Self::Cancel(_) => self.until()?,
            Self::Drain { .. } | Self::Weight { .. } => return None,
        };
        if now < until {
            return None;
        }
        let (key, (by, why), since) = (self.key(), self.by(), self.since());
        let digest = Digest::of_text(&format!("end {key} {since} {until}"));
        let text = format!("ended by itself at {until}; set by {by} at {since}: {why}");
        Some(record("end", &key, by, text, until, &digest))
    }
}

fn record(verb: &str, key: &str, by: &str, text: String, at: Timestamp, digest: &Digest) -> AuditRecord {
    AuditRecord {
        kind: AuditKind::Switch,
        tenant: Tenant::of_fleet(),
        call_id: CallId::of_message(&format!("{verb}-{}", digest.short(24))),
        at,
        outcome: OutcomeKind::Succeeded,
        code: None,
        message: Some(text),
        may_have_run: None,
        tool: Some(key.to_owned()),
        operation: None,
        resumes: None,
        definition: None,
        session: None,
        user: Some(User { id: by.to_owned(), ..User::default() }),
        agent: None,
        group: None,
        sender: None,
        message_id: None,
        arguments: None,
        digest: digest.to_string(),
        attempts: 0,
        fence: 0,
        worker: None,
        cached_from: None,
        batch: None,
        trace_id: None,
        enqueued_at: at,
        started_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Switch;
    use super::super::target::SwitchTarget;
    use super::*;
    use crate::ids::WorkerId;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn pause(since: i64, until: Option<i64>) -> ControlEntry {
        ControlEntry::Pause(Switch {
            target: SwitchTarget::parse("server:crm").unwrap(),
            tenant: None,
            by: "ann".into(),
            why: "it drops orders".into(),
            since: at(since),
            until: until.map(at),
        })
    }

    #[test]
    fn the_end_of_an_entry_is_one_record_whoever_notices_and_when() {
        let first = pause(1_000, Some(5_000)).end_record(at(5_000)).unwrap();
        assert_eq!(pause(1_000, Some(5_000)).end_record(at(900_000)).unwrap(), first);
        assert_eq!((first.at, first.tool.as_deref()), (at(5_000), Some("pause#server:crm#*")));
        assert!(first.call_id.as_str().starts_with("end-"), "{}", first.call_id);
        assert!(first.message.as_deref().unwrap().ends_with(": it drops orders"));
        let again = pause(2_000, Some(5_000)).end_record(at(5_000)).unwrap();
        assert_ne!(again.call_id, first.call_id, "the same pause set anew is another");
    }

    #[test]
    fn what_has_not_ended_or_never_ends_has_no_record_of_its_end() {
        assert_eq!(pause(1_000, Some(5_000)).end_record(at(4_999)), None);
        assert_eq!(pause(1_000, None).end_record(at(i64::MAX)), None);
        let (by, why) = ("ann".to_owned(), "deploy".to_owned());
        let worker = WorkerId::parse("w1").unwrap();
        let drain = ControlEntry::Drain { worker, by, why, since: at(0), until: at(900) };
        assert_eq!(drain.end_record(at(1_000)), None);
    }
}
