//! A page of audit records: the newest of a listing before a cursor, with a bound on what is read for it.
//!
//! A cursor is a sort key. The next page has what sorts before it, so a record that is inserted meanwhile moves no other one to another page.
//! A page on which few records fit ends where its bound is reached, and its cursor goes on from there.

use std::ops::Range;

use futures::future::try_join_all;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use super::attributes::Item;
use super::history::{DAY_MS, HOUR_MS, History, newest, newest_keys, sort_of};
use super::history_query::Partition;
use crate::error::AwsError;
use crate::keys;

/// The characters of an instant at the beginning of a sort key.
const INSTANT_CHARS: usize = 24;
/// A longer text is no cursor.
const LONGEST_CURSOR: usize = 2_048;
/// Queries that are made at once, where one period has not more shards.
const QUERIES_AT_ONCE: usize = 32;
/// Records of an index, which holds keys alone, that are read at once where not all of them fit.
const FETCHED_AT_ONCE: usize = 250;

/// Which records of a tenant are listed.
#[derive(Debug, Clone, Copy)]
pub enum Listing<'a> {
    /// All.
    Everything,
    /// Those of calls that did not succeed.
    Failures,
    /// Those of one session.
    Session(&'a SessionId),
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordCursor(String);

impl RecordCursor {
    /// The cursor of a text that an earlier page gave; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let cursor = Self(text.to_owned());
        (text.len() <= LONGEST_CURSOR && cursor.at().is_some()).then_some(cursor)
    }

    /// The cursor behind that record.
    pub fn behind(record: &AuditRecord) -> Self {
        Self(keys::record_sort(record))
    }

    /// The cursor as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn at(&self) -> Option<Timestamp> {
        instant_of(&self.0)
    }

    /// The last instant of what sorts before it.
    fn before(&self) -> Option<Timestamp> {
        let at = self.at()?;
        // A bare instant is the start of a period, which sorts before all of its records.
        let is_bare = self.0.len() == INSTANT_CHARS;
        Some(if is_bare { Timestamp::from_ms(at.as_ms().saturating_sub(1)) } else { at })
    }
}

fn instant_of(sort: &str) -> Option<Timestamp> {
    Timestamp::parse(sort.get(..INSTANT_CHARS)?).ok()
}

/// What is read of the table: queries, and records, those included that do not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// Queries.
    pub queries: usize,
    /// Records.
    pub records: usize,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records, newest first.
    pub records: Vec<AuditRecord>,
    /// Where it goes on; none at its end.
    pub next: Option<RecordCursor>,
    /// The instant from which this page looks back.
    pub searched_from: Timestamp,
    /// Everything since this instant is on this page or on an earlier one.
    pub searched_to: Timestamp,
    /// What was read for it.
    pub reads: Reads,
}

/// What a page is read of.
#[derive(Debug, Clone, Copy)]
pub struct PageOf<'a> {
    /// Whose records.
    pub tenant: &'a Tenant,
    /// Which of them.
    pub listing: Listing<'a>,
    /// Of these, only those of this call. No key begins with a call: its id says in which shard its records are, and nothing else.
    pub call: Option<&'a CallId>,
    /// Of these, only those of this tool, as records name it.
    pub tool: Option<&'a str>,
    /// Of these, only those of calls that did not succeed.
    pub failed: bool,
    /// The first instant.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// The cursor of the page before.
    pub after: Option<&'a RecordCursor>,
    /// At most so many records.
    pub limit: usize,
    /// Where the reading ends. Each page reads one period at least, and what is read at once is not cut short.
    pub most: Reads,
}

