//! What a server asked in a result that ended as `input_required`.

use serde_json::value::RawValue;

/// What a server that answered `input_required` asks for before it continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// The task that asks, where one does.
    pub task: Option<String>,
    /// The state to return to the server.
    pub request_state: Option<String>,
    /// The keys to answer, in order.
    pub keys: Vec<String>,
}

/// What a stored result asks; nothing where no later call can answer it.
pub fn questions_in(result: &RawValue) -> Option<Questions> {
    let toolfleet_mcp::Questions { task, request_state, keys } = toolfleet_mcp::Questions::of(result)?;
    Some(Questions { task, request_state, keys })
}

/// How a caller answers the questions of a result.
pub(super) fn how_to_answer(asks: &RawValue) -> &'static str {
    match questions_in(asks) {
        Some(_) => {
            "Answer each of its keys in a new call that asks the same: `resume`: {\"call_id\": this call's id, \
             \"input_responses\": {key: answer}}."
        }
        None => "It cannot be read, so no later call can answer it.",
    }
}
