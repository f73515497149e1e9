//! The step `prepare`: what a call needs before it may be claimed. The gate of its server must be open, its credential available, and the tool as
//! the call expects it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_catalog::{Catalog, Server};
use toolfleet_core::cache::CacheRule;
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::failure::{Failure, RetryClass};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_executors::{Executor as _, NotReady, ReadyLimits, Target};

use super::admit::AdmittedCall;
use super::inbound::InboundCall;
use super::resume;
use super::wait::{Wait, within};
use crate::answers::Reuse;
use crate::backoff;
use crate::context::WorkerContext;

pub(super) enum Prepared {
    Ready(Box<ReadyCall>),
    Held { request: Box<CallRequest>, wait: Wait },
    Over { request: Box<CallRequest>, outcome: Outcome },
}

/// A call that has all it needs.
pub(super) struct ReadyCall {
    pub(super) call: AdmittedCall,
    pub(super) target: Target,
    pub(super) definition: Option<ShortDefinitionDigest>,
    /// What it has to do with the answers of equal calls.
    pub(super) reuse: Mutex<Reuse>,
}

impl ReadyCall {
    /// Whether it waits for the answer of an equal call.
    pub(super) fn follows(&mut self) -> bool {
        self.reuse.get_mut().unwrap_or_else(PoisonError::into_inner).follows()
    }

    /// An attempt has failed: calls that wait for its answer do not wait for another failure.
    pub(super) fn attempt_failed(&self) {
        self.reuse.lock().unwrap_or_else(PoisonError::into_inner).failed();
    }

    /// What it has to do with the answers of equal calls, and what the catalog says about storing its answer.
    pub(super) fn take_reuse(&mut self) -> (Reuse, Option<CacheRule>) {
        let reuse = std::mem::take(self.reuse.get_mut().unwrap_or_else(PoisonError::into_inner));
        (reuse, self.call.cache_rule())
    }
}

pub(super) async fn prepare(
    context: &WorkerContext,
    inbound: &InboundCall,
    mut call: AdmittedCall,
) -> Result<Prepared, AwsError> {
    let limits = limits(context, inbound, &call);
    if let Err(refusal) = context.gate.check(call.subject(), context.now()) {
        let wait = Wait::refused(context, &call.server.id, refusal);
        return Ok(wait_or_end(context, inbound, call, wait));
    }
    let ready = match context.executors.ready(&call.invocation(), limits).await {
        Ok(ready) => ready,
        Err(NotReady::Refused(refusal)) => {
            let wait = Wait::refused(context, &call.server.id, refusal);
            return Ok(wait_or_end(context, inbound, call, wait));
        }
        Err(NotReady::Credential(failure)) => return Ok(no_credential(context, inbound, call, &failure)),
        Err(NotReady::Definition(failure)) => return Ok(no_definition(context, inbound, call, &failure)),
        Err(NotReady::Ended(outcome)) => return Ok(Prepared::Over { request: call.request, outcome }),
    };
    call.repeatable |= ready.repeatable;
    let registered = || call.tool.as_ref().map(|tool| tool.definition.short());
    let definition = ready.definition.or_else(registered);
    if let Some(outcome) = call.resumed.as_ref().and_then(|earlier| earlier.changed(definition.as_ref()))
        && resume::task_under_way(context, &call.request.key).await?.is_none()
    {
        return Ok(Prepared::Over { request: call.request, outcome });
    }
    Ok(Prepared::Ready(Box::new(ReadyCall {
        call,
        target: ready.target,
        definition,
        reuse: Mutex::default(),
    })))
}

/// Less than the step may take, so that a call whose credential and list are both slow is held with a reason.
fn limits(context: &WorkerContext, inbound: &InboundCall, call: &AdmittedCall) -> ReadyLimits {
    let (now, lease_ms) = (Instant::now(), context.limits.lease_ms());
    ReadyLimits {
        until: now + Duration::from_millis(lease_ms * 3 / 10),
        deadline: now + Duration::from_millis(call.deadline.ms_since(context.now())),
        longest_wait: Duration::from_millis(lease_ms / 4),
        fetch_time: Duration::from_millis(lease_ms / 5),
        first_try: inbound.tries() <= 1,
    }
}