impl PageOf<'_> {
    /// The length of a partition's period. A session has one partition for all time.
    const fn period_ms(&self) -> i64 {
        match self.listing {
            Listing::Everything => HOUR_MS,
            Listing::Failures => DAY_MS,
            Listing::Session(_) => i64::MAX,
        }
    }

    /// The shards of a period that may have such records.
    fn shards(&self, shards: u32) -> Range<u32> {
        match (self.listing, self.call) {
            (Listing::Session(_), _) => 0..1,
            (Listing::Everything | Listing::Failures, Some(call)) => {
                let shard = keys::shard(call, shards);
                shard..shard.saturating_add(1)
            }
            (Listing::Everything | Listing::Failures, None) => 0..shards,
        }
    }

    /// The items of a period that sort between two keys. Where they are whole records, the table itself leaves out those of other calls or
    /// tools.
    fn partition(&self, at: Timestamp, shard: u32, (first, last): (&str, &str)) -> Partition {
        let whole = match self.listing {
            Listing::Everything => Partition::of_hour(self.tenant, at, shard),
            Listing::Failures => Partition::of_failures(self.tenant, at, shard),
            Listing::Session(session) => Partition::of_session(self.tenant, session),
        };
        let between = whole.between_sorts(first.to_owned(), last.to_owned());
        match (self.call, self.tool) {
            (Some(call), _) if self.reads_whole() => between.of_call(call),
            (None, Some(tool)) if self.reads_whole() => between.of_tool(tool),
            (Some(_) | None, _) => between,
        }
    }

    /// Whether a query gives whole records, and not keys.
    const fn reads_whole(&self) -> bool {
        matches!(self.listing, Listing::Everything)
    }

    /// Whether records may be read that do not fit.
    const fn is_filtered(&self) -> bool {
        self.call.is_some()
            || self.tool.is_some()
            || (self.failed && !matches!(self.listing, Listing::Failures))
    }

    /// Whether an entry of an index may be of a record that fits: it holds keys alone.
    fn may_fit(&self, entry: &Item) -> bool {
        self.call.is_none_or(|call| sort_of(entry).is_some_and(|sort| keys::is_of_call(sort, call)))
    }

    fn fits(&self, record: &AuditRecord) -> bool {
        let of_call = self.call.is_none_or(|call| record.call_id == *call);
        let of_tool = self.tool.is_none_or(|tool| record.tool.as_deref() == Some(tool));
        of_call && of_tool && (!self.failed || record.outcome.is_failure())
    }
}

/// How far a reading has come: everything that sorts behind it was read.
struct Place {
    /// The next period, and how many are read at once.
    period: i64,
    at_once: i64,
    /// The last sort key that may be there.
    last: String,
    /// The sort key that was read already: bounds of queries include it.
    read: Option<String>,
    /// Where the next page would go on.
    rest: String,
}

impl Place {
    /// Everything down to that key was read.
    fn down_to(&mut self, sort: &str, period_ms: i64) -> Result<(), AwsError> {
        let at = instant_of(sort).ok_or_else(|| {
            AwsError::configuration(format!("a record has the sort key `{sort}`, without an instant"))
        })?;
        self.period = at.as_ms().div_euclid(period_ms);
        self.at_once = 1;
        (self.last, self.read, self.rest) = (sort.to_owned(), Some(sort.to_owned()), sort.to_owned());
        Ok(())
    }

    /// So many periods were read.
    fn past(&mut self, periods: i64, period_ms: i64) {
        let start = Timestamp::from_ms((self.period - periods + 1).saturating_mul(period_ms));
        self.period -= periods;
        self.at_once = self.at_once.saturating_mul(2);
        self.rest = start.to_string();
    }
}

