//! The canonical form of a JSON text (RFC 8785, JCS): texts with equal values have equal canonical texts.
//!
//! It differs from RFC 8785 where that refuses or loses what a request may hold:
//! * A number keeps the decimal that was written, so that two numbers that round to one double stay different. A number that a double
//!   holds exactly (`1`, `1.0`, `1e0`, `0.1`) is written as RFC 8785 writes it.
//! * A number beyond any double and an unpaired surrogate are kept.
//! * A duplicate key keeps both values, in their order.
//!
//! The crates for RFC 8785 (`serde_jcs`, `serde_json_canonicalizer`) serialise through doubles and refuse the rest, so they cannot be used
//! here (decision 0016).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Deeper texts are refused; serde_json has the same bound.
const MAX_DEPTH: usize = 128;
/// A longer exponent is refused: no reader of JSON can use it, and it could not be added to.
const MAX_EXPONENT_DIGITS: usize = 18;

/// A parsed JSON text; leaves are slices of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    /// As it is written, with its quotes.
    Text(&'a str),
    Array(Vec<Self>),
    /// Keys as they are written, with their quotes.
    Object(Vec<(&'a str, Self)>),
}

/// Which of two spellings of numbers a canonical text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// The one described above.
    Exact,
    /// That of earlier versions: through a double, with `1.0` for a whole one.
    ByDouble,
}

impl<'a> Node<'a> {
    /// Parses a text. The error names the place and never repeats the text.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let mut scanner = Scanner { text, at: 0 };
        let node = scanner.node(0)?;
        scanner.skip_space();
        if scanner.at < text.len() { Err(scanner.wrong("more than one JSON value")) } else { Ok(node) }
    }

    /// Writes the canonical form.
    pub(crate) fn write(&self, spelling: Spelling, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(text) => out.push_str(&match spelling {
                Spelling::Exact => number(text),
                Spelling::ByDouble => by_double(text).map_or_else(|| number(text), Cow::Owned),
            }),
            Self::Text(raw) => write_text(raw, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(spelling, out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, item)) in sorted(members).into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    item.write(spelling, out);
                }
                out.push('}');
            }
        }
    }

    /// Whether the two spellings differ.
    pub(crate) fn differs_by_double(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Text(_) => false,
            Self::Number(text) => {
                !is_short_integer(text) && by_double(text).is_some_and(|before| before != number(text))
            }
            Self::Array(items) => items.iter().any(Self::differs_by_double),
            Self::Object(members) => members.iter().any(|(_, item)| item.differs_by_double()),
        }
    }
}

/// The members in the order of their keys (RFC 8785 section 3.2.3).
pub(crate) fn sorted<'n, 'a>(members: &'n [(&'a str, Node<'a>)]) -> Vec<(&'a str, &'n Node<'a>)> {
    let mut entries: Vec<_> = members.iter().map(|(key, item)| (*key, item)).collect();
    entries.sort_by(|(a, _), (b, _)| compare_keys(&plain(a), &plain(b)));
    entries
}

/// Compares by UTF-16 code units. They order as bytes of UTF-8 do, except that U+10000 and above (lead bytes from 0xF0) come before
/// U+E000 to U+FFFF (lead bytes 0xEE and 0xEF).
pub(crate) fn compare_keys(a: &str, b: &str) -> Ordering {
    match a.bytes().zip(b.bytes()).find(|(a, b)| a != b) {
        Some((0xEE | 0xEF, 0xF0..)) => Ordering::Greater,
        Some((0xF0.., 0xEE | 0xEF)) => Ordering::Less,
        Some((a, b)) => a.cmp(&b),
        None => a.len().cmp(&b.len()),
    }
}

/// The text that a JSON string means; half a surrogate pair is U+FFFD.
pub(crate) fn plain(raw: &str) -> Cow<'_, str> {
    let inner = inner(raw);
    if inner.contains('\\') {
        Cow::Owned(characters(raw).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    } else {
        Cow::Borrowed(inner)
    }
}

fn inner(raw: &str) -> &str {
    raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw)
}

/// The characters that a JSON string means; an error is half a surrogate pair.
fn characters(raw: &str) -> impl Iterator<Item = Result<char, u32>> + '_ {
    let mut rest = inner(raw);
    std::iter::from_fn(move || {
        let mut chars = rest.chars();
        let first = chars.next()?;
        rest = chars.as_str();
        if first != '\\' {
            return Some(Ok(first));
        }
        let escape = chars.next()?;
        rest = chars.as_str();
        Some(Ok(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let unit = take_unit(&mut rest);
                let low = rest.strip_prefix("\\u").and_then(|after| {
                    let mut after = after;
                    let low = take_unit(&mut after);
                    (0xD800..0xDC00).contains(&unit).then_some(())?;
                    (0xDC00..0xE000).contains(&low).then_some((low, after))
                });
                let code = match low {
                    Some((low, after)) => {
                        rest = after;
                        0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
                    }
                    None => unit,
                };
                return Some(char::from_u32(code).ok_or(code));
            }
            other => other,
        }))
    })
}

