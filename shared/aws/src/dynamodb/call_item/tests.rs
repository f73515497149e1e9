use serde_json::value::RawValue;
use toolfleet_core::call::{CallRow, Caller, Finished, Held, HeldReason, State};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, GroupId, Nonce, ServerId, SessionId, Tenant, WorkerId};
use toolfleet_core::outcome::{AnswerSource, CallError, Code, MayHaveRun, Outcome, OutcomeKind, Payload};
use toolfleet_core::progress::{Amount, CallProgress, LogLine, Progress, ProgressNote};
use toolfleet_core::request::{Membership, User};
use toolfleet_core::time::Timestamp;

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::dynamodb::attributes::{Item, bytes_of};

fn to_item(row: &CallRow) -> Item {
    attributes_of(row).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn notes() -> CallProgress {
    let mut notes = CallProgress::none(Timestamp::from_ms(6));
    let line = |text: &str| ProgressNote::Log(LogLine { level: "info".into(), text: text.into() });
    notes.take(line("a: b"), notes.at);
    notes.take(line(""), notes.at);
    let amount = |number| Amount::new(number).unwrap();
    let message = Some("half".to_owned());
    let progress = Progress { progress: amount(0.1 + 0.2), total: Some(amount(7.0)), message };
    notes.take(ProgressNote::Progress(progress), notes.at);
    notes
}

fn caller() -> Caller {
    let user = User { id: "u".into(), kind: Some("staff".into()), roles: vec!["a".into(), "b".into()] };
    Caller {
        session: Some(SessionId::parse("s:1").unwrap()),
        user: Some(user),
        agent: Some("planner".into()),
        group: Some(Membership { id: GroupId::parse("g").unwrap(), index: Some(2), size: 3, round: 2 }),
        sender: Some("AROA:w".into()),
        message_id: Some("m-1".into()),
    }
}

fn held() -> Held {
    let server = ServerId::parse("crm").unwrap();
    Held::new(HeldReason::ServerUnreachable, Some(server), Timestamp::from_ms(7), 9).with_fault("refused")
}

fn row(content: Option<&str>, why: Option<CallError>) -> CallRow {
    let outcome = Outcome {
        kind: OutcomeKind::Succeeded,
        error: why,
        payload: content.map(|c| Payload::Inline(RawValue::from_string(c.to_owned()).unwrap())),
        source: AnswerSource::Cache("c0".into()),
    };
    CallRow {
        key: CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c:1").unwrap() },
        state: State::Done,
        rev: 3,
        fence: 2,
        nonce: Some(Nonce::from_random(7)),
        worker: Some(WorkerId::parse("w").unwrap()),
        lease_until: Some(Timestamp::from_ms(5)),
        attempts: 2,
        may_have_executed: true,
        digest: Some(Digest::of_text("q")),
        caller: Some(Box::new(caller())),
        enqueued_at: Timestamp::from_ms(1),
        deadline: Some(Timestamp::from_ms(2)),
        started_at: Some(Timestamp::from_ms(2)),
        cancel_requested_at: Some(Timestamp::from_ms(3)),
        task: Some("t".into()),
        input_pending: true,
        poll_at: Some(Timestamp::from_ms(6)),
        held: Some(Box::new(held())),
        definition: Some(toolfleet_core::definition::ShortDefinitionDigest::from_stored("d")),
        notes: Some(Box::new(notes())),
        finished: Some(Finished { outcome, at: Timestamp::from_ms(4) }),
        expires_at: Timestamp::from_ms(9_000),
    }
}

#[test]
fn a_row_is_read_back_equal_its_result_byte_for_byte() {
    let why = CallError::new(Code::RateLimited, "slow", MayHaveRun::No).retryable(Some(7));
    let long = format!(r#"{{ "a" : 1.50, "text":"{}" }}"#, "lorem ipsum ".repeat(500));
    for content in [None, Some(r#"{ "b":1,"a": [ 1e3 ] }"#), Some(long.as_str())] {
        for why in [None, Some(why.clone())] {
            let mut row = row(content, why);
            assert_eq!(from_item(&to_item(&row)).unwrap(), row);
            for source in [AnswerSource::Server, AnswerSource::Batch("c1#2".into())] {
                row.finished.as_mut().unwrap().outcome.source = source;
                assert_eq!(from_item(&to_item(&row)).unwrap(), row);
            }
        }
    }
    let bare = CallRow {
        state: State::Pending,
        nonce: None,
        worker: None,
        lease_until: None,
        may_have_executed: false,
        digest: None,
        caller: None,
        deadline: None,
        started_at: None,
        cancel_requested_at: None,
        task: None,
        input_pending: false,
        poll_at: None,
        held: None,
        definition: None,
        notes: None,
        finished: None,
        ..row(None, None)
    };
    assert_eq!(from_item(&to_item(&bare)).unwrap(), bare);
}

/// An INSERT of two equal names is refused, and an update compares rows name by name.
#[test]
fn attributes_are_in_the_order_of_their_names_and_no_name_stands_twice() {
    let why = CallError::new(Code::RateLimited, "slow", MayHaveRun::No).retryable(Some(7));
    let attributes = attributes_of(&row(Some("{}"), Some(why)));
    let names: Vec<_> = attributes.iter().map(|(name, _)| *name).collect();
    assert!(names.len() > 40 && names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn a_caller_is_read_back_with_all_that_is_known_of_it() {
    let bare_user = User { id: String::new(), ..User::default() };
    for caller in [
        Caller::default(),
        Caller { user: Some(bare_user), ..Caller::default() },
        Caller::unknown(Some("AIDA"), Some("m")),
    ] {
        let row = CallRow { caller: Some(Box::new(caller)), ..row(None, None) };
        assert_eq!(from_item(&to_item(&row)).unwrap(), row);
    }
}

#[test]
fn the_row_of_a_usual_call_stays_below_one_write_unit() {
    let usual = CallRow {
        notes: None,
        task: None,
        ..row(Some(r#"{"content":[{"type":"text","text":"ok"}]}"#), None)
    };
    let item = to_item(&usual);
    let bytes: usize = item.iter().map(|(name, value)| name.len() + bytes_of(value)).sum();
    assert!(bytes < 900, "{bytes}");
}

#[test]
fn a_long_result_is_compressed_and_a_short_one_stays_readable() {
    let long = format!("\"{}\"", "lorem ipsum ".repeat(500));
    assert!(to_item(&row(Some(&long), None)).contains_key("result_gz"));
    assert!(to_item(&row(Some("{}"), None)).contains_key("result"));
}

#[test]
fn a_result_too_large_even_when_compressed_does_not_fit() {
    let mut noise = String::new();
    let mut state = 1_u64;
    while noise.len() < 900_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.push_str(&format!("{state:x}"));
    }
    let row = row(Some(&format!("\"{noise}\"")), None);
    assert!(check_fits(&row.finished.unwrap().outcome).is_err());
}

#[test]
fn a_large_result_is_compressed_on_a_blocking_thread() {
    let outcome = |bytes: usize| {
        Outcome::succeeded(RawValue::from_string(format!("\"{}\"", "a".repeat(bytes))).unwrap())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let mut small = Box::pin(crate::calls::Calls::fitting(outcome(1_000)));
        assert!(futures::poll!(small.as_mut()).is_ready());
        // The only blocking thread is busy until the large result has been asked for.
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let first = tokio::task::spawn_blocking(move || busy.recv());
        let mut large = Box::pin(crate::calls::Calls::fitting(outcome(16 * 1024 * 1024)));
        assert!(futures::poll!(large.as_mut()).is_pending());
        free.send(()).unwrap();
        assert!(large.await.is_ok());
        first.await.unwrap().unwrap();
    });
}

#[test]
fn an_errors_message_counts_like_a_result() {
    let outcome = |bytes: usize| {
        let content = RawValue::from_string(format!("\"{}\"", "a".repeat(bytes))).unwrap();
        let mut outcome = Outcome::tool_error(content, "");
        // Larger than the core makes a message: its size is counted anyway.
        outcome.error.as_mut().unwrap().message = "a".repeat(bytes);
        outcome
    };
    assert!(check_fits(&outcome(300 * 1024)).is_ok(), "the content alone is compressed");
    assert!(check_fits(&outcome(500 * 1024)).is_err());
}

#[test]
fn results_of_every_size_are_read_back_byte_for_byte() {
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let pieces =
        [" ", "\n", "\\u0000", "\\\"", "é", "😀", "\\/", "1.50", "aaaaaaaa", "{", "]", "\\ud83d\\ude00"];
    for _ in 0..300 {
        let mut inner = String::new();
        for _ in 0..next(200) {
            let piece = pieces[usize::try_from(next(pieces.len() as u64)).unwrap()];
            inner.push_str(if piece == "\n" { "\\n" } else { piece });
        }
        let text = format!(r#"{{ "n":{}.{:03}e1, "s" :[ "{inner}" ]}}"#, next(10), next(1_000));
        let row = row(Some(&text), None);
        let item = to_item(&row);
        let back = from_item(&item).unwrap();
        assert_eq!(back.finished.unwrap().outcome.content().unwrap().get(), text);
        assert!(item.contains_key("result") != item.contains_key("result_gz"));
    }
}

#[test]
fn a_row_with_a_stored_result_is_read_back_equal() {
    use toolfleet_core::payload::{Encoding, ObjectAt, PayloadRef};
    for (encoding, version_id) in [(Encoding::Gzip, None), (Encoding::Identity, Some("v1".to_owned()))] {
        let mut row = row(None, None);
        let at = ObjectAt { version_id, ..ObjectAt::parse("bucket", "acme/2026-11/ab").unwrap() };
        let stored =
            PayloadRef { at, sha256: "ab".repeat(32), bytes: 20_000, encoding, plain_bytes: 300_000 };
        row.finished.as_mut().unwrap().outcome.payload = Some(Payload::Stored(Box::new(stored)));
        let item = to_item(&row);
        assert_eq!(item.get("result_bytes").unwrap().as_n().unwrap(), "300000");
        assert!(!item.contains_key("result") && !item.contains_key("result_gz"));
        assert_eq!(from_item(&item).unwrap(), row);
    }
}

#[test]
fn a_row_of_an_earlier_build_still_says_that_its_call_may_have_run() {
    let mut item = to_item(&CallRow { may_have_executed: false, ..row(None, None) });
    assert!(!from_item(&item).unwrap().may_have_executed);
    item.insert("exposed".into(), AttributeValue::Bool(true));
    assert!(from_item(&item).unwrap().may_have_executed);
}

#[test]
fn a_held_reason_that_is_not_known_leaves_the_row_readable() {
    let mut item = to_item(&row(None, None));
    item.insert("held_reason".into(), AttributeValue::S("of_a_later_build".into()));
    let read = from_item(&item).unwrap();
    assert_eq!((read.held, read.rev), (None, 3));
}
