//! Calls, history and sessions: conditions are checked, batches are shared, one statement's error is its own.

use futures::future::join_all;
use toolfleet_aws::Tables;
use toolfleet_aws::calls::Calls;
use toolfleet_aws::{Store as _, Swap};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{CallRow, Decision, DeliveryContext, Event, decide};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, SessionId, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;

use crate::{START_MS, world};

fn now() -> Timestamp {
    Timestamp::from_ms(i64::try_from(START_MS).unwrap())
}

fn delivery(id: &str, nonce: u128) -> DeliveryContext {
    DeliveryContext {
        key: CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse(id).unwrap() },
        digest: Digest::of_text("q"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(nonce),
        worker: WorkerId::parse("w").unwrap(),
        enqueued_at: now(),
        deadline: None,
        now: now(),
        skew_ms: 0,
        may_be_claimless: false,
        repeatable: false,
        expires_at: now().plus_ms(10_500),
    }
}

fn written(seen: Option<&CallRow>, event: &Event) -> CallRow {
    match decide(seen, event) {
        Decision::Write { row, .. } => *row,
        Decision::Leave(rejection) => panic!("{rejection:?}"),
    }
}

pub(crate) fn claim(id: &str, nonce: u128) -> CallRow {
    let event = Event::Claim {
        delivery: delivery(id, nonce),
        lease_ms: 1_000,
        definition: Some(toolfleet_core::definition::ShortDefinitionDigest::from_stored("d")),
        answers: None,
    };
    written(None, &event)
}

async fn found(calls: &Calls, seen: Option<&CallRow>, new: &CallRow) -> CallRow {
    match calls.swap(seen, new).await.unwrap() {
        Swap::Found(Some(row)) => *row,
        other @ (Swap::Stored | Swap::Found(None)) => panic!("expected another row, got {other:?}"),
    }
}

#[tokio::test]
async fn a_swap_of_an_outdated_row_returns_the_stored_one() {
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let mine = claim("c1", 1);
    assert!(matches!(calls.swap(None, &mine).await.unwrap(), Swap::Stored));
    assert_eq!(found(&calls, None, &claim("c1", 2)).await, mine);
    assert_eq!(calls.read(&mine.key).await.unwrap().unwrap(), mine);

    let refuse = |why: &str| {
        let delivery = DeliveryContext { now: now().plus_ms(5_000), ..delivery("c1", 3) };
        written(
            Some(&mine),
            &Event::Conclude { delivery, outcome: Outcome::refused(Code::Paused, why), definition: None },
        )
    };
    let (first, second) = (refuse("first"), refuse("second"));
    assert!(matches!(calls.swap(Some(&mine), &first).await.unwrap(), Swap::Stored));
    assert_eq!(found(&calls, Some(&mine), &second).await, first);
    assert_eq!(calls.read(&mine.key).await.unwrap().unwrap(), first);
}

#[tokio::test]
async fn a_write_sent_again_finds_its_own_row() {
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let row = claim("c1", 1);
    assert!(matches!(calls.swap(None, &row).await.unwrap(), Swap::Stored));
    assert_eq!(found(&calls, None, &row).await, row, "equal down to every attribute");
}

#[tokio::test]
async fn an_update_of_a_missing_row_stores_nothing() {
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let row = claim("c1", 1);
    let beat = CallRow { rev: 2, ..row.clone() };
    assert!(matches!(calls.swap(Some(&row), &beat).await.unwrap(), Swap::Found(None)));
    assert!(calls.read(&row.key).await.unwrap().is_none());
}

#[tokio::test]
async fn concurrent_writes_share_requests_each_with_its_result() {
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let rows: Vec<_> = (0..200_u128).map(|n| claim(&format!("c{}", n / 2), n)).collect();
    // Each id is claimed by two rivals: one wins, the other sees the winner.
    let answers = join_all(rows.iter().map(|row| calls.swap(None, row))).await;
    let stored = answers.iter().filter(|a| matches!(a, Ok(Swap::Stored))).count();
    let lost = answers.iter().filter(|a| matches!(a, Ok(Swap::Found(Some(_))))).count();
    assert_eq!((stored, lost), (100, 100));
    let batching = world.aws.batching();
    assert_eq!(batching.statements, 200);
    assert!(batching.requests <= 30, "{batching:?}");
}

