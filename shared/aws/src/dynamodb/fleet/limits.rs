//! The rows of rate and concurrency limits: one item with a partition of its own for the turns of a limit, and one for its permits.
//!
//! Each is replaced by compare-and-swap on its revision; entries of permits are also exchanged under a condition of their own, which the writes
//! of other workers do not break. A row is no larger than a few KiB, and is deleted a day after its last write.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{Block, HolderRow, HolderTable};
use toolfleet_core::limits::turn_book::{TenantClock, TurnRow, TurnTable, runs};
use toolfleet_core::limits::{LimitKey, RateLimit};
use toolfleet_core::time::Timestamp;

use super::Fleet;
use crate::compare_and_swap::{Read, Store, Swap};
use crate::dynamodb::attributes::{Item, item, number, text};
use crate::dynamodb::statement::{Statement, Written};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, PERMITS_SORT, PK, REV, SK, TURNS_SORT};

/// A row is kept for so long after all that it says is past, in seconds.
const KEPT_S: i64 = 24 * 60 * 60;

/// The turns of one rate limit.
#[derive(Debug, Clone)]
pub struct Turns(LimitItem);

/// The permits of one concurrency limit.
#[derive(Debug, Clone)]
pub struct Permits(LimitItem);

#[derive(Debug, Clone)]
struct LimitItem {
    fleet: Fleet,
    partition: String,
    sort: &'static str,
}

impl Fleet {
    /// The turns of that limit.
    pub fn turns(&self, limit: &LimitKey) -> Turns {
        Turns(LimitItem { fleet: self.clone(), partition: keys::limit(limit), sort: TURNS_SORT })
    }

    /// The permits of that limit.
    pub fn permits(&self, limit: &LimitKey) -> Permits {
        Permits(LimitItem { fleet: self.clone(), partition: keys::limit(limit), sort: PERMITS_SORT })
    }
}

impl Turns {
    /// The row, by a consistent read.
    pub async fn read(&self) -> Result<Option<TurnRow>, AwsError> {
        self.0.read(turns_of).await
    }
}

impl Permits {
    /// The row, by a consistent read.
    pub async fn read(&self) -> Result<Option<HolderRow>, AwsError> {
        self.0.read(permits_of).await
    }
}

/// The result of an exchange of entries.
#[derive(Debug)]
pub enum Exchanged {
    /// This row is stored now.
    Stored(Box<HolderRow>),
    /// The conditions do not hold: this row is stored, or none.
    Found(Option<Box<HolderRow>>),
}

impl Permits {
    /// Exchanges entries.
    pub async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged, AwsError> {
        let LimitItem { fleet, partition, sort } = &self.0;
        let Expressions { update, condition, names, values } = expressions(exchange);
        let request = fleet
            .client
            .update_item()
            .table_name(&fleet.table)
            .key(PK, AttributeValue::S(partition.clone()))
            .key(SK, AttributeValue::S((*sort).to_owned()))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let row = |item: &Item| self.0.parsed(item, permits_of).map(Box::new);
        let error = match Box::pin(request.send()).await {
            Ok(written) => {
                let item = written.attributes.unwrap_or_default();
                return Ok(Exchanged::Stored(row(&item)?));
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Exchanged::Found(failed.item.as_ref().map(row).transpose()?))
            }
            Some(_) | None => Err(AwsError::of_sdk("UpdateItem", &fleet.table, &error)),
        }
    }
}

impl Store for Turns {
    type Table = TurnTable;

    async fn swap(&self, seen: Option<&TurnRow>, new: &TurnRow) -> Result<Swap<TurnRow>, AwsError> {
        self.0.swap(seen.map(|seen| seen.rev), turns_item(new), turns_of).await
    }
}

impl Store for Permits {
    type Table = HolderTable;

    async fn swap(&self, seen: Option<&HolderRow>, new: &HolderRow) -> Result<Swap<HolderRow>, AwsError> {
        self.0.swap(seen.map(|seen| seen.rev), permits_item(new), permits_of).await
    }
}

impl Read for Turns {
    async fn read(&self) -> Result<Option<TurnRow>, AwsError> {
        Turns::read(self).await
    }
}

impl Read for Permits {
    async fn read(&self) -> Result<Option<HolderRow>, AwsError> {
        Permits::read(self).await
    }
}

