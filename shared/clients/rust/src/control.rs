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
use toolfleet_core::time::Timestamp;

use crate::client::Client;
use crate::clock::Now;

/// The most entries that are set at a time: each worker reads all of them at each change, about 100 KiB for each thousand.
const MOST_ENTRIES: usize = 2_000;
/// For so long what has ended by itself is kept, in milliseconds: workers record its end within seconds.
const ENDED_KEPT_MS: u64 = 60 * 60 * 1_000;
/// The most ended entries that one change removes.
const MOST_REMOVED: usize = 25;

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
        let mut entries = self.fleet.control_entries().await?;
        let stored = entries.iter().position(|stored| stored.key() == key).map(|at| entries.swap_remove(at));
        let others = entries.iter().filter(|other| !other.is_over(now)).count();
        if stored.is_none() && others >= MOST_ENTRIES {
            return Err(AwsError::configuration(format!(
                "{others} switches, limits and rules are set, and each worker reads all of them; end some first (`toolfleet switches`), or let them end by themselves (`--for`)"
            )));
        }
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
        self.remove_ended(&entries, now).await?;
        Ok(replaced)
    }

    /// Removes rows of what ended by itself some time ago, which each worker reads all the same. The record of its end is stored first: no
    /// worker may have run since.
    async fn remove_ended(&self, entries: &[ControlEntry], now: Timestamp) -> Result<(), AwsError> {
        let is_long_over =
            |entry: &&ControlEntry| entry.until().is_some_and(|until| until.plus_ms(ENDED_KEPT_MS) <= now);
        for ended in entries.iter().filter(is_long_over).take(MOST_REMOVED) {
            if let Some(record) = ended.end_record(now) {
                self.record(&record).await?;
            }
            self.fleet.remove_ended_control(ended).await?;
        }
        Ok(())
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
