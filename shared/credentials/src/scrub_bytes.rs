//! Scrubs secrets from a body that may be no UTF-8: in ISO 8859-1, in UTF-16, or with broken bytes in it.
//!
//! **Invariant:** bytes without a secret stay the same.

use toolfleet_core::redact::REDACTED;

use crate::scrubber::SecretScrubber;

impl SecretScrubber {
    /// The bytes without any secret, or `None` where they hold none.
    pub fn scrub_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let is_plain = !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
        if is_plain {
            // What is found in text is found by `scrub_json` and `scrub`.
            return None;
        }
        let view = viewed(bytes);
        let mut clean = self.scrub_json(&view).unwrap_or_else(|| view.clone());
        let two_bytes = if bytes.contains(&0) { TWO_BYTES.as_slice() } else { &[] };
        for form in self.certain_forms() {
            for encoding in ONE_BYTE.iter().chain(two_bytes) {
                clean = without(clean, &encoding(&form), &encoding(REDACTED));
            }
        }
        (clean != view).then(|| bytes_of(&clean))
    }
}

/// Each byte as the character of that number.
fn viewed(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The bytes of such a view. What was written anew has characters beyond a byte in UTF-8.
fn bytes_of(view: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(view.len());
    for c in view.chars() {
        match u8::try_from(c) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(c.to_string().as_bytes()),
        }
    }
    bytes
}

/// How a text is written as the view of its bytes.
type InBytes = fn(&str) -> String;

/// UTF-8, and ISO 8859-1: a text with other characters cannot be written in that, and occurs in no view.
const ONE_BYTE: [InBytes; 2] = [|text| viewed(text.as_bytes()), str::to_owned];
/// UTF-16, in which every text of a header has zeros.
const TWO_BYTES: [InBytes; 2] = [
    |text| viewed(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
    |text| viewed(&text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()),
];

fn without(view: String, form: &str, redacted: &str) -> String {
    if view.contains(form) { view.replace(form, redacted) } else { view }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "tok\u{e9}n/\"1\"23";

    fn scrubbed(bytes: &[u8]) -> Option<Vec<u8>> {
        let scrubber = SecretScrubber::default();
        scrubber.add(SECRET);
        scrubber.scrub_bytes(bytes)
    }

    fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn a_secret_is_found_in_each_encoding_of_a_body() {
        let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| u8::try_from(c).unwrap()).collect() };
        let broken = |text: &str| [b"\xff ", text.as_bytes()].concat();
        let (before, after) = (format!("caf\u{e9} {SECRET} end"), format!("caf\u{e9} {REDACTED} end"));
        for encoded in [
            latin,
            broken,
            |text: &str| utf16(text, u16::to_le_bytes),
            |text: &str| utf16(text, u16::to_be_bytes),
        ] as [fn(&str) -> Vec<u8>; 4]
        {
            assert_eq!(scrubbed(&encoded(&before)), Some(encoded(&after)));
            assert_eq!(scrubbed(&encoded("caf\u{e9} and nothing else")), None);
        }
        // JSON that escapes what it need not.
        assert_eq!(
            scrubbed(b"\xff{\"a\": \"\\u0074ok\\u00e9n/\\\"1\\\"23\"}"),
            Some(b"\xff{\"a\": \"[redacted]\"}".to_vec())
        );
    }

    #[test]
    fn other_bytes_stay_the_same() {
        assert_eq!(scrubbed(&[0, 159, 146, 150, 255]), None);
        assert_eq!(scrubbed(b"plain text"), None);
    }
}
