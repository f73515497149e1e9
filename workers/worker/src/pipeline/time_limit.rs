//! The time limit of the steps before the claim.

use std::time::Duration;

use toolfleet_aws::AwsError;

use crate::context::WorkerContext;

/// Runs a step for at most one part in `parts` of the lease: before the claim nothing extends the message's visibility time-out, so
/// fetching takes at most a quarter of it, and admitting and preparing a third each.
pub(super) async fn within_lease<T>(
    context: &WorkerContext,
    parts: u32,
    step: impl Future<Output = Result<T, AwsError>>,
) -> Result<T, AwsError> {
    let limit = (context.limits.lease / parts).max(Duration::from_secs(1));
    let late = |_| Err(AwsError::passing("what the call needs before its claim took too long"));
    tokio::time::timeout(limit, step).await.unwrap_or_else(late)
}
