//! Owns the history table: audit records, inserted once and never changed.
//!
//! **Invariant:** writes only by PartiQL INSERT, which cannot overwrite; a record that stands already is a success.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use toolfleet_core::audit::{AuditRecord, failure_partition, history_partition, session_partition};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::calls::insert;
use crate::item::{number, text};
use crate::statements::{Item, Statements};
use crate::trouble::Trouble;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The service's bound for one BatchGetItem.
const GET_MOST: usize = 100;

/// The history table.
#[derive(Debug, Clone)]
pub struct History {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) table: String,
    pub(crate) shards: u32,
}

impl History {
    /// Inserts a record; if it stands already, that is as good.
    pub async fn insert(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<(), Trouble> {
        let item = self.to_item(record, expires_at)?;
        let key = format!("{}|{}", record.partition(self.shards), record.sort());
        self.statements.write(insert(&self.table, key, item)).await.map(|_stands| ())
    }

    /// The records of a tenant between two instants, newest first.
    pub async fn by_hours(
        &self,
        tenant: &Tenant,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let mut found = Vec::new();
        let mut hour = to.as_ms().div_euclid(HOUR_MS);
        while hour >= from.as_ms().div_euclid(HOUR_MS) && found.len() < limit {
            let at = Timestamp::from_ms(hour.saturating_mul(HOUR_MS));
            for shard in 0..self.shards {
                let partition = history_partition(tenant, at, shard);
                found.extend(self.query(None, "pk", &partition, limit).await?);
            }
            hour -= 1;
        }
        let records = found.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records.into_iter().filter(|r| r.at >= from && r.at <= to).collect(), limit))
    }

    /// The records of a session, newest first.
    pub async fn by_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let keys =
            self.query(Some("by_session"), "session_pk", &session_partition(tenant, session), limit).await?;
        Ok(newest(self.fetch(keys).await?, limit))
    }

    /// The failures of a tenant on the days between two instants, newest first.
    pub async fn failures(
        &self,
        tenant: &Tenant,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let mut keys = Vec::new();
        let mut day = to.as_ms().div_euclid(DAY_MS);
        while day >= from.as_ms().div_euclid(DAY_MS) && keys.len() < limit {
            let at = Timestamp::from_ms(day.saturating_mul(DAY_MS));
            for shard in 0..self.shards {
                let partition = failure_partition(tenant, at, shard);
                keys.extend(self.query(Some("by_failure"), "failure_pk", &partition, limit).await?);
            }
            day -= 1;
        }
        let records = self.fetch(keys).await?;
        Ok(newest(records.into_iter().filter(|r| r.at >= from && r.at <= to).collect(), limit))
    }

    /// Every record of one call that ended at `at`, and of what came within the same hour.
    pub async fn of_call(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        at: Timestamp,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let shard = Digest::of_text(call_id.as_str()).bucket(self.shards);
        let items = self.query(None, "pk", &history_partition(tenant, at, shard), usize::MAX).await?;
        let records = items.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records.into_iter().filter(|r| r.call_id == *call_id).collect(), usize::MAX))
    }

    async fn query(
        &self,
        index: Option<&str>,
        key: &str,
        value: &str,
        limit: usize,
    ) -> Result<Vec<Item>, Trouble> {
        let mut items: Vec<Item> = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .set_index_name(index.map(str::to_owned))
                .key_condition_expression("#k = :v")
                .expression_attribute_names("#k", key)
                .expression_attribute_values(":v", AttributeValue::S(value.to_owned()))
                .scan_index_forward(false)
                .limit(i32::try_from(limit).unwrap_or(1_000).clamp(1, 1_000))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|e| Trouble::of_sdk("Query", &self.table, &e))?;
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() || items.len() >= limit {
                return Ok(items);
            }
        }
    }

    /// The whole records of index entries, which hold keys alone.
    async fn fetch(&self, entries: Vec<Item>) -> Result<Vec<AuditRecord>, Trouble> {
        let mut records = Vec::new();
        for chunk in entries.chunks(GET_MOST) {
            let key = |entry: &Item| -> Item {
                entry
                    .iter()
                    .filter(|(name, _)| matches!(name.as_str(), "pk" | "sk"))
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect()
            };
            let mut wanted = Some(chunk.iter().map(key).collect::<Vec<_>>());
            while let Some(keys) = wanted.take().filter(|keys| !keys.is_empty()) {
                let request = KeysAndAttributes::builder()
                    .set_keys(Some(keys))
                    .build()
                    .map_err(|e| Trouble::configuration(e.to_string()))?;
                let got = self
                    .client
                    .batch_get_item()
                    .request_items(&self.table, request)
                    .send()
                    .await
                    .map_err(|e| Trouble::of_sdk("BatchGetItem", &self.table, &e))?;
                for item in got.responses.and_then(|mut r| r.remove(&self.table)).unwrap_or_default() {
                    records.push(self.read(&item)?);
                }
                wanted = got.unprocessed_keys.and_then(|mut k| k.remove(&self.table)).map(|k| k.keys);
            }
        }
        Ok(records)
    }

    fn to_item(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<Item, Trouble> {
        let value = serde_json::to_value(record).map_err(|e| Trouble::configuration(e.to_string()))?;
        let mut item: Item = HashMap::new();
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(value) = attribute(value) {
                item.insert(name.clone(), value);
            }
        }
        let keys = [
            ("pk", text(record.partition(self.shards))),
            ("sk", text(record.sort())),
            ("session_pk", record.session_partition().and_then(text)),
            ("failure_pk", record.failure_partition(self.shards).and_then(text)),
            ("expires_at", number(expires_at.as_s())),
        ];
        item.extend(keys.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))));
        Ok(item)
    }

    fn read(&self, item: &Item) -> Result<AuditRecord, Trouble> {
        let value: serde_json::Map<_, _> = item
            .iter()
            .filter(|(name, _)| {
                !matches!(name.as_str(), "pk" | "sk" | "session_pk" | "failure_pk" | "expires_at")
            })
            .map(|(name, value)| (name.clone(), json(value)))
            .collect();
        serde_json::from_value(value.into())
            .map_err(|e| Trouble::configuration(format!("a record of {} cannot be read: {e}", self.table)))
    }
}

