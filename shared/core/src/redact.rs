//! Owns what of a call's arguments may stand in an audit record: names of secrets stay, their values do not.
//!
//! **Invariant:** the value of a key that names a secret never leaves this module, at any depth.

use serde_json::Value;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

const SECRET_WORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
    "accesskey",
    "cookie",
    "sessionkey",
    "signature",
    "ssn",
];

/// The sanitised arguments as compact JSON, or `None` if they are longer than `max_bytes` even so.
pub fn sanitised(arguments: &str, max_bytes: usize) -> Option<String> {
    let mut value: Value = serde_json::from_str(arguments).ok()?;
    redact(&mut value);
    Some(value.to_string()).filter(|text| text.len() <= max_bytes)
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                if names_a_secret(key) {
                    *item = Value::from(REDACTED);
                } else {
                    redact(item);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if looks_like_a_credential(text) => *value = Value::from(REDACTED),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn names_a_secret(key: &str) -> bool {
    let plain: String =
        key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    plain == "pwd"
        || plain == "auth"
        || plain == "pin"
        || SECRET_WORDS.iter().any(|word| plain.contains(word))
}

fn looks_like_a_credential(text: &str) -> bool {
    let start = text.trim_start().to_ascii_lowercase();
    start.starts_with("bearer ") || start.starts_with("basic ") || text.contains("-----BEGIN ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_at_any_depth_and_the_rest_stays() {
        let text = sanitised(
            r#"{"q":"x","api_key":"k1","nested":[{"Access-Token":{"a":"k2"},"n":1}],"h":"Bearer k3","pwd":"k4"}"#,
            1000,
        )
        .unwrap();
        for secret in ["k1", "k2", "k3", "k4"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains(r#""q":"x""#) && text.contains(r#""n":1"#), "{text}");
    }

    #[test]
    fn arguments_that_are_too_long_are_left_out_not_cut() {
        assert_eq!(sanitised(r#"{"a":"0123456789"}"#, 10), None);
    }
}
