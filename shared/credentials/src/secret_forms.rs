//! The encodings in which a server may repeat a secret: plain, JSON, URL, base64, and shortened by our own sanitising.
//!
//! **Invariant:** no form is shorter than [`MIN_BYTES`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Shorter texts occur in too many harmless texts.
pub(crate) const MIN_BYTES: usize = 6;

/// A shorter line of a secret with several lines is no secret by itself.
const MIN_LINE_BYTES: usize = 12;

/// Every form, the longest first, so that a shorter form within a longer one leaves no part of it.
pub(crate) fn forms_of(text: &str) -> Vec<String> {
    let json = in_json(text);
    let twice = in_json(&json);
    // Sanitised text is one line with single spaces.
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut forms = vec![
        json.replace('/', "\\/"),
        without_unicode(&json),
        twice.replace('/', "\\/"),
        twice,
        percent(text, "", true),
        percent(text, "", false),
        percent(text, "/", true),
        percent(text, "!'()*", true),
        percent(text, " ", true).replace(' ', "+"),
        one_line,
        // ISO 8859-1 that was read as UTF-8.
        text.chars().map(|c| if c.is_ascii() { c } else { char::REPLACEMENT_CHARACTER }).collect(),
        json,
        text.to_owned(),
    ];
    forms.extend(in_base64(text.as_bytes()));
    // A program's output is read line by line, so each line of a key file is a secret. The frame lines of PEM are not.
    if text.contains('\n') {
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES);
        forms.extend(lines.filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    forms.retain(|form| form.len() >= MIN_BYTES);
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// The text as JSON writes it between quotes.
fn in_json(text: &str) -> String {
    let json = Value::from(text).to_string();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// JSON as encoders that escape non-ASCII characters write it.
fn without_unicode(json: &str) -> String {
    let mut units = [0; 2];
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            c.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    escaped
}

/// RFC 3986, section 2.1; `kept` stays beside the unreserved characters.
fn percent(text: &str, kept: &str, upper: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || (c.is_ascii() && kept.contains(c)) {
            encoded.push(c);
        } else if upper {
            encoded.push_str(&format!("%{byte:02X}"));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    encoded
}

/// The part of its base64 that does not depend on what precedes or follows, at each of the three possible offsets.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for (before, unstable) in [(0, 0), (1, 2), (2, 3)] {
        let mut padded = vec![0; before];
        padded.extend_from_slice(bytes);
        let whole = padded.len() / 3 * 4;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.extend(encoded.get(unstable..whole).map(str::to_owned));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_key_is_a_secret() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n  hkiG9w0BAQEFAASC\nab==\n-----END PRIVATE KEY-----\n";
        let forms = forms_of(key);
        assert!(
            ["MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC"].iter().all(|line| forms.contains(&(*line).to_owned()))
        );
        assert!(!forms.iter().any(|form| form == "ab==" || form == "-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn every_encoding_of_a_secret_is_a_form() {
        let forms = forms_of("p@ss/\"w\u{e9}\" +1");
        for form in [
            "p@ss/\"w\u{e9}\" +1",
            "p@ss/\\\"w\u{e9}\\\" +1",
            "p@ss\\/\\\"w\u{e9}\\\" +1",
            "p@ss/\\\"w\\u00e9\\\" +1",
            "p%40ss%2F%22w%C3%A9%22%20%2B1",
            "p%40ss%2f%22w%c3%a9%22%20%2b1",
            "p%40ss/%22w%C3%A9%22%20%2B1",
            "p%40ss%2F%22w%C3%A9%22+%2B1",
            "p@ss/\"w\u{fffd}\" +1",
        ] {
            assert!(forms.iter().any(|known| known == form), "{form} is not among {forms:?}");
        }
        assert!(forms.is_sorted_by_key(|form| std::cmp::Reverse(form.len())));
    }

    #[test]
    fn base64_around_a_secret_contains_a_form() {
        for before in ["", "a", "ab", "abc", "user:", "Authorization: Bearer "] {
            let text = format!("{before}tok-\u{e9}/123456 and more");
            let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
            let forms = forms_of("tok-\u{e9}/123456");
            assert!(forms.iter().any(|form| encoded.contains(form.as_str())), "{before}: {encoded}");
        }
    }
}
