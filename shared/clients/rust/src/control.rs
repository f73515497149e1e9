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

    /// The entry of that key, if one is set and has not ended.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn entry(&self, key: &str) -> Result<Option<ControlEntry>, AwsError> {
        Ok(self.entries().await?.into_iter().find(|entry| entry.key() == key))
    }

    /// Sets an entry and replaces an earlier one of its key, which it returns. Workers take it within five seconds.
    ///
    /// # Errors
    /// The history or the fleet table failed. Nothing is set then.
    pub async fn set(&self, entry: &ControlEntry) -> Result<Option<ControlEntry>, AwsError> {
        let replaced = self.entry(&entry.key()).await?;
        let (by, why) = entry.by();
        let mut text = match entry.until() {
            Some(until) => format!("set until {until}: {why}"),
            None => format!("set: {why}"),
        };
        if let Some((by, why)) = replaced.as_ref().map(ControlEntry::by) {
            text.push_str(&format!(" (replaces that of {by}: {why})"));
        }
        self.record("set", &entry.key(), by, text).await?;
        self.fleet.set_control(entry).await?;
        Ok(replaced)
    }

    /// Ends what was set under that key. Returns it if there was something.
    ///
    /// # Errors
    /// The history or the fleet table failed.
    pub async fn clear(&self, key: &str, by: &str, why: &str) -> Result<Option<ControlEntry>, AwsError> {
        let Some(ended) = self.entry(key).await? else {
            return Ok(None);
        };
        self.record("clear", key, by, format!("cleared: {why}")).await?;
        self.fleet.clear_control(key).await?;
        Ok(Some(ended))
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
            cached_from: None,
            batch: None,
            trace_id: None,
            enqueued_at: now,
            started_at: None,
        };
        self.history.insert(&record, now.plus_ms(RETENTION_MS)).await.map(drop)
    }
}
