//! The rollups of calls: a row for each tool, minute and worker process, rows for whole hours, and what dead workers lost.
//!
//! A rollup is written again as a whole when calls of its minute end late, so that writing it twice counts nothing twice. The rows of minutes
//! expire after eight days; the sums of whole hours are kept as long as the history.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use toolfleet_core::fleet::{LostMinutes, Minute, Rollup};
use toolfleet_core::ids::{Nonce, ServerId};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use super::Fleet;
use super::workers::{body, read_body};
use crate::dynamodb::attributes::{Item, item, number, text};
use crate::dynamodb::batch_put::put_all;
use crate::error::AwsError;
use crate::keys::{self, COMPACTED, EXPIRES_AT, PK, ROLLUP_SHARDS, SK};

/// How long the rows of minutes are kept, in milliseconds.
const MINUTES_KEPT_MS: u64 = 8 * 24 * 60 * 60 * 1000;
const DAY_MINUTES: i64 = 24 * 60;

/// The rollup of one tool in one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRollup {
    /// The tool, as audit records name it.
    pub tool: String,
    /// Its server, where it has one.
    pub server: Option<ServerId>,
    /// The minute; the first minute of an hour for the sum of an hour.
    pub minute: Minute,
    /// Its calls.
    pub rollup: Rollup,
}

/// A tool that has rollups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RolledUpTool {
    /// The tool, as audit records name it.
    pub tool: String,
    /// Its server, where it has one.
    pub server: Option<ServerId>,
}

impl Fleet {
    /// Writes rollups of the process `boot`, at most one of each tool and minute. One that was written before is replaced.
    pub async fn put_rollups(&self, boot: &Nonce, rollups: &[ToolRollup]) -> Result<(), AwsError> {
        let shard = keys::rollup_shard(boot);
        let row = |one: &ToolRollup| {
            let pk = keys::rollups(&one.tool, one.minute, shard);
            stored(pk, keys::rollup_sort(one.minute, boot), MINUTES_KEPT_MS, one)
        };
        let rows = rollups.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        put_all(&self.client, &self.table, rows).await
    }

    /// Writes that these tools have rollups on the day of `minute`.
    pub async fn put_rolled_up_tools(&self, minute: Minute, tools: &[RolledUpTool]) -> Result<(), AwsError> {
        let expires_at = minute.start().plus_ms(RETENTION_MS).as_s();
        let row = |one: &RolledUpTool| {
            item([
                (PK, text(keys::rolled_up_tools(minute))),
                (SK, text(&one.tool)),
                ("server", one.server.as_ref().and_then(text)),
                (EXPIRES_AT, number(expires_at)),
            ])
        };
        put_all(&self.client, &self.table, tools.iter().map(row).collect()).await
    }

    /// The tools that have rollups on the day of `minute`.
    pub async fn rolled_up_tools(&self, minute: Minute) -> Result<Vec<RolledUpTool>, AwsError> {
        let items = self.items_of(keys::rolled_up_tools(minute), None).await?;
        Ok(items.iter().filter_map(tool_of).collect())
    }

    /// The rollups of one tool between two minutes, both included, of all workers.
    pub async fn rollups(
        &self,
        tool: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Rollup)>, AwsError> {
        let mut queries = Vec::new();
        for (first, last) in days(from, to) {
            for shard in 0..ROLLUP_SHARDS {
                queries.push(async move {
                    let between = Some(keys::rollup_sorts(first, last));
                    let items = self.items_of(keys::rollups(tool, first, shard), between).await?;
                    Ok::<_, AwsError>(items.iter().filter_map(rollup_of).collect::<Vec<_>>())
                });
            }
        }
        Ok(try_join_all(queries).await?.into_iter().flatten().collect())
    }

    /// Writes the sums of whole hours. One that was written before is replaced.
    pub async fn put_rollup_hours(&self, hours: &[ToolRollup]) -> Result<(), AwsError> {
        let row = |one: &ToolRollup| {
            let pk = keys::rollup_hours(&one.tool, one.minute);
            stored(pk, one.minute.time(), RETENTION_MS, one)
        };
        let rows = hours.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        put_all(&self.client, &self.table, rows).await
    }

    /// The sums of the hours of one tool that begin between two minutes, both included.
    pub async fn rollup_hours(
        &self,
        tool: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Rollup)>, AwsError> {
        let queries = days(from, to).into_iter().map(|(first, last)| async move {
            let between = Some((first.time(), last.time()));
            self.items_of(keys::rollup_hours(tool, first), between).await
        });
        let items = try_join_all(queries).await?;
        Ok(items.iter().flatten().filter_map(rollup_of).collect())
    }

    /// Writes that the rollups of all tools in that hour are added up.
    pub async fn put_compacted(&self, hour: Minute) -> Result<(), AwsError> {
        let expires_at = hour.start().plus_ms(RETENTION_MS).as_s();
        let row =
            item([(PK, text(COMPACTED)), (SK, text(hour)), (EXPIRES_AT, number(expires_at)), minute(hour)]);
        put_all(&self.client, &self.table, vec![row]).await
    }

    /// The hours between two minutes whose rollups are added up.
    pub async fn compacted(&self, from: Minute, to: Minute) -> Result<Vec<Minute>, AwsError> {
        let items = self.items_of(COMPACTED.to_owned(), Some((from.to_string(), to.to_string()))).await?;
        Ok(items.iter().filter_map(minute_of).collect())
    }

