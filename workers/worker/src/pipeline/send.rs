//! Sends one request of an attempt, with its span and its metrics.

use tokio::time::Instant;
use toolfleet_core::answer::Answer;
use toolfleet_core::failure::Failure;
use toolfleet_executors::{Admit, Attempt, Executor as _, Executors, Invocation, OnProgress, Target};
use tracing::Instrument as _;

use crate::context::WorkerContext;
use crate::gate::Gate;
use crate::telemetry::trace::{self, Onward};

/// A request that is sent now.
pub(super) struct Request<'a> {
    pub(super) target: &'a Target,
    pub(super) invocation: Invocation<'a>,
    /// The number of the attempt.
    pub(super) number: u32,
    pub(super) deadline: Instant,
    /// The trace of the call's sender.
    pub(super) sent: Onward,
    pub(super) on_progress: Option<OnProgress<'a>>,
    /// Asked before each request, where a rate limit holds.
    pub(super) admit: Option<Admit<'a>>,
}

pub(super) async fn send(context: &WorkerContext, request: Request<'_>) -> Result<Answer, Failure> {
    let Request { target, invocation, number, deadline, sent, on_progress, admit } = request;
    let (operation, server) = (invocation.request.operation, &invocation.server.id);
    let address = Executors::<Gate>::address(target);
    let span = trace::attempt(operation, invocation.name, address, number);
    let begun = Instant::now();
    let onward = trace::onward(&span).or(sent);
    let attempt = Attempt {
        deadline,
        traceparent: onward.traceparent.as_deref(),
        tracestate: onward.tracestate.as_deref(),
        on_progress,
        admit,
    };
    let under_way = context.activity.request(server);
    let asked = context.executors.attempt(target, &invocation, attempt);
    let answer = asked.instrument(span.clone()).await;
    let error = trace::ended(&span, &answer);
    under_way.ended(answer.is_err(), context.now());
    context.meters.attempted(operation, server, begun.elapsed(), error);
    answer
}
