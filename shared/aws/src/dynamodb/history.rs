//! The history table: audit records, inserted once and never changed.
//!
//! **Invariant:** records are written only by PartiQL INSERT, which cannot overwrite. A record that exists already is a success.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use super::attributes::Item;
use super::batch_get::by_keys;
use super::batch_write::BatchWriter;
use super::history_query::Partition;
use super::record_item::{from_item, insertion};
use super::statement::{Statement, Written};
use crate::error::AwsError;
use crate::keys::{self, PK, SK};

pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// Hours or days that are read at once, newest first.
const PERIODS_IN_FLIGHT: usize = 8;
/// Items that one request reads at most.
const MOST_AT_ONCE: i32 = 1_000;
/// How long a record that nobody waits for may wait for another write.
const RECORD_WAIT: Duration = Duration::from_millis(200);

/// The history table.
#[derive(Debug, Clone)]
pub struct History {
    pub(crate) client: Client,
    pub(crate) writer: BatchWriter,
    pub(crate) table: String,
    pub(crate) shards: u32,
}

/// What one request has read of a partition.
pub(super) struct ReadOnce {
    /// The items that are wanted.
    pub(super) items: Vec<Item>,
    /// How many were read, those that are not wanted included.
    pub(super) read: usize,
    /// The sort key of the last item that was read, where older ones were not.
    pub(super) last: Option<String>,
}

impl History {
    /// Inserts a record; one that exists already is a success. Returns whether it is new.
    pub async fn insert(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<bool, AwsError> {
        let written = self.writer.write(self.insertion(record, expires_at)).await?;
        Ok(matches!(written, Written::Done))
    }

    /// The same for a record that nobody waits for: it goes with other writes, after a fifth of a second at the latest.
    pub async fn insert_soon(&self, record: &AuditRecord, expires_at: Timestamp) -> Result<bool, AwsError> {
        let statement = Statement { may_wait: Some(RECORD_WAIT), ..self.insertion(record, expires_at) };
        Ok(matches!(self.writer.write(statement).await?, Written::Done))
    }

    fn insertion(&self, record: &AuditRecord, expires_at: Timestamp) -> Statement {
        insertion(&self.table, record, self.shards, expires_at)
    }

    /// The records of a tenant between two instants, newest first.
    pub async fn by_hours<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let key = move |at, shard| Partition::of_hour(tenant, at, shard).between(from, to);
        let found = self.newest_periods(HOUR_MS, from, to, limit, key).await?;
        Ok(newest(self.read_all(&found)?, limit))
    }

