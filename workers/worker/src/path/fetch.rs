//! Loads what a message only refers to: arguments in an object (`arguments_ref`), or the whole body (an SQS extended client's pointer).
//!
//! Between `decode` and `admit`. The message itself stays as it is: one that waits goes back to the queue with its reference.
//!
//! **Invariant:** no object is read that the message's tenant may not name, and none is passed on but the one whose digest was given.

use std::time::Duration;

use toolfleet_aws::Trouble;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::ids::CallKey;
use toolfleet_core::message::{CallRequest, Malformed, RequestError};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::payload::{ArgumentsRef, Encoding, MAX_PAYLOAD_BYTES, ObjectAt};

use super::admit;
use super::decode::Decoded;
use super::visit::Arrival;
use crate::fleet::Fleet;
use crate::heavy::beside;

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
    /// No request, and nobody's.
    Unreadable(Box<Malformed>),
    /// What it refers to cannot be had, and waiting does not help.
    Refused {
        request: Box<CallRequest>,
        outcome: Outcome,
    },
    /// Its sender may not speak for its tenant, so nothing was read.
    Stranger {
        request: Box<CallRequest>,
    },
}

/// The request with its arguments.
///
/// # Errors
/// S3 does not answer, or does not let us: the message waits.
pub(super) async fn fetch(fleet: &Fleet, arrival: &Arrival, decoded: Decoded) -> Result<Fetched, Trouble> {
    let request = match decoded {
        Decoded::Request(request) => request,
        Decoded::Refused { malformed, key } => return Ok(Fetched::Malformed { malformed, key }),
        Decoded::Unreadable(malformed) => match malformed.pointer.clone() {
            Some(at) => match Box::pin(body(fleet, arrival, malformed, at)).await? {
                Decoded::Request(request) => request,
                Decoded::Refused { malformed, key } => return Ok(Fetched::Malformed { malformed, key }),
                Decoded::Unreadable(malformed) => return Ok(Fetched::Unreadable(malformed)),
            },
            None => return Ok(Fetched::Unreadable(malformed)),
        },
    };
    match request.arguments_ref.clone() {
        None => Ok(Fetched::Request(request)),
        Some(_) if !arrival.catalog().may_speak_for(arrival.sender.as_deref(), &request.key.tenant) => {
            Ok(Fetched::Stranger { request })
        }
        // Asked before S3 is: one that does not answer must keep no call beyond its deadline.
        Some(_) if let Err(outcome) = admit::check_time(fleet, arrival, &request) => {
            refused(fleet, arrival, request, outcome).await
        }
        Some(reference) => Box::pin(arguments(fleet, arrival, request, &reference)).await,
    }
}

