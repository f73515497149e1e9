//! Reads the arguments of a request: an object, the same as a JSON text, or a reference to an object in a bucket.

use serde_json::value::RawValue;

use super::call_request::CallRequest;
use super::error::{RequestError, invalid};
use super::not_json;
use crate::canonical_json::Node;
use crate::digest::RequestDigest;
use crate::error_text::without_values;
use crate::payload::{ArgumentsRef, ReferenceError};

impl CallRequest {
    /// The same request with the arguments that its reference stands for.
    ///
    /// # Errors
    /// The text is not the arguments of such a request.
    pub fn with_arguments(self, text: String) -> Result<Self, RequestError> {
        let wrong =
            |error: RequestError| RequestError { field: format!("arguments_ref: {}", error.field), ..error };
        let not_json = |e: serde_json::Error| {
            invalid("arguments", format!("is not valid JSON: {}", without_values(&e.to_string())))
        };
        let given: Box<RawValue> = serde_json::from_str(&text).map_err(not_json).map_err(wrong)?;
        let resume = self.resume.as_ref().map(serde_json::to_string).transpose();
        let resume = resume.map_err(|e| invalid("resume", without_values(&e.to_string())))?;
        let resume = resume.as_deref().map(|text| object("resume", text)).transpose()?;
        let arguments = object("arguments", given.get()).map_err(wrong)?;
        let RequestDigest { digest, earlier } =
            RequestDigest::of(self.operation.as_str(), &self.target.to_string(), &arguments, resume.as_ref());
        let request = Self { arguments: given, arguments_ref: None, digest, earlier_digest: earlier, ..self };
        request.ask().map_err(wrong)?;
        Ok(request)
    }
}

pub(super) fn check_reference(reference: &ArgumentsRef, beside_arguments: bool) -> Result<(), RequestError> {
    if beside_arguments {
        return Err(invalid("arguments_ref", "is given beside `arguments`: give one of the two"));
    }
    let wrong = |error: ReferenceError| invalid(&format!("arguments_ref.{}", error.field), error.problem);
    reference.object().map(drop).map_err(wrong)
}

/// The arguments as an object: what was left out is an empty one, and a text is what it holds.
pub(super) fn arguments_of(given: Option<Box<RawValue>>) -> Result<Box<RawValue>, RequestError> {
    let wrong = |problem: String| invalid("arguments", problem);
    let raw = |text: String| RawValue::from_string(text).map_err(|e| wrong(without_values(&e.to_string())));
    let Some(given) = given else {
        return raw("{}".to_owned());
    };
    if !given.get().starts_with('"') {
        return Ok(given);
    }
    let text: String =
        serde_json::from_str(given.get()).map_err(|e| wrong(without_values(&e.to_string())))?;
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return raw("{}".to_owned());
    }
    if !text.starts_with('{') {
        return Err(wrong(
            "is a text without a JSON object; accepted is a JSON object, or one as a text".to_owned(),
        ));
    }
    RawValue::from_string(text.to_owned()).map_err(|e| {
        let habit = not_json::likely_cause(text, &e).map_or_else(String::new, |habit| format!("; {habit}"));
        wrong(format!("is a text that is not valid JSON: {}{habit}", without_values(&e.to_string())))
    })
}

/// The parts of a JSON object. What can be neither compared nor checked is refused: a text that is too deep, an exponent without end.
pub(super) fn object<'a>(field: &str, text: &'a str) -> Result<Node<'a>, RequestError> {
    if !text.trim_start().starts_with('{') {
        return Err(invalid(field, "is not a JSON object; accepted is a JSON object"));
    }
    Node::parse(text).map_err(|problem| invalid(field, problem))
}
