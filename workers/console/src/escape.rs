//! Escapes what goes into a page. Names of tools, errors, results and reasons are text of others.

use std::fmt::{self, Write};

use askama::filters::{Escaper as Filter, Html};
use toolfleet_core::printable::is_hidden;

/// Stands for a character that would show nothing, or turn the direction of what follows.
const HIDDEN: char = char::REPLACEMENT_CHARACTER;

/// HTML, without characters that hide something. `askama.toml` names it for all templates.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Escaper;

impl Filter for Escaper {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let hides = |c: char| is_hidden(c) && !matches!(c, '\n' | '\t');
        let mut rest = text;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| hides(*c)) {
            let (before, after) = rest.split_at(at);
            Html.write_escaped_str(&mut dest, before)?;
            dest.write_char(HIDDEN)?;
            rest = after.get(hidden.len_utf8()..).unwrap_or_default();
        }
        Html.write_escaped_str(dest, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut page = String::new();
        Escaper.write_escaped_str(&mut page, text).unwrap();
        page
    }

    #[test]
    fn markup_is_text_and_hidden_characters_are_seen() {
        assert_eq!(escaped("a<script>\"'&"), "a&#60;script&#62;&#34;&#39;&#38;");
        assert_eq!(
            escaped("x\u{202e}<\u{0}\r\u{2066}é\u{9b}"),
            "x\u{fffd}&#60;\u{fffd}\u{fffd}\u{fffd}é\u{fffd}"
        );
        assert_eq!(escaped("two\n\tlines"), "two\n\tlines");
    }
}
