//! The pipeline: the steps of one delivery, from an SQS message to a stored result. Read this file first.
//!
//! ```text
//! decode ─▶ fetch ─▶ admit ─▶ join_group ─▶ supersede ─▶ schedule ─▶ prepare ─▶ reuse ─▶ turn ─▶ claim ─▶ execute ─▶ record ─▶ count_member ─▶ notify ─▶ cancel_task ─▶ acknowledge
//! ```
//!
//! Nothing of a call is sent to its tool before `claim`, with one exception: a call that is safe to repeat may be executed without a claim
//! (`skip_claim`), and is claimed by its first heartbeat. These writes may come earlier: the session's row at the session's first call
//! (`admit`), the rows of the call's group and of its `supersede` key, an MCP session if the server is asked for its tool list (`prepare`), and the call's row
//! if the call has to wait (`hold`) or ends without being executed. `claim` writes into the call's row that this worker may send the call, so
//! a crash after it shows in the row. A call that asks for a stored answer and finds one ends before its turn; one whose equal is under way
//! takes no turn and waits for that answer (`reuse`). A call that has limits gets its turn and its permits before it is claimed (`turn`); it waits for them
//! without a slot where it takes longer than a moment (`wait_for_turn`). After the claim, the MCP client may still store a new MCP session
//! before it sends the request. `execute` runs the call beside its heartbeat, alone or in a `batch`; a call that only waits for a silent server leaves
//! its slot to others (`places`). `record` stores the result and builds the audit record, which `complete` inserts once the slot is free.
//!
//! `process` below has the order up to `record`. The order within the record is in `record/`, the order after it in `complete`, and the
//! order for a dead letter in `reap`. Two types can be made in one place only, so the compiler checks their use. The events of an
//! execution (heartbeat, release, park, finish) need core's `Claim`. `acknowledge` needs a `Recorded`. Two other places delete a message,
//! after a queue has accepted a copy of it: `requeue` and `keep_unreadable`. `group_message` handles messages that are no calls, the timer
//! and the cancellation of a group, and such a message is deleted once its group is decided. The state table that decides what each state of a row means
//! is `toolfleet_core::call`.
//!
//! A delivery leaves the worker in one of the ways of `Disposition`: completed, requeued, parked as a task, taken over by another
//! worker, or kept for an operator because it cannot be read. If an AWS request fails before the result is stored, the message is
//! requeued and the call has no outcome yet. One failure does end a call: `result_not_stored`, when S3 does not accept a large result
//! within ten minutes, or before the worker stops or the call is cancelled. After the record is stored, a notice that SQS does not take is sent by the
//! next delivery of the message, and a delete that fails is only logged.

mod acknowledge;
mod admit;
mod apply;
mod attempts;
mod audit;
mod batch;
mod batch_facts;
mod cancel_task;
mod check_session;
mod checks;
mod claim;
mod complete;
mod count_member;
mod decide_group;
mod decode;
mod disposition;
mod ended_member;
mod enter_group;
mod execute;
mod execution;
mod fetch;
mod find_target;
mod group_message;
mod heartbeat;
mod hold;
mod inbound;
mod join_group;
mod keep_unreadable;
mod large_result;
mod latest;
mod lease;
mod notify;
pub mod origin;
mod pace;
mod passes;
mod permit;
mod places;
mod poll_task;
mod prepare;
mod progress_buffer;
mod reap;
mod record;
mod redaction;
mod requeue;
mod resume;
mod reuse;
mod schedule;
mod send;
mod send_batch;
mod skip_claim;
pub mod slot;
pub mod steps;
mod supersede;
mod task;
mod time_left;
mod time_limit;
mod turn;
mod visibility;
mod wait;
mod wait_for_turn;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Delivery;
use toolfleet_core::call::HeldReason;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::CallRequest;
use toolfleet_executors::spans::step;
use tracing::Instrument as _;

