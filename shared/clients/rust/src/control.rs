//! What operators set for the whole fleet: pauses, strikes, drains, live limits, weights and cancel rules. Each change has an audit record.
//!
//! The record is stored before the change: a change without its record does not exist. A client that dies in between leaves the record of a
//! change that had no effect.

use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::history::History;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::control::{Control, ControlEntry};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::User;
use toolfleet_core::retention::RETENTION_MS;

use crate::client::Client;
use crate::clock::Now;

/// The control entries of a fleet.
#[derive(Clone)]
pub struct Controls {
    pub(crate) fleet: Fleet,
    pub(crate) history: History,
    pub(crate) now: Now,
}

impl Client {
    /// What operators set for the whole fleet.
    pub fn controls(&self) -> Controls {
        Controls { fleet: self.fleet.clone(), history: self.history.clone(), now: self.now.clone() }
    }
}

impl Controls {
    /// What is set and has not ended.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn current(&self) -> Result<Control, AwsError> {
        self.fleet.control((self.now)()).await
    }

    /// The entries that have not ended, with who set them and why.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn entries(&self) -> Result<Vec<ControlEntry>, AwsError> {
        let now = (self.now)();
        let mut entries = self.fleet.control_entries().await?;
        entries.retain(|entry| !entry.is_over(now));
        Ok(entries)
    }

    /// Sets an entry and replaces an earlier one of its key. Workers take it within five seconds.
    ///
    /// # Errors
    /// The history or the fleet table failed. Nothing is set then, or it is set without the new version, and taken within half a minute.
    pub async fn set(&self, entry: &ControlEntry) -> Result<(), AwsError> {
        let (by, why) = entry.by();
        let text = match entry.until() {
            Some(until) => format!("set until {until}: {why}"),
            None => format!("set: {why}"),
        };
        self.record("set", &entry.key(), by, text).await?;
        self.fleet.set_control(entry).await.map(|_| ())
    }

    /// Ends what was set under that key. Returns it if there was something.
    ///
    /// # Errors
    /// The history or the fleet table failed.
    pub async fn clear(&self, key: &str, by: &str, why: &str) -> Result<Option<ControlEntry>, AwsError> {
        let stored = self.fleet.control_entries().await?;
        if !stored.iter().any(|entry| entry.key() == key) {
            return Ok(None);
        }
        self.record("clear", key, by, format!("cleared: {why}")).await?;
        self.fleet.clear_control(key).await
    }

    async fn record(&self, verb: &str, key: &str, by: &str, text: String) -> Result<(), AwsError> {
        let now = (self.now)();
        let digest = Digest::of_text(&format!("{verb} {key} {now} {by} {text}"));
        let id = format!("{verb}-{}", digest.short(24));
        let record = AuditRecord {
            kind: AuditKind::Switch,
            tenant: Tenant::of_fleet(),
            call_id: CallId::parse(id).map_err(|e| AwsError::configuration(e.to_string()))?,
            at: now,
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
            enqueued_at: now,
            started_at: None,
        };
        self.history.insert(&record, now.plus_ms(RETENTION_MS)).await
    }
}