/// The request that an extended client stored. Which tenant it is of is known when it is read; it must be one that may name the object.
async fn body(
    fleet: &Fleet,
    arrival: &Arrival,
    malformed: Box<Malformed>,
    at: ObjectAt,
) -> Result<Decoded, Trouble> {
    let refused = |problem: String| {
        let error = RequestError { field: "body".to_owned(), problem };
        Ok(Decoded::Unreadable(Box::new(Malformed { error, pointer: None, ..(*malformed).clone() })))
    };
    // Nothing is read for a sender that may speak for no tenant which may name the object: an answer would tell of others' objects.
    let sender = arrival.sender.as_deref();
    if !fleet.sources.open_to_sender(&at, |tenant| arrival.catalog().may_speak_for(sender, tenant)) {
        return Ok(Decoded::Unreadable(malformed));
    }
    if arrival.enqueued_at.plus_ms(fleet.limits.default_deadline_ms()) <= fleet.now() {
        return refused(
            "is the pointer of an SQS extended client to an object that could not be read in time; look for bucket_trouble in the workers' logs"
                .to_owned(),
        );
    }
    let read = fleet.payloads.text(&at, None, None, Encoding::Identity, MAX_PAYLOAD_BYTES).await;
    let text = match read {
        Ok(text) => text,
        Err(PayloadError::Trouble(trouble)) => return Err(told(trouble)),
        Err(error) => return refused(format!("is the pointer of an SQS extended client: {error}")),
    };
    let decode = move || CallRequest::decode_large(&text);
    match large(decode).await? {
        Ok(request) if fleet.sources.open(&request.key.tenant, &at) => {
            Ok(Decoded::Request(Box::new(request)))
        }
        // Nothing is said of what stands there: it is another tenant's.
        Ok(_) => refused(
            "is the pointer of an SQS extended client to an object that its tenant may not name".to_owned(),
        ),
        Err(inner) => {
            let addressed = inner.addressed.filter(|key| {
                arrival.catalog().may_speak_for(sender, &key.tenant) && fleet.sources.open(&key.tenant, &at)
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
    fleet: &Fleet,
    arrival: &Arrival,
    request: Box<CallRequest>,
    reference: &ArgumentsRef,
) -> Result<Fetched, Trouble> {
    let outcome = match load(fleet, &request, reference).await {
        Ok(Ok(text)) => {
            let (kept, asked) = (request.clone(), *request);
            match large(move || asked.with_arguments(text)).await? {
                Ok(request) => return Ok(Fetched::Request(Box::new(request))),
                Err(error) => return refused(fleet, arrival, kept, not_arguments(&error)).await,
            }
        }
        Ok(Err(outcome)) => outcome,
        // A call that is too late ends whether its arguments can be read or not.
        Err(trouble) => match admit::check_time(fleet, arrival, &request) {
            Err(outcome) => outcome,
            Ok(()) => return Err(told(trouble)),
        },
    };
    refused(fleet, arrival, request, outcome).await
}

/// The text of the arguments, or why they cannot be had.
async fn load(
    fleet: &Fleet,
    request: &CallRequest,
    reference: &ArgumentsRef,
) -> Result<Result<String, Outcome>, Trouble> {
    let refuse = |code, text: String| Ok(Err(Outcome::refused(code, text)));
    let (at, sha256) = match reference.object() {
        Ok(object) => object,
        Err(error) => {
            let text = format!("arguments_ref.{}: {}", error.field, error.problem);
            return refuse(Code::Undecodable, text);
        }
    };
    if !fleet.sources.open(&request.key.tenant, &at) {
        let text = format!(
            "arguments_ref: tenant `{}` may not name {at}. Nothing was sent. Store the arguments in the fleet's bucket below `TENANT/`, or \
             let an operator list the bucket in TOOLFLEET_PAYLOAD_SOURCES; send a new call then.",
            request.key.tenant
        );
        return refuse(Code::PayloadNotAllowed, text);
    }
    let read =
        fleet.payloads.text(&at, Some(&sha256), reference.bytes, reference.encoding, MAX_PAYLOAD_BYTES).await;
    match read {
        Ok(text) => Ok(Ok(text)),
        Err(PayloadError::Trouble(trouble)) => Err(trouble),
        Err(error) => {
            let code = match &error {
                PayloadError::Missing(_) => Code::PayloadMissing,
                PayloadError::Altered { .. } => Code::PayloadAltered,
                PayloadError::TooLarge { .. } | PayloadError::Trouble(_) => Code::RequestTooLarge,
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

/// The end of a request whose arguments cannot be had. Where the same message was met with them before, its row knows the question.
async fn refused(
    fleet: &Fleet,
    arrival: &Arrival,
    mut request: Box<CallRequest>,
    outcome: Outcome,
) -> Result<Fetched, Trouble> {
    if let Some(row) = fleet.calls.read(&request.key).await? {
        let first = row.caller.as_ref().and_then(|caller| caller.message_id.as_ref());
        if let (Some(digest), true) = (row.digest, first.is_some() && first == arrival.first_message.as_ref())
        {
            request.digest = digest;
        }
    }
    Ok(Fetched::Refused { request, outcome })
}

/// Work on a text that may be large.
async fn large<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    let failed = || Trouble::passing("a payload took too long to be read");
    beside(WITHIN, work).await.ok_or_else(failed)
}

fn told(trouble: Trouble) -> Trouble {
    tracing::error!(%trouble, code = "bucket_trouble", "a message waits for what it refers to");
    trouble
}