fn record(id: &str, outcome: OutcomeKind, session: Option<&str>) -> AuditRecord {
    AuditRecord {
        kind: AuditKind::Call,
        tenant: Tenant::parse("acme").unwrap(),
        call_id: CallId::parse(id).unwrap(),
        at: now(),
        outcome,
        code: None,
        message: None,
        may_have_run: None,
        tool: Some("t".into()),
        operation: None,
        resumes: None,
        definition: None,
        session: session.map(|s| SessionId::parse(s).unwrap()),
        user: None,
        agent: None,
        group: None,
        sender: None,
        message_id: None,
        arguments: Some("{}".into()),
        digest: "d".into(),
        attempts: 1,
        fence: 1,
        worker: None,
        cached_from: None,
        batch: None,
        trace_id: None,
        enqueued_at: now(),
        started_at: Some(now()),
    }
}

#[tokio::test]
async fn a_record_inserted_twice_keeps_its_first_form() {
    let world = world().await;
    let history = world.aws.history(&Tables::with_prefix("toolfleet"));
    let first = record("c1", OutcomeKind::Succeeded, None);
    history.insert(&first, now().plus_ms(1_000)).await.unwrap();
    let forged = AuditRecord { attempts: 99, ..first.clone() };
    history.insert(&forged, now().plus_ms(1_000)).await.unwrap();
    let found = history.of_call_at(&first.tenant, &first.call_id, now()).await.unwrap();
    assert_eq!(found, [first]);
}

#[tokio::test]
async fn records_are_found_by_hour_session_and_failure_in_all_shards() {
    let world = world().await;
    let tables = Tables { history_shards: 4, ..Tables::with_prefix("toolfleet") };
    let history = world.aws.history(&tables);
    for n in 0..40 {
        let outcome = if n % 4 == 0 { OutcomeKind::Failed } else { OutcomeKind::Succeeded };
        let session = (n % 2 == 0).then_some("s1");
        history.insert(&record(&format!("c{n}"), outcome, session), now().plus_ms(1_000)).await.unwrap();
    }
    let acme = Tenant::parse("acme").unwrap();
    assert_eq!(history.by_hours(&acme, now(), now(), 1_000).await.unwrap().len(), 40);
    assert_eq!(history.by_hours(&acme, now(), now(), 7).await.unwrap().len(), 7);
    let session = SessionId::parse("s1").unwrap();
    let of_session = async |limit| history.by_session(&acme, &session, (now(), now()), limit).await.unwrap();
    assert_eq!((of_session(1_000).await.len(), of_session(3).await.len()), (20, 3));
    let later = (now().plus_ms(1), now().plus_ms(2));
    assert!(history.by_session(&acme, &session, later, 1_000).await.unwrap().is_empty());
    assert_eq!(history.failures(&acme, now(), now(), 1_000).await.unwrap().len(), 10);
    let other = Tenant::parse("globex").unwrap();
    assert!(history.by_hours(&other, now(), now(), 1_000).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_limit_counts_only_records_within_the_span() {
    let world = world().await;
    let tables = Tables { history_shards: 2, ..Tables::with_prefix("toolfleet") };
    let history = world.aws.history(&tables);
    // One failure a minute over five hours, also after the end of the span and within its first and last hour.
    for minute in 0..300_u64 {
        let at = now().plus_ms(minute * 60_000);
        let record = AuditRecord { at, ..record(&format!("c{minute}"), OutcomeKind::Failed, None) };
        history.insert(&record, at.plus_ms(1_000)).await.unwrap();
    }
    let (from, to) = (now().plus_ms(70 * 60_000), now().plus_ms(200 * 60_000));
    let acme = Tenant::parse("acme").unwrap();
    let minutes = |records: Vec<AuditRecord>| -> Vec<u64> {
        records.iter().map(|r| r.at.ms_since(now()) / 60_000).collect()
    };
    let newest_ten: Vec<u64> = (191..=200).rev().collect();
    assert_eq!(minutes(history.by_hours(&acme, from, to, 10).await.unwrap()), newest_ten);
    assert_eq!(minutes(history.failures(&acme, from, to, 10).await.unwrap()), newest_ten);
    let all: Vec<u64> = (70..=200).rev().collect();
    assert_eq!(minutes(history.by_hours(&acme, from, to, 1_000).await.unwrap()), all);
    assert_eq!(minutes(history.failures(&acme, from, to, 1_000).await.unwrap()), all);
    assert!(
        history.by_hours(&acme, to, from, 10).await.unwrap().is_empty(),
        "a span that ends before it begins"
    );
}

#[tokio::test]
async fn the_records_of_one_call_are_found_at_its_end() {
    let world = world().await;
    let history = world.aws.history(&Tables::with_prefix("toolfleet"));
    for n in 0..30 {
        let late = AuditRecord {
            kind: AuditKind::LateAnswer,
            ..record(&format!("c{n}"), OutcomeKind::Failed, None)
        };
        history.insert(&record(&format!("c{n}"), OutcomeKind::Succeeded, None), now()).await.unwrap();
        history.insert(&late, now()).await.unwrap();
    }
    let (acme, call) = (Tenant::parse("acme").unwrap(), CallId::parse("c7").unwrap());
    let found = history.of_call_at(&acme, &call, now()).await;
    let found = found.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|r| r.call_id.as_str() == "c7"));
}

