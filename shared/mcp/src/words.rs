//! Owns what is kept of a server's own words in a fault: short, and without control characters.
//!
//! What has the form of a credential is taken out: a server may repeat an argument that is one.
//!
//! **Invariant:** no text of a server reaches a fault, a log or a record without passing here.

use toolfleet_core::redact;

/// The bound on a server's text in a fault, in characters.
const MAX_CHARS: usize = 300;

/// The start of a server's text, fit for one line.
pub(crate) fn shorten(text: &str) -> String {
    shorten_to(text, MAX_CHARS)
}

/// The start of a server's text, at most that many characters.
pub(crate) fn shorten_to(text: &str, max_chars: usize) -> String {
    // So much of a long text may be white space that is left out.
    let looked_at = text.char_indices().nth(max_chars.saturating_mul(4)).and_then(|(end, _)| text.get(..end));
    let shown = shorten_own(&redact::text(looked_at.unwrap_or(text)), max_chars);
    if looked_at.is_some() && !shown.ends_with('…') { format!("{shown}…") } else { shown }
}

/// The start of a tool's own sentence, which is a part of its answer, at most that many characters.
pub(crate) fn shorten_own(text: &str, max_chars: usize) -> String {
    let mut words = String::new();
    let mut kept = 0;
    for part in text.split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c)) {
        if part.is_empty() {
            continue;
        }
        let space = (kept > 0).then_some(' ');
        for c in space.into_iter().chain(part.chars()) {
            if kept >= max_chars {
                words.push('…');
                return words;
            }
            words.push(c);
            kept += 1;
        }
    }
    words
}

/// Marks that reorder or hide text on a terminal.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The start of a body that may be no text at all.
pub(crate) fn shorten_bytes(bytes: &[u8]) -> String {
    let start = bytes.get(..MAX_CHARS.saturating_mul(4));
    let words = shorten(&String::from_utf8_lossy(start.unwrap_or(bytes)));
    if start.is_some_and(|start| start.len() < bytes.len()) && !words.ends_with('…') {
        return format!("{words}…");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_that_repeats_a_credential_is_told_without_it() {
        assert_eq!(
            shorten("bad request: {\"password\": \"hunter2\"}"),
            "bad request: {\"password\": \"[redacted]\"}"
        );
        assert_eq!(shorten("GET https://h/?key=hunter2 failed"), "GET https://h/?[redacted] failed");
        assert!(!shorten(&format!("{} token=hunter2", "x ".repeat(140))).contains("hunter2"));
    }

    #[test]
    fn a_servers_text_becomes_one_short_line_without_control_characters() {
        assert_eq!(shorten("a\u{1b}[31m\r\n b\0c\u{202e}d"), "a [31m b c d");
        for text in ["x", "x ", "xx "] {
            assert!(shorten(&text.repeat(1000)).chars().count() <= 301, "{text}");
        }
    }
}
