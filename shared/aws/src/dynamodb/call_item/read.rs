//! Reads the row of a call from its item.

use std::io::Read as _;

use aws_sdk_dynamodb::types::AttributeValue as Value;
use flate2::read::GzDecoder;
use serde_json::value::RawValue;
use toolfleet_core::call::{CallRow, Caller, Finished, Held, HeldReason, State};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{GroupId, Nonce, ServerId, SessionId, WorkerId};
use toolfleet_core::outcome::{AnswerSource, CallError, Outcome, Payload};
use toolfleet_core::payload::{ObjectAt, PayloadRef};
use toolfleet_core::progress::{Amount, CallProgress, LogLine, Progress};
use toolfleet_core::request::{Membership, User};
use toolfleet_core::time::Timestamp;

use crate::dynamodb::attributes::Item;
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, PK, REV};

/// The row that the table holds.
pub(crate) fn from_item(item: &Item) -> Result<CallRow, AwsError> {
    let row = Reader(item);
    let key = keys::call_of(row.text(PK)?).ok_or_else(|| broken(PK))?;
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
        // Builds before 0.1.0 wrote `exposed`: a call that may have run must not run again.
        may_have_executed: row.flag("may_have_executed") || row.flag("exposed"),
        digest: optional("digest")?.map(Digest::from_stored),
        caller: row.caller()?.map(Box::new),
        enqueued_at: Timestamp::from_ms(row.number("enqueued_at_ms")?),
        deadline: row.optional_ms("deadline_ms")?,
        started_at: row.optional_ms("started_at_ms")?,
        cancel_requested_at: row.optional_ms("cancel_requested_at_ms")?,
        task: optional("task")?.map(str::to_owned),
        input_pending: row.flag("input_pending"),
        poll_at: row.optional_ms("poll_at_ms")?,
        held: row.held()?.map(Box::new),
        definition: optional("definition")?.map(ShortDefinitionDigest::from_stored),
        notes: row.notes()?.map(Box::new),
        finished,
        expires_at: Timestamp::from_ms(row.number::<i64>(EXPIRES_AT)?.saturating_mul(1000)),
    })
}

fn broken(attribute: &str) -> AwsError {
    AwsError::configuration(format!(
        "a row of the calls table has no usable attribute `{attribute}`; was it written by another program?"
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
        let error = if self.0.contains_key("code") {
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
                rpc_code: self.0.contains_key("rpc_code").then(|| self.number("rpc_code")).transpose()?,
            })
        } else {
            None
        };
        let payload = match self.content()? {
            Some(content) => Some(Payload::Inline(content)),
            None => self.stored()?.map(|stored| Payload::Stored(Box::new(stored))),
        };
        let source = match (self.0.get("cached_from"), self.0.get("batch")) {
            (Some(_), _) => AnswerSource::Cache(self.text("cached_from")?.to_owned()),
            (None, Some(_)) => AnswerSource::Batch(self.text("batch")?.to_owned()),
            (None, None) => AnswerSource::Server,
        };
        Ok(Outcome { kind: self.word("outcome")?, error, payload, source })
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
        let whole =
            |name: &str| if self.0.contains_key(name) { self.number(name).map(Some) } else { Ok(None) };
        let group = optional("group")?.map(|id| {
            Ok::<_, AwsError>(Membership {
                id: self.named("group", GroupId::parse(id))?,
                index: whole("group_index")?,
                size: self.number("group_size")?,
                round: whole("group_round")?.unwrap_or(1),
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
        // A reason that this build does not know must not make the row unreadable.
        let Some(reason) = HeldReason::from_stored(self.text("held_reason")?) else {
            return Ok(None);
        };
        let optional = |name: &'static str| self.0.get(name).map(|_| self.text(name)).transpose();
        let server = optional("held_server")?.map(ServerId::parse).transpose();
        Ok(Some(Held {
            reason,
            server: server.map_err(|_| broken("held_server"))?,
            since: Timestamp::from_ms(self.number("held_since_ms")?),
            next_try_at: Timestamp::from_ms(self.number("next_try_at_ms")?),
            last_fault: optional("held_fault")?.map(str::to_owned),
            detail: optional("held_detail")?.map(str::to_owned),
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