impl LimitItem {
    async fn read<Row>(&self, parse: fn(&Item) -> Option<Row>) -> Result<Option<Row>, AwsError> {
        let request = self
            .fleet
            .client
            .get_item()
            .table_name(&self.fleet.table)
            .key(PK, AttributeValue::S(self.partition.clone()))
            .key(SK, AttributeValue::S(self.sort.to_owned()))
            .consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await;
        let got = got.map_err(|e| AwsError::of_sdk("GetItem", &self.fleet.table, &e))?;
        got.item.as_ref().map(|item| self.parsed(item, parse)).transpose()
    }

    async fn swap<Row>(
        &self,
        seen_rev: Option<u64>,
        attributes: Item,
        parse: fn(&Item) -> Option<Row>,
    ) -> Result<Swap<Row>, AwsError> {
        let written = self.fleet.writer.write(self.statement(seen_rev, attributes)).await?;
        Ok(match written {
            Written::Done => Swap::Stored,
            // INSERT does not return the row that it found.
            Written::Exists => Swap::Found(self.read(parse).await?.map(Box::new)),
            Written::ConditionFailed(Some(item)) => Swap::Found(Some(Box::new(self.parsed(&item, parse)?))),
            Written::ConditionFailed(None) => Swap::Found(None),
        })
    }

    fn statement(&self, seen_rev: Option<u64>, attributes: Item) -> Statement {
        let key = format!("{}|{}", self.partition, self.sort);
        let Some(rev) = seen_rev else {
            let mut whole = attributes;
            whole.extend(item([(PK, text(&self.partition)), (SK, text(self.sort))]));
            return Statement::insert(&self.fleet.table, &key, whole);
        };
        let mut update = format!("UPDATE \"{}\"", self.fleet.table);
        let mut attributes: Vec<_> = attributes.into_iter().collect();
        attributes.sort_by(|a, b| a.0.cmp(&b.0));
        let mut parameters = Vec::new();
        for (name, value) in attributes {
            update.push_str(&format!(" SET \"{name}\"=?"));
            parameters.push(value);
        }
        update.push_str(&format!(" WHERE \"{PK}\"=? AND \"{SK}\"=? AND \"{REV}\"=?"));
        parameters.extend([text(&self.partition), text(self.sort), number(rev)].into_iter().flatten());
        Statement::new(&self.fleet.table, &key, update, parameters)
    }

    /// A row that cannot be read is an error: taken for a missing one, it would give its turns or permits away again.
    fn parsed<Row>(&self, item: &Item, parse: fn(&Item) -> Option<Row>) -> Result<Row, AwsError> {
        parse(item).ok_or_else(|| {
            let Self { partition, sort, fleet } = self;
            AwsError::configuration(format!("the row {partition} ({sort}) of {} cannot be read", fleet.table))
        })
    }
}

/// One `UpdateItem`.
struct Expressions {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: Item,
}

fn expressions(exchange: &Exchange) -> Expressions {
    let Exchange { add, keep, remove, let_go, expired, most_before, ends_s, hold_ms } = exchange;
    let number = |number: i64| AttributeValue::N(number.to_string());
    let own = [("#pk", PK), ("#rev", REV), ("#entries", "entries")];
    let mut names: HashMap<_, _> = own.map(|(alias, name)| (alias.to_owned(), name.to_owned())).into();
    let mut values = Item::from([(":one".to_owned(), number(1))]);
    let mut set = vec!["#rev = #rev + :one".to_owned()];
    let mut conditions = vec!["attribute_exists(#pk)".to_owned()];
    for (at, (name, until)) in add.iter().enumerate() {
        names.insert(format!("#a{at}"), name.clone());
        values.insert(format!(":a{at}"), number(until.as_ms()));
        set.push(format!("#entries.#a{at} = :a{at}"));
        conditions.push(format!("attribute_not_exists(#entries.#a{at})"));
    }
    for (at, (name, until)) in keep.iter().enumerate() {
        names.insert(format!("#k{at}"), name.clone());
        values.insert(format!(":k{at}"), number(until.as_ms()));
        set.push(format!("#entries.#k{at} = :k{at}"));
        conditions.push(format!("#entries.#k{at} <= :k{at}"));
    }
    if let Some(ends_s) = ends_s {
        values.insert(":kept".to_owned(), number(ends_s.saturating_add(KEPT_S)));
        names.insert("#kept".to_owned(), EXPIRES_AT.to_owned());
        set.push("#kept = :kept".to_owned());
        conditions.push("(attribute_not_exists(#kept) OR #kept < :kept)".to_owned());
    }
    if let Some(hold_ms) = hold_ms {
        values.insert(":hold".to_owned(), AttributeValue::N(hold_ms.to_string()));
        names.insert("#hold".to_owned(), "hold_ms".to_owned());
        set.push("#hold = :hold".to_owned());
    }
    let mut gone = Vec::new();
    for (at, name) in remove.iter().enumerate() {
        names.insert(format!("#r{at}"), name.clone());
        gone.push(format!("#entries.#r{at}"));
        conditions.push(format!("attribute_exists(#entries.#r{at})"));
    }
    for (at, name) in let_go.iter().enumerate() {
        names.insert(format!("#l{at}"), name.clone());
        gone.push(format!("#entries.#l{at}"));
    }
    for (at, (name, until)) in expired.iter().enumerate() {
        names.insert(format!("#x{at}"), name.clone());
        values.insert(format!(":x{at}"), number(until.as_ms()));
        gone.push(format!("#entries.#x{at}"));
        conditions.push(format!("#entries.#x{at} = :x{at}"));
    }
    if let Some(most) = most_before {
        values.insert(":most".to_owned(), AttributeValue::N(most.to_string()));
        values.insert(":none".to_owned(), number(0));
        names.insert("#blocks".to_owned(), "blocks".to_owned());
        conditions.push("size(#entries) <= :most AND size(#blocks) = :none".to_owned());
    }
    let mut update = format!("SET {}", set.join(", "));
    if !gone.is_empty() {
        update.push_str(&format!(" REMOVE {}", gone.join(", ")));
    }
    Expressions { update, condition: conditions.join(" AND "), names, values }
}

