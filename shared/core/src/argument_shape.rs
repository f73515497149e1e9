//! What an audit record shows of a call's arguments: their shape (keys, types, sizes), and the values that a tool's registration allows.
//!
//! **Invariant:** equal arguments have equal shapes; no value is shown that is not allowed, and no allowed one that is a secret.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::canonical_json::{Node, number, plain, sorted};
use crate::redact::{REDACTED, is_a_credential, key, names_a_secret, text};

/// A shown text is cut to this many characters.
const SHOWN_CHARS: usize = 64;
/// How much is shown: levels, and keys of one object. The first that fits is taken.
const BOUNDS: [(usize, usize); 4] = [(5, 24), (3, 12), (1, 12), (0, 0)];

/// The arguments of a tool whose values audit records may hold, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownArguments(Vec<Vec<String>>);

impl ShownArguments {
    /// No argument.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads paths as `city` or `order.id`; a path leads through the items of an array. An error names the path by its place.
    pub fn parse(paths: &[String]) -> Result<Self, (usize, &'static str)> {
        let read = |(i, path): (usize, &String)| {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            if keys.iter().any(String::is_empty) || path.chars().count() > 256 {
                return Err((
                    i,
                    "is no path; write the argument's name, or the names down to it as in `order.id`",
                ));
            }
            if keys.iter().any(|key| names_a_secret(key)) {
                return Err((i, "names a secret, which no record may hold; leave it out"));
            }
            Ok(keys)
        };
        paths.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the value at that path may be shown.
    pub(crate) fn show(&self, path: &[impl AsRef<str>]) -> bool {
        let is_within = |shown: &Vec<String>| {
            shown.len() <= path.len() && shown.iter().zip(path).all(|(key, at)| key == at.as_ref())
        };
        self.0.iter().any(is_within)
    }
}

/// The shape of arguments as compact JSON of at most `max_bytes`: each value is its type, with the length of a text; values of
/// `shown` stand as they are. `None` if the text is no JSON, or not even `"object(9)"` fits.
pub fn shape(arguments: &str, shown: &ShownArguments, max_bytes: usize) -> Option<String> {
    let node = Node::parse(arguments).ok()?;
    BOUNDS.into_iter().find_map(|(levels, keys)| {
        let mut shaper = Shaper { shown, levels, keys, max_bytes, out: Vec::with_capacity(max_bytes) };
        shaper.value(&node, &mut Vec::new(), 0)?;
        String::from_utf8(shaper.out).ok()
    })
}

struct Shaper<'s> {
    shown: &'s ShownArguments,
    levels: usize,
    keys: usize,
    max_bytes: usize,
    out: Vec<u8>,
}

/// Nothing, unless what is written does not fit.
type Fits = Option<()>;

impl Shaper<'_> {
    fn value<'a>(&mut self, node: &Node<'a>, path: &mut Vec<Cow<'a, str>>, level: usize) -> Fits {
        let shown = self.shown.show(path);
        match node {
            Node::Null => self.json("null"),
            Node::Bool(flag) if shown => self.json(flag),
            Node::Bool(_) => self.json("boolean"),
            Node::Number(written) if shown => self.json(&shown_number(written)),
            Node::Number(_) => self.json("number"),
            Node::Text(raw) => {
                let given = plain(raw);
                if shown {
                    self.json(&shown_text(&given))
                } else {
                    self.json(&format_args!("string({})", given.chars().count()))
                }
            }
            Node::Array(items) if level >= self.levels => self.json(&format_args!("array({})", items.len())),
            Node::Object(members) if level >= self.levels => {
                self.json(&format_args!("object({})", members.len()))
            }
            Node::Array(items) => self.array(items, path, level),
            Node::Object(members) => self.object(members, path, level),
        }
    }

    /// The first item, and how many others there are.
    fn array<'a>(&mut self, items: &[Node<'a>], path: &mut Vec<Cow<'a, str>>, level: usize) -> Fits {
        self.raw("[")?;
        if let Some((first, others)) = items.split_first() {
            self.value(first, path, level + 1)?;
            if !others.is_empty() {
                self.raw(",")?;
                self.json(&format_args!("+{}", others.len()))?;
            }
        }
        self.raw("]")
    }

    /// The members whose keys may be shown, and how many others there are, in the order of the bytes of their keys.
    fn object<'a>(
        &mut self,
        members: &[(&'a str, Node<'a>)],
        path: &mut Vec<Cow<'a, str>>,
        level: usize,
    ) -> Fits {
        let mut entries: Vec<(Cow<'a, str>, Option<&Node<'a>>)> = Vec::new();
        for (raw, item) in sorted(members) {
            if entries.len() >= self.keys {
                break;
            }
            let name = plain(raw);
            match entries.last_mut() {
                // Of a key that stands twice the last value counts.
                Some((last, value)) if *last == name => *value = Some(item),
                _ if key(&name).is_some() => entries.push((name, Some(item))),
                _ => {}
            }
        }
        let more = members.len().saturating_sub(entries.len());
        if more > 0 {
            entries.push((Cow::Borrowed("+"), None));
        }
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.raw("{")?;
        for (n, (name, item)) in entries.into_iter().enumerate() {
            if n > 0 {
                self.raw(",")?;
            }
            self.json(&name)?;
            self.raw(":")?;
            let Some(item) = item else {
                self.json(&format_args!("{more} more"))?;
                continue;
            };
            if names_a_secret(&name) {
                self.json(REDACTED)?;
                continue;
            }
            path.push(name);
            self.value(item, path, level + 1)?;
            path.pop();
        }
        self.raw("}")
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Fits {
        serde_json::to_writer(&mut self.out, value).ok()?;
        self.fits()
    }

    fn raw(&mut self, text: &str) -> Fits {
        self.out.extend_from_slice(text.as_bytes());
        self.fits()
    }

    fn fits(&self) -> Fits {
        (self.out.len() <= self.max_bytes).then_some(())
    }
}

