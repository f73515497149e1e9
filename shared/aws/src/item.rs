//! Owns how a call's row stands in the table: short, readable attributes that any language can read.
//!
//! docs/DATA.md is the same list for people. A result of up to 512 bytes is JSON text; a longer one is gzipped if that
//! makes it shorter.
//!
//! **Invariant:** reading what was written gives the same row, the result byte for byte.

use std::io::{Read as _, Write as _};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue as Value;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;
use toolfleet_core::call::{CallRow, Caller, Finished, Held, HeldReason, State};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, GroupId, Nonce, ServerId, SessionId, Tenant, WorkerId};
use toolfleet_core::message::{Group, User};
use toolfleet_core::notes::{Amount, LogLine, Notes, Progress};
use toolfleet_core::outcome::{Outcome, Trouble as Why};
use toolfleet_core::time::Timestamp;

use crate::statements::Item;
use crate::trouble::Trouble;

/// A longer result is compressed.
const PLAIN_BYTES: usize = 512;
/// A larger outcome does not fit into an item of 400 KB beside the other attributes.
const MOST_BYTES: usize = 380 * 1024;

/// So much is compressed before it is looked at what came out.
const STEP_BYTES: usize = 64 * 1024;

pub(crate) const KEY: &str = "pk";
pub(crate) const REV: &str = "rev";

/// Whether an outcome fits into its row; else how many bytes it has. The sentence stands there as it is
/// and counts as well. Nothing is compressed unless it must be: to_item does that once.
pub(crate) fn fits(outcome: &Outcome) -> Result<(), usize> {
    let sentence = outcome.trouble.as_ref().map_or(0, |why| why.message.len());
    let text = outcome.content.as_ref().map_or("", |content| content.get());
    if sentence.saturating_add(text.len()) <= MOST_BYTES {
        return Ok(());
    }
    let room = MOST_BYTES.saturating_sub(sentence);
    match gzipped(text, room) {
        Some(bytes) if bytes.len() <= room => Ok(()),
        Some(_) | None => Err(text.len().saturating_add(sentence)),
    }
}

/// The row as the table holds it.
pub(crate) fn to_item(row: &CallRow) -> Item {
    let mut item = Item::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            item.insert(name.to_owned(), value);
        }
    };
    put(KEY, text(row.key.partition()));
    put("state", text(row.state.as_str()));
    put(REV, number(row.rev));
    put("fence", number(row.fence));
    put("nonce", row.nonce.as_ref().and_then(text));
    put("worker", row.worker.as_ref().and_then(text));
    put("lease_until_ms", row.lease_until.and_then(ms));
    put("attempts", number(row.attempts));
    put("exposed", row.exposed.then_some(Value::Bool(true)));
    put("digest", row.digest.as_ref().and_then(text));
    if let Some(caller) = &row.caller {
        put_caller(caller, &mut put);
    }
    put("enqueued_at_ms", ms(row.enqueued_at));
    put("started_at_ms", row.started_at.and_then(ms));
    put("cancel_requested_at_ms", row.cancel_requested_at.and_then(ms));
    put("task", row.task.as_ref().and_then(text));
    put("unanswered", row.unanswered.then_some(Value::Bool(true)));
    put("poll_at_ms", row.poll_at.and_then(ms));
    put("definition", row.definition.as_ref().and_then(text));
    put("expires_at", number(row.expires_at.as_s()));
    if let Some(held) = &row.held {
        put("held_reason", text(held.reason.as_str()));
        put("held_server", held.server.as_ref().and_then(text));
        put("held_since_ms", ms(held.since));
        put("held_fault", held.last_fault.as_ref().and_then(text));
        put("next_try_at_ms", ms(held.next_try_at));
    }
    if let Some(notes) = &row.notes {
        put("noted_at_ms", ms(notes.at));
        if let Some(progress) = &notes.progress {
            put("progress", number(progress.progress));
            put("progress_total", progress.total.and_then(number));
            put("progress_message", progress.message.as_ref().and_then(text));
        }
        let lines = notes.log.iter().map(|line| Value::S(format!("{}: {}", line.level, line.text))).collect();
        put("log", Some(Value::L(lines)).filter(|_| !notes.log.is_empty()));
    }
    if let Some(finished) = &row.finished {
        let outcome = &finished.outcome;
        put("finished_at_ms", ms(finished.at));
        put("outcome", text(outcome.kind.as_str()));
        if let Some(why) = &outcome.trouble {
            put("code", text(why.code.as_str()));
            put("message", text(&why.message));
            put("retryable", Some(Value::Bool(why.retryable)));
            put("retry_after_ms", why.retry_after_ms.and_then(number));
            put(
                "may_have_run",
                serde_json::to_value(why.may_have_run).ok().and_then(|v| v.as_str().and_then(text)),
            );
        }
        if let Some(content) = &outcome.content {
            let plain = content.get();
            put("result_bytes", number(plain.len()));
            let shorter = || gzipped(plain, plain.len()).filter(|gz| gz.len() < plain.len());
            match Some(plain).filter(|plain| plain.len() > PLAIN_BYTES).and_then(|_| shorter()) {
                Some(gz) => put("result_gz", Some(Value::B(Blob::new(gz)))),
                None => put("result", text(plain)),
            }
        }
    }
    item
}