    /// All records of a tenant between two instants, newest first, an hour at a time: the newest `max` of each.
    pub fn hours<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        max: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let wanted = move |at, shard| Partition::of_hour(tenant, at, shard).between(from, to);
        let hours = self.periods(HOUR_MS, from, to, max, (0..self.shards).collect(), wanted);
        hours.map(move |items| Ok(newest(self.read_all(&items?)?, max))).boxed()
    }

    /// The same for failures, a day at a time.
    pub fn failed_days<'a>(
        &'a self,
        tenant: &'a Tenant,
        from: Timestamp,
        to: Timestamp,
        max: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let wanted = move |at, shard| Partition::of_failures(tenant, at, shard).between(from, to);
        let days = self.periods(DAY_MS, from, to, max, (0..self.shards).collect(), wanted);
        // Keys carry the time, so only the newest of all shards are fetched.
        days.and_then(move |keys| async move { Ok(newest(self.fetch(newest_keys(keys, max)).await?, max)) })
            .boxed()
    }

    pub(super) fn read_all(&self, items: &[Item]) -> Result<Vec<AuditRecord>, AwsError> {
        let records = items.iter().map(|item| self.read(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(newest(records, usize::MAX))
    }

    /// The records of a session between two instants, newest first, at most `limit`: no others are read.
    pub async fn by_session(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        (from, to): (Timestamp, Timestamp),
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let wanted = Partition::of_session(tenant, session).between(from, to);
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
        let key = move |at, shard| Partition::of_failures(tenant, at, shard).between(from, to);
        let keys = self.newest_periods(DAY_MS, from, to, limit, key).await?;
        // Keys carry the time, so only the newest of all shards are fetched.
        Ok(newest(self.fetch(newest_keys(keys, limit)).await?, limit))
    }

    /// The records of one call at that instant, which is the one of its end: two sort keys are exact, and nothing else is read.
    pub async fn of_call_at(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        at: Timestamp,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let (first, last) = keys::record_sorts_of_call(at, call_id);
        let hour = Partition::of_hour(tenant, at, keys::shard(call_id, self.shards));
        self.read_all(&self.query(hour.between_sorts(first, last), usize::MAX).await?)
    }

    /// The records of one call between two instants of a short time, newest first, among the newest `most` records of each hour's shard; and
    /// whether those are all that there are.
    pub async fn of_call_between(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        (from, to): (Timestamp, Timestamp),
        most: usize,
    ) -> Result<(Vec<AuditRecord>, bool), AwsError> {
        let shard = keys::shard(call_id, self.shards);
        let hours = from.as_ms().div_euclid(HOUR_MS)..=to.as_ms().div_euclid(HOUR_MS);
        let queries = hours.map(|hour| {
            let at = Timestamp::from_ms(hour.saturating_mul(HOUR_MS));
            let hour = Partition::of_hour(tenant, at, shard).between(from, to).of_call(call_id);
            self.query_once(hour, most)
        });
        let reads = try_join_all(queries).await?;
        let is_complete = reads.iter().all(|read| read.last.is_none());
        let items: Vec<Item> = reads.into_iter().flat_map(|read| read.items).collect();
        Ok((self.read_all(&items)?, is_complete))
    }

    /// The items of the periods between two instants, in all shards, from the newest period on until there are `limit`.
    async fn newest_periods<'a>(
        &'a self,
        period_ms: i64,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        wanted: impl Fn(Timestamp, u32) -> Partition + 'a,
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

    /// The items of each period between two instants, the newest period first, a few periods at once.
    fn periods<'a>(
        &'a self,
        period_ms: i64,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        shards: Vec<u32>,
        wanted: impl Fn(Timestamp, u32) -> Partition + 'a,
    ) -> impl Stream<Item = Result<Vec<Item>, AwsError>> + 'a {
        let (first, last) = (from.as_ms().div_euclid(period_ms), to.as_ms().div_euclid(period_ms));
        let of_period = move |period: i64| {
            let at = Timestamp::from_ms(period.saturating_mul(period_ms));
            let queries: Vec<_> = shards.iter().map(|shard| self.query(wanted(at, *shard), limit)).collect();
            async move { Ok(try_join_all(queries).await?.into_iter().flatten().collect()) }
        };
        stream::iter((first..=last).rev().map(of_period)).buffered(PERIODS_IN_FLIGHT)
    }

    /// The newest items of a partition, at most `limit`.
    pub(super) fn query(
        &self,
        wanted: Partition,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Item>, AwsError>> {
        let request = wanted.query(self.client.query().table_name(&self.table)).scan_index_forward(false);
        async move {
            let mut items: Vec<Item> = Vec::new();
            let mut start = None;
            loop {
                let left = limit.saturating_sub(items.len());
                let page = request
                    .clone()
                    .limit(i32::try_from(left).unwrap_or(MOST_AT_ONCE).clamp(1, MOST_AT_ONCE))
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

    /// One request for the newest items of a partition: it reads at most `most` of them.
    pub(super) fn query_once(
        &self,
        wanted: Partition,
        most: usize,
    ) -> impl Future<Output = Result<ReadOnce, AwsError>> {
        let request = wanted.query(self.client.query().table_name(&self.table)).scan_index_forward(false);
        let request = request.limit(i32::try_from(most).unwrap_or(MOST_AT_ONCE).clamp(1, MOST_AT_ONCE));
        async move {
            let page = request.send().await.map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
            let last = page.last_evaluated_key.as_ref().and_then(|key| sort_of(key).cloned());
            let read = usize::try_from(page.scanned_count).unwrap_or(0);
            Ok(ReadOnce { items: page.items.unwrap_or_default(), read, last })
        }
    }

    /// The whole records of index entries; the indexes hold keys alone.
    pub(super) async fn fetch(&self, entries: Vec<Item>) -> Result<Vec<AuditRecord>, AwsError> {
        let key = |entry: Item| entry.into_iter().filter(|(name, _)| matches!(name.as_str(), PK | SK));
        let keys = entries.into_iter().map(|entry| key(entry).collect()).collect();
        let items = by_keys(&self.client, &self.table, keys, false).await?;
        items.iter().map(|item| self.read(item)).collect()
    }

    fn read(&self, item: &Item) -> Result<AuditRecord, AwsError> {
        from_item(item)
            .map_err(|e| AwsError::configuration(format!("a record of {} cannot be read: {e}", self.table)))
    }
}

pub(super) fn sort_of(item: &Item) -> Option<&String> {
    item.get(SK)?.as_s().ok()
}

pub(super) fn newest_keys(mut keys: Vec<Item>, limit: usize) -> Vec<Item> {
    keys.sort_by_cached_key(|item| std::cmp::Reverse(sort_of(item).cloned()));
    keys.truncate(limit);
    keys
}

pub(super) fn newest(mut records: Vec<AuditRecord>, limit: usize) -> Vec<AuditRecord> {
    records.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.call_id.cmp(&a.call_id)));
    records.truncate(limit);
    records
}
