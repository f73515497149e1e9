//! Sanitises text from outside for errors, logs and records: one short line without control characters and without what looks
//! like a credential (a server may repeat an argument that is one).

use toolfleet_core::redact;
use url::Url;

/// The bound on foreign text in an error, in characters.
const MAX_CHARS: usize = 300;

/// The start of a foreign text, at most 300 characters, as one line without control characters and credentials.
pub fn sanitize_text(text: &str) -> String {
    sanitize_text_to(text, MAX_CHARS)
}

/// The same, with at most `max_chars` characters.
pub fn sanitize_text_to(text: &str, max_chars: usize) -> String {
    // Up to three quarters of a long text may be white space that is dropped.
    let looked_at = text.char_indices().nth(max_chars.saturating_mul(4)).and_then(|(end, _)| text.get(..end));
    let shown = shorten_text_to(&redact::text(looked_at.unwrap_or(text)), max_chars);
    if looked_at.is_some() && !shown.ends_with('…') { format!("{shown}…") } else { shown }
}

/// One line of at most `max_chars` characters. Credentials stay: use it only for text that the caller sees in full anyway.
pub fn shorten_text_to(text: &str, max_chars: usize) -> String {
    let mut line = String::new();
    let mut kept = 0;
    for part in text.split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c)) {
        if part.is_empty() {
            continue;
        }
        let space = (kept > 0).then_some(' ');
        for c in space.into_iter().chain(part.chars()) {
            if kept >= max_chars {
                line.push('…');
                return line;
            }
            line.push(c);
            kept += 1;
        }
    }
    line
}

/// Characters that reorder or hide text on a terminal.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The sanitised start of a body that may not be text.
pub fn sanitize_bytes(bytes: &[u8]) -> String {
    let start = bytes.get(..MAX_CHARS.saturating_mul(4));
    let line = sanitize_text(&String::from_utf8_lossy(start.unwrap_or(bytes)));
    if start.is_some_and(|start| start.len() < bytes.len()) && !line.ends_with('…') {
        return format!("{line}…");
    }
    line
}

/// A URL without user, password, query and fragment, safe to print.
pub fn url_without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_credential_is_redacted() {
        assert_eq!(
            sanitize_text("bad request: {\"password\": \"hunter2\"}"),
            "bad request: {\"password\": \"[redacted]\"}"
        );
        assert_eq!(sanitize_text("GET https://h/?key=hunter2 failed"), "GET https://h/?[redacted] failed");
        assert!(!sanitize_text(&format!("{} token=hunter2", "x ".repeat(140))).contains("hunter2"));
    }

    #[test]
    fn text_becomes_one_short_line_without_control_characters() {
        assert_eq!(sanitize_text("a\u{1b}[31m\r\n b\0c\u{202e}d"), "a [31m b c d");
        for text in ["x", "x ", "xx "] {
            assert!(sanitize_text(&text.repeat(1000)).chars().count() <= 301, "{text}");
        }
    }
}