/// The row that the table holds.
pub(crate) fn from_item(item: &Item) -> Result<CallRow, Trouble> {
    let row = Reader(item);
    let (tenant, call_id) = row.text(KEY)?.split_once('#').ok_or_else(|| broken(KEY))?;
    let key = CallKey {
        tenant: row.named(KEY, Tenant::from_stored(tenant))?,
        call_id: row.named(KEY, CallId::parse(call_id))?,
    };
    let finished = match row.optional_ms("finished_at_ms")? {
        None => None,
        Some(at) => Some(Finished { at, outcome: row.outcome()? }),
    };
    let optional = |name: &'static str| row.0.get(name).map(|_| row.text(name)).transpose();
    Ok(CallRow {
        key,
        state: State::from_stored(row.text("state")?).ok_or_else(|| broken("state"))?,
        rev: row.number(REV)?,
        fence: row.number("fence")?,
        nonce: optional("nonce")?.map(Nonce::parse).transpose().map_err(|_| broken("nonce"))?,
        worker: optional("worker")?.map(WorkerId::parse).transpose().map_err(|_| broken("worker"))?,
        lease_until: row.optional_ms("lease_until_ms")?,
        attempts: row.number("attempts")?,
        exposed: row.flag("exposed"),
        digest: optional("digest")?.map(Digest::from_stored),
        caller: row.caller()?.map(Box::new),
        enqueued_at: Timestamp::from_ms(row.number("enqueued_at_ms")?),
        started_at: row.optional_ms("started_at_ms")?,
        cancel_requested_at: row.optional_ms("cancel_requested_at_ms")?,
        task: optional("task")?.map(str::to_owned),
        unanswered: row.flag("unanswered"),
        poll_at: row.optional_ms("poll_at_ms")?,
        held: row.held()?.map(Box::new),
        definition: optional("definition")?.map(str::to_owned),
        notes: row.notes()?.map(Box::new),
        finished,
        expires_at: Timestamp::from_ms(row.number::<i64>("expires_at")?.saturating_mul(1000)),
    })
}

/// `sender` tells that the row keeps its caller; it is empty where the queue named none.
fn put_caller(caller: &Caller, put: &mut impl FnMut(&str, Option<Value>)) {
    put("sender", text(caller.sender.as_deref().unwrap_or_default()));
    put("message_id", caller.message_id.as_ref().and_then(text));
    put("session", caller.session.as_ref().and_then(text));
    put("agent", caller.agent.as_ref().and_then(text));
    if let Some(User { id, kind, roles }) = &caller.user {
        put("user", text(id));
        put("user_type", kind.as_ref().and_then(text));
        let roles: Vec<_> = roles.iter().map(|role| Value::S(role.clone())).collect();
        put("user_roles", Some(roles).filter(|roles| !roles.is_empty()).map(Value::L));
    }
    if let Some(Group { id, size }) = &caller.group {
        put("group", text(id));
        put("group_size", number(size));
    }
}

