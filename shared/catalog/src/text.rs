//! Reads the text of a catalog as people write it: a byte order mark, comments and trailing commas are accepted.
//!
//! Blanks stand in their place, so that an error still names the line and column of the file.

use std::borrow::Cow;

/// Why bytes are no text of a catalog, and the remedy.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let utf_16 = match bytes.as_slice() {
        [0xFF, 0xFE, ..] | [_, 0, _, 0, ..] => Some("UTF-16 (little endian)"),
        [0xFE, 0xFF, ..] | [0, _, 0, _, ..] => Some("UTF-16 (big endian)"),
        _ => None,
    };
    if let Some(encoding) = utf_16 {
        return Err(format!(
            "is {encoding}, which PowerShell's `>` writes; save the file as UTF-8, for example with `Out-File -Encoding utf8`"
        ));
    }
    let archive = match bytes.as_slice() {
        [0x1F, 0x8B, ..] => Some("a gzip archive"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [b'%', b'P', b'D', b'F', ..] => Some("a PDF"),
        _ => None,
    };
    if let Some(archive) = archive {
        return Err(format!("is {archive}; give the JSON file itself"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text from byte {at} on; save the file as UTF-8")
    })
}

/// The JSON of a text with comments (JSONC). Each byte of it stands where it stood.
pub fn plain(text: &str) -> Cow<'_, str> {
    let mut bytes = Cow::Borrowed(text.as_bytes());
    let mut blank = |from: usize, to: usize| {
        for byte in bytes.to_mut().iter_mut().take(to).skip(from) {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    };
    let source = text.as_bytes();
    let mut at = 0;
    if text.starts_with('\u{feff}') {
        at = '\u{feff}'.len_utf8();
        blank(0, at);
    }
    let mut comma = None;
    while let Some(byte) = source.get(at) {
        let end = match (*byte, source.get(at + 1)) {
            (b'"', _) => end_of_string(source, at),
            (b'/', Some(b'/')) => {
                let end = end_of(source, at, |rest| rest.starts_with(b"\n"));
                blank(at, end);
                end
            }
            (b'/', Some(b'*')) => {
                let end = end_of(source, at + 2, |rest| rest.starts_with(b"*/")).saturating_add(2);
                blank(at, end);
                end
            }
            _ => at + 1,
        };
        match byte {
            b'/' | b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' => comma = Some(at),
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    blank(comma, comma + 1);
                }
            }
            _ => comma = None,
        }
        at = end;
    }
    match bytes {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        // Whole characters were replaced by blanks, so what is left is text.
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The place after the string that begins at `from`.
fn end_of_string(source: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = source.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The first place from `from` on where `is_end` holds, or the end of the text.
fn end_of(source: &[u8], from: usize, is_end: impl Fn(&[u8]) -> bool) -> usize {
    (from..source.len()).find(|at| is_end(source.get(*at..).unwrap_or_default())).unwrap_or(source.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Value {
        serde_json::from_str(&plain(text)).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn comments_trailing_commas_and_a_byte_order_mark_are_taken() {
        for text in [
            "\u{feff}{\"a\": [1, 2]}",
            "// first\n{\"a\": [1, 2]} // last",
            "{\"a\": [1, /* two */ 2]}",
            "{\"a\": [1, 2,],}",
            "{\"a\": [1, 2 , // why\n ] /* x */ , /* ü */ }",
            "/* \u{1F600} */{\"a\":[1,2]}/* open",
            "{\r\n\"a\": [1, 2],\r\n}",
        ] {
            assert_eq!(read(text), json!({"a": [1, 2]}), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_comment_within_a_string_stays() {
        for value in ["http://h/*x*/", "a,]", "\\\"// no", "/*", "ends with \\\\"] {
            let text = format!("{{\"u\": \"{value}\", /*c*/ \"v\": 1,}}");
            let read = read(&text);
            assert_eq!(serde_json::to_string(&read["u"]).unwrap(), format!("\"{value}\""), "{text}");
        }
    }

    #[test]
    fn a_mistake_keeps_its_line_and_column() {
        let text = "\u{feff}{ // ä comment\n  /* and\n another */ \"a\": 1, oops\n}";
        let error = serde_json::from_str::<Value>(&plain(text)).unwrap_err();
        let line = text.lines().nth(2).unwrap();
        assert_eq!((error.line(), error.column()), (3, line.find("oops").unwrap() + 1));
    }

    #[test]
    fn a_comma_too_many_is_still_a_mistake() {
        for text in ["[1,,]", "[,]x", "{,\"a\":1}", "[1] ,"] {
            assert!(serde_json::from_str::<Value>(&plain(text)).is_err(), "{text}");
        }
        assert!(matches!(plain("{\"a\": [1, 2]}"), Cow::Borrowed(_)));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_the_remedy() {
        let of = |bytes: &[u8]| decode(bytes.to_vec()).unwrap_err();
        assert!(of(b"\xFF\xFE{\0").contains("UTF-16 (little endian)"));
        assert!(of(b"\0{\0\"").contains("UTF-16 (big endian)"));
        assert!(of(b"\x1F\x8B\x08").contains("gzip"));
        assert!(of(b"{\"a\": \"\xE4\"}").contains("from byte 7 on"));
        assert_eq!(decode("{\"ä\": 1}".into()).unwrap(), "{\"ä\": 1}");
    }
}
