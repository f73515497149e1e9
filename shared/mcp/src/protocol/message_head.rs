//! Finds the id of a message that is too long to keep, from its first and its last bytes.

use serde_json::value::RawValue;

use crate::protocol::frame::number_in;

/// How much of the end of a message tells its id.
pub(crate) const TAIL_BYTES: usize = 128;

/// What the beginning of a message says of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The request that it answers.
    pub(crate) id: Option<u64>,
    /// It carries an id that is none of ours.
    pub(crate) of_another: bool,
    /// It says something of the server's own: a request or a notification.
    pub(crate) is_own_word: bool,
    /// It is no JSON object.
    pub(crate) is_noise: bool,
}

impl Beginning {
    /// Reads the members of an object as far as they are there.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut beginning = Self::default();
        let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        match rest.split_first() {
            Some((b'{', after)) => rest = after,
            // A batch may hold an answer.
            Some((b'[', _)) => return beginning,
            _ => return Self { is_noise: true, ..beginning },
        }
        while let Some((name, value, after)) = member(rest) {
            match name {
                b"\"method\"" => beginning.is_own_word = true,
                b"\"id\"" => beginning.take_id(value),
                _ => {}
            }
            rest = after;
        }
        beginning
    }

    /// Reads an id that stands last in the object.
    pub(crate) fn take_tail(&mut self, tail: &[u8]) {
        let Some(body) = tail.trim_ascii_end().strip_suffix(b"}") else { return };
        // Of a nested object another brace would follow.
        let Some(at) = body.windows(4).rposition(|name| name == b"\"id\"") else { return };
        let value = body.get(at.saturating_add(4)..).unwrap_or_default().trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { return };
        if !value.iter().any(|byte| matches!(byte, b'{' | b'}' | b'[' | b']')) {
            let end = value.iter().position(|byte| *byte == b',').unwrap_or(value.len());
            self.take_id(value.get(..end).unwrap_or_default().trim_ascii());
        }
    }

    fn take_id(&mut self, value: &[u8]) {
        let raw =
            std::str::from_utf8(value).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        self.id = raw.and_then(number_in);
        self.of_another = self.id.is_none();
    }
}

/// The next member of an object, if it is there whole: its name with quotes, its value, and what follows.
fn member(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    let (name, rest) = value(rest).filter(|(name, _)| name.starts_with(b"\""))?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let (found, rest) = value(rest)?;
    Some((name, found, rest))
}

/// The value at the beginning, if it is there whole, and what follows.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let after = at.saturating_add(1);
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return text.split_at_checked(after);
                }
            }
            _ if in_string => {}
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' if depth > 1 => depth = depth.saturating_sub(1),
            b'}' | b']' if depth == 1 => return text.split_at_checked(after),
            // The end of a number or a word.
            b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => {
                return text.split_at_checked(at);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_message_tells_whose_it_is() {
        for (text, id, of_another, is_own_word) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":"xx"#, Some(7), false, false),
            (r#" { "id" : "7" , "result":{"id":9"#, Some(7), false, false),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"x"#, None, false, true),
            (r#"{"id":"a","result":["#, None, true, false),
            (r#"{"result":{"id":3,"x":"\"id\":4"#, None, false, false),
            (r#"{"a":{"b":[1,{"c":"}"}]},"id":7,"re"#, Some(7), false, false),
            ("[{\"id\":7", None, false, false),
        ] {
            let found = Beginning::of(text.as_bytes());
            assert_eq!(found, Beginning { id, of_another, is_own_word, is_noise: false }, "{text}");
        }
        assert!(Beginning::of(b"Loading model: xxxx").is_noise);
    }

    #[test]
    fn an_id_at_the_end_tells_whose_it_is_and_a_nested_one_does_not() {
        for (tail, id) in [
            (r#"xx"}]},"jsonrpc":"2.0","id":7}"#, Some(7)),
            ("xx\"},\"id\": 7 ,\"jsonrpc\":\"2.0\"}\r", Some(7)),
            (r#"xx","id":7}}"#, None),
            (r#"xx"},"id":7,"meta":{}}"#, None),
            ("xxxx", None),
        ] {
            let mut beginning = Beginning::default();
            beginning.take_tail(tail.as_bytes());
            assert_eq!(beginning.id, id, "{tail}");
        }
    }
}