pub(crate) fn text(value: impl ToString) -> Option<Value> {
    Some(Value::S(value.to_string()))
}

pub(crate) fn number(value: impl ToString) -> Option<Value> {
    Some(Value::N(value.to_string()))
}

fn ms(at: Timestamp) -> Option<Value> {
    number(at.as_ms())
}

/// About how many bytes an attribute takes.
pub(crate) fn bytes_of(value: &Value) -> usize {
    match value {
        Value::S(text) | Value::N(text) => text.len(),
        Value::B(blob) => blob.as_ref().len().saturating_mul(4) / 3,
        Value::L(items) => items.iter().map(bytes_of).sum::<usize>() + 8,
        Value::M(map) => map.iter().map(|(name, value)| name.len() + bytes_of(value)).sum::<usize>() + 8,
        Value::Bool(_) | Value::Bs(_) | Value::Ns(_) | Value::Null(_) | Value::Ss(_) | _ => 64,
    }
}

/// The compressed text, unless it has more than `most` bytes: what cannot be stored is not compressed to its end.
fn gzipped(text: &str, most: usize) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(5));
    for part in text.as_bytes().chunks(STEP_BYTES) {
        encoder.write_all(part).ok()?;
        if encoder.get_ref().len() > most {
            return None;
        }
    }
    encoder.finish().ok()
}

fn broken(attribute: &str) -> Trouble {
    Trouble::configuration(format!(
        "a row of the calls table has no usable attribute `{attribute}`; was it written by something else?"
    ))
}

