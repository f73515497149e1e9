//! What a client is told of a call: the tool's answer as it is stored, or a result that says what went wrong and what to do.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_client::{CallResult, PayloadError};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallId;
use toolfleet_core::outcome::{MayHaveRun, Outcome, OutcomeKind};
use toolfleet_mcp_protocol::{error_code, result_type};

use crate::handle::Handle;
use crate::message::{Members, OUTCOME, Request, RpcError, finish_result, raw};
use crate::uris::PublishedUris;

/// How a row has ended, as a result.
pub(crate) fn ended_row(row: CallRow) -> Option<CallResult> {
    let CallRow { finished, attempts, enqueued_at, notes, digest, caller, .. } = row;
    let finished = finished?;
    Some(CallResult {
        outcome: finished.outcome,
        attempts,
        enqueued_at,
        finished_at: finished.at,
        notes,
        digest,
        caller,
    })
}

/// The result of a call that has ended, unless it asks for input.
pub(crate) fn result_of(outcome: &Outcome, request: &Request, uris: &PublishedUris<'_>) -> Box<RawValue> {
    match (outcome.kind, outcome.content()) {
        (OutcomeKind::Succeeded | OutcomeKind::ToolError, Some(content)) => {
            let mut members = as_result(content, outcome.kind);
            uris.publish_in(&mut members);
            finish_result(members, result_type::COMPLETE, request, &[])
        }
        (OutcomeKind::InputRequired, _) => not_asked(NO_SESSION, outcome, request),
        (OutcomeKind::Failed, _) if lacks_capability(outcome) && !request.is_modern() => {
            let why = match request.may_be_asked() {
                true => format!("it did not declare what that needs ({})", words_of(outcome)),
                false => NO_SESSION.to_owned(),
            };
            not_asked(&why, outcome, request)
        }
        (
            OutcomeKind::Succeeded
            | OutcomeKind::ToolError
            | OutcomeKind::Failed
            | OutcomeKind::Refused
            | OutcomeKind::Expired
            | OutcomeKind::TimedOut
            | OutcomeKind::Cancelled
            | OutcomeKind::OutcomeUnknown,
            _,
        ) => error_result(&sentence(outcome), described(outcome), request),
    }
}

/// Why a client that declared nothing is not asked.
pub(crate) const NO_SESSION: &str =
    "it has no session in which it declared elicitation, sampling or roots, or takes no event stream";

/// Whether the tool's server would have asked, had the client declared that it can answer.
pub(crate) fn lacks_capability(outcome: &Outcome) -> bool {
    let code = outcome.error.as_ref().and_then(|error| error.rpc_code).map(i64::from);
    code == Some(error_code::MISSING_CAPABILITY)
}

/// The error of a client of 2026-07-28 that did not declare what the tool's server wants: of what it lacks, that which the server's words name, or
/// all.
pub(crate) fn missing_capability(outcome: &Outcome, request: &Request) -> RpcError {
    let words = words_of(outcome);
    let lacking: Vec<&str> = ["elicitation", "sampling", "roots"]
        .into_iter()
        .filter(|name| !request.declares(&format!("/{name}")))
        .collect();
    let named: Vec<&str> = lacking.iter().copied().filter(|name| words.contains(name)).collect();
    let needed = if named.is_empty() { lacking } else { named };
    RpcError::missing_capability(needed.into_iter().map(|name| (name.to_owned(), json!({}))).collect())
}

fn words_of(outcome: &Outcome) -> &str {
    outcome.error.as_ref().map_or("", |error| error.message.as_str())
}

/// The result of a call that asks for input of a client that cannot be asked.
pub(crate) fn not_asked(why: &str, outcome: &Outcome, request: &Request) -> Box<RawValue> {
    let text = format!(
        "The tool asks for input before it goes on, and this client cannot be asked: {why}. Nothing more happens with this call. Use a client \
         that can be asked, or one of protocol version 2026-07-28, or call the tool with arguments that need no further input."
    );
    error_result(&text, described(outcome), request)
}

/// A result that is an error, with a text that a model can act on.
pub(crate) fn error_result(text: &str, outcome: Value, request: &Request) -> Box<RawValue> {
    text_result(text, true, outcome, request)
}

/// What is said of a call that no worker has received for long.
pub(crate) const NEVER_RECEIVED: &str = "No worker has received this call in time; it may be lost.";

/// The result of a call of which nothing more will be known.
pub(crate) fn unknown_result(text: &str, request: &Request) -> Box<RawValue> {
    let text = format!("{text} Whether the tool ran is not known: check before you call it again.");
    let outcome = json!({"outcome": OutcomeKind::OutcomeUnknown, "mayHaveRun": MayHaveRun::Unknown, "retryable": false});
    error_result(&text, outcome, request)
}

/// The result of a call that has ended, and whose stored result is gone or was altered: waiting brings it no more.
pub(crate) fn unreadable_result(error: &PayloadError, handle: &Handle, request: &Request) -> Box<RawValue> {
    fleet_failed(error, &handle.call_id);
    unknown_result("The call has ended, and its stored result cannot be read any more.", request)
}

/// The result of a call that was cancelled before a worker received it. Its message may be lost, and will not be executed if it comes.
pub(crate) fn never_run(request: &Request) -> Box<RawValue> {
    let outcome =
        json!({"outcome": OutcomeKind::Cancelled, "mayHaveRun": MayHaveRun::No, "retryable": false});
    let text = "The caller cancelled this call before a worker received it. The tool did not run.";
    error_result(text, outcome, request)
}

