//! The rows of workers in sixteen shards, and the summary that one worker makes of them under a lease.
//!
//! A row is replaced by its worker at each beat, without a condition: nobody else writes it. The summary is written by the holder of the
//! lease only; the condition is checked in the same write.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use toolfleet_core::fleet::{FleetSummary, WorkerRow};
use toolfleet_core::ids::Nonce;
use toolfleet_core::time::Timestamp;

use super::Fleet;
use crate::dynamodb::attributes::{Item, item, ms, number, text};
use crate::error::AwsError;
use crate::gzip;
use crate::keys::{self, EXPIRES_AT, PK, SK, SUMMARY, SUMMARY_SORT, WORKER_SHARDS};

/// A row that nobody renews or removes expires after a day.
const ROW_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// A shorter text is one write unit with its keys, so that compressing it saves nothing.
const PLAIN_BYTES: usize = 800;
/// The attributes of a body as text, or compressed.
const BODY: &str = "body";
const BODY_GZ: &str = "body_gz";

impl Fleet {
    /// Writes a worker's row.
    pub async fn put_worker_row(&self, row: &WorkerRow) -> Result<(), AwsError> {
        let mut stored = item([
            (PK, text(keys::worker(&row.id))),
            (SK, text(keys::worker_sort(&row.id, &row.boot))),
            ("at_ms", ms(row.reported_at)),
            (EXPIRES_AT, number(row.reported_at.plus_ms(ROW_KEPT_MS).as_s())),
        ]);
        stored.extend([body(row)?]);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(stored)).send().await;
        put.map(|_| ()).map_err(|e| AwsError::of_sdk("PutItem", &self.table, &e))
    }

    /// The rows of all workers, those of dead ones included until they are removed. A row of a later version that cannot be read is left
    /// out.
    pub async fn worker_rows(&self) -> Result<Vec<WorkerRow>, AwsError> {
        let shards = (0..WORKER_SHARDS).map(|shard| self.items_of(keys::worker_shard(shard), None));
        let items = try_join_all(shards).await?.into_iter().flatten();
        Ok(items.filter_map(|item| read_body(&item)).collect())
    }

    /// Removes a row, unless its worker has renewed it since.
    pub async fn remove_worker_row(&self, row: &WorkerRow) -> Result<(), AwsError> {
        let removed = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(keys::worker(&row.id)))
            .key(SK, AttributeValue::S(keys::worker_sort(&row.id, &row.boot)))
            .condition_expression("at_ms = :seen")
            .expression_attribute_values(":seen", AttributeValue::N(row.reported_at.as_ms().to_string()))
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

    /// The summary that was written last, and until when its writer holds the lease.
    pub async fn summary(&self) -> Result<(Option<FleetSummary>, Option<Timestamp>), AwsError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(SUMMARY.into()))
            .key(SK, AttributeValue::S(SUMMARY_SORT.into()))
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        let Some(found) = got.item else {
            return Ok((None, None));
        };
        let until = found.get("lease_until_ms").and_then(|until| until.as_n().ok()?.parse().ok());
        Ok((read_body(&found), until.map(Timestamp::from_ms)))
    }

    /// Takes or keeps the lease of the summary for the process `boot`. Returns whether it holds the lease now.
    pub async fn lease_summary(
        &self,
        boot: &Nonce,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, AwsError> {
        let values = HashMap::from([(":now".to_owned(), AttributeValue::N(now.as_ms().to_string()))]);
        let condition = format!("attribute_not_exists({PK}) OR holder = :me OR lease_until_ms < :now");
        self.update_summary("SET holder = :me, lease_until_ms = :until", &condition, values, boot, until)
            .await
    }

    /// Takes the lease of the summary that another process has left with that end, if it has not been renewed since. Returns whether `boot`
    /// holds the lease now.
    pub async fn take_abandoned_summary(
        &self,
        boot: &Nonce,
        abandoned: Timestamp,
        until: Timestamp,
    ) -> Result<bool, AwsError> {
        let seen = AttributeValue::N(abandoned.as_ms().to_string());
        let (values, condition) = (HashMap::from([(":seen".to_owned(), seen)]), "lease_until_ms = :seen");
        self.update_summary("SET holder = :me, lease_until_ms = :until", condition, values, boot, until).await
    }

    /// Writes the summary and keeps the lease. Returns whether it was written: another process may hold the lease by now.
    pub async fn put_summary(
        &self,
        summary: &FleetSummary,
        boot: &Nonce,
        until: Timestamp,
    ) -> Result<bool, AwsError> {
        let (name, body) = body(summary)?;
        let other = if name == BODY { BODY_GZ } else { BODY };
        let update = format!("SET lease_until_ms = :until, {name} = :body REMOVE {other}");
        let values = HashMap::from([(":body".to_owned(), body)]);
        self.update_summary(&update, "holder = :me", values, boot, until).await
    }

    /// Gives the lease back, so that another worker can take it at once.
    pub async fn resign_summary(&self, boot: &Nonce) -> Result<(), AwsError> {
        let until = Timestamp::from_ms(0);
        let update = "SET lease_until_ms = :until";
        self.update_summary(update, "holder = :me", HashMap::new(), boot, until).await.map(|_held| ())
    }

    async fn update_summary(
        &self,
        update: &str,
        condition: &str,
        values: HashMap<String, AttributeValue>,
        boot: &Nonce,
        until: Timestamp,
    ) -> Result<bool, AwsError> {
        let mut values = values;
        values.insert(":me".into(), AttributeValue::S(boot.to_string()));
        values.insert(":until".into(), AttributeValue::N(until.as_ms().to_string()));
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(SUMMARY.into()))
            .key(SK, AttributeValue::S(SUMMARY_SORT.into()))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        match updated {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(e) => Err(AwsError::of_sdk("UpdateItem", &self.table, &e)),
        }
    }

    /// All items of a partition, or those whose sort keys lie between two, both included.
    pub(super) async fn items_of(
        &self,
        partition: String,
        between: Option<(String, String)>,
    ) -> Result<Vec<Item>, AwsError> {
        let mut request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(format!("{PK} = :pk"))
            .expression_attribute_values(":pk", AttributeValue::S(partition));
        if let Some((from, to)) = between {
            request = request
                .key_condition_expression(format!("{PK} = :pk AND {SK} BETWEEN :from AND :to"))
                .expression_attribute_values(":from", AttributeValue::S(from))
                .expression_attribute_values(":to", AttributeValue::S(to));
        }
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let page = request.clone().set_exclusive_start_key(start).send().await;
            let page = page.map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(items);
            }
        }
    }
}

/// A value as JSON, compressed where that is shorter.
pub(super) fn body(value: &impl serde::Serialize) -> Result<(String, AttributeValue), AwsError> {
    let text = serde_json::to_string(value).map_err(|e| AwsError::configuration(e.to_string()))?;
    let compressed = if text.len() > PLAIN_BYTES { gzip::compress_if_shorter(&text) } else { None };
    Ok(match compressed {
        Some(gz) => (BODY_GZ.to_owned(), AttributeValue::B(gz.into())),
        None => (BODY.to_owned(), AttributeValue::S(text)),
    })
}

/// Reads what [`body`] made.
pub(super) fn read_body<T: serde::de::DeserializeOwned>(item: &Item) -> Option<T> {
    if let Some(text) = item.get(BODY).and_then(|body| body.as_s().ok()) {
        return serde_json::from_str(text).ok();
    }
    let gz = item.get(BODY_GZ).and_then(|body| body.as_b().ok())?;
    serde_json::from_reader(flate2::read::GzDecoder::new(gz.as_ref())).ok()
}
