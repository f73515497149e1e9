//! THE way of a call, whole: from a message to a stored result. Read this file first.
//!
//! ```text
//! decode ─▶ fetch ─▶ admit ─▶ prepare ─▶ claim ─▶ execute ─▶ record ─▶ notify ─▶ acknowledge
//! ```
//!
//! Nothing of a call is written before `claim` but why it waits (`hold`), and `claim` is the last thing before anything is sent: a
//! crash before it costs nothing, a crash after it is seen in the row. Each step hands on a type that only it can make. Steps never call each
//! other; only this file knows their order. The large ones are boxed: what a call holds while its tool runs is counted in
//! thousands. What every state of the row means is decided in `toolfleet_core::call`.
//!
//! **Invariant:** a message ends in one of three ways: acknowledged with the proof of a record, given back to the queue, or, where it
//! cannot be read, moved to the dead-letter queue with its body.

mod acknowledge;
mod admit;
mod arguments;
mod audit;
mod cancel_task;
mod claim;
mod decode;
mod execute;
mod fetch;
mod heartbeat;
mod hold;
mod inbound;
mod keep_unreadable;
mod large_result;
mod notify;
mod pages;
mod poll_task;
mod prepare;
mod progress_buffer;
mod reap;
mod record;
mod requeue;
mod resume;
mod swap;
mod tool_list;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Delivery, Queue};
use tracing::Instrument as _;

use crate::context::{Step, WorkerContext};
use crate::telemetry::trace;
use admit::Admitted;
use claim::Claimed;
use decode::Decoded;
use execute::Executed;
use fetch::Fetched;
pub(crate) use inbound::{InboundCall, MANY_RECEIVES};
pub(crate) use keep_unreadable::OnRecord;
use prepare::Prepared;
pub(crate) use prepare::endpoint;
pub use reap::{Reaped, reap};
use record::Recorded;
pub(crate) use tool_list::Unlisted;

/// How long sending a notice may take.
const NOTICE: Duration = Duration::from_secs(5);