fn shown_text(given: &str) -> Value {
    if is_a_credential(given) {
        return Value::from(REDACTED);
    }
    let cut: String = given.chars().take(SHOWN_CHARS).collect();
    // The whole is looked at: what was cut off may be what shows that the rest is a secret.
    let seen = text(given);
    Value::from(if seen == given { cut } else { seen.chars().take(SHOWN_CHARS).collect() })
}

fn shown_number(written: &str) -> Value {
    let written = number(written);
    let short = Some(&written).filter(|text| text.len() <= SHOWN_CHARS);
    let value = short.and_then(|text| serde_json::from_str::<serde_json::Number>(text).ok());
    // A number beyond a double is shown as a text.
    match value.filter(|value| value.to_string() == written) {
        Some(value) => Value::Number(value),
        None => Value::from(written.chars().take(SHOWN_CHARS).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: &[&str]) -> ShownArguments {
        ShownArguments::parse(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_shape_has_keys_types_and_sizes_and_no_value() {
        let text = r#"{"q":"hunter2","n":42,"on":true,"z":null,"list":["hunter2","b",3],"deep":{"a":{"b":[]}},"password":"hunter2"}"#;
        let expected = r#"{"deep":{"a":{"b":[]}},"list":["string(7)","+2"],"n":"number","on":"boolean","password":"[redacted]","q":"string(7)","z":"null"}"#;
        let seen: Value =
            serde_json::from_str(&shape(text, &ShownArguments::default(), 256).unwrap()).unwrap();
        assert_eq!(seen, serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn equal_arguments_have_one_shape() {
        let of = |text: &str| shape(text, &shown(&["n"]), 256).unwrap();
        assert_eq!(of(r#"{"n":1.0,"a":"\u0062"}"#), of(r#"{ "a":"b", "n": 1 }"#));
    }

    #[test]
    fn a_registered_path_shows_its_value_unless_it_is_a_secret() {
        let text = r#"{"city":"Oslo","order":{"id":7,"note":"x","lines":[{"sku":"a"},{"sku":"b"}]},"memo":"use Bearer hunter2","link":"https://h/?k=hunter2"}"#;
        let seen =
            shape(text, &shown(&["city", "order.id", "order.lines.sku", "memo", "link"]), 400).unwrap();
        for part in [
            r#""city":"Oslo""#,
            r#""id":7"#,
            r#""sku":"a""#,
            r#""note":"string(1)""#,
            "Bearer [redacted]",
            "?[redacted]",
        ] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        assert!(!seen.contains("hunter2"), "{seen}");
    }

    #[test]
    fn a_path_below_a_secret_is_refused_by_its_place() {
        let of = |path: &str| ShownArguments::parse(&["ok".to_owned(), path.to_owned()]).unwrap_err().0;
        assert_eq!([of("api_key"), of("login.password"), of(""), of("a..b")], [1, 1, 1, 1]);
        // Shown whole, a secret below it stays hidden.
        let seen = shape(r#"{"login":{"user":"bo","password":"hunter2"}}"#, &shown(&["login"]), 256).unwrap();
        assert!(seen.contains("bo") && !seen.contains("hunter2"), "{seen}");
    }

    #[test]
    fn keys_that_may_be_values_are_counted_and_sizes_bounded() {
        let map: serde_json::Map<_, _> =
            (0..500).map(|n| (format!("user{n}@example.com"), Value::from(n))).collect();
        let seen = shape(&Value::Object(map).to_string(), &ShownArguments::default(), 256).unwrap();
        assert_eq!(seen, r#"{"+":"500 more"}"#);
        let wide: serde_json::Map<_, _> = (0..500_u32)
            .map(|n| (format!("k{}", char::from_u32(0x4e00 + n).unwrap()), Value::from("x".repeat(99))))
            .collect();
        assert!(
            shape(&Value::Object(wide).to_string(), &ShownArguments::default(), 256).unwrap().len() <= 256
        );
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        assert!(shape(&deep, &shown(&["a"]), 256).unwrap().len() <= 256);
        let long = format!(r#"{{"a":"{}"}}"#, "y".repeat(100_000));
        assert!(shape(&long, &shown(&["a"]), 256).unwrap().len() <= 256);
    }

    /// What the shape was built as before it was written directly: a value of serde_json.
    mod former {
        use serde_json::Value;

        use super::super::*;

        pub(super) fn shape(arguments: &str, shown: &ShownArguments, max_bytes: usize) -> Option<String> {
            let node = Node::parse(arguments).ok()?;
            BOUNDS.into_iter().find_map(|(levels, keys)| {
                let value = Former { shown, levels, keys }.value(&node, &mut Vec::new(), 0);
                Some(value.to_string()).filter(|text| text.len() <= max_bytes)
            })
        }

        struct Former<'s> {
            shown: &'s ShownArguments,
            levels: usize,
            keys: usize,
        }

        impl Former<'_> {
            fn value(&self, node: &Node<'_>, path: &mut Vec<String>, level: usize) -> Value {
                let shown = self.shown.show(path);
                match node {
                    Node::Null => Value::from("null"),
                    Node::Bool(flag) if shown => Value::from(*flag),
                    Node::Bool(_) => Value::from("boolean"),
                    Node::Number(written) if shown => shown_number(written),
                    Node::Number(_) => Value::from("number"),
                    Node::Text(raw) if shown => shown_text(&plain(raw)),
                    Node::Text(raw) => Value::from(format!("string({})", plain(raw).chars().count())),
                    Node::Array(items) if level >= self.levels => {
                        Value::from(format!("array({})", items.len()))
                    }
                    Node::Object(members) if level >= self.levels => {
                        Value::from(format!("object({})", members.len()))
                    }
                    Node::Array(items) => {
                        let first = items.iter().take(1).map(|item| self.value(item, path, level + 1));
                        let more = items.len().checked_sub(1).filter(|more| *more > 0);
                        first.chain(more.map(|more| Value::from(format!("+{more}")))).collect()
                    }
                    Node::Object(members) => self.object(members, path, level),
                }
            }

            fn object(&self, members: &[(&str, Node<'_>)], path: &mut Vec<String>, level: usize) -> Value {
                let mut object = serde_json::Map::new();
                for (raw, item) in sorted(members) {
                    let name = plain(raw);
                    let Some(name) = key(&name).filter(|_| object.len() < self.keys) else { continue };
                    path.push(name.to_owned());
                    let value = match names_a_secret(name) {
                        true => Value::from(REDACTED),
                        false => self.value(item, path, level + 1),
                    };
                    path.pop();
                    object.insert(name.to_owned(), value);
                }
                if let Some(more) = members.len().checked_sub(object.len()).filter(|more| *more > 0) {
                    object.insert("+".to_owned(), Value::from(format!("{more} more")));
                }
                Value::Object(object)
            }
        }
    }

    #[test]
    fn the_shape_is_written_as_it_was_built() {
        let wide = |n: u32| {
            let members = (0..n).map(|n| format!(r#""k{}":{n}"#, char::from_u32(0x4e00 + n).unwrap()));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        let texts = [
            "no JSON".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"a":[],"b":{},"c":[1],"d":[[1,2],3],"e":{"f":[{"g":1},{"h":2}]}}"#.to_owned(),
            r#"{"$a":1,"+":2,"_b":3,"Z":4,"user1@example.com":5}"#.to_owned(),
            r#"{"a":1,"\u0061":"twice","b":{"password":"x","a":true},"b":2,"x y":"\n\""}"#.to_owned(),
            "{\"\u{ff21}\":1,\"\u{1d49c}\":2}".to_owned(),
            r#"{"n":1.50,"big":1e999,"s":"caf\u00e9 \"q\"","token":"t","on":true,"z":null,"o":{"id":7}}"#
                .to_owned(),
            wide(5),
            wide(30),
            format!("{}1{}", r#"{"a":"#.repeat(9), "}".repeat(9)),
        ];
        let all = shown(&["n", "big", "s", "on", "o.id", "e", "a", "k\u{4e00}"]);
        for text in texts {
            for shown in [&ShownArguments::none(), &all] {
                for max_bytes in [0, 2, 9, 11, 12, 40, 60, 90, 120, 256, 4_000] {
                    let expected = former::shape(&text, shown, max_bytes);
                    assert_eq!(shape(&text, shown, max_bytes), expected, "{text} {max_bytes}");
                }
            }
        }
    }
}
