//! The payload form `arguments`: the event is the arguments by themselves, the answer is any JSON value.
//!
//! An AgentCore gateway sends its Lambda targets the same; the tool's name is in the client context.

use serde_json::value::RawValue;
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::Outcome;

use super::content;
use super::failure::not_json;
use crate::executor::Invocation;

pub(super) fn event(call: &Invocation<'_>) -> Vec<u8> {
    call.request.arguments.get().as_bytes().to_vec()
}

pub(super) fn outcome(payload: &[u8]) -> Result<Outcome, Failure> {
    if payload.is_empty() {
        return Ok(content::succeeded(""));
    }
    let value: Box<RawValue> = serde_json::from_slice(payload).map_err(|error| not_json(&error))?;
    Ok(content::succeeded_with(&value))
}
