//! Stores what only this worker knows of a call that was executed, and tries for a while.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_core::call::{CallRow, Event};

use crate::backoff;
use crate::context::WorkerContext;
use crate::pipeline::apply::{Applied, apply};

/// Tries for as long as a lease to store an outcome that only this worker has: giving up would lose the answer of an executed call.
/// If another worker has claimed the call in between, the write fails by its fence.
pub(in crate::pipeline) async fn persist(
    context: &WorkerContext,
    row: Option<&CallRow>,
    event: &Event,
) -> Result<Applied, AwsError> {
    let give_up = Instant::now() + context.limits.lease;
    let mut tries = 0;
    loop {
        match apply(&context.calls, row, event).await {
            Err(error) if Instant::now() < give_up => {
                tries += 1;
                tracing::warn!(%error, tries, code = "aws_error", "an outcome could not be stored yet; trying again");
                tokio::time::sleep(Duration::from_millis(backoff::after_tries(tries).min(2_000))).await;
            }
            answer => return answer,
        }
    }
}