fn newest(mut records: Vec<AuditRecord>, limit: usize) -> Vec<AuditRecord> {
    records.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.call_id.cmp(&a.call_id)));
    records.truncate(limit);
    records
}

fn attribute(value: &serde_json::Value) -> Option<AttributeValue> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => AttributeValue::Bool(*flag),
        serde_json::Value::Number(n) => AttributeValue::N(n.to_string()),
        serde_json::Value::String(s) => AttributeValue::S(s.clone()),
        serde_json::Value::Array(items) => AttributeValue::L(items.iter().filter_map(attribute).collect()),
        serde_json::Value::Object(map) => {
            AttributeValue::M(map.iter().filter_map(|(k, v)| Some((k.clone(), attribute(v)?))).collect())
        }
    })
}

fn json(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::Bool(flag) => (*flag).into(),
        AttributeValue::N(n) => serde_json::from_str(n).unwrap_or(serde_json::Value::Null),
        AttributeValue::S(s) => s.as_str().into(),
        AttributeValue::L(items) => items.iter().map(json).collect(),
        AttributeValue::M(map) => {
            serde_json::Value::Object(map.iter().map(|(k, v)| (k.clone(), json(v))).collect())
        }
        // A record has no attribute of any other kind.
        AttributeValue::B(_)
        | AttributeValue::Bs(_)
        | AttributeValue::Ns(_)
        | AttributeValue::Null(_)
        | AttributeValue::Ss(_)
        | _ => serde_json::Value::Null,
    }
}
