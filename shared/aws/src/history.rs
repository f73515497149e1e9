//! Owns the history table: audit records, inserted once and never changed.
//!
//! **Invariant:** writes only by PartiQL INSERT, which cannot overwrite; a record that stands already is a success.

use std::collections::HashMap;
use std::future::Future;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use toolfleet_core::audit::{AuditRecord, failure_partition, history_partition, session_partition};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::calls::insert;
use crate::error::AwsError;
use crate::item::{number, text};
use crate::read::by_keys;
use crate::statements::{Item, Statements};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// So many hours or days are read at once, newest first.
const AT_ONCE: usize = 8;

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
    pub async fn insert(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<(), AwsError> {
        let item = self.to_item(record, expires_at)?;
        let key = format!("{}|{}", record.partition(self.shards), record.sort());
        self.statements.write(insert(&self.table, key, item)).await.map(|_stands| ())
    }

    /// The records of a tenant between two instants, newest first.
    pub async fn by_hours<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let key = move |at, shard| Wanted::of("pk", history_partition(tenant, at, shard)).between(from, to);
        let found = self.newest_periods(HOUR_MS, from, to, limit, key).await?;
        let records = found.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records, limit))
    }

    /// All records of a tenant between two instants, newest first, an hour at a time: the newest `most` of each.
    pub fn hours<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        most: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let wanted =
            move |at, shard| Wanted::of("pk", history_partition(tenant, at, shard)).between(from, to);
        let hours = self.periods(HOUR_MS, from, to, most, (0..self.shards).collect(), wanted);
        hours.map(move |items| Ok(newest(self.read_all(&items?)?, most))).boxed()
    }

    /// The same of what failed, a day at a time.
    pub fn failed_days<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        most: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let wanted = move |at, shard| {
            let partition = failure_partition(tenant, at, shard);
            Wanted::of("failure_pk", partition).through("by_failure").between(from, to)
        };
        let days = self.periods(DAY_MS, from, to, most, (0..self.shards).collect(), wanted);
        // Keys carry the time, so only the newest of all shards are fetched.
        days.and_then(move |keys| async move { Ok(newest(self.fetch(newest_keys(keys, most)).await?, most)) })
            .boxed()
    }

    /// All records of one call between two instants, newest first, an hour at a time.
    pub fn hours_of_call<'a>(
        &'a self,
        tenant: &'a Tenant,
        call_id: &'a CallId,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let shard = Digest::of_text(call_id.as_str()).bucket(self.shards);
        let wanted = move |at, shard| {
            let hour = Wanted::of("pk", history_partition(tenant, at, shard)).between(from, to);
            Wanted { call: Some(call_id), ..hour }
        };
        let hours = self.periods(HOUR_MS, from, to, usize::MAX, vec![shard], wanted);
        hours.map(|items| self.read_all(&items?)).boxed()
    }

    fn read_all(&self, items: &[Item]) -> Result<Vec<AuditRecord>, AwsError> {
        let records = items.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records, usize::MAX))
    }

    /// The records of a session, newest first.
    pub async fn by_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let wanted = Wanted::of("session_pk", session_partition(tenant, session)).through("by_session");
        let keys = self.query(wanted, limit).await?;
        Ok(newest(self.fetch(keys).await?, limit))
    }

    /// The failures of a tenant on the days between two instants, newest first.
    pub async fn failures<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let key = move |at, shard| {
            let partition = failure_partition(tenant, at, shard);
            Wanted::of("failure_pk", partition).through("by_failure").between(from, to)
        };
        let keys = self.newest_periods(DAY_MS, from, to, limit, key).await?;
        // Keys carry the time, so only the newest of all shards are fetched.
        Ok(newest(self.fetch(newest_keys(keys, limit)).await?, limit))
    }

    /// Every record of one call that ended at `at`, and of what came within the same hour.
    pub async fn of_call(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        at: Timestamp,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let shard = Digest::of_text(call_id.as_str()).bucket(self.shards);
        let wanted = Wanted { call: Some(call_id), ..Wanted::of("pk", history_partition(tenant, at, shard)) };
        let items = self.query(wanted, usize::MAX).await?;
        let records = items.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records, usize::MAX))
    }

    /// What stands in the periods between two instants, in all shards, from the newest period on until there is enough.
    async fn newest_periods<'a>(
        &'a self,
        period_ms: i64,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        wanted: impl Fn(Timestamp, u32) -> Wanted<'a> + 'a,
    ) -> Result<Vec<Item>, AwsError> {
        let periods = self.periods(period_ms, from, to, limit, (0..self.shards).collect(), wanted);
        let mut periods = std::pin::pin!(periods);
        let mut found = Vec::new();
        while found.len() < limit {
            match periods.try_next().await? {
                Some(items) => found.extend(items),
                None => break,
            }
        }
        Ok(found)
    }

    /// What stands in each period between two instants, the newest period first, a few at once.
    fn periods<'a>(
        &'a self,
        period_ms: i64,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        shards: Vec<u32>,
        wanted: impl Fn(Timestamp, u32) -> Wanted<'a> + 'a,
    ) -> impl Stream<Item = Result<Vec<Item>, AwsError>> + 'a {
        let (first, last) = (from.as_ms().div_euclid(period_ms), to.as_ms().div_euclid(period_ms));
        let of_period = move |period: i64| {
            let at = Timestamp::from_ms(period.saturating_mul(period_ms));
            let queries: Vec<_> = shards.iter().map(|shard| self.query(wanted(at, *shard), limit)).collect();
            async move { Ok(try_join_all(queries).await?.into_iter().flatten().collect()) }
        };
        stream::iter((first..=last).rev().map(of_period)).buffered(AT_ONCE)
    }

    /// The newest items of a partition, `limit` of them if there are as many.
    fn query(&self, wanted: Wanted<'_>, limit: usize) -> impl Future<Output = Result<Vec<Item>, AwsError>> {
        let request = wanted.ask(self.client.query().table_name(&self.table)).scan_index_forward(false);
        async move {
            let mut items: Vec<Item> = Vec::new();
            let mut start = None;
            loop {
                let left = limit.saturating_sub(items.len());
                let page = request
                    .clone()
                    .limit(i32::try_from(left).unwrap_or(1_000).clamp(1, 1_000))
                    .set_exclusive_start_key(start)
                    .send()
                    .await
                    .map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
                items.extend(page.items.unwrap_or_default());
                start = page.last_evaluated_key.filter(|key| !key.is_empty());
                if start.is_none() || items.len() >= limit {
                    return Ok(items);
                }
            }
        }
    }

    /// The whole records of index entries, which hold keys alone.
    async fn fetch(&self, entries: Vec<Item>) -> Result<Vec<AuditRecord>, AwsError> {
        let key = |entry: Item| entry.into_iter().filter(|(name, _)| matches!(name.as_str(), "pk" | "sk"));
        let keys = entries.into_iter().map(|entry| key(entry).collect()).collect();
        let items = by_keys(&self.client, &self.table, keys, false).await?;
        items.iter().map(|item| self.read(item)).collect()
    }

    fn to_item(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<Item, AwsError> {
        let value = serde_json::to_value(record).map_err(|e| AwsError::configuration(e.to_string()))?;
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

    fn read(&self, item: &Item) -> Result<AuditRecord, AwsError> {
        let value: serde_json::Map<_, _> = item
            .iter()
            .filter(|(name, _)| {
                !matches!(name.as_str(), "pk" | "sk" | "session_pk" | "failure_pk" | "expires_at")
            })
            .map(|(name, value)| (name.clone(), json(value)))
            .collect();
        serde_json::from_value(value.into())
            .map_err(|e| AwsError::configuration(format!("a record of {} cannot be read: {e}", self.table)))
    }
}

/// The items of one partition of the table or of an index.
struct Wanted<'a> {
    index: Option<&'static str>,
    key: &'static str,
    partition: String,
    span: Option<(Timestamp, Timestamp)>,
    call: Option<&'a CallId>,
}

