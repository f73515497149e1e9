//! Whether an invocation of a Lambda function has the time for a call: Lambda ends or freezes what still runs after it.

use std::time::Duration;

use toolfleet_core::time::span;

use super::admit::AdmittedCall;
use super::inbound::InboundCall;
use super::origin::LacksTime;
use super::wait::Wait;
use crate::context::WorkerContext;

/// How long a call waits for another invocation.
const NEXT_MS: u64 = 1_000;
/// The same for a call for which no invocation has the time: another worker may read the queue, or an operator give the function more.
const LONG_MS: u64 = 60_000;

/// The wait of a call whose attempt may take longer than what is left of the invocation.
pub(super) fn lacks_time(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &AdmittedCall,
) -> Option<Wait> {
    let wait_ms = call.batch().map_or(0, |rule| rule.wait_ms);
    let left_ms = call.deadline.ms_since(context.now());
    let limit = Duration::from_millis(call.attempt_ms.saturating_add(wait_ms).min(left_ms));
    let wait = |after_ms, detail| Wait::for_time(context, &call.server.id, call.deadline, after_ms, detail);
    match inbound.origin().lacks_time(limit)? {
        LacksTime::Now => Some(wait(NEXT_MS, None)),
        LacksTime::Always => {
            tracing::error!(
                call = %call.request.key, server = %call.server.id, tool = call.tool_name(), time_limit_ms = call.attempt_ms,
                code = "time_limit_too_long",
                "an attempt of this call may take longer than the function runs; it waits until its deadline. Give the function a longer \
                 time-out, or the tool a shorter timeout_ms"
            );
            let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let detail = format!(
                "its time limit is {}, and no invocation of the function runs so long",
                span(limit_ms)
            );
            Some(wait(LONG_MS, Some(&detail)))
        }
    }
}
