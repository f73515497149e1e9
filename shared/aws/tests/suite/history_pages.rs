//! Pages of the history: each reads no more than its bound, and going on from page to page misses no record and gives none twice.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;
use toolfleet_aws::history::History;
use toolfleet_aws::{Listing, PageOf, Reads, RecordCursor, RecordPage, Tables};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::{START_MS, World, world};

const HOUR_MS: u64 = 3_600_000;
const HOURS: u64 = 12;
/// Records of a busy hour; other hours are quiet.
const BUSY: u64 = 120;

fn now() -> Timestamp {
    Timestamp::from_ms(i64::try_from(START_MS).unwrap())
}

fn acme() -> Tenant {
    Tenant::parse("acme").unwrap()
}

/// Three hours are busy, one call in forty is of the rare tool, one in five fails, every second one is of the session.
fn records() -> Vec<AuditRecord> {
    let mut all = Vec::new();
    for hour in 0..HOURS {
        let count = if hour % 4 == 1 { BUSY } else { 2 };
        for number in 0..count {
            let at = now().plus_ms(hour * HOUR_MS + number * 1_000);
            all.push(
                serde_json::from_value(json!({
                    "kind": "call", "tenant": "acme", "call_id": format!("h{hour}-{number}"), "at": at, "digest": "d", "attempts": 1, "fence": 1,
                    "outcome": if number % 5 == 0 { "failed" } else { "succeeded" }, "tool": if number % 40 == 0 { "rare" } else { "usual" },
                    "session": if number % 2 == 0 { "s-1" } else { "s-2" }, "enqueued_at": at, "started_at": at,
                }))
                .unwrap(),
            );
        }
    }
    all.sort_by_key(|record: &AuditRecord| std::cmp::Reverse((record.at, record.call_id.clone())));
    all
}

async fn stored(world: &World, shards: u32) -> (History, Vec<AuditRecord>) {
    let history = world.aws.history(&Tables { history_shards: shards, ..Tables::with_prefix("toolfleet") });
    let all = records();
    let stored = all.iter().map(|record| history.insert(record, now().plus_ms(100 * HOUR_MS)));
    join_all(stored).await.into_iter().for_each(|new| assert!(new.unwrap()));
    (history, all)
}

/// Which records, and with which bound.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    listing: Listing<'a>,
    call: Option<&'a CallId>,
    tool: Option<&'a str>,
    failed: bool,
    limit: usize,
    most: Reads,
}

impl Asked<'_> {
    fn fits(&self, record: &AuditRecord) -> bool {
        let listed = match self.listing {
            Listing::Everything => true,
            Listing::Failures => record.outcome.is_failure(),
            Listing::Session(session) => record.session.as_ref() == Some(session),
        };
        let of_tool = self.tool.is_none_or(|tool| record.tool.as_deref() == Some(tool));
        let of_call = self.call.is_none_or(|call| record.call_id == *call);
        listed && of_call && of_tool && (!self.failed || record.outcome.is_failure())
    }

    async fn page(&self, history: &History, after: Option<&RecordCursor>) -> RecordPage {
        let tenant = acme();
        let page = history.page(PageOf {
            tenant: &tenant,
            listing: self.listing,
            call: self.call,
            tool: self.tool,
            failed: self.failed,
            from: now(),
            to: now().plus_ms(HOURS * HOUR_MS),
            after,
            limit: self.limit,
            most: self.most,
        });
        page.await.unwrap()
    }
}

