//! Loads what a message only refers to: arguments in an object (`arguments_ref`), or the whole body (an SQS extended client's pointer).
//!
//! It runs between `decode` and `admit`. The message itself stays as it is: a call that waits is requeued with its reference.
//!
//! **Invariant:** no object is read that the message's tenant may not name, and arguments are used only if their digest is the one that the
//! request gives.

use std::time::Duration;

use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::payload::{ArgumentsRef, Encoding, MAX_PAYLOAD_BYTES, ObjectAt};
use toolfleet_core::request::{CallRequest, Malformed, RequestError};

use super::checks;
use super::decode::Decoded;
use super::inbound::InboundCall;
use crate::context::WorkerContext;
use toolfleet_executors::blocking::run_blocking;

/// How long reading large arguments may take beside the runtime.
const WITHIN: Duration = Duration::from_secs(10);

/// A message with all that it refers to.
pub(super) enum Fetched {
    Request(Box<CallRequest>),
    /// No request, but it names a call that its sender may speak for.
    Malformed {
        malformed: Box<Malformed>,
        key: CallKey,
    },
    /// No request, and it names no call that its sender may speak for.
    Unreadable(Box<Malformed>),
    /// What it refers to cannot be had, and waiting does not help.
    Refused {
        request: Box<CallRequest>,
        outcome: Outcome,
    },
    /// Its sender may not speak for its tenant, so nothing was read.
    TenantNotAllowed {
        request: Box<CallRequest>,
    },
}

/// The request with its arguments.
///
/// # Errors
/// S3 does not answer, or does not let us: the message waits.
pub(super) async fn fetch(
    context: &WorkerContext,
    inbound: &InboundCall,
    decoded: Decoded,
) -> Result<Fetched, AwsError> {
    let request = match decoded {
        Decoded::Request(request) => request,
        Decoded::Refused { malformed, key } => return Ok(Fetched::Malformed { malformed, key }),
        Decoded::Unreadable(malformed) => match malformed.pointer.clone() {
            Some(at) => match Box::pin(body(context, inbound, malformed, at)).await? {
                Decoded::Request(request) => request,
                Decoded::Refused { malformed, key } => return Ok(Fetched::Malformed { malformed, key }),
                Decoded::Unreadable(malformed) => return Ok(Fetched::Unreadable(malformed)),
            },
            None => return Ok(Fetched::Unreadable(malformed)),
        },
    };
    match request.arguments_ref.clone() {
        None => Ok(Fetched::Request(request)),
        Some(_) if !inbound.catalog().may_speak_for(inbound.sender.as_deref(), &request.key.tenant) => {
            Ok(Fetched::TenantNotAllowed { request })
        }
        // The deadline is checked before S3 is asked: a bucket that does not answer must keep no call beyond it.
        Some(_) if let Err(outcome) = checks::check_time(context, inbound, &request) => {
            refused(context, inbound, request, outcome).await
        }
        Some(reference) => Box::pin(arguments(context, inbound, request, &reference)).await,
    }
}

/// The request that an extended client stored. Which tenant it is of is known when it is read; it must be one that may name the object.
async fn body(
    context: &WorkerContext,
    inbound: &InboundCall,
    malformed: Box<Malformed>,
    at: ObjectAt,
) -> Result<Decoded, AwsError> {
    let refused = |problem: String| {
        let error = RequestError { field: "body".to_owned(), problem };
        Ok(Decoded::Unreadable(Box::new(Malformed { error, pointer: None, ..(*malformed).clone() })))
    };
    // Nothing is read for a sender that may speak for no tenant which may name the object: the answer would reveal other tenants' objects.
    let sender = inbound.sender.as_deref();
    if !context.sources.open_to_sender(&at, |tenant| inbound.catalog().may_speak_for(sender, tenant)) {
        return Ok(Decoded::Unreadable(malformed));
    }
    if inbound.enqueued_at.plus_ms(context.limits.default_deadline_ms()) <= context.now() {
        return refused(
            "is the pointer of an SQS extended client to an object that could not be read in time; look for bucket_error in the workers' logs"
                .to_owned(),
        );
    }
    let read = context.payloads.text(&at, None, None, Encoding::Identity, MAX_PAYLOAD_BYTES).await;
    let text = match read {
        Ok(text) => text,
        Err(PayloadError::Aws(error)) => return Err(logged(error)),
        Err(error) => return refused(format!("is the pointer of an SQS extended client: {error}")),
    };
    let decode = move || CallRequest::decode_large(&text);
    match large(decode).await? {
        Ok(request) if context.sources.open(&request.key.tenant, &at) => {
            Ok(Decoded::Request(Box::new(request)))
        }
        // The text does not say what is stored there: it belongs to another tenant.
        Ok(_) => refused(
            "is the pointer of an SQS extended client to an object that its tenant may not name".to_owned(),
        ),
        Err(inner) => {
            let addressed = inner.addressed.filter(|key| {
                inbound.catalog().may_speak_for(sender, &key.tenant) && context.sources.open(&key.tenant, &at)
            });
            let reply = inner.reply.filter(|_| addressed.is_some());
            let error = RequestError {
                field: inner.error.field,
                problem: format!("{} (found in S3)", inner.error.problem),
            };
            let malformed = Box::new(Malformed {
                error,
                addressed: addressed.clone(),
                reply,
                pointer: None,
                ..*malformed
            });
            Ok(match addressed {
                Some(key) => Decoded::Refused { malformed, key },
                None => Decoded::Unreadable(malformed),
            })
        }
    }
}