struct Reader<'a>(&'a Item);

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Trouble> {
        self.0.get(name).and_then(|v| v.as_s().ok()).map(String::as_str).ok_or_else(|| broken(name))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Trouble> {
        let text = self.0.get(name).and_then(|v| v.as_n().ok());
        text.and_then(|t| t.parse().ok()).ok_or_else(|| broken(name))
    }

    fn optional_ms(&self, name: &str) -> Result<Option<Timestamp>, Trouble> {
        if self.0.contains_key(name) {
            self.number(name).map(|ms| Some(Timestamp::from_ms(ms)))
        } else {
            Ok(None)
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(|v| v.as_bool().ok()).copied().unwrap_or(false)
    }

    fn named<T, E>(&self, attribute: &str, parsed: Result<T, E>) -> Result<T, Trouble> {
        parsed.map_err(|_| broken(attribute))
    }

    fn word<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Trouble> {
        serde_json::from_value(self.text(name)?.into()).map_err(|_| broken(name))
    }

    fn outcome(&self) -> Result<Outcome, Trouble> {
        let trouble = if self.0.contains_key("code") {
            Some(Why {
                code: self.word("code")?,
                message: self.text("message")?.to_owned(),
                retryable: self.flag("retryable"),
                retry_after_ms: self
                    .0
                    .contains_key("retry_after_ms")
                    .then(|| self.number("retry_after_ms"))
                    .transpose()?,
                may_have_run: self.word("may_have_run")?,
            })
        } else {
            None
        };
        Ok(Outcome { kind: self.word("outcome")?, trouble, content: self.content()? })
    }

    fn caller(&self) -> Result<Option<Caller>, Trouble> {
        let optional = |name: &str| self.0.get(name).map(|_| self.text(name)).transpose();
        let Some(sender) = optional("sender")? else {
            return Ok(None);
        };
        let roles = self.0.get("user_roles").and_then(|roles| roles.as_l().ok()).map(Vec::as_slice);
        let roles = roles.unwrap_or_default().iter().filter_map(|role| role.as_s().ok().cloned()).collect();
        let kind = optional("user_type")?.map(str::to_owned);
        let user = optional("user")?.map(|id| User { id: id.to_owned(), kind, roles });
        let group = optional("group")?.map(|id| {
            Ok::<_, Trouble>(Group {
                id: self.named("group", GroupId::parse(id))?,
                size: self.number("group_size")?,
            })
        });
        let session = optional("session")?.map(|id| self.named("session", SessionId::parse(id)));
        Ok(Some(Caller {
            session: session.transpose()?,
            user,
            agent: optional("agent")?.map(str::to_owned),
            group: group.transpose()?,
            sender: Some(sender.to_owned()).filter(|sender| !sender.is_empty()),
            message_id: optional("message_id")?.map(str::to_owned),
        }))
    }

    fn held(&self) -> Result<Option<Held>, Trouble> {
        if !self.0.contains_key("held_reason") {
            return Ok(None);
        }
        let optional = |name: &'static str| self.0.get(name).map(|_| self.text(name)).transpose();
        let server = optional("held_server")?.map(ServerId::parse).transpose();
        Ok(Some(Held {
            reason: HeldReason::from_stored(self.text("held_reason")?)
                .ok_or_else(|| broken("held_reason"))?,
            server: server.map_err(|_| broken("held_server"))?,
            since: Timestamp::from_ms(self.number("held_since_ms")?),
            next_try_at: Timestamp::from_ms(self.number("next_try_at_ms")?),
            last_fault: optional("held_fault")?.map(str::to_owned),
        }))
    }

    fn notes(&self) -> Result<Option<Notes>, Trouble> {
        let Some(at) = self.optional_ms("noted_at_ms")? else {
            return Ok(None);
        };
        let amount = |name: &str| Amount::new(self.number(name)?).ok_or_else(|| broken(name));
        let optional = |name: &str| self.0.contains_key(name);
        let progress = optional("progress").then(|| {
            Ok::<_, Trouble>(Progress {
                progress: amount("progress")?,
                total: optional("progress_total").then(|| amount("progress_total")).transpose()?,
                message: optional("progress_message")
                    .then(|| self.text("progress_message").map(str::to_owned))
                    .transpose()?,
            })
        });
        let lines = self.0.get("log").and_then(|log| log.as_l().ok()).map(Vec::as_slice).unwrap_or_default();
        let line = |line: &Value| {
            let text = line.as_s().ok().and_then(|text| text.split_once(": "));
            let (level, text) = text.ok_or_else(|| broken("log"))?;
            Ok::<_, Trouble>(LogLine { level: level.to_owned(), text: text.to_owned() })
        };
        let log = lines.iter().map(line).collect::<Result<_, _>>()?;
        Ok(Some(Notes { at, progress: progress.transpose()?, log }))
    }

    fn content(&self) -> Result<Option<Box<RawValue>>, Trouble> {
        let plain = if let Some(gz) = self.0.get("result_gz") {
            let bytes = gz.as_b().map_err(|_| broken("result_gz"))?;
            let mut plain = String::new();
            GzDecoder::new(bytes.as_ref()).read_to_string(&mut plain).map_err(|_| broken("result_gz"))?;
            plain
        } else if self.0.contains_key("result") {
            self.text("result")?.to_owned()
        } else {
            return Ok(None);
        };
        RawValue::from_string(plain).map(Some).map_err(|_| broken("result"))
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::notes::Note;
    use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};

    use super::*;

    fn notes() -> Notes {
        let mut notes = Notes::none(Timestamp::from_ms(6));
        let line = |text: &str| Note::Log(LogLine { level: "info".into(), text: text.into() });
        notes.take(line("a: b"), notes.at);
        notes.take(line(""), notes.at);
        let amount = |number| Amount::new(number).unwrap();
        let message = Some("half".to_owned());
        let progress = Progress { progress: amount(0.1 + 0.2), total: Some(amount(7.0)), message };
        notes.take(Note::Progress(progress), notes.at);
        notes
    }

    fn caller() -> Caller {
        let user = User { id: "u".into(), kind: Some("staff".into()), roles: vec!["a".into(), "b".into()] };
        Caller {
            session: Some(SessionId::parse("s:1").unwrap()),
            user: Some(user),
            agent: Some("planner".into()),
            group: Some(Group { id: GroupId::parse("g").unwrap(), size: 3 }),
            sender: Some("AROA:w".into()),
            message_id: Some("m-1".into()),
        }
    }

    fn held() -> Held {
        let server = ServerId::parse("crm").unwrap();
        Held::new(HeldReason::ServerUnreachable, Some(server), Timestamp::from_ms(7), 9).with_fault("refused")
    }

    fn row(content: Option<&str>, why: Option<Why>) -> CallRow {
        let outcome = Outcome {
            kind: OutcomeKind::Succeeded,
            trouble: why,
            content: content.map(|c| RawValue::from_string(c.to_owned()).unwrap()),
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
            exposed: true,
            digest: Some(Digest::of_text("q")),
            caller: Some(Box::new(caller())),
            enqueued_at: Timestamp::from_ms(1),
            started_at: Some(Timestamp::from_ms(2)),
            cancel_requested_at: Some(Timestamp::from_ms(3)),
            task: Some("t".into()),
            unanswered: true,
            poll_at: Some(Timestamp::from_ms(6)),
            held: Some(Box::new(held())),
            definition: Some("d".into()),
            notes: Some(Box::new(notes())),
            finished: Some(Finished { outcome, at: Timestamp::from_ms(4) }),
            expires_at: Timestamp::from_ms(9_000),
        }
    }

    #[test]
    fn a_row_comes_back_as_it_went_with_its_result_byte_for_byte() {
        let why = Why::new(Code::RateLimited, "slow", MayHaveRun::No).retryable(Some(7));
        let long = format!(r#"{{ "a" : 1.50, "text":"{}" }}"#, "lorem ipsum ".repeat(500));
        for content in [None, Some(r#"{ "b":1,"a": [ 1e3 ] }"#), Some(long.as_str())] {
            for why in [None, Some(why.clone())] {
                let row = row(content, why);
                assert_eq!(from_item(&to_item(&row)).unwrap(), row);
            }
        }
        let bare = CallRow {
            state: State::Pending,
            nonce: None,
            worker: None,
            lease_until: None,
            exposed: false,
            digest: None,
            caller: None,
            started_at: None,
            cancel_requested_at: None,
            task: None,
            unanswered: false,
            poll_at: None,
            held: None,
            definition: None,
            notes: None,
            finished: None,
            ..row(None, None)
        };
        assert_eq!(from_item(&to_item(&bare)).unwrap(), bare);
    }

    #[test]
    fn a_caller_comes_back_with_as_much_as_is_known_of_it() {
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
    fn a_result_that_no_compression_makes_small_enough_does_not_fit() {
        let mut noise = String::new();
        let mut state = 1_u64;
        while noise.len() < 900_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.push_str(&format!("{state:x}"));
        }
        let row = row(Some(&format!("\"{noise}\"")), None);
        assert!(fits(&row.finished.unwrap().outcome).is_err());
    }

    #[tokio::test]
    async fn a_large_result_is_compressed_beside_the_runtime() {
        let outcome = |bytes: usize| {
            Outcome::succeeded(RawValue::from_string(format!("\"{}\"", "a".repeat(bytes))).unwrap())
        };
        let mut small = Box::pin(crate::calls::Calls::fitting(outcome(1_000)));
        assert!(futures::poll!(small.as_mut()).is_ready());
        let mut large = Box::pin(crate::calls::Calls::fitting(outcome(16 * 1024 * 1024)));
        assert!(futures::poll!(large.as_mut()).is_pending());
        assert!(large.await.is_ok());
    }

    #[test]
    fn a_sentence_counts_like_a_result() {
        let outcome = |bytes: usize| {
            let content = RawValue::from_string(format!("\"{}\"", "a".repeat(bytes))).unwrap();
            let mut outcome = Outcome::tool_error(content, "");
            // Larger than the core makes one: the row counts whatever it is given.
            outcome.trouble.as_mut().unwrap().message = "a".repeat(bytes);
            outcome
        };
        assert!(fits(&outcome(300 * 1024)).is_ok(), "the content alone is compressed");
        assert!(fits(&outcome(500 * 1024)).is_err());
    }

    #[test]
    fn results_of_every_shape_and_size_come_back_byte_for_byte() {
        let mut chance = 7_u64;
        let mut next = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % below
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
            assert_eq!(back.finished.unwrap().outcome.content.unwrap().get(), text);
            assert!(item.contains_key("result") != item.contains_key("result_gz"));
        }
    }
}