/// All pages, and that each keeps its bound: what is read at once is not cut short, and each query may read two records more: the
/// bound is shared out and rounded up, and the last record of the page before is read once more.
async fn pages(history: &History, asked: Asked<'_>, shards: usize) -> Vec<RecordPage> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = asked.page(history, after.as_ref()).await;
        let Reads { queries, records } = page.reads;
        assert!(queries <= asked.most.queries.max(shards), "{asked:?}: {queries} queries");
        assert!(records <= asked.most.records + 2 * queries, "{asked:?}: {records} records");
        assert!(
            page.records.len() <= asked.limit && page.searched_to <= page.searched_from,
            "{asked:?}: {page:?}"
        );
        after = page.next.clone();
        all.push(page);
        assert!(all.len() < 500, "{asked:?}: pages without an end");
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn going_on_finds_each_record_once_within_the_bound() {
    let session = SessionId::parse("s-1").unwrap();
    for shards in [1, 3] {
        let world = world().await;
        let (history, all) = stored(&world, shards).await;
        for listing in [Listing::Everything, Listing::Failures, Listing::Session(&session)] {
            for (tool, failed) in [(None, false), (Some("rare"), false), (None, true), (Some("rare"), true)] {
                for (limit, queries, records) in [(7, 4, 20), (1, 1, 1), (50, 96, 1_000)] {
                    let most = Reads { queries, records };
                    let asked = Asked { listing, call: None, tool, failed, limit, most };
                    let found = pages(&history, asked, usize::try_from(shards).unwrap()).await;
                    let found: Vec<_> = found.into_iter().flat_map(|page| page.records).collect();
                    let expected: Vec<_> = all.iter().filter(|record| asked.fits(record)).cloned().collect();
                    let ids = |records: &[AuditRecord]| -> Vec<CallId> {
                        records.iter().map(|record| record.call_id.clone()).collect()
                    };
                    assert_eq!(ids(&found), ids(&expected), "{asked:?} in {shards} shards");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_page_on_which_nothing_fits_says_how_far_it_looked() {
    let world = world().await;
    let (history, all) = stored(&world, 1).await;
    let most = Reads { queries: 96, records: 50 };
    let listing = Listing::Everything;
    let asked = Asked { listing, call: None, tool: Some("none"), failed: false, limit: 10, most };
    let found = pages(&history, asked, 1).await;
    // 378 records, at least 50 a page.
    assert!(found.len() > 1 && found.len() <= all.len().div_ceil(50), "{} pages", found.len());
    assert!(found.iter().all(|page| page.records.is_empty()));
    let mut from = now().plus_ms(HOURS * HOUR_MS);
    for page in &found {
        assert!(page.searched_from <= from && page.searched_to <= page.searched_from, "{page:?}");
        from = page.searched_to;
    }
    assert_eq!(from, now());
}

/// An hour of a tenant may hold 1.8 million records in a shard, and no key begins with a call.
#[tokio::test]
async fn a_call_is_searched_in_its_shard_alone_within_the_bound() {
    let session = SessionId::parse("s-1").unwrap();
    for shards in [1, 3] {
        let world = world().await;
        let (history, all) = stored(&world, shards).await;
        for id in ["h1-20", "h5-119", "h1-2", "none"] {
            let call = CallId::parse(id).unwrap();
            for listing in [Listing::Everything, Listing::Failures, Listing::Session(&session)] {
                for (limit, queries, records) in [(10, 4, 20), (1, 1, 1), (usize::MAX, usize::MAX, 100_000)] {
                    if records == 1 && id != "h1-2" {
                        continue;
                    }
                    let most = Reads { queries, records };
                    let asked = Asked { listing, call: Some(&call), tool: None, failed: false, limit, most };
                    let found = pages(&history, asked, 1).await;
                    let found: Vec<_> = found.into_iter().flat_map(|page| page.records).collect();
                    let fitting: Vec<_> = all.iter().filter(|record| asked.fits(record)).cloned().collect();
                    assert!(fitting.len() <= usize::from(id != "none"));
                    assert_eq!(found, fitting, "{asked:?} in {shards} shards");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_search_for_a_call_that_stops_says_how_far_it_came() {
    let world = world().await;
    let (history, _) = stored(&world, 1).await;
    let oldest = CallId::parse("h0-0").unwrap();
    let most = Reads { queries: usize::MAX, records: 100 };
    let listing = Listing::Everything;
    let asked = Asked { listing, call: Some(&oldest), tool: None, failed: false, limit: 10, most };
    let first = asked.page(&history, None).await;
    assert!(first.records.is_empty() && first.next.is_some(), "{first:?}");
    assert!(first.searched_to > now() && first.reads.records >= 100, "{first:?}");
    // The entries of the failures' index are of this tenant's failures alone.
    let asked = Asked { listing: Listing::Failures, ..asked };
    let found = asked.page(&history, None).await;
    assert_eq!((found.records.len(), found.next), (1, None));
    assert!(found.reads.records < 100, "{:?}", found.reads);
}

#[tokio::test]
async fn the_record_of_an_end_is_read_without_its_neighbours() {
    let world = world().await;
    let (history, all) = stored(&world, 1).await;
    let record = all.iter().find(|record| record.call_id.as_str() == "h1-1").unwrap();
    let read = history.of_call_at(&acme(), &record.call_id, record.at).await.unwrap();
    assert_eq!(read, std::slice::from_ref(record), "h1-1, and not h1-10");
    let (from, to) = (now().plus_ms(HOUR_MS), now().plus_ms(HOUR_MS + 100_000));
    let (few, is_complete) = history.of_call_between(&acme(), &record.call_id, (from, to), 10).await.unwrap();
    assert!(few.is_empty() && !is_complete, "the newest ten are of other calls: {few:?}");
    let (found, is_complete) =
        history.of_call_between(&acme(), &record.call_id, (from, to), 500).await.unwrap();
    assert_eq!((found, is_complete), (vec![record.clone()], true));
    let distinct: BTreeSet<_> = all.iter().map(|record| &record.call_id).collect();
    assert_eq!(distinct.len(), all.len());
}
