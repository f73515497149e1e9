//! Builds audit records: who called, what, and how it ended. They are built from the row, and from the request that the row's digest names.
//!
//! Equal facts give equal records, on every worker. A record holds no value of an argument unless the tool's registration lists it, and
//! no text in the form of a secret.

use toolfleet_core::argument_shape::shape;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{CallRow, Caller, Finished};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Operation};
use toolfleet_core::time::Timestamp;
use toolfleet_core::{redact, scrub};

use super::inbound::InboundCall;

/// A longer shape of arguments is recorded with less detail, so that a record is one write unit (1 KiB).
const ARGUMENT_BYTES: usize = 256;
/// Sentences are cut to this many characters in the record; the row holds them whole.
const SENTENCE_CHARS: usize = 200;

/// The record of a call that has ended.
pub(super) fn of_call(
    row: &CallRow,
    finished: &Finished,
    inbound: &InboundCall,
    caller: &Caller,
    request: &CallRequest,
) -> AuditRecord {
    let record = of(AuditKind::Call, row.key.clone(), inbound, finished.at, caller, Some(request));
    AuditRecord {
        definition: row.definition.clone(),
        attempts: row.attempts,
        fence: row.fence,
        worker: row.worker.clone(),
        enqueued_at: row.enqueued_at,
        started_at: row.started_at,
        ..described(record, &finished.outcome, inbound, Some(request))
    }
}

/// A record of an event: of `request` where the message was one, asked by `caller`.
pub(super) fn of(
    kind: AuditKind,
    key: CallKey,
    inbound: &InboundCall,
    at: Timestamp,
    caller: &Caller,
    request: Option<&CallRequest>,
) -> AuditRecord {
    let shape_of = |request: &CallRequest| {
        let shown = inbound.catalog().shown_arguments(&request.target);
        shape(request.arguments.get(), shown, ARGUMENT_BYTES)
    };
    let digest = request.map(|request| request.digest.to_string());
    let other = request.filter(|request| request.operation != Operation::ToolsCall);
    AuditRecord {
        kind,
        tenant: key.tenant,
        call_id: key.call_id,
        at,
        outcome: OutcomeKind::Refused,
        code: None,
        message: None,
        may_have_run: None,
        tool: request.map(|request| request.target.to_string()),
        operation: other.map(|request| request.operation.as_str().to_owned()),
        resumes: request.and_then(|request| request.resume.as_ref()).map(|resume| resume.call_id.clone()),
        definition: None,
        session: caller.session.clone(),
        user: caller.user.clone(),
        agent: caller.agent.clone(),
        group: caller.group.clone(),
        sender: caller.sender.clone(),
        message_id: caller.message_id.clone(),
        arguments: request.and_then(shape_of),
        digest: digest.unwrap_or_else(|| Digest::of_text(inbound.body()).to_string()),
        attempts: 0,
        fence: 0,
        worker: None,
        cached_from: None,
        batch: None,
        trace_id: inbound.trace_id(),
        enqueued_at: inbound.enqueued_at,
        started_at: None,
    }
}

/// The record with how it ended, and why.
pub(super) fn described(
    record: AuditRecord,
    outcome: &Outcome,
    inbound: &InboundCall,
    request: Option<&CallRequest>,
) -> AuditRecord {
    let why = outcome.error.as_ref();
    // What a tool says in an error is its content, and records hold no content.
    let sentence = why.filter(|why| why.code != Code::ToolReportedError).map(|why| {
        let sentence = redact::text(&why.message).into_owned();
        let Some(request) = request else {
            return sentence;
        };
        let shown = inbound.catalog().shown_arguments(&request.target);
        scrub::without_values(sentence, request.arguments.get(), shown)
    });
    AuditRecord {
        outcome: outcome.kind,
        cached_from: outcome.source.cached_from().map(str::to_owned),
        batch: outcome.source.batch().map(str::to_owned),
        code: why.map(|why| why.code.to_string()),
        message: sentence.map(|sentence| sentence.chars().take(SENTENCE_CHARS).collect()),
        may_have_run: why.map(|why| why.may_have_run),
        ..record
    }
}
