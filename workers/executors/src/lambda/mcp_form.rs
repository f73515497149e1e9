//! The payload forms `mcp` and `api-gateway`: an MCP request as the event, or as the body of an API Gateway event (format 2.0).

use toolfleet_catalog::LambdaPayload;
use toolfleet_core::answer::{Answer, Meaning};
use toolfleet_core::failure::Failure;
use toolfleet_mcp::{SingleCall, SingleForm};

use super::failure::invalid_answer;
use crate::executor::{Attempt, Invocation};
use crate::mcp::executor::{answerable, resume_of};
use crate::mcp::failure::failure_of;
use crate::mcp::outcome::answer_of;

/// How MCP messages are carried in this form; nothing where none are.
pub(super) const fn form_of(payload: LambdaPayload) -> Option<SingleForm> {
    match payload {
        LambdaPayload::Mcp => Some(SingleForm::Message),
        LambdaPayload::ApiGateway => Some(SingleForm::ApiGateway),
        LambdaPayload::Bedrock | LambdaPayload::Arguments => None,
    }
}

/// The event of a call.
pub(super) fn event(form: SingleForm, call: &Invocation<'_>, attempt: Attempt<'_>, durable: bool) -> Vec<u8> {
    let single = SingleCall {
        name: call.name,
        arguments: &call.request.arguments,
        resume: resume_of(call),
        can_answer: answerable(call),
        // The event of a durable execution has to be the same in every attempt.
        traceparent: attempt.traceparent.filter(|_| !durable),
        tracestate: attempt.tracestate.filter(|_| !durable),
    };
    single.event(form, call.request.key.call_id.as_str())
}

/// What an answer to a call means.
pub(super) async fn answer(form: SingleForm, payload: Vec<u8>) -> Result<Answer, Failure> {
    meaning(form.answer(payload).await.map_err(|fault| failure_of(&fault))?)
}

/// What an answer of MCP means. An invocation that has ended works on nothing more.
pub(super) fn meaning(answer: toolfleet_mcp::Answer) -> Result<Answer, Failure> {
    let answer = answer_of(answer);
    match answer.meaning {
        Meaning::Ended(_) => Ok(answer),
        Meaning::Task { .. } => Err(invalid_answer("it is a task, which the fleet did not ask for")),
    }
}
