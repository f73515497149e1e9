//! The control entries: one row each, and one row with the version that grows with every change, in one transaction.

use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use toolfleet_core::control::{Control, ControlEntry};
use toolfleet_core::time::Timestamp;

use super::Fleet;
use crate::dynamodb::attributes::Item;
use crate::error::AwsError;
use crate::keys::{CONTROL, CONTROL_VERSION, EXPIRES_AT, PK, SK, VERSION_SORT};

/// An entry that has ended is kept for so long, in seconds: its end is recorded by a worker, and a fleet may have none over a weekend.
const KEPT_S: i64 = 3 * 24 * 60 * 60;

impl Fleet {
    /// The version of the control entries now; 0 if nothing was ever set. It costs a read unit: a reading that lags behind would delay a pause.
    pub async fn control_version(&self) -> Result<u64, AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(CONTROL_VERSION.into()))
            .key(SK, AttributeValue::S(VERSION_SORT.into()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        Ok(got.item.as_ref().and_then(version_of).unwrap_or(0))
    }

    /// Everything that operators have set, as of `now`. The version is read first: a change in between is read twice, and never missed.
    pub async fn control(&self, now: Timestamp) -> Result<Control, AwsError> {
        let version = self.control_version().await?;
        let (entries, unreadable) = self.all_entries().await?;
        let control = Control::new(version, entries, now);
        Ok(Control { unreadable: control.unreadable.saturating_add(unreadable), ..control })
    }

    /// All entries that are stored, those that have ended included. A row that this version cannot read is left out.
    pub async fn control_entries(&self) -> Result<Vec<ControlEntry>, AwsError> {
        Ok(self.all_entries().await?.0)
    }

    /// The entries, and how many rows this version cannot read.
    async fn all_entries(&self) -> Result<(Vec<ControlEntry>, usize), AwsError> {
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(format!("{PK} = :pk"))
            .expression_attribute_values(":pk", AttributeValue::S(CONTROL.into()))
            .consistent_read(true);
        let (mut entries, mut unreadable) = (Vec::new(), 0);
        let mut start = None;
        loop {
            let page = request.clone().set_exclusive_start_key(start).send().await;
            let page = page.map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
            for item in page.items.iter().flatten() {
                match entry_of(item) {
                    Some(entry) => entries.push(entry),
                    None => unreadable += 1,
                }
            }
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok((entries, unreadable));
            }
        }
    }

    /// Stores an entry and replaces an earlier one of its key.
    pub async fn set_control(&self, entry: &ControlEntry) -> Result<(), AwsError> {
        let text = serde_json::to_string(entry).map_err(|e| AwsError::configuration(e.to_string()))?;
        let mut put = Put::builder()
            .table_name(&self.table)
            .item(PK, AttributeValue::S(CONTROL.into()))
            .item(SK, AttributeValue::S(entry.key()))
            .item("entry", AttributeValue::S(text));
        if let Some(until) = entry.until() {
            let expires_at = until.as_s().saturating_add(KEPT_S);
            put = put.item(EXPIRES_AT, AttributeValue::N(expires_at.to_string()));
        }
        let put = put.build().map_err(|e| AwsError::configuration(e.to_string()))?;
        self.change(TransactWriteItem::builder().put(put).build()).await
    }

    /// Removes the entry of that key.
    pub async fn clear_control(&self, key: &str) -> Result<(), AwsError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(CONTROL.into()))
            .key(SK, AttributeValue::S(key.to_owned()))
            .build()
            .map_err(|e| AwsError::configuration(e.to_string()))?;
        self.change(TransactWriteItem::builder().delete(delete).build()).await
    }

    /// Removes an entry that has ended, unless its row was replaced since. No version grows: it had no effect any more.
    pub async fn remove_ended_control(&self, entry: &ControlEntry) -> Result<(), AwsError> {
        let text = serde_json::to_string(entry).map_err(|e| AwsError::configuration(e.to_string()))?;
        let removed = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(CONTROL.into()))
            .key(SK, AttributeValue::S(entry.key()))
            .condition_expression("entry = :seen")
            .expression_attribute_values(":seen", AttributeValue::S(text))
            .send()
            .await;
        match removed {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(())
            }
            Err(e) => Err(AwsError::of_sdk("DeleteItem", &self.table, &e)),
        }
    }

    /// One change together with the growth of the version: workers see both or none.
    async fn change(&self, change: TransactWriteItem) -> Result<(), AwsError> {
        let version = Update::builder()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(CONTROL_VERSION.into()))
            .key(SK, AttributeValue::S(VERSION_SORT.into()))
            .update_expression("ADD version :one")
            .expression_attribute_values(":one", AttributeValue::N("1".into()))
            .build()
            .map_err(|e| AwsError::configuration(e.to_string()))?;
        let version = TransactWriteItem::builder().update(version).build();
        let transaction = self.client.transact_write_items().transact_items(change).transact_items(version);
        let sent = transaction.send().await;
        sent.map(|_| ()).map_err(|e| AwsError::of_sdk("TransactWriteItems", &self.table, &e))
    }
}

fn version_of(item: &Item) -> Option<u64> {
    item.get("version")?.as_n().ok()?.parse().ok()
}

fn entry_of(item: &Item) -> Option<ControlEntry> {
    serde_json::from_str(item.get("entry")?.as_s().ok()?).ok()
}
