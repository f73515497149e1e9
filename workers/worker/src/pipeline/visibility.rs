//! Keeps a message that a worker holds invisible to all other workers.

use std::convert::Infallible;

use tokio::time::{Instant, sleep, sleep_until};

use super::inbound::InboundCall;
use crate::context::WorkerContext;

/// Keeps the message of a call that is not claimed invisible while its worker waits with it.
pub(super) async fn keep_invisible(context: &WorkerContext, inbound: &InboundCall) -> Infallible {
    let mut next_beat = inbound.received() + context.limits.heartbeat();
    loop {
        sleep_until(next_beat).await;
        extend_visibility(context, inbound).await;
        next_beat = Instant::now() + context.limits.heartbeat();
    }
}

/// Keeps the message of a call whose claim cannot be extended from every other delivery.
pub(super) async fn keep_hidden(context: &WorkerContext, inbound: &InboundCall) -> Infallible {
    loop {
        extend_visibility(context, inbound).await;
        sleep(context.limits.heartbeat()).await;
    }
}

/// Extends the message's visibility time-out. Without it the claim protects the call all the same: another delivery finds it held.
pub(super) async fn extend_visibility(context: &WorkerContext, inbound: &InboundCall) {
    // A call that runs for longer than SQS hides its message is protected by its claim alone.
    let seconds = context.limits.visibility_s().min(inbound.hideable_s());
    if seconds == 0 {
        return;
    }
    inbound.origin().rehidden();
    let change = inbound.queue().change_visibility(inbound.receipt(), seconds);
    match tokio::time::timeout(context.limits.heartbeat() / 2, change).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, message_id = inbound.message_id(), code = "heartbeat_failed", "cannot extend a message's visibility time-out");
        }
        Err(_) => {
            tracing::warn!(
                message_id = inbound.message_id(),
                code = "heartbeat_failed",
                "extending a message's visibility time-out takes too long"
            );
        }
    }
}