#[tokio::test]
async fn many_rows_are_read_together_in_the_order_of_their_keys() {
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let rows: Vec<_> = (0..250_u128).map(|n| claim(&format!("c{n}"), n)).collect();
    for stored in join_all(rows.iter().map(|row| calls.swap(None, row))).await {
        assert!(matches!(stored.unwrap(), Swap::Stored));
    }
    let absent = claim("absent", 1).key;
    let mut keys: Vec<_> = rows.iter().rev().map(|row| row.key.clone()).collect();
    keys.insert(100, absent);
    let read = calls.read_many(&keys).await.unwrap();
    let mut expected: Vec<_> = rows.iter().rev().cloned().map(Some).collect();
    expected.insert(100, None);
    assert_eq!(read, expected);
    assert!(calls.read_many(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_revoked_session_has_ended_and_cannot_be_created_again() {
    let world = world().await;
    let sessions = world.aws.sessions(&Tables::with_prefix("toolfleet"));
    let acme = Tenant::parse("acme").unwrap();
    let open = SessionRow { expires_at: now().plus_ms(60_000), grants: vec!["*".into()], user: None };
    for exists in [true, false] {
        let id = SessionId::parse(format!("exists-{exists}")).unwrap();
        if exists {
            assert!(sessions.create(&acme, &id, &open).await.unwrap());
        }
        sessions.revoke(&acme, &id, now().plus_ms(1)).await.unwrap();
        assert!(!sessions.create(&acme, &id, &open).await.unwrap(), "{id}");
        let row = sessions.read(&acme, &id).await.unwrap().unwrap();
        assert_eq!(row.expires_at, now().plus_ms(1), "{id}");
    }
}

#[tokio::test]
async fn a_session_is_created_once_and_read_back() {
    let world = world().await;
    let sessions = world.aws.sessions(&Tables::with_prefix("toolfleet"));
    let (acme, id) = (Tenant::parse("acme").unwrap(), SessionId::parse("s1").unwrap());
    let row = SessionRow { expires_at: now(), grants: vec!["a".into(), "b".into()], user: None };
    assert!(sessions.create(&acme, &id, &row).await.unwrap());
    let other = SessionRow { grants: vec!["*".into()], ..row.clone() };
    assert!(!sessions.create(&acme, &id, &other).await.unwrap());
    assert_eq!(sessions.read(&acme, &id).await.unwrap(), Some(row));
}

#[tokio::test]
async fn a_missing_table_fails_no_other_statement_of_the_batch() {
    let world = world().await;
    let there = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let missing = world.aws.calls(&Tables::with_prefix("nowhere"));
    let (a, b) = (claim("c1", 1), claim("c2", 2));
    let (stored, error) = tokio::join!(there.swap(None, &a), missing.swap(None, &b));
    assert!(matches!(stored.unwrap(), Swap::Stored));
    let error = error.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("nowhere-calls"), "{error}");
}