/// When the table may forget the row, in seconds: its last turn must keep the next one away for a spacing, which may be longer than a day.
fn turns_end_s(last_us: i64, rate: RateLimit) -> i64 {
    let spacing_s = rate.spacing_us() / 1_000_000;
    (last_us / 1_000_000).saturating_add(KEPT_S.max(spacing_s.saturating_mul(2)))
}

fn turns_item(row: &TurnRow) -> Item {
    let last_us = row.ahead.last().copied().unwrap_or_default().max(row.floor_us);
    let clock = |(tenant, clock): (&Tenant, &TenantClock)| {
        let TenantClock { next_us, tail_us, weight } = clock;
        (tenant.to_string(), AttributeValue::S(format!("{next_us} {tail_us} {weight}")))
    };
    item([
        (REV, number(row.rev)),
        ("mark", number(row.mark)),
        ("epoch", number(row.epoch)),
        ("rate", text(row.rate)),
        ("version", number(row.version)),
        ("rate_us", number(row.rate_us)),
        ("floor_us", number(row.floor_us)),
        ("ahead", Some(AttributeValue::S(packed(&row.ahead)))),
        ("clocks", Some(AttributeValue::M(row.clocks.iter().map(clock).collect()))),
        (EXPIRES_AT, number(turns_end_s(last_us, row.rate))),
    ])
}

fn turns_of(item: &Item) -> Option<TurnRow> {
    let number = |name: &str| item.get(name)?.as_n().ok()?.parse::<u64>().ok();
    let clock = |(tenant, clock): (&String, &AttributeValue)| {
        let mut numbers = clock.as_s().ok()?.splitn(3, ' ');
        let clock = TenantClock {
            next_us: numbers.next()?.parse().ok()?,
            tail_us: numbers.next()?.parse().ok()?,
            weight: numbers.next()?.parse().ok()?,
        };
        Some((Tenant::from_stored(tenant).ok()?, clock))
    };
    Some(TurnRow {
        rev: number(REV)?,
        mark: number("mark")?,
        epoch: number("epoch")?,
        rate: item.get("rate")?.as_s().ok()?.parse().ok()?,
        version: number("version")?,
        // Rows of earlier builds have none.
        rate_us: item.get("rate_us").map_or(Some(i64::MIN), |at| at.as_n().ok()?.parse().ok())?,
        floor_us: item.get("floor_us")?.as_n().ok()?.parse().ok()?,
        ahead: unpacked(item.get("ahead")?.as_s().ok()?)?,
        clocks: item.get("clocks")?.as_m().ok()?.iter().map(clock).collect::<Option<_>>()?,
    })
}