async fn arguments(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: Box<CallRequest>,
    reference: &ArgumentsRef,
) -> Result<Fetched, AwsError> {
    let outcome = match load(context, &request, reference).await {
        Ok(Ok(text)) => {
            let (kept, asked) = (request.clone(), *request);
            match large(move || asked.with_arguments(text)).await? {
                Ok(request) => return Ok(Fetched::Request(Box::new(request))),
                Err(error) => return refused(context, inbound, kept, not_arguments(&error)).await,
            }
        }
        Ok(Err(outcome)) => outcome,
        // A call that is too late ends whether its arguments can be read or not.
        Err(error) => match checks::check_time(context, inbound, &request) {
            Err(outcome) => outcome,
            Ok(()) => return Err(logged(error)),
        },
    };
    refused(context, inbound, request, outcome).await
}

/// The text of the arguments, or why they cannot be had.
async fn load(
    context: &WorkerContext,
    request: &CallRequest,
    reference: &ArgumentsRef,
) -> Result<Result<String, Outcome>, AwsError> {
    let refuse = |code, text: String| Ok(Err(Outcome::refused(code, text)));
    let (at, sha256) = match reference.object() {
        Ok(object) => object,
        Err(error) => {
            let text = format!("arguments_ref.{}: {}", error.field, error.problem);
            return refuse(Code::Undecodable, text);
        }
    };
    if !context.sources.open(&request.key.tenant, &at) {
        let text = format!(
            "arguments_ref: tenant `{}` may not name {at}. Nothing was sent. Store the arguments in the fleet's bucket below `TENANT/`, or \
             let an operator list the bucket in TOOLFLEET_PAYLOAD_SOURCES; send a new call then.",
            request.key.tenant
        );
        return refuse(Code::PayloadNotAllowed, text);
    }
    let read = context
        .payloads
        .text(&at, Some(&sha256), reference.bytes, reference.encoding, MAX_PAYLOAD_BYTES)
        .await;
    match read {
        Ok(text) => Ok(Ok(text)),
        Err(PayloadError::Aws(error)) => Err(error),
        Err(error) => {
            let code = match &error {
                PayloadError::Missing(_) => Code::PayloadMissing,
                PayloadError::Altered { .. } => Code::PayloadAltered,
                PayloadError::TooLarge { .. } | PayloadError::Aws(_) => Code::RequestTooLarge,
            };
            let text = format!(
                "arguments_ref: {error}. Nothing was sent to the tool by this message. Store the arguments and send a new call."
            );
            refuse(code, text)
        }
    }
}

fn not_arguments(error: &RequestError) -> Outcome {
    Outcome::refused(
        Code::Undecodable,
        format!("{error}. Nothing was sent. Store the arguments as a JSON object and send a new call."),
    )
}

/// The end of a request whose arguments cannot be read. If the same message was read with them before, its row has the digest.
async fn refused(
    context: &WorkerContext,
    inbound: &InboundCall,
    mut request: Box<CallRequest>,
    outcome: Outcome,
) -> Result<Fetched, AwsError> {
    if let Some(row) = context.calls.read(&request.key).await? {
        let first = row.caller.as_ref().and_then(|caller| caller.message_id.as_ref());
        if let (Some(digest), true) = (row.digest, first.is_some() && first == inbound.first_message.as_ref())
        {
            request.digest = digest;
        }
    }
    Ok(Fetched::Refused { request, outcome })
}

/// Work on a text that may be large.
async fn large<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AwsError> {
    let failed = || AwsError::passing("a payload took too long to be read");
    run_blocking(WITHIN, work).await.ok_or_else(failed)
}

fn logged(error: AwsError) -> AwsError {
    tracing::error!(%error, code = "bucket_error", "a message waits for what it refers to");
    error
}
