//! Sends a batch, and gives each of its members its part of the answer. It ends early if all members have left.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;
use toolfleet_catalog::Catalog;
use toolfleet_core::answer::{Answer, Meaning};
use toolfleet_core::batch::{joined, parts_of};
use toolfleet_core::control::Subject;
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::CallRequest;
use toolfleet_executors::{Admit, Attempt, Executor as _, Invocation, Target};

use super::admit::AdmittedCall;
use super::pace::Pace;
use super::passes::Passes;
use super::redaction;
use super::send::{Request, send};
use super::turn::Limits;
use super::wait::Wait;
use crate::batches::{Given, Member};
use crate::context::WorkerContext;
use crate::gate::Permit;
use crate::telemetry::trace::Onward;

/// How long a server may take to confirm that a task is cancelled.
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// A batch as it is sent.
pub(super) struct BatchCall {
    /// The call of the leader.
    pub(super) call: AdmittedCall,
    pub(super) target: Target,
    /// The arguments that all calls have in common.
    pub(super) others: String,
    /// The argument that becomes a list.
    pub(super) argument: String,
    /// The number of the leader's attempt.
    pub(super) number: u32,
    pub(super) id: String,
    /// The catalog of the leader's delivery.
    pub(super) catalog: Arc<Catalog>,
    /// The trace of the leader's sender.
    pub(super) sent: Onward,
}

pub(super) async fn send_batch(
    context: Arc<WorkerContext>,
    batch: BatchCall,
    passes: Passes,
    members: Vec<Member>,
) {
    let server = &batch.call.server.id;
    // Strikes are about the arguments of one call: each member asks for its own where it begins.
    let subject = Subject { digest: None, ..batch.call.subject() };
    let permit = match context.gate.enter(subject, context.now()) {
        Ok(permit) => permit,
        Err(refusal) => return hold_all(members, &Wait::refused(&context, server, refusal)),
    };
    let (mut elements, mut givens, mut deadline) = (Vec::new(), Vec::new(), Instant::now());
    for member in members {
        if !member.given.is_closed() && (member.begin)(&batch.id) {
            elements.push(member.element);
            givens.push(member.given);
            deadline = deadline.max(member.deadline);
        }
    }
    let arguments = joined(&batch.others, &batch.argument, elements.iter().map(|element| &**element));
    let Some(arguments) = arguments.filter(|_| !givens.is_empty()) else {
        return;
    };
    context.meters.batch(givens.len());
    let request = CallRequest { arguments, ..(*batch.call.request).clone() };
    let asked = ask(&context, &batch, &request, (passes, permit), deadline);
    let asked = tokio::select! {
        asked = asked => asked,
        _ = join_all(givens.iter_mut().map(oneshot::Sender::closed)) => return,
    };
    match asked {
        Ok(answer) => give(&context, &batch, answer, givens).await,
        Err(wait) => hold(givens, &wait),
    }
}

