//! Answers a call from the stored answer of an equal call, where its request asks for that and its tool or server allows it.
//!
//! A stored answer ends the call before its turn and its claim, in one write. A call whose equal is under way takes no turn: it is
//! claimed and waits beside its heartbeat, so that its deadline, its cancellation and the end of the worker count as for a call that runs. The lead is
//! taken after the turn, when nothing but the call itself can hold it up: a leader never waits for a slot that a follower has.

use std::sync::{Arc, PoisonError};

use toolfleet_core::cache::{CacheKeys, CallFacts, StoredAnswer};
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{OTHER_TENANT, Outcome};

use super::admit::AdmittedCall;
use super::prepare::ReadyCall;
use crate::answers::{Followed, Reuse};
use crate::context::WorkerContext;
use crate::telemetry::CacheUse;

/// The keys of the call, if a stored answer will do.
fn keys(ready: &ReadyCall) -> Option<Arc<CacheKeys>> {
    let call = &ready.call;
    let request = &call.request;
    if !request.cache || !call.repeatable || call.resumed.is_some() {
        return None;
    }
    let rule = call.cache_rule();
    if rule.is_none() && !call.ask.is_reading() {
        return None;
    }
    let (address, target) = (call.server.address(), request.target.to_string());
    let facts = CallFacts {
        tenant: &request.key.tenant,
        user: request.user.as_ref(),
        server: (call.server.id.as_str(), &address),
        target: &target,
        definition: ready.definition.as_ref(),
        question: &request.digest,
    };
    Some(Arc::new(CacheKeys::of(facts, rule.as_ref())))
}

/// The stored answer, before the call takes its turn; else the call may find another to follow.
pub(super) fn before_turn(context: &WorkerContext, ready: &mut ReadyCall) -> Option<Outcome> {
    let keys = keys(ready)?;
    if let Some(answer) = context.answers.get(&keys, context.now()) {
        return Some(given(context, &ready.call, &answer, CacheUse::Hit));
    }
    if let Some(follow) = context.answers.follow(&keys) {
        ready.reuse = Reuse::Follows(follow).into();
    }
    None
}

/// The same after the turn: without an answer, the call leads or follows.
pub(super) fn after_turn(context: &WorkerContext, ready: &mut ReadyCall) -> Option<Outcome> {
    let keys = keys(ready)?;
    let reuse = match context.answers.lead(&keys) {
        Ok(lead) => Reuse::Leads(lead),
        Err(follow) => Reuse::Follows(follow),
    };
    // A leader may have stored its answer in the meantime.
    if let Some(answer) = context.answers.get(&keys, context.now()) {
        return Some(given(context, &ready.call, &answer, CacheUse::Hit));
    }
    if !reuse.follows() {
        context.meters.cache(CacheUse::Miss);
    }
    ready.reuse = reuse.into();
    None
}

/// The answer of the call that a claimed call follows. Without one, the call is sent.
pub(super) async fn wait(context: &WorkerContext, ready: &ReadyCall) -> Option<Outcome> {
    let reuse = std::mem::take(&mut *ready.reuse.lock().unwrap_or_else(PoisonError::into_inner));
    let reuse = match reuse {
        reuse @ (Reuse::None | Reuse::Leads(_)) => reuse,
        Reuse::Follows(follow) => {
            let reuse = match follow.wait(&context.answers, || context.now()).await {
                Followed::Answered(answer) => {
                    return Some(given(context, &ready.call, &answer, CacheUse::Coalesced));
                }
                Followed::Leads(lead) => Reuse::Leads(lead),
                Followed::Alone => Reuse::None,
            };
            context.meters.cache(CacheUse::Miss);
            reuse
        }
    };
    *ready.reuse.lock().unwrap_or_else(PoisonError::into_inner) = reuse;
    None
}

/// The outcome of a call that is given that answer. Nobody learns the ids of another tenant's calls.
fn given(context: &WorkerContext, call: &AdmittedCall, answer: &StoredAnswer, how: CacheUse) -> Outcome {
    context.meters.cache(how);
    let own = |tenant: &Tenant| *tenant == call.request.key.tenant;
    let from = if own(&answer.from.tenant) { answer.from.call_id.as_str() } else { OTHER_TENANT };
    Outcome::from_cache((*answer.content).to_owned(), from)
}
