//! Text of servers, tools and callers for people: without the characters that show nothing.

/// Whether a character shows nothing: control characters, line separators, directions of text, characters without a width, and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The text without such characters; lines and tabulators stay.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c) || matches!(c, '\n' | '\t')).collect()
}

/// The text on one line, with a space for each such character.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

/// The text with such characters written out, on one line.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(printable("a\u{1b}[2Jb\n\tc\u{9b}d\u{202e}e\u{2066}\u{200f}"), "a[2Jb\n\tcde");
        assert_eq!(one_line("a\u{2028}b\r\n"), "a b  ");
    }

    #[test]
    fn characters_without_a_width_are_removed() {
        let hidden =
            "\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{2060}\u{2064}\u{feff}\u{e0000}\u{e0041}\u{e007f}";
        assert_eq!(printable(&format!("a{hidden}b")), "ab");
        assert_eq!(printable("naïve – 世界 🙂"), "naïve – 世界 🙂");
    }

    #[test]
    fn an_escaped_text_has_one_line_and_controls_no_terminal() {
        assert_eq!(escaped("a\u{1b}[31m\nb\u{202e}é"), "a\\u{1b}[31m\\nb\\u{202e}é");
    }
}
