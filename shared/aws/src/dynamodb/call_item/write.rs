//! Writes the row of a call as an item.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue as Value;
use toolfleet_core::call::{CallRow, Caller, Finished, Held};
use toolfleet_core::outcome::CallError;
use toolfleet_core::payload::PayloadRef;
use toolfleet_core::progress::CallProgress;
use toolfleet_core::request::{Membership, User};

use crate::dynamodb::attributes::{Attribute, ms, number, text};
use crate::gzip::compress_if_shorter;
use crate::keys::{self, EXPIRES_AT, PK, REV};

/// A longer result is compressed.
const PLAIN_BYTES: usize = 512;

/// About how many attributes a row has.
const ATTRIBUTES: usize = 28;

/// The row as the table holds it, by the names of its attributes.
pub(crate) fn attributes_of(row: &CallRow) -> Vec<Attribute> {
    let mut attributes = Vec::with_capacity(ATTRIBUTES);
    let mut put = |name, value: Option<Value>| attributes.extend(value.map(|value| (name, value)));
    put(PK, text(keys::call(&row.key)));
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
    put("deadline_ms", row.deadline.and_then(ms));
    put("started_at_ms", row.started_at.and_then(ms));
    put("cancel_requested_at_ms", row.cancel_requested_at.and_then(ms));
    put("task", row.task.as_ref().and_then(text));
    put("input_pending", row.input_pending.then_some(Value::Bool(true)));
    put("poll_at_ms", row.poll_at.and_then(ms));
    put("definition", row.definition.as_ref().and_then(text));
    put(EXPIRES_AT, number(row.expires_at.as_s()));
    if let Some(held) = &row.held {
        put_held(held, &mut put);
    }
    if let Some(notes) = &row.notes {
        put_progress(notes, &mut put);
    }
    if let Some(finished) = &row.finished {
        put_finished(finished, &mut put);
    }
    attributes.sort_unstable_by_key(|(name, _)| *name);
    attributes
}

/// `sender` marks that the row keeps its caller; it is empty where the queue named none.
fn put_caller(caller: &Caller, put: &mut impl FnMut(&'static str, Option<Value>)) {
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
    if let Some(Membership { id, index, size, round }) = &caller.group {
        put("group", text(id));
        put("group_index", index.and_then(number));
        put("group_size", number(size));
        put("group_round", (*round > 1).then(|| number(round)).flatten());
    }
}

fn put_held(held: &Held, put: &mut impl FnMut(&'static str, Option<Value>)) {
    put("held_reason", text(held.reason.as_str()));
    put("held_server", held.server.as_ref().and_then(text));
    put("held_since_ms", ms(held.since));
    put("held_fault", held.last_fault.as_ref().and_then(text));
    put("held_detail", held.detail.as_ref().and_then(text));
    put("next_try_at_ms", ms(held.next_try_at));
}

fn put_progress(notes: &CallProgress, put: &mut impl FnMut(&'static str, Option<Value>)) {
    put("noted_at_ms", ms(notes.at));
    if let Some(progress) = &notes.progress {
        put("progress", number(progress.progress));
        put("progress_total", progress.total.and_then(number));
        put("progress_message", progress.message.as_ref().and_then(text));
    }
    let lines = notes.log.iter().map(|line| Value::S(format!("{}: {}", line.level, line.text))).collect();
    put("log", Some(Value::L(lines)).filter(|_| !notes.log.is_empty()));
}

fn put_finished(finished: &Finished, put: &mut impl FnMut(&'static str, Option<Value>)) {
    let outcome = &finished.outcome;
    put("finished_at_ms", ms(finished.at));
    put("outcome", text(outcome.kind.as_str()));
    put("cached_from", outcome.source.cached_from().and_then(text));
    put("batch", outcome.source.batch().and_then(text));
    if let Some(error) = &outcome.error {
        put_error(error, put);
    }
    if let Some(content) = outcome.content() {
        let plain = content.get();
        put("result_bytes", number(plain.len()));
        let long = Some(plain).filter(|plain| plain.len() > PLAIN_BYTES);
        match long.and_then(compress_if_shorter) {
            Some(gz) => put("result_gz", Some(Value::B(Blob::new(gz)))),
            None => put("result", text(plain)),
        }
    }
    if let Some(stored) = outcome.stored() {
        put("result_bytes", number(stored.plain_bytes));
        put("result_ref", Some(reference(stored)));
    }
}

fn put_error(error: &CallError, put: &mut impl FnMut(&'static str, Option<Value>)) {
    put("code", text(error.code.as_str()));
    put("message", text(&error.message));
    put("retryable", Some(Value::Bool(error.retryable)));
    put("retry_after_ms", error.retry_after_ms.and_then(number));
    put("rpc_code", error.rpc_code.map(|code| Value::N(code.to_string())));
    put("may_have_run", text(error.may_have_run.as_str()));
}

/// The reference to a stored result; its fields are those of `arguments_ref` in a request.
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