/// Sends the request. A failure says no word of the server: it may quote the argument of one call, and goes to all.
///
/// # Errors
/// It was not sent for want of a turn: what the batch waits for.
async fn ask(
    context: &WorkerContext,
    batch: &BatchCall,
    request: &CallRequest,
    (mut passes, permit): (Passes, Permit<'_>),
    deadline: Instant,
) -> Result<Result<Answer, Failure>, Wait> {
    let until = deadline.min(Instant::now() + Duration::from_millis(batch.call.attempt_ms));
    let pace = passes.take_turns().and_then(|first| {
        let limits = Limits::of_batch(context, &batch.catalog, &batch.id, &batch.call)?;
        Some(Pace::new(limits, until, first))
    });
    passes.sent(context.now());
    let sending = Request {
        target: &batch.target,
        invocation: Invocation { request, ..batch.call.invocation() },
        number: batch.number,
        deadline,
        sent: batch.sent.clone(),
        on_progress: None,
        admit: pace.as_ref().map(|pace| pace as Admit<'_>),
    };
    let answer = {
        let sending = pin!(send(context, sending));
        let sending = pin!(async {
            match &pace {
                Some(pace) => pace.watch(sending).await,
                None => sending.await,
            }
        });
        passes.until_answered(sending, false, &context.meters).await
    };
    let now = context.now();
    let lacking = pace.and_then(Pace::lacking);
    let cut_short = answer.is_err() && (lacking.is_some() || Instant::now() >= deadline);
    passes.record(&answer, cut_short, now);
    let pause_ms = permit.record(&answer, cut_short, now);
    if let (Some(wait), Err(Failure { may_have_run: MayHaveRun::No, .. })) = (lacking, &answer) {
        return Err(wait);
    }
    Ok(answer.map_err(|failure| {
        let fault = redaction::for_the_log(&failure, request);
        tracing::info!(batch = %batch.id, server = %batch.call.server.id, fault, "a batch failed");
        Failure { detail: failure.summary.clone(), ..failure }.paused_for(pause_ms)
    }))
}

/// Gives each member its part; what holds for the whole is given to each.
async fn give(
    context: &WorkerContext,
    batch: &BatchCall,
    answer: Result<Answer, Failure>,
    givens: Vec<oneshot::Sender<Given>>,
) {
    let calls = givens.len();
    let outcomes = match answer {
        Ok(Answer { meaning: Meaning::Ended(outcome), .. }) => match outcome.kind {
            OutcomeKind::Succeeded => divided(batch, &outcome, calls),
            OutcomeKind::ToolError => vec![outcome; calls],
            OutcomeKind::InputRequired => vec![not_divided(calls, "the server asks for input"); calls],
            OutcomeKind::Failed
            | OutcomeKind::Refused
            | OutcomeKind::Expired
            | OutcomeKind::TimedOut
            | OutcomeKind::Cancelled
            | OutcomeKind::OutcomeUnknown => vec![Outcome { payload: None, ..outcome }; calls],
        },
        Ok(Answer { meaning: Meaning::Task { handle, .. }, .. }) => {
            cancel(context, batch, &handle).await;
            vec![not_divided(calls, "the server answers with a task"); calls]
        }
        Err(failure) => {
            // What is too large for all together may be small enough for each.
            let give = if calls > 1 && failure.is_too_large() { Given::Alone } else { Given::Failed };
            for given in givens {
                let _left = given.send(give(failure.clone()));
            }
            return;
        }
    };
    for (given, outcome) in givens.into_iter().zip(outcomes) {
        let _left = given.send(Given::Ended(outcome));
    }
}

/// The part of each call in the answer.
fn divided(batch: &BatchCall, whole: &Outcome, calls: usize) -> Vec<Outcome> {
    let parts =
        whole.content().map_or_else(|| Err("it has no result".to_owned()), |all| parts_of(all, calls));
    parts.unwrap_or_else(|problem| {
        tracing::warn!(
            batch = %batch.id, server = %batch.call.server.id, tool = batch.call.tool_name(), code = "batch_not_divided",
            "the answer to a batch of {calls} calls cannot be divided: {problem}"
        );
        vec![not_divided(calls, &problem); calls]
    })
}

/// The end of a call whose batch has an answer without a part for it.
fn not_divided(calls: usize, problem: &str) -> Outcome {
    let text = format!(
        "The tool is registered with `batch`: {calls} calls were sent as one, and the answer needs a list of {calls} results, but {problem}. \
         The answer is not kept. An operator must fix the tool's answer, or remove `batch` from its registration."
    );
    Outcome::failed(CallError::new(Code::InvalidAnswer, text, MayHaveRun::Yes))
}

/// Cancels the task that a batch has become: it is no call's own.
async fn cancel(context: &WorkerContext, batch: &BatchCall, handle: &str) {
    let (call, deadline) = (&batch.call, Instant::now() + CANCEL_TIME);
    let attempt = Attempt { deadline, traceparent: None, tracestate: None, on_progress: None, admit: None };
    let (tenant, session) = (&call.request.key.tenant, call.request.session.as_ref());
    if let Err(failure) = context.executors.cancel(&call.server, tenant, session, handle, attempt).await {
        let fault = redaction::for_the_log(&failure, &call.request);
        tracing::info!(batch = %batch.id, server = %call.server.id, fault, "the task of a batch was not cancelled");
    }
}

/// The batch waits, and so does each of its members.
pub(super) fn hold_all(members: Vec<Member>, wait: &Wait) {
    hold(members.into_iter().map(|member| member.given), wait);
}

fn hold(givens: impl IntoIterator<Item = oneshot::Sender<Given>>, wait: &Wait) {
    for given in givens {
        let _left = given.send(Given::Held { after_ms: wait.after_ms, held: wait.held.clone() });
    }
}
