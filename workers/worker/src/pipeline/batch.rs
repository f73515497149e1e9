//! The attempt of a call whose tool takes batches: the call joins a batch, and is given its part of the answer.
//!
//! Every member keeps its claim, its heartbeat, its deadline and its record: they run beside this wait as beside a request. A member that ends
//! before its batch is sent has not run. The batch is one start at the server: its leader asks for one turn and one permit of each limit.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use toolfleet_core::batch::{BatchRule, Parted, batch_id};
use toolfleet_core::cache::{CacheKeys, CallFacts};
use toolfleet_core::digest::Digest;
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::MayHaveRun;
use tracing::Instrument as _;

use super::admit::AdmittedCall;
use super::attempts::Attempts;
use super::batch_facts::BatchFacts;
use super::checks::lacks_argument;
use super::disposition::RequeueReason;
use super::execution::Executed;
use super::redaction;
use super::send_batch::{BatchCall, hold_all, send_batch};
use super::time_left::lacks_time;
use super::wait::Wait;
use crate::batches::{Batch, BatchKey, Given, Member};

/// How a call is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    /// With others, if it is safe to repeat: what is not is not sent again because of others.
    Any,
    /// Alone.
    None,
}

impl Attempts<'_> {
    /// One attempt in a batch. It does not count where the batch was too large: then the call is sent alone.
    pub(super) async fn attempt_in_batch(&self, rule: &BatchRule, again: bool) -> Result<Executed, Failure> {
        match self.attempt_with(rule, again, Company::Any).await? {
            Some(executed) => Ok(executed),
            None => {
                Ok(self.attempt_with(rule, true, Company::None).await?.unwrap_or_else(|| self.not_sent()))
            }
        }
    }

    /// The same in a batch of others or alone; nothing if the call is to be sent alone.
    async fn attempt_with(
        &self,
        rule: &BatchRule,
        again: bool,
        company: Company,
    ) -> Result<Option<Executed>, Failure> {
        let (context, call) = (self.context, &self.ready.call);
        // The batch enters the gate once; switches and rules may be about one call of it.
        if let Some(stopped) = self.stopped() {
            return Ok(Some(stopped));
        }
        if let Some(wait) = lacks_time(context, self.inbound, call) {
            return Ok(Some(self.wait(wait)));
        }
        let Some(Parted { element, others }) = Parted::of(&call.request.arguments, &rule.argument) else {
            // Checked at admission already.
            return Ok(Some(Executed::Finished(lacks_argument(&rule.argument))));
        };
        let key = self.batch_key(rule, &others);
        let (member, mut given) = self.member(element);
        let carries_turn = member.carries_turn;
        let batch = match company {
            Company::Any if call.repeatable => context.batches.join(&key, member),
            Company::Any | Company::None => Batch::alone(member),
        };
        let lead = loop {
            let lead = tokio::select! {
                biased;
                given = &mut given => return self.given(given),
                lead = batch.lead() => lead,
            };
            batch.filled().await;
            // The member whose message carries a turn leads; the lead is passed on until it has it.
            if carries_turn || !batch.has_turn() {
                break lead;
            }
            drop(lead);
            tokio::task::yield_now().await;
        };
        let passes = self.take_passes(again).await;
        let members = context.batches.close(&key, &batch);
        match passes {
            Ok(passes) => {
                let batch = BatchCall {
                    call: leading(call),
                    target: self.ready.target.clone(),
                    others,
                    argument: rule.argument.clone(),
                    number: self.state.attempts() + 1,
                    catalog: self.inbound.catalog_of_delivery(),
                    id: batch_id(&call.request.key.call_id, self.state.attempts() + 1),
                    sent: self.inbound.trace_context(),
                };
                // It goes on for the others if this call ends before the answer, and nobody leads meanwhile.
                let sending = send_batch(Arc::clone(context), batch, passes, members).map(|()| drop(lead));
                tokio::spawn(sending.in_current_span());
            }
            Err(wait) => hold_all(members, &wait),
        }
        self.given(given.await)
    }

    /// What is the same for all calls of a batch.
    fn batch_key(&self, rule: &BatchRule, others: &str) -> BatchKey {
        let call = &self.ready.call;
        let (address, question) = (call.server.address(), Digest::of_text(others));
        let facts = CallFacts {
            tenant: &call.request.key.tenant,
            user: call.request.user.as_ref(),
            server: (call.server.id.as_str(), &address),
            target: call.tool_name().unwrap_or(&call.name),
            definition: self.ready.definition.as_ref(),
            question: &question,
        };
        let same = CacheKeys::of(facts, None).own;
        BatchKey { same, session: call.request.session.clone(), rule: rule.clone() }
    }

    fn member(&self, element: Box<serde_json::value::RawValue>) -> (Member, oneshot::Receiver<Given>) {
        let (state, lease) = (Arc::clone(self.state), Arc::clone(self.lease));
        let facts = BatchFacts::of(&self.ready.call, self.inbound.enqueued_at);
        let context = Arc::clone(self.context);
        let begin = Box::new(move |id: &str| {
            let may_start = !lease.is_over() && facts.may_start(context.gate.control(), context.now());
            may_start && state.begin_in_batch(id)
        });
        let (sender, given) = oneshot::channel();
        let carries_turn = self.inbound.carries_turn(self.context.now());
        (Member { element, deadline: self.deadline, carries_turn, begin, given: sender }, given)
    }

    /// What follows from what the batch gives; nothing if the call is to be sent alone.
    fn given(&self, given: Result<Given, RecvError>) -> Result<Option<Executed>, Failure> {
        let (call, state) = (&self.ready.call, self.state);
        let was_sent = state.end_request();
        match given {
            Ok(Given::Ended(outcome)) => Ok(Some(Executed::Finished(outcome))),
            Ok(Given::Held { after_ms, held }) => {
                // Its request was not written for want of a turn.
                if was_sent {
                    state.uncount_attempt();
                }
                Ok(Some(self.wait(Wait { after_ms, held, silent: false })))
            }
            Ok(Given::Alone(failure)) => {
                if was_sent {
                    state.uncount_attempt();
                }
                if failure.may_have_run == MayHaveRun::Unknown {
                    state.mark_executed();
                }
                Ok(None)
            }
            Ok(Given::Failed(failure)) => {
                let (attempt, fault) = (state.attempts(), redaction::for_the_log(&failure, &call.request));
                tracing::info!(call = %call.request.key, attempt, server = %call.server.id, fault, "an attempt in a batch failed");
                if failure.may_have_run == MayHaveRun::Unknown {
                    state.mark_executed();
                }
                Err(failure)
            }
            Err(_) => {
                if was_sent {
                    state.mark_executed();
                    return Ok(Some(self.not_sent()));
                }
                Ok(Some(self.stopped().unwrap_or_else(|| self.not_sent())))
            }
        }
    }

    /// What becomes of a call that operators or its server's gate stop.
    fn stopped(&self) -> Option<Executed> {
        let (context, call) = (self.context, &self.ready.call);
        if let Some(rule) = self.cancelling_rule() {
            return Some(Executed::Finished(self.state.cancelled_by_operator(&rule)));
        }
        let refusal = context.gate.check(call.subject(), context.now()).err()?;
        Some(self.wait(Wait::refused(context, &call.server.id, refusal)))
    }

    /// The lease was over when the batch was sent.
    fn not_sent(&self) -> Executed {
        Executed::Requeue { after_ms: 0, reason: RequeueReason::LeaseLost }
    }
}

/// The call that a batch is sent as, before it has the arguments of all.
fn leading(call: &AdmittedCall) -> AdmittedCall {
    AdmittedCall {
        request: call.request.clone(),
        ask: call.ask.clone(),
        resumed: None,
        server: Arc::clone(&call.server),
        tool: call.tool.clone(),
        unregistered: call.unregistered.clone(),
        registered: call.registered,
        name: call.name.clone(),
        pin: call.pin.clone(),
        deadline: call.deadline,
        attempt_ms: call.attempt_ms,
        max_attempts: call.max_attempts,
        repeatable: call.repeatable,
        progress: false,
    }
}
