//! Owns how a call's row stands in the table: short, readable attributes that any language can read.
//!
//! docs/DATA.md is the same list for people. A result of up to 512 bytes is JSON text; a longer one is gzipped if that
//! makes it shorter. Of one that is stored in a bucket the row has the reference.
//!
//! **Invariant:** reading what was written gives the same row, the result byte for byte.

use std::collections::HashMap;
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
use toolfleet_core::outcome::{CallError, Outcome};
use toolfleet_core::payload::{ObjectAt, PayloadRef};
use toolfleet_core::progress::{Amount, CallProgress, LogLine, Progress};
use toolfleet_core::time::Timestamp;

use crate::error::AwsError;
use crate::statements::Item;

/// A longer result is compressed.
const PLAIN_BYTES: usize = 512;
/// A larger outcome does not fit into an item of 400 KB beside the other attributes.
pub(crate) const MOST_BYTES: usize = 380 * 1024;

/// So much is compressed before it is looked at what came out.
const STEP_BYTES: usize = 64 * 1024;

pub(crate) const KEY: &str = "pk";
pub(crate) const REV: &str = "rev";

/// Whether an outcome fits into its row; else how many bytes it has. The sentence stands there as it is
/// and counts as well. Nothing is compressed unless it must be: to_item does that once.
pub(crate) fn fits(outcome: &Outcome) -> Result<(), usize> {
    let sentence = outcome.error.as_ref().map_or(0, |why| why.message.len());
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
    put("may_have_executed", row.may_have_executed.then_some(Value::Bool(true)));
    put("digest", row.digest.as_ref().and_then(text));
    if let Some(caller) = &row.caller {
        put_caller(caller, &mut put);
    }
    put("enqueued_at_ms", ms(row.enqueued_at));
    put("started_at_ms", row.started_at.and_then(ms));
    put("cancel_requested_at_ms", row.cancel_requested_at.and_then(ms));
    put("task", row.task.as_ref().and_then(text));
    put("input_pending", row.input_pending.then_some(Value::Bool(true)));
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
        if let Some(why) = &outcome.error {
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
        if let Some(stored) = &outcome.stored {
            put("result_bytes", number(stored.plain_bytes));
            put("result_ref", Some(reference(stored)));
        }
    }
    item
}

/// A stored result as the row refers to it; the fields are those of `arguments_ref` in a request.
fn reference(stored: &PayloadRef) -> Value {
    let mut map = HashMap::new();
    let mut put = |name: &str, value: Option<Value>| map.extend(value.map(|value| (name.to_owned(), value)));
    put("bucket", text(&stored.at.bucket));
    put("key", text(&stored.at.key));
    put("version_id", stored.at.version_id.as_ref().and_then(text));
    put("sha256", text(&stored.sha256));
    put("bytes", number(stored.bytes));
    put("encoding", text(stored.encoding.as_str()));
    Value::M(map)
}

/// The row that the table holds.
pub(crate) fn from_item(item: &Item) -> Result<CallRow, AwsError> {
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
        may_have_executed: row.flag("may_have_executed"),
        digest: optional("digest")?.map(Digest::from_stored),
        caller: row.caller()?.map(Box::new),
        enqueued_at: Timestamp::from_ms(row.number("enqueued_at_ms")?),
        started_at: row.optional_ms("started_at_ms")?,
        cancel_requested_at: row.optional_ms("cancel_requested_at_ms")?,
        task: optional("task")?.map(str::to_owned),
        input_pending: row.flag("input_pending"),
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
pub(crate) fn gzipped(text: &str, most: usize) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(5));
    for part in text.as_bytes().chunks(STEP_BYTES) {
        encoder.write_all(part).ok()?;
        if encoder.get_ref().len() > most {
            return None;
        }
    }
    encoder.finish().ok()
}

fn broken(attribute: &str) -> AwsError {
    AwsError::configuration(format!(
        "a row of the calls table has no usable attribute `{attribute}`; was it written by something else?"
    ))
}

struct Reader<'a>(&'a Item);

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Result<&'a str, AwsError> {
        self.0.get(name).and_then(|v| v.as_s().ok()).map(String::as_str).ok_or_else(|| broken(name))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, AwsError> {
        let text = self.0.get(name).and_then(|v| v.as_n().ok());
        text.and_then(|t| t.parse().ok()).ok_or_else(|| broken(name))
    }

    fn optional_ms(&self, name: &str) -> Result<Option<Timestamp>, AwsError> {
        if self.0.contains_key(name) {
            self.number(name).map(|ms| Some(Timestamp::from_ms(ms)))
        } else {
            Ok(None)
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(|v| v.as_bool().ok()).copied().unwrap_or(false)
    }

    fn named<T, E>(&self, attribute: &str, parsed: Result<T, E>) -> Result<T, AwsError> {
        parsed.map_err(|_| broken(attribute))
    }

    fn word<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, AwsError> {
        serde_json::from_value(self.text(name)?.into()).map_err(|_| broken(name))
    }

    fn outcome(&self) -> Result<Outcome, AwsError> {
        let trouble = if self.0.contains_key("code") {
            Some(CallError {
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
        let stored = self.stored()?.map(Box::new);
        Ok(Outcome { kind: self.word("outcome")?, error: trouble, content: self.content()?, stored })
    }

    fn caller(&self) -> Result<Option<Caller>, AwsError> {
        let optional = |name: &str| self.0.get(name).map(|_| self.text(name)).transpose();
        let Some(sender) = optional("sender")? else {
            return Ok(None);
        };
        let roles = self.0.get("user_roles").and_then(|roles| roles.as_l().ok()).map(Vec::as_slice);
        let roles = roles.unwrap_or_default().iter().filter_map(|role| role.as_s().ok().cloned()).collect();
        let kind = optional("user_type")?.map(str::to_owned);
        let user = optional("user")?.map(|id| User { id: id.to_owned(), kind, roles });
        let group = optional("group")?.map(|id| {
            Ok::<_, AwsError>(Group {
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

    fn held(&self) -> Result<Option<Held>, AwsError> {
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

    fn notes(&self) -> Result<Option<CallProgress>, AwsError> {
        let Some(at) = self.optional_ms("noted_at_ms")? else {
            return Ok(None);
        };
        let amount = |name: &str| Amount::new(self.number(name)?).ok_or_else(|| broken(name));
        let optional = |name: &str| self.0.contains_key(name);
        let progress = optional("progress").then(|| {
            Ok::<_, AwsError>(Progress {
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
            Ok::<_, AwsError>(LogLine { level: level.to_owned(), text: text.to_owned() })
        };
        let log = lines.iter().map(line).collect::<Result<_, _>>()?;
        Ok(Some(CallProgress { at, progress: progress.transpose()?, log }))
    }

    fn stored(&self) -> Result<Option<PayloadRef>, AwsError> {
        let Some(map) = self.0.get("result_ref") else {
            return Ok(None);
        };
        let map = Reader(map.as_m().map_err(|_| broken("result_ref"))?);
        let optional = |name: &'static str| map.0.get(name).map(|_| map.text(name)).transpose();
        Ok(Some(PayloadRef {
            at: ObjectAt {
                bucket: map.text("bucket")?.to_owned(),
                key: map.text("key")?.to_owned(),
                version_id: optional("version_id")?.map(str::to_owned),
            },
            sha256: map.text("sha256")?.to_owned(),
            bytes: map.number("bytes")?,
            encoding: map.word("encoding")?,
            plain_bytes: self.number("result_bytes")?,
        }))
    }

    fn content(&self) -> Result<Option<Box<RawValue>>, AwsError> {
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
mod tests;
