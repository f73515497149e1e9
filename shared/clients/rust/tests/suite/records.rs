//! Audit records: which ones, within which span.

use std::time::Duration;

use futures::TryStreamExt as _;
use toolfleet_client::{Reads, RecordSearch, RecordsOf, Span};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::{CallId, CallKey, SessionId};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;

use crate::world::{START_MS, World, acme, answer, call};

const MINUTE_MS: u64 = 60_000;

fn start() -> Timestamp {
    Timestamp::from_ms(START_MS)
}

fn record(minute: u64) -> AuditRecord {
    AuditRecord {
        kind: AuditKind::Call,
        tenant: acme(),
        call_id: CallId::parse(format!("c{minute}")).unwrap(),
        at: start().plus_ms(minute * MINUTE_MS),
        outcome: if minute.is_multiple_of(10) { OutcomeKind::Failed } else { OutcomeKind::Succeeded },
        code: None,
        message: None,
        may_have_run: None,
        tool: Some("echo".into()),
        operation: None,
        resumes: None,
        definition: None,
        session: minute.is_multiple_of(2).then(|| SessionId::parse("s").unwrap()),
        user: None,
        agent: None,
        group: None,
        sender: None,
        message_id: None,
        arguments: None,
        digest: "d".into(),
        attempts: 1,
        fence: 1,
        worker: None,
        cached_from: None,
        batch: None,
        trace_id: None,
        enqueued_at: start(),
        started_at: None,
    }
}

/// Records of three hours, one a minute; now is the end of them.
async fn three_hours(world: World) -> World {
    for minute in 0..180 {
        world.client.history().insert(&record(minute), start().plus_ms(86_400_000)).await.unwrap();
    }
    world.clock.advance_ms(180 * MINUTE_MS);
    world
}

fn minutes(records: &[AuditRecord]) -> Vec<u64> {
    records.iter().map(|record| record.at.ms_since(start()) / MINUTE_MS).collect()
}

fn every(step: u64, from: u64, to: u64) -> Vec<u64> {
    (from..=to).rev().filter(|minute| minute.is_multiple_of(step)).collect()
}

#[tokio::test]
async fn records_are_those_of_the_span_newest_first() {
    let world = three_hours(World::start().await).await;
    let client = &world.client;
    let session = RecordsOf::Session(SessionId::parse("s").unwrap());
    let last_hour = client.last(Duration::from_secs(3_600));
    assert_eq!((last_hour.from, last_hour.to), (start().plus_ms(120 * MINUTE_MS), world.now()));
    for (which, step) in [(RecordsOf::Everything, 1), (RecordsOf::Failures, 10), (session, 2)] {
        let records = client.records(&acme(), &which, last_hour, 1_000).await.unwrap();
        assert_eq!(minutes(&records), every(step, 120, 179), "{which:?}");
        let newest = client.records(&acme(), &which, last_hour, 3).await.unwrap();
        assert_eq!(minutes(&newest), every(step, 120, 179)[..3], "{which:?}");

        let span = Span { from: start().plus_ms(30 * MINUTE_MS), to: start().plus_ms(150 * MINUTE_MS) };
        let parts: Vec<_> =
            client.record_parts(&acme(), &which, span, usize::MAX).try_collect().await.unwrap();
        assert_eq!(minutes(&parts.concat()), every(step, 30, 150), "{which:?}");
    }
}

#[tokio::test]
async fn a_long_session_is_read_in_parts_up_to_the_limit() {
    let world = World::start().await;
    let session = SessionId::parse("s").unwrap();
    for n in 0..300 {
        let record = AuditRecord { at: start().plus_ms(n), session: Some(session.clone()), ..record(n) };
        world.client.history().insert(&record, start().plus_ms(86_400_000)).await.unwrap();
    }
    let (which, span) = (RecordsOf::Session(session), Span { from: start(), to: start().plus_ms(279) });
    for (max, expected) in [(usize::MAX, vec![250, 30]), (260, vec![250, 10]), (3, vec![3]), (0, vec![])] {
        let parts: Vec<_> =
            world.client.record_parts(&acme(), &which, span, max).try_collect().await.unwrap();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{max}");
        let instants: Vec<_> = parts.concat().iter().map(|record| record.at.ms_since(start())).collect();
        let total = u64::try_from(instants.len()).unwrap();
        assert_eq!(instants, (280 - total..280).rev().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_record_of_a_call_is_found_whenever_it_ended() {
    let world = World::start().await;
    // The row tells when the call ended.
    world.end(&call("c7", "x"), "m", answer("x")).await;
    let world = three_hours(world).await;
    let ended = start();
    let end = AuditRecord { at: ended, ..record(7) };
    let late = AuditRecord { kind: AuditKind::LateAnswer, at: ended.plus_ms(20_000), ..record(7) };
    let much_later = AuditRecord { kind: AuditKind::LateAnswer, at: world.now(), ..record(7) };
    for record in [&end, &late, &much_later] {
        world.client.history().insert(record, world.now().plus_ms(86_400_000)).await.unwrap();
    }
    let key = CallKey { tenant: acme(), call_id: CallId::parse("c7").unwrap() };
    let near = world.client.records_by_row(&key).await.unwrap().unwrap();
    assert_eq!((near.records, near.is_complete), (vec![late.clone(), end.clone()], true));
    let none = CallKey { call_id: CallId::parse("none").unwrap(), ..key.clone() };
    assert_eq!(world.client.records_by_row(&none).await.unwrap(), None);

    let search = RecordSearch {
        tenant: acme(),
        session: None,
        call: Some(key.call_id.clone()),
        failed: false,
        tool: None,
        span: world.client.last(Duration::from_secs(4 * 3_600)),
    };
    let most = Reads { queries: usize::MAX, records: 1_000 };
    let all = world.client.search_records(&search, None, usize::MAX, most).await.unwrap();
    // The record of minute 7 is there twice: at that minute too.
    assert_eq!((all.records, all.next), (vec![much_later.clone(), record(7), late, end], None));
    let few = Reads { queries: usize::MAX, records: 30 };
    let part = world.client.search_records(&search, None, usize::MAX, few).await.unwrap();
    assert_eq!(part.records, [much_later]);
    assert!(part.next.is_some() && part.searched_to > start(), "{part:?}");
}
