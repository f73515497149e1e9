//! What operators set for the whole fleet: pauses, strikes, drains, live limits, weights and cancel rules. Each change has an audit record.
//!
//! The record is stored before the change: a change without its record does not exist. A client that dies in between leaves the record of a
//! change that had no effect. The end of an entry by itself is recorded by the workers, and here before its row is replaced.

use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::history::History;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::control::{Control, ControlEntry, change_record};
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
        let (now, key) = ((self.now)(), entry.key());
        let stored = self.fleet.control_entries().await?.into_iter().find(|stored| stored.key() == key);
        // Its row is replaced now: workers may not have seen yet that it has ended.
        if let Some(ended) = stored.as_ref().and_then(|stored| stored.end_record(now)) {
            self.record(&ended).await?;
        }
        let replaced = stored.filter(|stored| !stored.is_over(now));
        let (by, why) = entry.by();
        let mut text = match entry.until() {
            Some(until) => format!("set until {until}: {why}"),
            None => format!("set: {why}"),
        };
        if let Some((by, why)) = replaced.as_ref().map(ControlEntry::by) {
            text.push_str(&format!(" (replaces that of {by}: {why})"));
        }
        self.record(&change_record("set", &key, by, text, now)).await?;
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
        let text = format!("cleared: {why}");
        self.record(&change_record("clear", key, by, text, (self.now)())).await?;
        self.fleet.clear_control(key).await?;
        Ok(Some(ended))
    }

    async fn record(&self, record: &AuditRecord) -> Result<(), AwsError> {
        self.history.insert(record, record.at.plus_ms(RETENTION_MS)).await.map(drop)
    }
}
