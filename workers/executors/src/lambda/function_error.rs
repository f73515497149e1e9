//! What a `FunctionError` means: the tool reported an error, the function ran and broke off, or its code could not be loaded.

use serde::Deserialize;
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::surrogate::replace_lone_surrogates;

use super::content;
use super::failure;

/// The error of a function, as its runtime writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reported {
    error_message: Option<String>,
    error_type: Option<String>,
}

/// Errors of a runtime that could not load the function's code: no handler was called.
const NOT_LOADED: [&str; 8] = [
    "Runtime.ImportModuleError",
    "Runtime.HandlerNotFound",
    "Runtime.MalformedHandlerName",
    "Runtime.UserCodeSyntaxError",
    "Runtime.InvalidEntrypoint",
    "Runtime.InvalidWorkingDir",
    "Runtime.InvalidTaskConfig",
    "Extension.LaunchError",
];

/// What the error means for the call: its tool's own error, or a failed attempt.
pub(super) fn meaning(payload: &[u8]) -> Result<Outcome, Failure> {
    let payload = String::from_utf8_lossy(payload);
    let reported: Reported = serde_json::from_str(&replace_lone_surrogates(&payload)).unwrap_or_default();
    let message = reported.error_message.unwrap_or_default();
    let kind = reported.error_type.unwrap_or_default();
    let words = match (kind.is_empty(), message.is_empty()) {
        (true, true) => String::new(),
        (true, false) => message.clone(),
        (false, true) => kind.clone(),
        (false, false) => format!("{kind}: {message}"),
    };
    // The sandbox names no type, or one of its own; a tool's exception may have the same words in it.
    let says = |words: &str| kind.is_empty() && message.contains(words);
    if kind == "Sandbox.Timedout" || says("Task timed out after") {
        return Err(failure::function_timed_out(&words));
    }
    if kind == "Function.ResponseSizeTooLarge" {
        return Err(failure::answer_too_large(&words));
    }
    if NOT_LOADED.contains(&kind.as_str()) {
        return Err(failure::not_loaded(&words));
    }
    let is_of_the_sandbox =
        ["Runtime.", "Sandbox.", "Extension.", "Function."].iter().any(|of| kind.starts_with(of));
    if words.is_empty() || is_of_the_sandbox || says("Runtime exited") {
        return Err(failure::function_broke_off(&words));
    }
    Ok(content::tool_error(&words))
}

#[cfg(test)]
mod tests {
    use toolfleet_core::outcome::OutcomeKind;

    use super::*;

    fn is_of_the_tool(kind: Option<&str>, message: &str) -> bool {
        let payload = serde_json::json!({"errorType": kind, "errorMessage": message}).to_string();
        meaning(payload.as_bytes()).is_ok_and(|outcome| outcome.kind == OutcomeKind::ToolError)
    }

    #[test]
    fn a_tools_exception_may_have_the_words_of_the_sandbox() {
        for (kind, message, of_the_tool) in [
            (None, "2026-11-30T00:00:00Z c1 Task timed out after 3.00 seconds", false),
            (Some("Sandbox.Timedout"), "RequestId: c1 Error: Task timed out after 3.00 seconds", false),
            (None, "RequestId: c1 Error: Runtime exited with error: signal: killed", false),
            (
                Some("Runtime.ExitError"),
                "RequestId: c1 Error: Runtime exited with error: exit status 1",
                false,
            ),
            (Some("TimeoutError"), "the query failed: Task timed out after 5 s", true),
            (Some("RuntimeError"), "Runtime exited early in the child process", true),
        ] {
            assert_eq!(is_of_the_tool(kind, message), of_the_tool, "{kind:?} {message}");
        }
    }
}