impl Wanted<'_> {
    const fn of(key: &'static str, partition: String) -> Self {
        Self { index: None, key, partition, span: None, call: None }
    }

    fn through(self, index: &'static str) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Both ends included.
    fn between(self, from: Timestamp, to: Timestamp) -> Self {
        Self { span: Some((from, to)), ..self }
    }

    fn ask(&self, query: QueryFluentBuilder) -> QueryFluentBuilder {
        let condition = if self.span.is_some() { "#k = :v AND sk BETWEEN :from AND :to" } else { "#k = :v" };
        let mut query = query
            .set_index_name(self.index.map(str::to_owned))
            .key_condition_expression(condition)
            .expression_attribute_names("#k", self.key)
            .expression_attribute_values(":v", AttributeValue::S(self.partition.clone()));
        if let Some((from, to)) = self.span {
            // A sort key is `time#..`, and `$` is the character after `#`.
            query = query
                .expression_attribute_values(":from", AttributeValue::S(from.to_string()))
                .expression_attribute_values(":to", AttributeValue::S(format!("{to}$")));
        }
        if let Some(call) = self.call {
            query = query
                .filter_expression("call_id = :call")
                .expression_attribute_values(":call", AttributeValue::S(call.to_string()));
        }
        query
    }
}

fn newest_keys(mut keys: Vec<Item>, limit: usize) -> Vec<Item> {
    let sort = |item: &Item| item.get("sk").and_then(|sk| sk.as_s().ok()).cloned();
    keys.sort_by_cached_key(|item| std::cmp::Reverse(sort(item)));
    keys.truncate(limit);
    keys
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
