//! Stores what only this worker knows of a call, and tries for a while: a row that is not written makes the next delivery believe that the
//! call may have been sent, or that its answer is lost.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::{AwsError, AwsErrorKind};
use toolfleet_core::call::{CallRow, Event};

use crate::backoff;
use crate::context::WorkerContext;
use crate::pipeline::apply::{Applied, apply};
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::visibility::keep_hidden;

/// How long a write waits for an unavailable table: as long as an answer waits for the bucket. Long outages of a table are a few minutes.
const PATIENCE: Duration = Duration::from_secs(600);
/// The longest pause between two tries.
const LONGEST_PAUSE_MS: u64 = 2_000;

/// Tries for ten minutes to store what became of a call that this worker has executed, or will not execute; once the worker's time is over,
/// for a lease more at most. Meanwhile the message stays hidden, so no other delivery of it finds the lease expired. If another worker has
/// claimed the call all the same, the write fails by its fence. A request that DynamoDB rejects as it is, is tried for a lease.
pub(in crate::pipeline) async fn persist(
    context: &WorkerContext,
    inbound: &InboundCall,
    row: Option<&CallRow>,
    event: &Event,
) -> Result<Applied, AwsError> {
    match apply(&context.calls, row, event).await {
        Ok(applied) => Ok(applied),
        Err(error) => Box::pin(persist_after(context, inbound, (row, event), error)).await,
    }
}

/// The same after a first try that failed with `error`.
pub(in crate::pipeline) async fn persist_after(
    context: &WorkerContext,
    inbound: &InboundCall,
    (row, event): (Option<&CallRow>, &Event),
    error: AwsError,
) -> Result<Applied, AwsError> {
    tokio::select! {
        biased;
        applied = try_again(context, inbound, (row, event), error) => applied,
        never = keep_hidden(context, inbound) => match never {},
    }
}

async fn try_again(
    context: &WorkerContext,
    inbound: &InboundCall,
    (row, event): (Option<&CallRow>, &Event),
    mut error: AwsError,
) -> Result<Applied, AwsError> {
    let mut over = pin!(inbound.shutdown().over());
    let (began, mut is_over) = (Instant::now(), false);
    let (mut give_up, mut tries) = (began + PATIENCE, 0);
    loop {
        let last =
            if error.kind() == AwsErrorKind::Rejection { began + context.limits.lease } else { give_up };
        if Instant::now() >= last {
            return Err(error);
        }
        tries += 1;
        tracing::warn!(%error, tries, message_id = inbound.message_id(), code = "aws_error", "the row of a call could not be written yet; trying again");
        tokio::select! {
            biased;
            () = &mut over, if !is_over => {
                is_over = true;
                give_up = give_up.min(Instant::now() + context.limits.lease);
            }
            () = tokio::time::sleep(Duration::from_millis(backoff::after_tries(tries).min(LONGEST_PAUSE_MS))) => {}
        }
        match apply(&context.calls, row, event).await {
            Ok(applied) => return Ok(applied),
            Err(again) => error = again,
        }
    }
}
