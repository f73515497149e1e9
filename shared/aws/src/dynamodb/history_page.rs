//! A page of audit records: the newest of a listing before a cursor, with a bound on how many partitions are read for it.
//!
//! A cursor is a sort key. The next page has what sorts before it, so a record that is inserted meanwhile moves no other one to another page.

use futures::future::try_join_all;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use super::attributes::Item;
use super::history::{DAY_MS, HOUR_MS, History, newest, newest_keys};
use super::history_query::Partition;
use crate::error::AwsError;
use crate::keys::{self, SK};

/// The characters of an instant at the beginning of a sort key.
const INSTANT_CHARS: usize = 24;
/// A longer text is no cursor.
const LONGEST_CURSOR: usize = 2_048;
/// Periods that are read at once at most.
const PERIODS_AT_ONCE: i64 = 8;

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
        Timestamp::parse(self.0.get(..INSTANT_CHARS)?).ok()
    }
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records, newest first.
    pub records: Vec<AuditRecord>,
    /// Where it goes on; none at its end.
    pub next: Option<RecordCursor>,
    /// Everything since this instant is on this page or on an earlier one.
    pub searched_to: Timestamp,
}

/// What a page is read of.
#[derive(Debug, Clone, Copy)]
pub struct PageOf<'a> {
    /// Whose records.
    pub tenant: &'a Tenant,
    /// Which of them.
    pub listing: Listing<'a>,
    /// The first instant.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// The cursor of the page before.
    pub after: Option<&'a RecordCursor>,
    /// At most so many records.
    pub limit: usize,
    /// At most so many hours, or days of failures, are read.
    pub most_periods: i64,
}

impl PageOf<'_> {
    /// The length of a partition's period; a session has one partition.
    const fn period_ms(&self) -> Option<i64> {
        match self.listing {
            Listing::Everything => Some(HOUR_MS),
            Listing::Failures => Some(DAY_MS),
            Listing::Session(_) => None,
        }
    }

    fn partition(&self, at: Timestamp, shard: u32, (first, last): &(String, String)) -> Partition<'_> {
        let whole = match self.listing {
            Listing::Everything => Partition::of_hour(self.tenant, at, shard),
            Listing::Failures => Partition::of_failures(self.tenant, at, shard),
            Listing::Session(session) => Partition::of_session(self.tenant, session),
        };
        whole.between_sorts(first.clone(), last.clone())
    }
}

impl History {
    /// A page of a listing.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn page(&self, of: PageOf<'_>) -> Result<RecordPage, AwsError> {
        let cursor = of.after.and_then(|cursor| Some((cursor, cursor.at()?)));
        let to = cursor.map_or(of.to, |(_, at)| at.min(of.to));
        let (first, last) = keys::record_sorts(of.from, to);
        let last = cursor.map_or_else(|| last.clone(), |(cursor, _)| cursor.0.clone().min(last.clone()));
        if first > last {
            return Ok(RecordPage { records: Vec::new(), next: None, searched_to: of.from });
        }
        let (mut keys, rest) = self.newest_before(&of, to, (first, last)).await?;
        // The bound of a query includes the cursor itself.
        keys.retain(|key| cursor.is_none_or(|(cursor, _)| sort_of(key) != Some(&cursor.0)));
        let keys = newest_keys(keys, of.limit.saturating_add(1));
        let shown = keys.get(..of.limit).unwrap_or(&keys).to_vec();
        let next = if keys.len() > of.limit {
            shown.last().and_then(sort_of).cloned().map(RecordCursor)
        } else {
            rest.map(|at| RecordCursor(at.to_string()))
        };
        let searched_to = next.as_ref().and_then(RecordCursor::at).unwrap_or(of.from);
        let records = match of.listing {
            Listing::Everything => self.read_all(&shown)?,
            Listing::Failures | Listing::Session(_) => newest(self.fetch(shown).await?, of.limit),
        };
        Ok(RecordPage { records, next, searched_to })
    }

    /// The newest items between two sort keys, somewhat more than asked for; with the start of the oldest period that was read, where older
    /// ones were left out.
    async fn newest_before(
        &self,
        of: &PageOf<'_>,
        to: Timestamp,
        sorts: (String, String),
    ) -> Result<(Vec<Item>, Option<Timestamp>), AwsError> {
        // One more than the limit, and the cursor itself.
        let most = of.limit.saturating_add(2);
        let Some(period_ms) = of.period_ms() else {
            return Ok((self.query(of.partition(to, 0, &sorts), most).await?, None));
        };
        let oldest = of.from.as_ms().div_euclid(period_ms);
        let (mut period, mut at_once, mut left) = (to.as_ms().div_euclid(period_ms), 1, of.most_periods);
        let mut found = Vec::new();
        while period >= oldest && left > 0 && found.len() < most {
            // A busy tenant fills a page with one hour; a quiet one is searched by more and more of them at once.
            let count = at_once.min(left).min(period - oldest + 1);
            let starts = (0..count).map(|back| Timestamp::from_ms((period - back).saturating_mul(period_ms)));
            let queries = starts
                .flat_map(|at| (0..self.shards).map(move |shard| (at, shard)))
                .map(|(at, shard)| self.query(of.partition(at, shard, &sorts), most));
            found.extend(try_join_all(queries).await?.into_iter().flatten());
            (period, left, at_once) = (period - count, left - count, (at_once * 2).min(PERIODS_AT_ONCE));
        }
        let rest = (period >= oldest).then(|| Timestamp::from_ms((period + 1).saturating_mul(period_ms)));
        Ok((found, rest))
    }
}

fn sort_of(item: &Item) -> Option<&String> {
    item.get(SK)?.as_s().ok()
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
