//! The payload form `bedrock`: the event and the answer of a Bedrock agent's action group with function details, as Pika uses them.
//!
//! Argument values are texts there. What the function returns as `sessionAttributes` and `promptSessionAttributes` is given to the next
//! call of the same session.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use toolfleet_catalog::{InputSchema, LambdaTransport};
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::redact::quoted;
use toolfleet_core::surrogate::replace_lone_surrogates;

use super::content;
use super::failure::{invalid_answer, not_json};
use super::ports::Attributes;
use crate::arguments::{half_a_pair, is_text};
use crate::executor::Invocation;

/// The arguments by name.
///
/// # Errors
/// One of them cannot be written as a text.
pub(super) fn arguments(call: &Invocation<'_>) -> Result<BTreeMap<String, Box<RawValue>>, String> {
    let arguments: Result<BTreeMap<String, Box<RawValue>>, _> =
        serde_json::from_str(call.request.arguments.get());
    let arguments = arguments.map_err(|_| half_a_pair("the name of an argument"))?;
    match arguments.iter().find(|(_, value)| !is_text(value.get())) {
        Some((name, _)) => Err(half_a_pair(&quoted(name))),
        None => Ok(arguments),
    }
}

/// The event of a call with these arguments.
pub(super) fn event(
    call: &Invocation<'_>,
    lambda: &LambdaTransport,
    arguments: &BTreeMap<String, Box<RawValue>>,
    attributes: &Attributes,
) -> Vec<u8> {
    let types = types(call.schema);
    let given = arguments.iter().filter(|(_, value)| value.get() != "null");
    let parameters: Vec<Value> = given
        .map(|(name, value)| {
            let kind = types.get(name).map_or_else(|| kind_of(value.get()), String::as_str);
            json!({"name": name, "type": kind, "value": content::text_of(value)})
        })
        .collect();
    let mut prompt = attributes.prompt.clone();
    prompt.extend(told(call, lambda));
    let session = call.session().unwrap_or(call.request.key.call_id.as_str());
    let event = json!({
        "messageVersion": "1.0",
        "agent": {"name": "toolfleet", "id": "toolfleet", "alias": "toolfleet", "version": "1"},
        "inputText": "",
        "sessionId": session,
        "actionGroup": lambda.target_name.as_deref().unwrap_or(call.server.id.as_str()),
        "function": call.name,
        "parameters": parameters,
        "sessionAttributes": attributes.session,
        "promptSessionAttributes": prompt,
    });
    event.to_string().into_bytes()
}

/// The attributes that say who calls, as texts.
const OF_USER: [&str; 3] = ["userId", "userType", "userRoles"];

/// Who calls, where the function is told.
fn told(call: &Invocation<'_>, lambda: &LambdaTransport) -> Vec<(String, Value)> {
    let Some(user) = call.request.user.as_ref().filter(|_| lambda.tell_user) else {
        return Vec::new();
    };
    let roles = (!user.roles.is_empty()).then(|| json!(user.roles).to_string());
    let texts = [Some(user.id.clone()), user.kind.clone(), roles];
    let each = OF_USER.into_iter().zip(texts);
    each.filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?)))).collect()
}

/// Attributes of the prompt without those that say who calls: the next call may be somebody else's.
pub(super) fn without_user(mut prompt: Map<String, Value>, lambda: &LambdaTransport) -> Map<String, Value> {
    if lambda.tell_user {
        OF_USER.iter().for_each(|name| drop(prompt.remove(*name)));
    }
    prompt
}

/// The types of the arguments, by their schema. A type that is a list of types, or none, is not among them.
fn types(schema: Option<&InputSchema>) -> BTreeMap<String, String> {
    let schema = schema.map(InputSchema::value).unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object);
    let kind = |(name, property): (&String, &Value)| {
        Some((name.clone(), property.get("type")?.as_str()?.to_owned()))
    };
    properties.into_iter().flatten().filter_map(kind).collect()
}

/// The type of a value, by its JSON text.
fn kind_of(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b't' | b'f') => "boolean",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b'-' | b'0'..=b'9') if json.contains(['.', 'e', 'E']) => "number",
        Some(b'-' | b'0'..=b'9') => "integer",
        Some(_) | None => "string",
    }
}

/// What an answer means, and the attributes that it returns.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) outcome: Outcome,
    /// `None` for those that it does not return.
    pub(super) session: Option<Map<String, Value>>,
    pub(super) prompt: Option<Map<String, Value>>,
}

/// Reads an answer. A text that was cut within a character spoils nothing: the function has run.
pub(super) fn read(payload: &[u8]) -> Result<Read, Failure> {
    let answer = String::from_utf8_lossy(payload);
    let answer = replace_lone_surrogates(&answer);
    let answer: Value = serde_json::from_str(&answer).map_err(|error| not_json(&error))?;
    let missing = || {
        invalid_answer(
            "it has no `response.functionResponse.responseBody` with a text, as the payload form `bedrock` asks for",
        )
    };
    let response = answer.pointer("/response/functionResponse").ok_or_else(missing)?;
    let bodies = response.get("responseBody").and_then(Value::as_object).ok_or_else(missing)?;
    // A function's answer has the content type TEXT; an API's may have another.
    let content = bodies.get("TEXT").or_else(|| bodies.values().next()).ok_or_else(missing)?;
    let body = content.get("body").ok_or_else(missing)?;
    let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let outcome = match response.get("responseState").and_then(Value::as_str) {
        None => content::succeeded(&text),
        Some("FAILURE" | "REPROMPT") => content::tool_error(&text),
        Some(_) => return Err(invalid_answer("its `responseState` is neither FAILURE nor REPROMPT")),
    };
    let attributes = |name: &str| {
        let of = |value: &Value| value.get(name).and_then(Value::as_object).cloned();
        of(&answer).or_else(|| answer.get("response").and_then(of))
    };
    Ok(Read {
        outcome,
        session: attributes("sessionAttributes"),
        prompt: attributes("promptSessionAttributes"),
    })
}
