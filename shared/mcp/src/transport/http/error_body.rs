//! Extracts the server's reason from the body of an error response.
//!
//! Known forms are `{"message"}`, OAuth's `{"error", "error_description"}` (RFC 6749), problem details (RFC 9457), lists of errors, XML
//! with a `<Message>`, the title of an HTML page, plain text; and `error_description` of `WWW-Authenticate` (RFC 6750). Of any other
//! form the start is used. The reason is sanitised and short.

use http::HeaderMap;
use serde_json::Value;
use toolfleet_credentials::Challenge;
use toolfleet_egress::{sanitize_bytes, sanitize_text};

/// How deep a reason may stand.
const MAX_DEPTH: u32 = 4;

/// The reason; empty where there is none.
pub(crate) fn reason_in(body: &[u8], headers: &HeaderMap) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let challenge = of_challenge(headers);
    let found = match text.as_bytes().first() {
        None => return challenge.map(|words| sanitize_text(&words)).unwrap_or_default(),
        Some(b'{' | b'[' | b'"') => {
            serde_json::from_str::<Value>(text).ok().and_then(|value| of_json(&value, MAX_DEPTH))
        }
        Some(b'<') => of_markup(text),
        Some(_) => None,
    };
    let found = found.map_or_else(|| sanitize_bytes(text.as_bytes()), |found| sanitize_text(&found));
    match challenge.filter(|words| !found.contains(words.as_str())) {
        Some(words) => sanitize_text(&format!("{found}; {words}")),
        None => found,
    }
}

fn of_challenge(headers: &HeaderMap) -> Option<String> {
    let Challenge { error, error_description, .. } = Challenge::of(headers);
    joined(error, error_description)
}

/// A name and what explains it.
fn joined(name: Option<String>, words: Option<String>) -> Option<String> {
    match (name, words) {
        (Some(name), Some(words)) if !words.contains(&name) => Some(format!("{name}: {words}")),
        (name, words) => words.or(name),
    }
}

fn of_json(value: &Value, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Array(all) => all.iter().find_map(|value| of_json(value, depth)),
        Value::Object(members) => {
            let first = |names: &[&str]| {
                let mut values = names.iter().filter_map(|name| members.get(*name));
                values.find_map(|value| of_json(value, depth))
            };
            let words = first(&[
                "error_description",
                "message",
                "Message",
                "errorMessage",
                "error_message",
                "detail",
                "details",
                "description",
                "reason",
                "msg",
                "errors",
            ]);
            joined(first(&["error", "title", "code"]), words)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The text of the first element that says it; all text where there is none.
fn of_markup(text: &str) -> Option<String> {
    let element = |name: &str| {
        let lower = text.to_ascii_lowercase();
        let open = lower.find(&format!("<{name}"))?;
        let begin = open.saturating_add(lower.get(open..)?.find('>')?).saturating_add(1);
        let end = begin.saturating_add(lower.get(begin..)?.find("</")?);
        text.get(begin..end).filter(|words| !words.trim().is_empty())
    };
    let words = element("message").or_else(|| element("title")).or_else(|| element("h1"));
    let words = words.map_or_else(|| without_tags(text), str::to_owned);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    Some(entities.into_iter().fold(words, |words, (entity, c)| words.replace(entity, c)))
}

fn without_tags(text: &str) -> String {
    let mut within = false;
    let mut words = String::new();
    for c in text.chars() {
        match c {
            '<' => within = true,
            '>' => {
                within = false;
                words.push(' ');
            }
            c if !within => words.push(c),
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use http::header::WWW_AUTHENTICATE;

    use super::*;

    #[test]
    fn a_servers_reason_is_found_in_each_form_that_servers_use() {
        for (body, reason) in [
            ("", ""),
            ("token lacks repo scope\r\n", "token lacks repo scope"),
            (
                r#"{"message":"Resource not accessible by integration","documentation_url":"https://d"}"#,
                "Resource not accessible by integration",
            ),
            (
                r#"{"error":"insufficient_scope","error_description":"needs files:write"}"#,
                "insufficient_scope: needs files:write",
            ),
            (
                r#"{"error":{"code":403,"message":"Drive API is disabled","status":"PERMISSION_DENIED"}}"#,
                "Drive API is disabled",
            ),
            (
                r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"the project is archived"}"#,
                "Forbidden: the project is archived",
            ),
            (r#"{"errors":[{"code":"x","message":"no seat"}]}"#, "x: no seat"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (
                r#"{"Message":"User is not authorized to access this resource"}"#,
                "User is not authorized to access this resource",
            ),
            (r#""not today""#, "not today"),
            (r#"{"ok":false}"#, r#"{"ok":false}"#),
            (
                "<html><head><title>403 Forbidden</title></head><body><center>nginx</center></body></html>",
                "403 Forbidden",
            ),
            ("<!DOCTYPE html><html><body><h1>Access &amp; rights</h1></body></html>", "Access & rights"),
            (
                "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
                "Access Denied",
            ),
            ("<p>Blocked by <b>policy</b></p>", "Blocked by policy"),
        ] {
            assert_eq!(reason_in(body.as_bytes(), &HeaderMap::new()), reason, "{body}");
        }
        let mut headers = HeaderMap::new();
        let challenge = r#"Bearer error="invalid_token", error_description="the token has expired""#;
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        assert_eq!(reason_in(b"", &headers), "invalid_token: the token has expired");
        assert_eq!(reason_in(b"no", &headers), "no; invalid_token: the token has expired");
    }

    #[test]
    fn a_reason_is_bounded_and_without_what_looks_like_a_secret() {
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(10_000));
        assert!(reason_in(long.as_bytes(), &HeaderMap::new()).chars().count() <= 301);
        let secret = reason_in(br#"{"message":"bad request: token=hunter2hunter2"}"#, &HeaderMap::new());
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
