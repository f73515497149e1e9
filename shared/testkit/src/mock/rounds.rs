//! Questions of a tool before it runs (`input_required` of 2026-07-28): finds the round that a request has reached.
//!
//! **Invariant:** a tool runs only when all questions of all rounds were answered, each under the state of its round. A tool asks no
//! question of a kind that the client has not declared.

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{error_code, meta_key, result_type};

use super::answer::ToolAnswer;

/// One round of questions, and the `requestState` that names it.
pub(super) struct Round {
    pub(super) questions: Value,
    pub(super) state: String,
}

/// The answer instead of running the tool; `None` if the tool runs.
pub(super) fn before_running(rounds: &[Round], params: &Value) -> Option<ToolAnswer> {
    // A tool without rounds may use a state as it likes.
    rounds.first()?;
    let reached = match params.get("requestState").and_then(Value::as_str) {
        None => 0,
        Some(state) => match rounds.iter().position(|round| round.state == state) {
            Some(at) => at.saturating_add(usize::from(answers(rounds.get(at)?, params))),
            None => return Some(error(error_code::INVALID_PARAMS, "requestState does not verify")),
        },
    };
    let round = rounds.get(reached)?;
    if let Some(kind) = undeclared(round, params) {
        return Some(error(
            error_code::MISSING_CAPABILITY,
            &format!("the client lacks the capability {kind}"),
        ));
    }
    let result = json!({
        "resultType": result_type::INPUT_REQUIRED, "inputRequests": round.questions, "requestState": round.state,
    });
    Some(ToolAnswer::Result(result))
}

fn answers(round: &Round, params: &Value) -> bool {
    let answered = |key: &String| params.pointer(&format!("/inputResponses/{key}")).is_some();
    round.questions.as_object().is_some_and(|questions| questions.keys().all(answered))
}

/// The capability that a question needs and the client has not declared.
fn undeclared(round: &Round, params: &Value) -> Option<String> {
    let declared = params.get("_meta").and_then(|meta| meta.get(meta_key::CLIENT_CAPABILITIES));
    let kinds = round.questions.as_object().into_iter().flatten().filter_map(|(_, question)| {
        question.get("method").and_then(Value::as_str)?.split('/').next().map(str::to_owned)
    });
    kinds.into_iter().find(|kind| declared.is_none_or(|declared| declared.get(kind).is_none()))
}

fn error(code: i64, message: &str) -> ToolAnswer {
    ToolAnswer::Error { code, message: message.to_owned() }
}
