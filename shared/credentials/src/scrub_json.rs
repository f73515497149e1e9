//! Scrubs secrets from a JSON text: string by string, however each of them is escaped.
//!
//! **Invariant:** a string without a secret stays byte for byte the same.

use crate::scrubber::SecretScrubber;

impl SecretScrubber {
    /// The text without any secret, or `None` where it holds none.
    pub fn scrub_json(&self, text: &str) -> Option<String> {
        scrub_json(self, text)
    }
}

fn scrub_json(scrubber: &SecretScrubber, text: &str) -> Option<String> {
    let escaped =
        |token: &str| token.contains('\\') && decoded(token).is_some_and(|text| scrubber.is_in(&text));
    let found =
        scrubber.is_in(text) || (text.contains('\\') && tokens(text).any(|(_, token)| escaped(token)));
    if !found {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    for (before, token) in tokens(text) {
        clean.push_str(before);
        let scrubbed =
            decoded(token).filter(|text| scrubber.is_in(text)).map(|text| scrubber.scrub_certain(text));
        match scrubbed {
            Some(text) => clean.push_str(&serde_json::Value::from(text).to_string()),
            None => clean.push_str(token),
        }
    }
    Some(clean)
}

fn decoded(token: &str) -> Option<String> {
    serde_json::from_str(token).ok()
}

/// The strings of a JSON text with their quotes, each with the text before it; last the text after the last string.
fn tokens(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some((before, from)) = text.find('"').and_then(|at| text.split_at_checked(at)) else {
            return Some((text, ""));
        };
        let (token, after) = from.split_at_checked(end_of_string(from)).unwrap_or((from, ""));
        rest = Some(after);
        Some((before, token))
    })
}

/// The end of the string that begins at the first byte.
fn end_of_string(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return at.saturating_add(1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_secret_is_found_and_other_strings_stay() {
        let scrubber = SecretScrubber::default();
        scrubber.add("tok/\u{e9}-\"1\"23");
        let text = r#"{ "a" : 1.0, "k":"\u00e9\/", "b":["x tok\/\u00e9-\u0022\u0031\"23 y"], "tok/é-\"1\"23":null }"#;
        assert_eq!(
            scrub_json(&scrubber, text).unwrap(),
            r#"{ "a" : 1.0, "k":"\u00e9\/", "b":["x [redacted] y"], "[redacted]":null }"#
        );
        assert_eq!(scrub_json(&scrubber, r#"{"a":"\u00e9\/\\","b":[]}"#), None);
    }
}