fn take_unit(rest: &mut &str) -> u32 {
    let (digits, after) = rest.split_at_checked(4).unwrap_or((rest, ""));
    *rest = after;
    u32::from_str_radix(digits, 16).unwrap_or(0xFFFD)
}

fn write_text(raw: &str, out: &mut String) {
    if !raw.contains('\\') {
        out.push_str(raw);
        return;
    }
    out.push('"');
    for character in characters(raw) {
        // A String takes whatever is written to it.
        let _never_fails = match character {
            Ok('"') => out.write_str("\\\""),
            Ok('\\') => out.write_str("\\\\"),
            Ok('\n') => out.write_str("\\n"),
            Ok('\t') => out.write_str("\\t"),
            Ok('\r') => out.write_str("\\r"),
            Ok('\u{8}') => out.write_str("\\b"),
            Ok('\u{c}') => out.write_str("\\f"),
            Ok(c) if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)),
            Ok(c) => out.write_char(c),
            Err(half) => write!(out, "\\u{half:04x}"),
        };
    }
    out.push('"');
}

fn is_short_integer(text: &str) -> bool {
    text.len() <= MAX_EXPONENT_DIGITS && text != "-0" && !text.contains(['.', 'e', 'E'])
}

/// What serde_json makes of a number on the way through its own types.
fn by_double(text: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(text).ok().map(|value| value.to_string())
}

/// The canonical text of a number: equal for two texts if and only if they are the same number. ECMAScript's `Number::toString`
/// applied to the decimal itself.
pub(crate) fn number(text: &str) -> Cow<'_, str> {
    if is_short_integer(text) {
        return Cow::Borrowed(text);
    }
    let (sign, size) = text.strip_prefix('-').map_or(("", text), |size| ("-", size));
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return Cow::Borrowed("0");
    }
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let exponent = exponent.parse::<i64>().unwrap_or(0);
    // The number is 0.digits times ten to the power of `point`.
    let point = exponent.saturating_add(length(whole)).saturating_sub(length(&all) - length(significant));
    let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split =
        |at: i64| usize::try_from(at).ok().and_then(|at| digits.split_at_checked(at)).unwrap_or((digits, ""));
    Cow::Owned(match point {
        1..=21 if length(digits) <= point => format!("{sign}{digits}{}", zeros(point - length(digits))),
        1..=21 => {
            let (whole, fraction) = split(point);
            format!("{sign}{whole}.{fraction}")
        }
        -5..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        _ => {
            let (first, fraction) = split(1);
            let dot = if fraction.is_empty() { "" } else { "." };
            let exponent = point.saturating_sub(1);
            format!("{sign}{first}{dot}{fraction}e{exponent:+}")
        }
    })
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn node(&mut self, depth: usize) -> Result<Node<'a>, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("more than {MAX_DEPTH} levels")));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.members(depth).map(Node::Object),
            Some(b'[') => self.items(depth).map(Node::Array),
            Some(b'"') => self.string().map(Node::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Node::Number),
            Some(_) => self.word(),
            None => Err(self.wrong("no value")),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(&'a str, Node<'a>)>, String> {
        let mut members = Vec::new();
        self.at += 1;
        if self.ends(b'}') {
            return Ok(members);
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            if !self.ends(b':') {
                return Err(self.wrong("no `:` after a key"));
            }
            members.push((key, self.node(depth + 1)?));
            if self.ends(b'}') {
                return Ok(members);
            }
            if !self.ends(b',') {
                return Err(self.wrong("no `,` and no end of an object"));
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node<'a>>, String> {
        let mut items = Vec::new();
        self.at += 1;
        if self.ends(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.node(depth + 1)?);
            if self.ends(b']') {
                return Ok(items);
            }
            if !self.ends(b',') {
                return Err(self.wrong("no `,` and no end of an array"));
            }
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.wrong("no text where one must be"));
        }
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return self.since(start);
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a text without an end")),
            }
        }
    }

    fn number(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        let text = self.since(start)?;
        let exponent = text.split_once(['e', 'E']).map_or("", |(_, exponent)| exponent);
        let digits = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
        if digits.len() > MAX_EXPONENT_DIGITS {
            let text = format!("a number whose exponent has more than {MAX_EXPONENT_DIGITS} digits");
            return Err(self.wrong(&text));
        }
        Ok(text)
    }

    fn word(&mut self) -> Result<Node<'a>, String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let words = [("null", Node::Null), ("true", Node::Bool(true)), ("false", Node::Bool(false))];
        for (word, node) in words {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(node);
            }
        }
        Err(self.wrong("what is no JSON"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Whether that byte comes next, which is then read.
    fn ends(&mut self, byte: u8) -> bool {
        self.skip_space();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn since(&self, start: usize) -> Result<&'a str, String> {
        self.text.get(start..self.at).ok_or_else(|| self.wrong("a text without an end"))
    }

    fn wrong(&self, what: &str) -> String {
        format!("has {what} at byte {}", self.at)
    }
}

#[cfg(test)]
mod tests;
