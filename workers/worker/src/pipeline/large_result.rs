//! Stores a large result in the bucket before its row says that the call has ended.
//!
//! It is a part of `execute`: heartbeats extend the claim during that time. A worker that dies between the upload and the row leaves an object that
//! no row refers to, and the bucket's lifecycle rule deletes it. A row only refers to an object that S3 has confirmed. While the bucket
//! does not answer, a result that fits into a row is stored there.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::Packed;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};

use super::inbound::InboundCall;
use super::steps::Step;
use crate::backoff;
use crate::context::WorkerContext;

/// How long an answer that fits into no row waits for an unavailable bucket.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long an upload may still take when the worker's time is over.
const LAST_UPLOAD: Duration = Duration::from_secs(5);
/// The longest pause between two uploads.
const LONGEST_PAUSE_MS: u64 = 5_000;

/// What became of an outcome's result.
pub(super) enum Kept {
    /// The outcome as its row holds it.
    Fit(Outcome),
    /// The bucket did not take the result in time; the outcome says so.
    Lost(Outcome),
}

/// The outcome as its row holds it: with its result, with what refers to it, or with why there is none. It retries while the bucket is unavailable;
/// once `hurried`, no more.
pub(super) async fn store(
    context: &WorkerContext,
    inbound: &InboundCall,
    tenant: &Tenant,
    outcome: Outcome,
    hurried: impl Fn() -> bool,
) -> Kept {
    let mut upload = match context.payloads.pack(outcome).await {
        Ok(Packed::Inline(outcome)) => return Kept::Fit(outcome),
        Ok(Packed::Large(upload)) => upload,
        Err(bytes) => return Kept::Fit(too_large(bytes)),
    };
    let (give_up, mut tries) = (Instant::now() + PATIENCE, 0);
    loop {
        let stopping = async {
            inbound.shutdown().over().await;
            tokio::time::sleep(LAST_UPLOAD).await;
        };
        let stored = tokio::select! {
            biased;
            stored = context.payloads.store(&upload, tenant, context.now()) => stored,
            () = stopping => Err(AwsError::passing("the worker stops while a result is uploaded")),
        };
        let error = match stored {
            Ok(outcome) => {
                context.steps.passed(Step::PayloadStored).await;
                return Kept::Fit(outcome);
            }
            Err(error) => error,
        };
        tries += 1;
        upload = match upload.into_row() {
            Ok(outcome) => {
                tracing::warn!(%error, %tenant, code = "bucket_error", "a large result is stored in its row, because the bucket did not accept it");
                return Kept::Fit(outcome);
            }
            Err(upload) => upload,
        };
        tracing::error!(
            %error, %tenant, tries, bytes = upload.plain_bytes(), code = "bucket_error",
            "a result that fits into no row could not be stored yet; trying again"
        );
        if hurried() || Instant::now() >= give_up {
            return Kept::Lost(not_stored(upload.plain_bytes()));
        }
        let pause =
            tokio::time::sleep(Duration::from_millis(backoff::after_tries(tries).min(LONGEST_PAUSE_MS)));
        tokio::select! {
            () = pause => {}
            () = inbound.shutdown().over() => return Kept::Lost(not_stored(upload.plain_bytes())),
        }
    }
}

fn too_large(bytes: usize) -> Outcome {
    let text = format!(
        "The tool ran, but its result of {bytes} bytes is larger than a record holds, even compressed, and this fleet has no bucket for \
         larger ones. Ask the tool for less, for example in pages, or let an operator set TOOLFLEET_PAYLOAD_BUCKET."
    );
    Outcome::failed(CallError::new(Code::ResultTooLarge, text, MayHaveRun::Yes))
}

fn not_stored(bytes: u64) -> Outcome {
    let text = format!(
        "The tool ran and answered, but its result of {bytes} bytes could not be stored: the fleet's bucket did not take it. Check the \
         tool's effect before you send the call again under a new id. An operator finds the reason in the worker's log (bucket_error)."
    );
    Outcome::failed(CallError::new(Code::ResultNotStored, text, MayHaveRun::Yes).retryable(None))
}
