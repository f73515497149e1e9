//! Writes a function's answer in the form of an MCP tool result, which callers read whatever executed their call.

use serde::Serialize;
use serde_json::value::RawValue;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::surrogate::replace_lone_surrogates;

/// The outcome of a call whose tool succeeded with this text.
pub(super) fn succeeded(text: &str) -> Outcome {
    Outcome::succeeded(result(text, None, false))
}

/// The outcome of a call whose tool succeeded with this value: its text, and itself where it is an object.
pub(super) fn succeeded_with(value: &RawValue) -> Outcome {
    let structured = value.get().starts_with('{').then_some(value);
    Outcome::succeeded(result(&text_of(value), structured, false))
}

/// The outcome of a call whose tool reports an error.
pub(super) fn tool_error(text: &str) -> Outcome {
    let sentence = if text.is_empty() { "The tool reported an error without a text." } else { text };
    Outcome::tool_error(result(text, None, true), sentence.to_owned())
}

/// A text as it is; any other value as JSON.
pub(super) fn text_of(value: &RawValue) -> String {
    let text = replace_lone_surrogates(value.get());
    serde_json::from_str(&text).unwrap_or_else(|_| value.get().to_owned())
}

/// A tool result of MCP.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult<'a> {
    content: [Text<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
}

#[derive(Serialize)]
struct Text<'a> {
    r#type: &'static str,
    text: &'a str,
}

fn result(text: &str, structured_content: Option<&RawValue>, is_error: bool) -> Box<RawValue> {
    let result = ToolResult { content: [Text { r#type: "text", text }], structured_content, is_error };
    serde_json::value::to_raw_value(&result).unwrap_or_default()
}