use crate::activity::SlotTime;
use crate::context::WorkerContext;
use crate::gate::Seat;
use crate::telemetry::trace;
use admit::{Admitted, AdmittedCall};
use claim::{Claimed, ClaimedCall};
use decode::Decoded;
use disposition::{CLOCK_OFF_MS, Disposition, RequeueReason};
use execution::Executed;
use fetch::Fetched;
pub(crate) use inbound::InboundCall;
use join_group::Joined;
use origin::Origin;
use passes::Passes;
use places::{place_and_seat, while_silent};
use prepare::{Prepared, ReadyCall};
pub(crate) use reap::NEVER_MS;
pub use reap::{Reaped, reap};
use record::{claimed, finished, unexecuted, without_call};
use slot::Slot;
use steps::Step;
use supersede::Superseded;
use time_limit::within_lease;
use wait_for_turn::{Turned, wait_for_turn};

/// Why a delivery does not continue to its next step.
enum Exit {
    /// It leaves the worker.
    Disposed(Disposition),
    /// An AWS request failed.
    Failed(AwsError),
}

impl From<AwsError> for Exit {
    fn from(error: AwsError) -> Self {
        Self::Failed(error)
    }
}

impl From<Disposition> for Exit {
    fn from(disposition: Disposition) -> Self {
        Self::Disposed(disposition)
    }
}

/// Takes one delivery through the worker. The worker's `slot` is free again once the call has ended: a message that has only to be
/// deleted, requeued or answered for keeps no other call waiting.
pub async fn run(context: Arc<WorkerContext>, delivery: Delivery, slot: impl Slot) {
    let origin = Origin::received(&context);
    Box::pin(run_from(context, delivery, slot, origin)).await;
}

