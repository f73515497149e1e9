//! Owns how a JSON text is freed of what it echoes: string by string, however each of them is escaped.
//!
//! **Invariant:** what holds no secret stays byte for byte.

use super::seen::SecretScrubber;

/// The text without any secret, or `None` where none stands in it.
pub(crate) fn without_echo(seen: &SecretScrubber, text: &str) -> Option<String> {
    let escaped =
        |token: &str| token.contains('\\') && decoded(token).is_some_and(|text| seen.stands_in(&text));
    let stands =
        seen.stands_in(text) || (text.contains('\\') && tokens(text).any(|(_, token)| escaped(token)));
    if !stands {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    for (before, token) in tokens(text) {
        clean.push_str(before);
        let scrubbed =
            decoded(token).filter(|text| seen.stands_in(text)).map(|text| seen.scrub_certain(text));
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

/// The strings of a JSON text with their quotes, each with what stands before it; at the end what comes after the last one.
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

/// Where the string that begins with the first byte ends.
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
    fn a_secret_is_found_however_its_string_is_escaped_and_its_neighbours_stay_as_they_are() {
        let seen = SecretScrubber::default();
        seen.add("tok/\u{e9}-\"1\"23");
        let text = r#"{ "a" : 1.0, "k":"\u00e9\/", "b":["x tok\/\u00e9-\u0022\u0031\"23 y"], "tok/é-\"1\"23":null }"#;
        assert_eq!(
            without_echo(&seen, text).unwrap(),
            r#"{ "a" : 1.0, "k":"\u00e9\/", "b":["x [redacted] y"], "[redacted]":null }"#
        );
        assert_eq!(without_echo(&seen, r#"{"a":"\u00e9\/\\","b":[]}"#), None);
    }
}
