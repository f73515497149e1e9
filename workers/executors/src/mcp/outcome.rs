//! Turns a server's answer into the outcome of its call.

use serde_json::value::RawValue;
use toolfleet_core::answer::{Answer, Connection, Meaning};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_mcp::{AnswerKind, TaskHandle};

use super::questions::how_to_answer;

/// What an answer to a call means.
pub(crate) fn answer_of(answer: toolfleet_mcp::Answer) -> Answer {
    let toolfleet_mcp::Answer { kind, result, protocol_version, mcp_session } = answer;
    let meaning = match kind {
        AnswerKind::Task(TaskHandle { id, poll_interval_ms }) => {
            Meaning::Task { handle: id, poll_after_ms: poll_interval_ms }
        }
        kind @ (AnswerKind::Complete
        | AnswerKind::ToolError { .. }
        | AnswerKind::InputRequired
        | AnswerKind::Unknown(_)) => Meaning::Ended(outcome_of(kind, result)),
    };
    Answer { meaning, connection: Connection { protocol_version, session: mcp_session } }
}

/// The outcome of a call whose answer, or whose task's answer, has this kind. A task that answers with a task is not MCP.
pub(super) fn outcome_of(kind: AnswerKind, result: Box<RawValue>) -> Outcome {
    match kind {
        AnswerKind::Complete => Outcome::succeeded(result),
        AnswerKind::ToolError { text } => {
            let sentence =
                if text.is_empty() { "The tool reported an error without a text.".to_owned() } else { text };
            Outcome::tool_error(result, sentence)
        }
        AnswerKind::InputRequired => {
            let text = format!(
                "The server asks for input before it goes on; what it asks stands in the result's `inputRequests`. {}",
                how_to_answer(&result)
            );
            input_required(text, result)
        }
        AnswerKind::Task(_) => {
            let text = "The server answered with the handle of a task where the tool's answer has to stand; the result is stored as it came.";
            unknown_type(text, MayHaveRun::Unknown, result)
        }
        AnswerKind::Unknown(kind) => {
            let text = format!(
                "The server's result has the type `{kind}`, which this fleet does not know; the result is stored as it came."
            );
            unknown_type(text, MayHaveRun::Yes, result)
        }
    }
}

/// The end of a call whose server asks for input.
pub(super) fn input_required(text: String, asks: Box<RawValue>) -> Outcome {
    let error = CallError::new(Code::InputRequired, text, MayHaveRun::Unknown);
    Outcome::answered(OutcomeKind::InputRequired, error, asks)
}

fn unknown_type(text: impl Into<String>, may_have_run: MayHaveRun, result: Box<RawValue>) -> Outcome {
    let error = CallError::new(Code::UnknownResultType, text, may_have_run);
    Outcome::answered(OutcomeKind::Failed, error, result)
}
