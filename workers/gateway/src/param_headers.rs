//! Checks the headers `Mcp-Param-*` (2026-07-28): a tool's schema names arguments that clients repeat in headers, for what routes by them.
//! A header that differs from its argument is refused, so that nothing is routed by one value and executed with another.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;
use toolfleet_mcp_protocol::{error_code, header};

use crate::message::RpcError;

/// The text of a header value, which is base64 where it begins so.
pub(crate) fn decoded(value: &str) -> Option<String> {
    match value.strip_prefix(header::BASE64_PREFIX).and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(value.to_owned()),
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
    }
}

/// Checks the headers against the arguments. `headers` has their names in lower case, without the prefix.
pub(crate) fn check(
    schema: &Value,
    arguments: &RawValue,
    headers: &BTreeMap<String, String>,
) -> Result<(), RpcError> {
    let mut named = Vec::new();
    collect(schema, &mut Vec::new(), &mut named);
    if named.is_empty() {
        return Ok(());
    }
    // Of a key that is there twice a server may take the other value.
    let arguments = toolfleet_core::json::single(arguments.get()).map_err(|error| {
        RpcError::invalid_params(format!("`arguments` cannot be compared with its headers: {error}"))
    })?;
    for (name, path) in named {
        let argument = path.iter().try_fold(&arguments, |value, part| value.get(part.as_str()));
        let sent = headers.get(&name.to_ascii_lowercase()).map(|value| decoded(value));
        if !agrees(argument.filter(|value| !value.is_null()), sent.as_ref()) {
            let text = format!("header {}{name} does not match its argument", header::PARAM_PREFIX);
            return Err(RpcError::new(StatusCode::BAD_REQUEST, error_code::HEADER_MISMATCH, text));
        }
    }
    Ok(())
}

/// The arguments that are repeated in headers: the header's name, and the path of the argument.
fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header").and_then(Value::as_str) {
            found.push((header.to_owned(), path.clone()));
        }
        collect(property, path, found);
        path.pop();
    }
}

fn agrees(argument: Option<&Value>, sent: Option<&Option<String>>) -> bool {
    match (argument, sent) {
        (None, None) => true,
        (Some(argument), Some(Some(sent))) => match argument {
            Value::String(text) => text == sent,
            Value::Bool(value) => sent == if *value { "true" } else { "false" },
            // 1 and 1.0 are one number.
            Value::Number(number) => {
                number.to_string() == *sent
                    || number
                        .as_f64()
                        .zip(sent.parse().ok())
                        .is_some_and(|(a, b): (f64, f64)| a.total_cmp(&b).is_eq())
            }
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        },
        (Some(_), None | Some(None)) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_with(arguments: &Value, headers: &[(&str, &str)]) -> bool {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "n": {"type": "integer", "x-mcp-header": "N"},
            "place": {"properties": {"city": {"type": "string", "x-mcp-header": "City"}}},
            "other": {"type": "string"},
        }});
        let arguments = crate::message::raw(arguments);
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&schema, &arguments, &headers).is_ok()
    }

    #[test]
    fn a_header_repeats_its_argument() {
        assert!(check_with(&json!({"region": "eu", "n": 1}), &[("region", "eu"), ("n", "1")]));
        assert!(check_with(&json!({"region": "ü"}), &[("region", "=?base64?w7w=?=")]));
        assert!(check_with(&json!({"place": {"city": "Ulm"}}), &[("city", "Ulm")]));
        assert!(check_with(&json!({"n": 42.0}), &[("n", "42")]));
        assert!(check_with(&json!({"region": null, "other": "x"}), &[]));
    }

    #[test]
    fn arguments_of_two_meanings_are_refused() {
        let schema = json!({"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
        let deep = format!(r#"{{"x": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        for arguments in [r#"{"region": "eu", "region": "us"}"#, deep.as_str()] {
            let arguments = RawValue::from_string(arguments.to_owned()).unwrap();
            let headers = [("region".to_owned(), "us".to_owned())].into();
            assert!(check(&schema, &arguments, &headers).is_err());
            assert!(check(&schema, &arguments, &BTreeMap::new()).is_err());
        }
    }

    #[test]
    fn a_header_that_differs_is_refused() {
        assert!(!check_with(&json!({"region": "eu"}), &[("region", "us")]));
        assert!(!check_with(&json!({"region": "eu"}), &[]));
        assert!(!check_with(&json!({}), &[("region", "eu")]));
        assert!(!check_with(&json!({"region": "eu"}), &[("region", "=?base64?!?=")]));
        assert!(!check_with(&json!({"place": {"city": "Ulm"}}), &[("city", "Bonn")]));
    }
}