/// Without a credential nothing was executed, so the call waits for whatever may pass.
fn no_credential(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: AdmittedCall,
    failure: &Failure,
) -> Prepared {
    let after_ms = backoff::after_tries(inbound.tries());
    if !failure.is_permanent() && context.now().plus_ms(after_ms) < call.deadline {
        let wait = Wait::after_failure(context, &call.server.id, failure, after_ms);
        return Prepared::Held { request: call.request, wait };
    }
    let text = format!("{failure}. An operator must fix the server's configuration.");
    let why = CallError::new(failure.code, text, MayHaveRun::No).retryable(None);
    Prepared::Over { request: call.request, outcome: Outcome::failed(why) }
}

/// Without the tool's definition nothing was executed, so the call waits for whatever may pass.
fn no_definition(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: AdmittedCall,
    failure: &Failure,
) -> Prepared {
    let tries = inbound.tries();
    let Some(after_ms) = definition_wait_ms(failure.class, tries) else {
        let text =
            format!("The server's tools could not be listed: {failure}. Nothing was sent to the tool.");
        let outcome = Outcome::failed(CallError::new(failure.code, text, MayHaveRun::No));
        let outcome = with_what_was_left_out(inbound.catalog(), &call.server, outcome);
        return Prepared::Over { request: call.request, outcome };
    };
    let wait = Wait::after_failure(context, &call.server.id, failure, after_ms);
    wait_or_end(context, inbound, call, wait)
}

/// How long a call waits before its tool's definition is read again, in milliseconds; nothing where that will not help.
fn definition_wait_ms(class: RetryClass, tries: u32) -> Option<u64> {
    match class {
        RetryClass::Permanent => None,
        RetryClass::Pause { after_ms: Some(ms) } => Some(ms),
        RetryClass::Pause { after_ms: None } | RetryClass::Ambiguous => Some(backoff::after_tries(tries)),
        RetryClass::NotExecuted => Some(backoff::unreachable(tries, 1)),
    }
}

/// Where a server refuses our credential and the catalog could not fill it in, the sentence says so.
pub(super) fn with_what_was_left_out(catalog: &Catalog, server: &Server, mut outcome: Outcome) -> Outcome {
    if let Some(why) = &mut outcome.error
        && matches!(why.code, Code::Unauthorized | Code::Forbidden)
        && let Some(left_out) = catalog.left_out(&server.id)
    {
        why.message.push_str(&format!(" The catalog's credential was left out: {left_out}."));
    }
    outcome
}

/// Waits, unless the call could not continue in time.
fn wait_or_end(context: &WorkerContext, inbound: &InboundCall, call: AdmittedCall, wait: Wait) -> Prepared {
    let server = &call.server.id;
    // A call that lay in a backlog has not been tried yet: its wait begins with the first failure that was seen.
    let failing_since = context.gate.reachable().failing_since(server);
    let since = failing_since.unwrap_or_else(|| context.now()).max(inbound.enqueued_at);
    match within(context, server, wait, since, call.deadline, MayHaveRun::No) {
        Ok(wait) => Prepared::Held { request: call.request, wait },
        Err(outcome) => Prepared::Over { request: call.request, outcome },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_again_unless_that_will_not_help() {
        assert_eq!(definition_wait_ms(RetryClass::Permanent, 1), None);
        assert_eq!(definition_wait_ms(RetryClass::Pause { after_ms: Some(7_000) }, 1), Some(7_000));
        for class in [RetryClass::Pause { after_ms: None }, RetryClass::Ambiguous, RetryClass::NotExecuted] {
            assert!(definition_wait_ms(class, 3).is_some_and(|ms| ms > 0), "{class:?}");
        }
    }
}