/// How a delivery leaves the worker.
enum Leaving {
    /// What it asked for stands in the tables.
    Completed(Box<Recorded>),
    /// It goes back to the queue for so many milliseconds.
    Requeue { after_ms: u64, why: &'static str },
    /// The server works on it as a task; a message that is sent now asks after it then.
    Parked { after_ms: u64, unanswered: bool },
    /// Another worker has taken the call over; its own delivery will acknowledge it.
    Lost,
    /// It is no request, its record stands, and it is kept for an operator.
    Unreadable,
}

/// Takes one delivery through the worker. `slot` is held until the call is out of the worker's hands: the message that is still
/// to be deleted, given back or answered for keeps no other call waiting.
pub async fn run(context: Arc<WorkerContext>, delivery: Delivery, slot: impl Send) {
    let mut inbound = InboundCall::new(&context, delivery);
    let begun = Instant::now();
    inbound.span = trace::delivery(context.queue.name(), &inbound);
    let lines = trace::lines(&inbound);
    let span = inbound.span.clone();
    let whole = async {
        let leaving = Box::pin(process(&context, &inbound)).await;
        if matches!(leaving, Ok(Leaving::Completed(_) | Leaving::Lost)) {
            inbound.forget_body();
        }
        // Where SQS is slow, messages without a slot pile up: beyond a bound they keep their slots, and no others are received.
        let place = Arc::clone(&context.leaving).try_acquire_many_owned(inbound.kib()).ok();
        let slot = match &place {
            Some(_) => {
                drop(slot);
                None
            }
            None => Some(slot),
        };
        dispose(&context, &inbound, leaving).await;
        drop((slot, place));
    };
    whole.instrument(lines).instrument(span).await;
    context.meters.processed(context.queue.name(), begun.elapsed());
}

async fn dispose(context: &WorkerContext, inbound: &InboundCall, leaving: Result<Leaving, AwsError>) {
    match leaving {
        Ok(Leaving::Completed(recorded)) => complete(context, &context.queue, inbound, &recorded).await,
        Ok(Leaving::Requeue { after_ms, why }) => requeue::requeue(context, inbound, after_ms, why).await,
        Ok(Leaving::Parked { after_ms, unanswered }) => {
            context.passed(Step::Parked).await;
            requeue::until_poll(context, inbound, after_ms, unanswered).await;
        }
        Ok(Leaving::Lost) => {
            tracing::info!(message_id = inbound.message_id(), "another worker has taken the call over")
        }
        Ok(Leaving::Unreadable) => keep_unreadable::keep(context, inbound).await,
        // Our own trouble is never an outcome: the call waits until it has passed.
        Err(error) => requeue::after_trouble(context, inbound, &error).await,
    }
}

async fn process(context: &Arc<WorkerContext>, inbound: &InboundCall) -> Result<Leaving, AwsError> {
    let decoded = decode::decode(inbound);
    if let Decoded::Request(request) = &decoded {
        trace::named(&inbound.span, &request.key);
    }
    let fetched = match decoded {
        Decoded::Request(request) if request.arguments_ref.is_none() => Fetched::Request(request),
        decoded @ (Decoded::Request(_) | Decoded::Refused { .. } | Decoded::Unreadable(_)) => {
            in_time(context, 4, Box::pin(fetch::fetch(context, inbound, decoded))).await?
        }
    };
    let request = match fetched {
        Fetched::Request(request) => request,
        Fetched::Malformed { malformed, key } => {
            return settled(record::malformed(context, inbound, *malformed, key).await);
        }
        Fetched::Unreadable(malformed) => {
            record::unreadable(context, inbound, &malformed).await?;
            context.passed(Step::Recorded).await;
            return Ok(Leaving::Unreadable);
        }
        Fetched::Refused { request, outcome } => {
            return concluded(Box::pin(record::record_unexecuted(context, inbound, *request, outcome)).await);
        }
        Fetched::Stranger { request } => {
            return settled(record::tenant_not_allowed(context, inbound, *request).await);
        }
    };
    context.passed(Step::Decoded).await;

    let call = match in_time(context, 3, admit::admit(context, inbound, request)).await? {
        Admitted::Call(call) => call,
        Admitted::Refused { request, outcome } => {
            return concluded(Box::pin(record::record_unexecuted(context, inbound, *request, outcome)).await);
        }
        Admitted::Stranger { request } => {
            return settled(record::tenant_not_allowed(context, inbound, *request).await);
        }
    };
    context.passed(Step::Admitted).await;

    // Held until the call is out of the worker's hands, like its slot.
    let seat = context.shares.enter(&call.server.id, &call.request.key.tenant).await;
    if seat.is_none() {
        let wait = hold::share(context, inbound, &call.server.id, call.deadline);
        return concluded(Box::pin(hold::hold(context, inbound, *call.request, wait)).await);
    }
    let ready = match in_time(context, 3, Box::pin(prepare::prepare(context, inbound, *call))).await? {
        Prepared::Ready(ready) => ready,
        Prepared::Held { request, wait } => {
            return concluded(Box::pin(hold::hold(context, inbound, *request, wait)).await);
        }
        Prepared::Over { request, outcome } => {
            return concluded(Box::pin(record::record_unexecuted(context, inbound, *request, outcome)).await);
        }
    };
    context.passed(Step::Prepared).await;
    if context.shutdown.is_draining() {
        return Ok(Leaving::Requeue { after_ms: 0, why: "the worker is stopping" });
    }

    let mut claimed = match claim::claim(context, inbound, *ready).instrument(trace::step("claim")).await? {
        Claimed::Ours(claimed) => claimed,
        Claimed::Ended { request, row } => {
            return settled(record::record_finished(context, inbound, *request, *row).await);
        }
        Claimed::Mismatch { request } => return settled(record::mismatch(context, inbound, *request).await),
        Claimed::Elsewhere { after_ms } => {
            return Ok(Leaving::Requeue { after_ms, why: "another worker holds the call" });
        }
    };
    context.passed(Step::Claimed).await;

    let outcome = match execute::execute(context, inbound, &mut claimed).await {
        Executed::Finished(outcome) => outcome,
        Executed::Requeue { after_ms, why } => {
            let released = Box::pin(record::release(context, inbound, *claimed, after_ms, why, None));
            return concluded(released.await);
        }
        Executed::Held(wait) => {
            wait.log(&claimed.ready.call.request);
            let (after_ms, why, held) = (wait.after_ms, wait.why(), Some(wait.held));
            let released = Box::pin(record::release(context, inbound, *claimed, after_ms, why, held));
            return concluded(released.await);
        }
        Executed::Parked { task, after_ms, unanswered } => {
            context.passed(Step::Executed).await;
            let parked = Box::pin(record::park(context, inbound, *claimed, task, after_ms, unanswered));
            return concluded(parked.await);
        }
    };
    context.passed(Step::Executed).await;

    let finished = Box::pin(record::finish(context, inbound, *claimed, outcome));
    concluded(finished.instrument(trace::step("record")).await)
}

/// Tells whoever waits, and a server that still works on it, then deletes the message from the queue it came from.
async fn complete(context: &WorkerContext, queue: &Queue, inbound: &InboundCall, recorded: &Recorded) {
    context.passed(Step::Recorded).await;
    // The notice goes first: a worker that dies here sends it twice, and never not at all.
    if tokio::time::timeout(NOTICE, notify::notify(context, inbound, recorded)).await.is_err() {
        tracing::warn!(
            message_id = inbound.message_id(),
            code = "notice_failed",
            "a notice took too long; the result stands"
        );
    }
    context.passed(Step::Notified).await;
    cancel_task::cancel_task(context, inbound, recorded).await;
    if let Err(error) = acknowledge::acknowledge(queue, inbound, recorded).await {
        // The record stands: the message comes again, finds it, and is acknowledged then.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "acknowledge_failed", "cannot delete a message");
        return;
    }
    context.passed(Step::Acknowledged).await;
}

fn settled(recorded: Result<Recorded, AwsError>) -> Result<Leaving, AwsError> {
    recorded.map(|recorded| Leaving::Completed(Box::new(recorded)))
}

fn concluded(concluded: Result<record::Concluded, AwsError>) -> Result<Leaving, AwsError> {
    Ok(match concluded? {
        record::Concluded::Recorded(recorded) => Leaving::Completed(recorded),
        record::Concluded::Requeue { after_ms, why } => Leaving::Requeue { after_ms, why },
        record::Concluded::Parked { after_ms, unanswered } => Leaving::Parked { after_ms, unanswered },
        record::Concluded::Lost => Leaving::Lost,
    })
}

/// No step before the claim may outlast the message's invisibility, which nobody extends until then: what a message
/// refers to gets a quarter of it, the two others a third each.
async fn in_time<T>(
    context: &WorkerContext,
    part: u32,
    step: impl Future<Output = Result<T, AwsError>>,
) -> Result<T, AwsError> {
    let most = (context.limits.lease / part).max(Duration::from_secs(1));
    let late = |_| Err(AwsError::passing("what the call needs before its claim took too long"));
    tokio::time::timeout(most, step).await.unwrap_or_else(late)
}