    /// Writes which minutes a dead worker lost. Writing it again changes nothing.
    pub async fn put_lost_minutes(&self, lost: &LostMinutes) -> Result<(), AwsError> {
        self.put_lost(lost, keys::worker_sort(&lost.worker, &lost.boot)).await
    }

    /// Writes which minutes a worker could not write and gave up: it is alive, and they stay lost. Writing it again replaces it.
    pub async fn put_given_up_minutes(&self, lost: &LostMinutes) -> Result<(), AwsError> {
        self.put_lost(lost, keys::given_up_sort(&lost.worker, &lost.boot, lost.from)).await
    }

    async fn put_lost(&self, lost: &LostMinutes, sort: String) -> Result<(), AwsError> {
        let expires_at = lost.to.start().plus_ms(RETENTION_MS).as_s();
        let mut row = item([
            (PK, text(keys::lost_minutes(lost.from))),
            (SK, text(sort)),
            (EXPIRES_AT, number(expires_at)),
        ]);
        row.extend([body(lost)?]);
        put_all(&self.client, &self.table, vec![row]).await
    }

    /// The worker is alive: what was written of it is not so.
    pub async fn remove_lost_minutes(&self, lost: &LostMinutes) -> Result<(), AwsError> {
        let removed = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(keys::lost_minutes(lost.from)))
            .key(SK, AttributeValue::S(keys::worker_sort(&lost.worker, &lost.boot)))
            .send()
            .await;
        removed.map(drop).map_err(|e| AwsError::of_sdk("DeleteItem", &self.table, &e))
    }

    /// What dead workers lost of the minutes between two, both included, and what living ones have given up.
    pub async fn lost_minutes(&self, from: Minute, to: Minute) -> Result<Vec<LostMinutes>, AwsError> {
        Ok(self.lost(from, to).await?.into_iter().map(|(_, lost)| lost).collect())
    }

    /// What dead workers lost of these minutes: where one of them goes on after all, it is not so.
    pub async fn minutes_lost_by_death(
        &self,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<LostMinutes>, AwsError> {
        let of_death =
            |(sort, lost): &(String, LostMinutes)| *sort == keys::worker_sort(&lost.worker, &lost.boot);
        let lost = self.lost(from, to).await?.into_iter().filter(of_death);
        Ok(lost.map(|(_, lost)| lost).collect())
    }

    /// The rows of lost minutes, with their sort keys.
    async fn lost(&self, from: Minute, to: Minute) -> Result<Vec<(String, LostMinutes)>, AwsError> {
        // What began on the day before may reach into this one.
        let days = days(from.plus(-DAY_MINUTES), to);
        let queries = days.into_iter().map(|(first, _)| self.items_of(keys::lost_minutes(first), None));
        let items = try_join_all(queries).await?;
        let row = |item: &Item| Some((item.get(SK)?.as_s().ok()?.clone(), read_body::<LostMinutes>(item)?));
        let lost = items.iter().flatten().filter_map(row);
        Ok(lost.filter(|(_, lost)| lost.from <= to && from <= lost.to).collect())
    }
}

/// The row of a rollup.
fn stored(pk: String, sk: String, kept_ms: u64, one: &ToolRollup) -> Result<Item, AwsError> {
    let expires_at = one.minute.start().plus_ms(kept_ms).as_s();
    let mut row =
        item([(PK, text(pk)), (SK, text(sk)), (EXPIRES_AT, number(expires_at)), minute(one.minute)]);
    row.extend([body(&one.rollup)?]);
    Ok(row)
}

fn minute(minute: Minute) -> (&'static str, Option<AttributeValue>) {
    ("minute", number(minute.start().as_ms()))
}

fn minute_of(item: &Item) -> Option<Minute> {
    let ms = item.get("minute")?.as_n().ok()?.parse().ok()?;
    Some(Minute::of(Timestamp::from_ms(ms)))
}

fn rollup_of(item: &Item) -> Option<(Minute, Rollup)> {
    Some((minute_of(item)?, read_body(item)?))
}

fn tool_of(item: &Item) -> Option<RolledUpTool> {
    let server = item.get("server").and_then(|server| server.as_s().ok());
    Some(RolledUpTool {
        tool: item.get(SK)?.as_s().ok()?.clone(),
        server: server.and_then(|server| ServerId::parse(server).ok()),
    })
}

/// The span from one minute to another, both included, by days.
fn days(from: Minute, to: Minute) -> Vec<(Minute, Minute)> {
    let mut days = Vec::new();
    let mut first = from;
    while first <= to {
        let next = first.next_day();
        days.push((first, next.plus(-1).min(to)));
        first = next;
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_split_at_midnight() {
        let at = |text: &str| Minute::of(Timestamp::parse(text).unwrap());
        let spans = days(at("2026-11-21T23:58:00Z"), at("2026-11-23T00:00:00Z"));
        let texts: Vec<_> = spans.iter().map(|(from, to)| format!("{from} {to}")).collect();
        let expected = [
            "2026-11-21T23:58 2026-11-21T23:59",
            "2026-11-22T00:00 2026-11-22T23:59",
            "2026-11-23T00:00 2026-11-23T00:00",
        ];
        assert_eq!(texts, expected);
        assert!(days(at("2026-11-23T00:00:00Z"), at("2026-11-22T00:00:00Z")).is_empty());
    }
}
