//! Owns what a tool asks before it runs (`input_required` of 2026-07-28): which round a request has reached.
//!
//! **Invariant:** a tool runs only once all that every round asks was answered under the state that was given for it, and asks
//! nothing that the client has not declared.

use serde_json::{Value, json};

use super::exchange::ToolAnswer;

/// One round of questions, and the state that stands for it.
pub(super) struct Round {
    pub(super) questions: Value,
    pub(super) state: String,
}

/// What is answered instead of running the tool.
pub(super) fn before_running(rounds: &[Round], params: &Value) -> Option<ToolAnswer> {
    // A tool without rounds may do with a state what it wants.
    rounds.first()?;
    let reached = match params.get("requestState").and_then(Value::as_str) {
        None => 0,
        Some(state) => match rounds.iter().position(|round| round.state == state) {
            Some(at) => at.saturating_add(usize::from(answers(rounds.get(at)?, params))),
            None => return Some(error(-32602, "requestState does not verify")),
        },
    };
    let round = rounds.get(reached)?;
    if let Some(kind) = undeclared(round, params) {
        return Some(error(-32021, &format!("the client lacks the capability {kind}")));
    }
    let result = json!({
        "resultType": "input_required", "inputRequests": round.questions, "requestState": round.state,
    });
    Some(ToolAnswer::Result(result))
}

fn answers(round: &Round, params: &Value) -> bool {
    let answered = |key: &String| params.pointer(&format!("/inputResponses/{key}")).is_some();
    round.questions.as_object().is_some_and(|questions| questions.keys().all(answered))
}

/// The capability that a question needs and the client has not declared.
fn undeclared(round: &Round, params: &Value) -> Option<String> {
    let declared = params.pointer("/_meta/io.modelcontextprotocol~1clientCapabilities");
    let kinds = round.questions.as_object().into_iter().flatten().filter_map(|(_, question)| {
        question.get("method").and_then(Value::as_str)?.split('/').next().map(str::to_owned)
    });
    kinds.into_iter().find(|kind| declared.is_none_or(|declared| declared.get(kind).is_none()))
}

fn error(code: i64, message: &str) -> ToolAnswer {
    ToolAnswer::Error { code, message: message.to_owned() }
}