impl History {
    /// A page of a listing.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn page(&self, of: PageOf<'_>) -> Result<RecordPage, AwsError> {
        let cursor = of.after.and_then(|cursor| Some((cursor, cursor.before()?)));
        let to = cursor.map_or(of.to, |(_, at)| at.min(of.to));
        let (first, last) = keys::record_sorts(of.from, to);
        let last = cursor.map_or_else(|| last.clone(), |(cursor, _)| cursor.0.clone().min(last.clone()));
        let (mut records, mut reads, mut next) = (Vec::new(), Reads::default(), None);
        let mut place = Place {
            period: to.as_ms().div_euclid(of.period_ms()),
            at_once: 1,
            read: cursor.map(|(cursor, _)| cursor.0.clone()),
            rest: last.clone(),
            last,
        };
        let oldest = of.from.as_ms().div_euclid(of.period_ms());
        while place.period >= oldest && first <= place.last {
            if records.len() > of.limit || self.is_spent(&of, reads) {
                next = Some(RecordCursor(place.rest.clone()));
                break;
            }
            records.extend(self.read_on(&of, (oldest, &first), &mut place, &mut reads, records.len()).await?);
        }
        if records.len() > of.limit {
            records.truncate(of.limit);
            next = records.last().map(RecordCursor::behind);
        }
        let searched_to = next.as_ref().and_then(RecordCursor::at).unwrap_or(of.from);
        Ok(RecordPage { records, next, searched_from: to, searched_to, reads })
    }

    /// Whether another period would go beyond the bound.
    fn is_spent(&self, of: &PageOf<'_>, reads: Reads) -> bool {
        let shards = of.shards(self.shards).len();
        let queries = reads.queries.saturating_add(shards);
        reads.queries > 0 && (queries > of.most.queries || reads.records >= of.most.records)
    }

    /// Reads the next periods, or a part of one, and gives the records that fit, newest first. A busy tenant fills a page with one period; a
    /// quiet one is searched by more and more of them at once.
    async fn read_on(
        &self,
        of: &PageOf<'_>,
        (oldest, first): (i64, &str),
        place: &mut Place,
        reads: &mut Reads,
        found: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let shards = of.shards(self.shards);
        let in_period = i64::try_from(shards.len()).unwrap_or(i64::MAX).max(1);
        let at_most = |queries: usize| (i64::try_from(queries).unwrap_or(i64::MAX) / in_period).max(1);
        let periods = place
            .at_once
            .min(at_most(QUERIES_AT_ONCE))
            .min(at_most(of.most.queries.saturating_sub(reads.queries)))
            .min(place.period - oldest + 1);
        let starts =
            (0..periods).map(|back| Timestamp::from_ms((place.period - back).saturating_mul(of.period_ms())));
        let partitions: Vec<_> = starts
            .flat_map(|at| shards.clone().map(move |shard| (at, shard)))
            .map(|(at, shard)| of.partition(at, shard, (first, &place.last)))
            .collect();
        let queries = partitions.len();
        // One more than the limit shows that there are more.
        let wanted = of.limit.saturating_add(1).saturating_sub(found);
        let left = of.most.records.saturating_sub(reads.records);
        let share = left.div_ceil(queries.max(1));
        let most = if of.is_filtered() { share } else { share.min(wanted) };
        // What was read already is read once more.
        let queried = partitions.into_iter().map(|one| self.query_once(one, most.max(1).saturating_add(1)));
        let queried = try_join_all(queried).await?;
        // Below the newest key at which a query has ended, some were not read.
        let mut end = queried.iter().filter_map(|read| read.last.clone()).max();
        reads.queries = reads.queries.saturating_add(queries);
        let read: usize = queried.iter().map(|read| read.read).sum();
        let mut items: Vec<Item> = queried.into_iter().flat_map(|read| read.items).collect();
        items.retain(|item| {
            let sort = sort_of(item);
            sort != place.read.as_ref() && sort >= end.as_ref() && (of.reads_whole() || of.may_fit(item))
        });
        let mut items = newest_keys(items, usize::MAX);
        let most = match (of.is_filtered(), of.reads_whole()) {
            (false, _) => wanted,
            (true, true) => usize::MAX,
            (true, false) => FETCHED_AT_ONCE.min(left.max(1)),
        };
        if items.len() > most {
            items.truncate(most);
            end = items.last().and_then(sort_of).cloned();
        }
        let (read, records) = if of.reads_whole() {
            (read, self.read_all(&items)?)
        } else {
            // Of a call, most entries are of others: they are read, and their records are not.
            let read = if of.call.is_some() { read } else { items.len() };
            (read, newest(self.fetch(items).await?, usize::MAX))
        };
        reads.records = reads.records.saturating_add(read);
        match end {
            Some(sort) => place.down_to(&sort, of.period_ms())?,
            None => place.past(periods, of.period_ms()),
        }
        Ok(records.into_iter().filter(|record| of.fits(record)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_begins_with_an_instant() {
        for good in ["2026-11-21T09:30:00.000Z", "2026-11-21T09:30:00.000Z#c-1#call"] {
            assert_eq!(RecordCursor::parse(good).unwrap().as_str(), good);
        }
        let long = format!("2026-11-21T09:30:00.000Z#{}", "x".repeat(LONGEST_CURSOR));
        for bad in
            ["", "x", "2026-11-21", "acme#2026-11-21T09:30:00.000Z", "é2026-11-21T09:30:00.000Z", &long]
        {
            assert_eq!(RecordCursor::parse(bad), None, "{bad}");
        }
    }
}