/// The same for a delivery that came in another way.
pub async fn run_from(context: Arc<WorkerContext>, delivery: Delivery, mut slot: impl Slot, origin: Origin) {
    let mut inbound = InboundCall::of(&context, delivery, origin);
    let begun = Instant::now();
    let sent = inbound.trace_context();
    inbound.span =
        trace::delivery(inbound.queue().name(), inbound.message_id(), &sent, inbound.earlier_span());
    context.activity.received(inbound.queue().name(), inbound.first_wait_ms(context.now()));
    let _delivery = context.activity.delivery();
    let lines = trace::lines(inbound.span(), inbound.message_id(), sent);
    let span = inbound.span.clone();
    let whole = async {
        let exit = match Box::pin(process(&context, &inbound, &mut slot)).await {
            Ok(disposition) => Exit::Disposed(disposition),
            Err(exit) => exit,
        };
        if is_over(&exit) {
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
        Box::pin(dispose(&context, &mut inbound, exit)).await;
        drop((slot, place));
    };
    {
        let whole = std::pin::pin!(whole.instrument(lines).instrument(span));
        counted_when_long(&context, whole).await;
    }
    context.meters.processed(inbound.queue().name(), begun.elapsed());
}

/// Runs a delivery; one that takes long counts as such, where that protects the worker's task.
async fn counted_when_long(context: &WorkerContext, mut delivery: Pin<&mut impl Future<Output = ()>>) {
    let Some(after) = context.protect_after else { return delivery.await };
    if tokio::time::timeout(after, delivery.as_mut()).await.is_err() {
        let _long = context.activity.long_call();
        delivery.await;
    }
}

/// How long a message waits that an invocation brought although its queue is paused.
const PAUSED_QUEUE_MS: u64 = 300_000;

/// A call that waited so long in the worker's hands looks at its group and at its `supersede` key again before it starts.
const LOOKED_LATELY: Duration = Duration::from_millis(50);

/// Whether nothing will send the body again. The message of a call that has ended may go back to its queue until it is audited and counted.
const fn is_over(exit: &Exit) -> bool {
    match exit {
        Exit::Disposed(Disposition::TakenOver | Disposition::GroupHandled) => true,
        Exit::Disposed(
            Disposition::Completed(_)
            | Disposition::Requeued { .. }
            | Disposition::Parked { .. }
            | Disposition::Unreadable,
        )
        | Exit::Failed(_) => false,
    }
}

/// Does with the message what its disposition says.
async fn dispose(context: &WorkerContext, inbound: &mut InboundCall, exit: Exit) {
    match exit {
        Exit::Disposed(Disposition::Completed(stored)) => {
            if let Err(error) = complete::complete(context, inbound, *stored).await {
                requeue::after_aws_error(context, inbound, &error).await;
            }
        }
        Exit::Disposed(Disposition::Requeued { after_ms, reason }) => {
            requeue::requeue(context, inbound, after_ms, reason).await;
        }
        Exit::Disposed(Disposition::Parked { after_ms, poll_failed, counted }) => {
            context.steps.passed(Step::Parked).await;
            requeue::until_poll(context, inbound, after_ms, poll_failed, counted).await;
        }
        Exit::Disposed(Disposition::TakenOver) => {
            tracing::info!(message_id = inbound.message_id(), "another worker has taken the call over");
        }
        Exit::Disposed(Disposition::GroupHandled) => complete::group_handled(inbound).await,
        Exit::Disposed(Disposition::Unreadable) => keep_unreadable::keep_unreadable(context, inbound).await,
        Exit::Failed(error) => requeue::after_aws_error(context, inbound, &error).await,
    }
}

/// The steps of a delivery, in their order.
async fn process(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    slot: &mut impl Slot,
) -> Result<Disposition, Exit> {
    if inbound.origin().queue_is_paused() {
        return Ok(Disposition::Requeued {
            after_ms: PAUSED_QUEUE_MS,
            reason: RequeueReason::Held(HeldReason::Paused),
        });
    }
    clock_is_right(context)?;
    if let Some(message) = group_message::of(inbound) {
        return Ok(Box::pin(group_message::handle(context, inbound, &message)).await?);
    }
    let request = read_request(context, inbound).await?;
    inbound.is_of(&request.key.tenant);
    context.steps.passed(Step::Decoded).await;

    let call = admit_call(context, inbound, request).await?;
    context.steps.passed(Step::Admitted).await;

    let call = join_its_group(context, inbound, call).await?;
    let call = supersede_call(context, inbound, call).await?;
    if let Some(wait) =
        schedule::wait_until(call.request.not_before, context.now(), inbound.queue().is_fifo())
    {
        return Ok(Box::pin(hold::hold(context, inbound, *call.request, wait)).await?);
    }
    if let Some(wait) = time_left::lacks_time(context, inbound, &call) {
        return Ok(Box::pin(hold::hold(context, inbound, *call.request, wait)).await?);
    }
    let looked = Instant::now();
    // Held until the call is out of the worker's hands, like its slot.
    let (mut place, seat) = match place_and_seat(context, inbound, &call).await {
        Ok(entered) => entered,
        Err(wait) => return Ok(Box::pin(hold::hold(context, inbound, *call.request, wait)).await?),
    };
    let mut seat = Some((seat, context.activity.working(&call.request.key.tenant)));
    let ready = prepare_call(context, inbound, *call).await?;
    context.steps.passed(Step::Prepared).await;
    if inbound.shutdown().is_draining() {
        return Ok(Disposition::Requeued { after_ms: 0, reason: RequeueReason::Draining });
    }

    let (mut ready, passes) = Box::pin(take_turn(context, inbound, ready, slot, &mut seat)).await?;
    clock_is_right(context)?;
    // While it waited here, its group may have been decided, or a newer call of its key may have come and gone.
    if looked.elapsed() >= LOOKED_LATELY {
        let call = join_its_group(context, inbound, Box::new(ready.call)).await?;
        ready.call = *supersede_call(context, inbound, call).await?;
    }
    let claimed = match skip_claim::is_claimless(context, inbound, &ready.call) {
        true => skip_claim::begin(context, inbound, *ready),
        false => Box::pin(claim_call(context, inbound, *ready)).await?,
    };

    let executed = Box::pin(execute_and_record(context, inbound, claimed, passes));
    while_silent(executed, &mut place, slot, || drop(seat.take())).await
}

/// A worker whose clock is off ends no call by a deadline, and takes no claim of another for lost.
fn clock_is_right(context: &WorkerContext) -> Result<(), Exit> {
    if context.clock_is_off() {
        let (after_ms, reason) = (CLOCK_OFF_MS, RequeueReason::ClockOff);
        return Err(Disposition::Requeued { after_ms, reason }.into());
    }
    Ok(())
}

/// Decode and fetch: the request, with its arguments.
async fn read_request(context: &Arc<WorkerContext>, inbound: &InboundCall) -> Result<Box<CallRequest>, Exit> {
    let decoded = decode::decode(inbound);
    if let Decoded::Request(request) = &decoded {
        trace::named(&inbound.span, &request.key);
    }
    let fetched = match decoded {
        Decoded::Request(request) if request.arguments_ref.is_none() => return Ok(request),
        decoded @ (Decoded::Request(_) | Decoded::Refused { .. } | Decoded::Unreadable(_)) => {
            within_lease(context, 4, Box::pin(fetch::fetch(context, inbound, decoded))).await?
        }
    };
    Err(match fetched {
        Fetched::Request(request) => return Ok(request),
        Fetched::Malformed { malformed, key } => Disposition::completed(
            Box::pin(without_call::malformed(context, inbound, *malformed, key)).await?,
        ),
        Fetched::Unreadable(malformed) => {
            Box::pin(without_call::unreadable(context, inbound, &malformed)).await?;
            context.steps.passed(Step::Recorded).await;
            Disposition::Unreadable
        }
        Fetched::Refused { request, outcome } => {
            Box::pin(unexecuted::record_unexecuted(context, inbound, *request, outcome)).await?
        }
        Fetched::TenantNotAllowed { request } => Disposition::completed(
            Box::pin(without_call::tenant_not_allowed(context, inbound, *request)).await?,
        ),
    }
    .into())
}

/// Admit: the call with its server and tool, if its sender may make it.
async fn admit_call(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    request: Box<CallRequest>,
) -> Result<Box<AdmittedCall>, Exit> {
    Err(match within_lease(context, 3, Box::pin(admit::admit(context, inbound, request))).await? {
        Admitted::Call(call) => return Ok(call),
        Admitted::Refused { request, outcome } => {
            Box::pin(unexecuted::record_unexecuted(context, inbound, *request, outcome)).await?
        }
        Admitted::TenantNotAllowed { request } => Disposition::completed(
            Box::pin(without_call::tenant_not_allowed(context, inbound, *request)).await?,
        ),
    }
    .into())
}

/// Join group: the call, if it has no group or its group is open and has this place for it.
async fn join_its_group(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    call: Box<AdmittedCall>,
) -> Result<Box<AdmittedCall>, Exit> {
    if call.request.group.is_none() {
        return Ok(call);
    }
    match Box::pin(join_group::join_group(context, inbound, call)).await? {
        Joined::GoesOn(call) => Ok(call),
        Joined::Over(disposition) => Err(disposition.into()),
    }
}

/// Supersede: the call, unless a newer one replaces it.
async fn supersede_call(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    call: Box<AdmittedCall>,
) -> Result<Box<AdmittedCall>, Exit> {
    if call.request.supersede.is_none() {
        return Ok(call);
    }
    match Box::pin(supersede::supersede(context, inbound, call)).await? {
        Superseded::GoesOn(call) => Ok(call),
        Superseded::Over(disposition) => Err(disposition.into()),
    }
}

/// Prepare: the call with its server's credential, and the tool as the server lists it.
async fn prepare_call(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    call: AdmittedCall,
) -> Result<Box<ReadyCall>, Exit> {
    Err(match within_lease(context, 3, Box::pin(prepare::prepare(context, inbound, call))).await? {
        Prepared::Ready(ready) => return Ok(ready),
        Prepared::Held { request, wait } => Box::pin(hold::hold(context, inbound, *request, wait)).await?,
        Prepared::Over { request, outcome } => {
            Box::pin(unexecuted::record_unexecuted(context, inbound, *request, outcome)).await?
        }
    }
    .into())
}

/// Turn: the call with what it holds of its limits, unless it is given a stored answer.
async fn take_turn(
    context: &WorkerContext,
    inbound: &InboundCall,
    mut ready: Box<ReadyCall>,
    slot: &mut impl Slot,
    seat: &mut Option<(Seat, SlotTime)>,
) -> Result<(Box<ReadyCall>, Option<Passes>), Exit> {
    if let Some(outcome) = reuse::before_turn(context, &mut ready) {
        return Err(Box::pin(conclude(context, inbound, *ready, outcome)).await?.into());
    }
    if ready.follows() {
        return Ok((ready, None));
    }
    let passes = match wait_for_turn(context, inbound, &ready.call, slot, seat).await? {
        Turned::Now(passes) => passes,
        Turned::Wait(wait) => {
            return Err(Box::pin(hold::hold(context, inbound, *ready.call.request, wait)).await?.into());
        }
        Turned::Draining => {
            return Err(Disposition::Requeued { after_ms: 0, reason: RequeueReason::Draining }.into());
        }
    };
    if let Some(outcome) = reuse::after_turn(context, &mut ready) {
        return Err(Box::pin(conclude(context, inbound, *ready, outcome)).await?.into());
    }
    // What follows another call takes no permit from it.
    let passes = passes.filter(|_| !ready.follows());
    Ok((ready, passes))
}

/// Ends a call that is given a stored answer.
async fn conclude(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: ReadyCall,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    unexecuted::record_cached(context, inbound, *ready.call.request, outcome, ready.definition).await
}

/// Claim: the right to send the call to its tool.
async fn claim_call(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: ReadyCall,
) -> Result<Box<ClaimedCall>, Exit> {
    Err(match claim::claim(context, inbound, ready).instrument(step("claim")).await? {
        Claimed::Ours(claimed) => {
            context.steps.passed(Step::Claimed).await;
            return Ok(claimed);
        }
        Claimed::Ended { request, row } => {
            let recorded = Box::pin(finished::record_ended_before(context, inbound, *request, *row));
            Disposition::completed(recorded.await?)
        }
        Claimed::Mismatch { request, row } => {
            let recorded = finished::mismatch(context, inbound, *request, row.as_deref());
            Disposition::completed(Box::pin(recorded).await?)
        }
        Claimed::Elsewhere { after_ms } => {
            Disposition::Requeued { after_ms, reason: RequeueReason::HeldElsewhere }
        }
    }
    .into())
}

/// Execute and record: the attempts, and what they came to in the tables.
async fn execute_and_record(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    mut claimed: Box<ClaimedCall>,
    passes: Option<Passes>,
) -> Result<Disposition, Exit> {
    let executed = execute::execute(context, inbound, &mut claimed, passes).await;
    Ok(match executed {
        Executed::Finished(outcome) => {
            context.steps.passed(Step::Executed).await;
            let finished = Box::pin(claimed::finish(context, inbound, claimed, outcome));
            finished.instrument(step("record")).await?
        }
        Executed::Requeue { after_ms, reason } => {
            Box::pin(claimed::release(context, inbound, *claimed, after_ms, reason, None)).await?
        }
        Executed::Held(wait) => {
            let wait = wait.until_visible(inbound, claimed.ready.call.deadline, context.now());
            wait.log(&claimed.ready.call.request);
            let (after_ms, reason, held) = (wait.after_ms, wait.requeue_reason(), Some(wait.held));
            Box::pin(claimed::release(context, inbound, *claimed, after_ms, reason, held)).await?
        }
        Executed::Parked { task, after_ms, poll_failed } => {
            context.steps.passed(Step::Executed).await;
            Box::pin(claimed::park(context, inbound, *claimed, task, after_ms, poll_failed)).await?
        }
    })
}