fn permits_item(row: &HolderRow) -> Item {
    let entry =
        |(name, until): (&String, &Timestamp)| (name.clone(), AttributeValue::N(until.as_ms().to_string()));
    let block = |(worker, block): (&String, &Block)| {
        (worker.clone(), AttributeValue::S(format!("{} {}", block.permits, block.until.as_ms())))
    };
    item([
        (REV, number(row.rev)),
        ("entries", Some(AttributeValue::M(row.entries.iter().map(entry).collect()))),
        ("blocks", Some(AttributeValue::M(row.blocks.iter().map(block).collect()))),
        ("hold_ms", row.hold_ms.and_then(number)),
        (EXPIRES_AT, row.ends_s.and_then(|ends_s| number(ends_s.saturating_add(KEPT_S)))),
    ])
}

fn permits_of(item: &Item) -> Option<HolderRow> {
    let entry = |(name, until): (&String, &AttributeValue)| {
        Some((name.clone(), Timestamp::from_ms(until.as_n().ok()?.parse().ok()?)))
    };
    let block = |(worker, block): (&String, &AttributeValue)| {
        let (permits, until) = block.as_s().ok()?.split_once(' ')?;
        let until = Timestamp::from_ms(until.parse().ok()?);
        Some((worker.clone(), Block { permits: permits.parse().ok()?, until }))
    };
    Some(HolderRow {
        rev: item.get(REV)?.as_n().ok()?.parse().ok()?,
        entries: item.get("entries")?.as_m().ok()?.iter().map(entry).collect::<Option<BTreeMap<_, _>>>()?,
        blocks: item.get("blocks")?.as_m().ok()?.iter().map(block).collect::<Option<BTreeMap<_, _>>>()?,
        hold_ms: item.get("hold_ms").and_then(|hold| hold.as_n().ok()?.parse().ok()),
        ends_s: item
            .get(EXPIRES_AT)
            .and_then(|kept| Some(kept.as_n().ok()?.parse::<i64>().ok()?.saturating_sub(KEPT_S))),
    })
}

/// Times in order as runs of equal distances: `1795000000000000 2100x4760 4200` are 4,762 turns.
fn packed(times: &[i64]) -> String {
    let run = |(distance_us, count)| match count {
        1 => format!("{distance_us}"),
        _ => format!("{distance_us}x{count}"),
    };
    runs(times).into_iter().map(run).collect::<Vec<_>>().join(" ")
}

fn unpacked(text: &str) -> Option<Vec<i64>> {
    let (mut times, mut at_us) = (Vec::new(), 0_i64);
    for run in text.split_whitespace() {
        let (distance_us, count) = run.split_once('x').unwrap_or((run, "1"));
        let (distance_us, count): (i64, u32) = (distance_us.parse().ok()?, count.parse().ok()?);
        for _ in 0..count {
            at_us = at_us.checked_add(distance_us)?;
            times.push(at_us);
        }
    }
    Some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_ahead_are_read_back_and_take_few_bytes() {
        let times: Vec<i64> = (0..5_000).map(|n| 1_795_000_000_123_456 + n * 2_101).collect();
        assert_eq!(packed(&times), "1795000000123456 2101x4999");
        assert_eq!(unpacked(&packed(&times)), Some(times.clone()));
        let scattered: Vec<i64> =
            times.iter().enumerate().filter(|(n, _)| n % 7 != 3).map(|(_, at)| *at).collect();
        assert_eq!(unpacked(&packed(&scattered)), Some(scattered));
        assert_eq!((packed(&[]).as_str(), unpacked("")), ("", Some(Vec::new())));
        for wrong in ["x", "12x", "12 y", "9223372036854775807x2"] {
            assert_eq!(unpacked(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rows_of_limits_are_read_back_whole() {
        let clock = TenantClock { next_us: 9, tail_us: 8, weight: 3 };
        let row = TurnRow {
            rev: 4,
            mark: u64::MAX,
            epoch: 2,
            rate: "20/s".parse().unwrap(),
            version: 7,
            rate_us: 8,
            floor_us: i64::MIN,
            ahead: vec![5, 60_000],
            clocks: BTreeMap::from([(Tenant::parse("acme").unwrap(), clock)]),
        };
        assert_eq!(turns_of(&turns_item(&row)), Some(row));
        let until = Timestamp::from_ms(1_795_000_000_123);
        let row = HolderRow {
            rev: 4,
            entries: BTreeMap::from([("a".to_owned(), until)]),
            blocks: BTreeMap::from([("w-1".to_owned(), Block { permits: 3, until })]),
            hold_ms: Some(412),
            ends_s: Some(until.as_s() + 9),
        };
        assert_eq!(permits_of(&permits_item(&row)), Some(row));
    }
}