/// What a client is told of a failure of the fleet's queue, table or bucket, whose own text is for the log: it names queues and tables.
pub(crate) fn fleet_failed(error: &dyn std::fmt::Display, call_id: &CallId) -> &'static str {
    tracing::warn!(%error, %call_id, code = "gateway_wait_failed", "a call cannot be read or changed");
    "the fleet does not answer as it should"
}

/// A result with one text.
pub(crate) fn text_result(text: &str, is_error: bool, outcome: Value, request: &Request) -> Box<RawValue> {
    let mut members = Members::new();
    members.insert("content".to_owned(), raw(&json!([{"type": "text", "text": text}])));
    members.insert("isError".to_owned(), raw(&is_error));
    let more = if outcome.is_null() { Vec::new() } else { vec![(OUTCOME, outcome)] };
    finish_result(members, result_type::COMPLETE, request, &more)
}

/// The stored answer as a result of `tools/call`. One that is none is shown as a text.
fn as_result(content: &RawValue, kind: OutcomeKind) -> Members {
    let members = serde_json::from_str::<Members>(content.get()).ok();
    members.filter(|members| members.contains_key("content")).unwrap_or_else(|| {
        let text = json!([{"type": "text", "text": content.get()}]);
        let is_error = kind == OutcomeKind::ToolError;
        [("content".to_owned(), raw(&text)), ("isError".to_owned(), raw(&is_error))].into()
    })
}

pub(crate) fn sentence(outcome: &Outcome) -> String {
    let Some(error) = &outcome.error else {
        return format!("The call ended as `{}`, without an answer.", outcome.kind);
    };
    let ran = match error.may_have_run {
        MayHaveRun::No => "The tool did not run.",
        MayHaveRun::Yes => "The tool ran.",
        MayHaveRun::Unknown => "Whether the tool ran is not known: check before you call it again.",
    };
    let again = match (error.retryable, error.retry_after_ms) {
        (false, _) => String::new(),
        (true, None) => " A new call may succeed.".to_owned(),
        (true, Some(ms)) => format!(" A new call may succeed in {} s.", ms.div_ceil(1_000)),
    };
    format!("{} {ran}{again} ({}: {})", error.message, outcome.kind, error.code)
}

/// How the call ended, for a program.
pub(crate) fn described(outcome: &Outcome) -> Value {
    let mut described = json!({ "outcome": outcome.kind });
    if let (Some(members), Some(error)) = (described.as_object_mut(), &outcome.error) {
        members.insert("code".to_owned(), json!(error.code));
        members.insert("mayHaveRun".to_owned(), json!(error.may_have_run));
        members.insert("retryable".to_owned(), json!(error.retryable));
        if let Some(ms) = error.retry_after_ms {
            members.insert("retryAfterMs".to_owned(), json!(ms));
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use toolfleet_core::outcome::{CallError, Code};

    use super::*;
    use crate::tests::request;

    fn shown(result: &RawValue) -> Value {
        serde_json::from_str(result.get()).unwrap()
    }

    fn raw_text(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn an_answer_is_passed_on_byte_for_byte() {
        let content = r#"{"content":[{"type":"new","n":1.50}],"structuredContent":{"big":12345678901234567890123},"resultType":"x","_meta":{"a":1}}"#;
        let outcome = Outcome::succeeded(raw_text(content));
        let modern = result_of(&outcome, &request("2026-07-28"), &PublishedUris::NONE);
        for part in [
            r#"[{"type":"new","n":1.50}]"#,
            r#"{"big":12345678901234567890123}"#,
            r#""resultType":"complete""#,
            r#""a":1"#,
        ] {
            assert!(modern.get().contains(part), "{modern}");
        }
        let legacy = result_of(&outcome, &request("2025-06-18"), &PublishedUris::NONE);
        assert!(!legacy.get().contains("resultType"), "{legacy}");
        assert_eq!(shown(&legacy)["_meta"], json!({"a": 1}));
    }

    #[test]
    fn an_answer_that_is_no_result_is_shown_as_a_text() {
        let result = shown(&result_of(
            &Outcome::succeeded(raw_text("[1]")),
            &request("2025-11-25"),
            &PublishedUris::NONE,
        ));
        assert_eq!(result["content"][0]["text"], "[1]");
        assert_eq!(result["isError"], false);
    }

    #[test]
    fn what_has_no_answer_says_why_and_whether_it_ran() {
        let lost = CallError::new(Code::AnswerLost, "The answer was lost.", MayHaveRun::Unknown)
            .retryable(Some(1_500));
        let result = shown(&result_of(
            &Outcome::ended(OutcomeKind::OutcomeUnknown, lost),
            &request("2026-07-28"),
            &PublishedUris::NONE,
        ));
        assert_eq!(result["isError"], true);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("The answer was lost.") && text.contains("not known") && text.contains("in 2 s"),
            "{text}"
        );
        assert_eq!(
            result["_meta"]["toolfleet/outcome"],
            json!({"outcome": "outcome_unknown", "code": "answer_lost", "mayHaveRun": "unknown", "retryable": true, "retryAfterMs": 1500})
        );
        let refused = Outcome::refused(Code::AccessDenied, "No.");
        let result = shown(&result_of(&refused, &request("2025-03-26"), &PublishedUris::NONE));
        assert!(result["content"][0]["text"].as_str().unwrap().contains("did not run"));
    }
}
