//! Writes values in the styles of OpenAPI parameters.
//!
//! The tables are those of OpenAPI 3.0.4 and 3.1.1, "Style Examples", which follow RFC 6570. Where they say nothing: a value nested in
//! an array or object is written as JSON, except in `deepObject`, which goes on with `[name]` and `[index]`; null is absent.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use toolfleet_catalog::openapi::{Encoding, Style};

use super::value::{Shape, flat, shape};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same without those reserved characters that end no part of a query (`allowReserved`).
const RESERVED: &AsciiSet = &UNRESERVED
    .remove(b':')
    .remove(b'/')
    .remove(b'?')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// Which characters of a value are percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// All but the unreserved ones.
    Percent,
    /// All but the unreserved and most reserved ones; triplets such as `%20` stay.
    KeepReserved,
    /// None: headers, and parts of `multipart/form-data`.
    Nothing,
}

impl Escape {
    /// The escape of a value in a query or form.
    pub(super) const fn of(encoding: Encoding) -> Self {
        if encoding.allow_reserved { Self::KeepReserved } else { Self::Percent }
    }

    pub(super) fn text(self, text: &str) -> String {
        match self {
            Self::Percent => utf8_percent_encode(text, UNRESERVED).to_string(),
            Self::KeepReserved => keep_reserved(text),
            Self::Nothing => text.to_owned(),
        }
    }
}

/// RFC 6570, section 3.2.3: reserved characters and triplets pass.
fn keep_reserved(text: &str) -> String {
    let mut written = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        written.push_str(&utf8_percent_encode(before, RESERVED).to_string());
        let is_triplet = from.as_bytes().get(1..3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        let (kept, after) = from.split_at(if is_triplet { 3 } else { 1 });
        written.push_str(if is_triplet { kept } else { "%25" });
        rest = after;
    }
    written.push_str(&utf8_percent_encode(rest, RESERVED).to_string());
    written
}

/// What stands between the items of a list that is one text.
fn delimiter(style: Style, escape: Escape) -> String {
    let plain = match style {
        Style::SpaceDelimited => " ",
        Style::PipeDelimited => "|",
        Style::TabDelimited => "\t",
        Style::Simple | Style::Label | Style::Matrix | Style::Form | Style::DeepObject | Style::Cookie => {
            return ",".to_owned();
        }
    };
    // A space, a pipe and a tab are no characters of an address, whatever else may stand as it is.
    match escape {
        Escape::Percent | Escape::KeepReserved => Escape::Percent.text(plain),
        Escape::Nothing => plain.to_owned(),
    }
}

/// The texts of a list's items, or of an object's members one after another.
fn texts(shape: &Shape<'_>, escape: Escape, pair: Option<&str>) -> Vec<String> {
    match shape {
        Shape::Null => Vec::new(),
        Shape::Scalar(text) => vec![escape.text(text)],
        Shape::List(items) => {
            items.iter().filter_map(|item| flat(item)).map(|text| escape.text(&text)).collect()
        }
        Shape::Members(members) => {
            let members = members.iter().filter_map(|(name, value)| Some((name, flat(value)?)));
            let each = |(name, text): (&String, String)| {
                let (name, text) = (escape.text(name), escape.text(&text));
                match pair {
                    Some(between) => vec![format!("{name}{between}{text}")],
                    None => vec![name, text],
                }
            };
            members.flat_map(each).collect()
        }
    }
}

/// A value as it stands in a path. Nothing where it is absent.
pub(super) fn in_path(name: &str, raw: &RawValue, encoding: Encoding) -> Option<String> {
    let escape = Escape::Percent;
    let shape = shape(raw);
    if matches!(shape, Shape::Null) {
        return None;
    }
    let pair = encoding.explode.then_some("=");
    let texts = texts(&shape, escape, pair);
    let is_scalar = matches!(shape, Shape::Scalar(_));
    Some(match encoding.style {
        Style::Label => {
            let between = if encoding.explode { "." } else { "," };
            format!(".{}", texts.join(between))
        }
        Style::Matrix => {
            let name = escape.text(name);
            let with_name =
                |text: &String| if text.is_empty() { format!(";{name}") } else { format!(";{name}={text}") };
            match (&shape, encoding.explode) {
                (Shape::Members(_), true) => texts.iter().map(|text| format!(";{text}")).collect(),
                (Shape::List(_), true) => texts.iter().map(with_name).collect(),
                _ if is_scalar || !texts.is_empty() => with_name(&texts.join(",")),
                _ => String::new(),
            }
        }
        Style::Simple
        | Style::Form
        | Style::SpaceDelimited
        | Style::PipeDelimited
        | Style::TabDelimited
        | Style::DeepObject
        | Style::Cookie => texts.join(&delimiter(encoding.style, escape)),
    })
}

/// A value as it stands in a header. Nothing is percent-encoded there (OpenAPI 3.0.4, appendix D).
pub(super) fn in_header(raw: &RawValue, encoding: Encoding) -> Option<String> {
    let shape = shape(raw);
    if matches!(shape, Shape::Null) {
        return None;
    }
    let texts = texts(&shape, Escape::Nothing, encoding.explode.then_some("="));
    Some(texts.join(&delimiter(encoding.style, Escape::Nothing)))
}

/// A value as the pairs of a query, form or cookie. Names and values are escaped.
pub(super) fn pairs(name: &str, raw: &RawValue, encoding: Encoding, escape: Escape) -> Vec<(String, String)> {
    // A name is never written with reserved characters: they would end it.
    let names = if escape == Escape::Nothing { Escape::Nothing } else { Escape::Percent };
    let shape = shape(raw);
    if encoding.style == Style::DeepObject && matches!(shape, Shape::List(_) | Shape::Members(_)) {
        let mut found = Vec::new();
        deep(&names.text(name), raw, (names, escape), &mut found);
        return found;
    }
    match (&shape, encoding.explode) {
        (Shape::Null, _) => Vec::new(),
        (Shape::Scalar(text), _) => vec![(names.text(name), escape.text(text))],
        (Shape::List(_), true) => {
            texts(&shape, escape, None).into_iter().map(|text| (names.text(name), text)).collect()
        }
        (Shape::Members(members), true) => {
            let members = members.iter().filter_map(|(name, value)| Some((name, flat(value)?)));
            members.map(|(name, text)| (names.text(name), escape.text(&text))).collect()
        }
        (Shape::List(_) | Shape::Members(_), false) => {
            let all = texts(&shape, escape, None);
            if all.is_empty() {
                return Vec::new();
            }
            vec![(names.text(name), all.join(&delimiter(encoding.style, escape)))]
        }
    }
}

/// `deepObject`: `name[member]=value`, with the brackets escaped where names are.
fn deep(name: &str, raw: &RawValue, (names, escape): (Escape, Escape), found: &mut Vec<(String, String)>) {
    let below = |key: &str| format!("{name}{}{}{}", names.text("["), names.text(key), names.text("]"));
    match shape(raw) {
        Shape::Null => {}
        Shape::Scalar(text) => found.push((name.to_owned(), escape.text(&text))),
        Shape::List(items) => {
            for (i, item) in items.into_iter().enumerate() {
                deep(&below(&i.to_string()), item, (names, escape), found);
            }
        }
        Shape::Members(members) => {
            for (key, value) in members {
                deep(&below(&key), value, (names, escape), found);
            }
        }
    }
}
