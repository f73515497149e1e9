//! What an audit record shows of a call's arguments: their shape (keys, types, sizes), and the values that a tool's registration allows.
//!
//! **Invariant:** equal arguments have equal shapes; no value is shown that is not allowed, and no allowed one that is a secret.

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
    pub(crate) fn show(&self, path: &[String]) -> bool {
        self.0.iter().any(|shown| path.starts_with(shown))
    }
}

/// The shape of arguments as compact JSON of at most `max_bytes`: each value is its type, with the length of a text; values of
/// `shown` stand as they are. `None` if the text is no JSON, or not even `"object(9)"` fits.
pub fn shape(arguments: &str, shown: &ShownArguments, max_bytes: usize) -> Option<String> {
    let node = Node::parse(arguments).ok()?;
    BOUNDS.into_iter().find_map(|(levels, keys)| {
        let value = Shaper { shown, levels, keys }.value(&node, &mut Vec::new(), 0);
        Some(value.to_string()).filter(|text| text.len() <= max_bytes)
    })
}

struct Shaper<'s> {
    shown: &'s ShownArguments,
    levels: usize,
    keys: usize,
}

impl Shaper<'_> {
    fn value(&self, node: &Node<'_>, path: &mut Vec<String>, level: usize) -> Value {
        let shown = self.shown.show(path);
        match node {
            Node::Null => Value::from("null"),
            Node::Bool(flag) if shown => Value::from(*flag),
            Node::Bool(_) => Value::from("boolean"),
            Node::Number(written) if shown => shown_number(written),
            Node::Number(_) => Value::from("number"),
            Node::Text(raw) => {
                let given = plain(raw);
                if shown {
                    shown_text(&given)
                } else {
                    Value::from(format!("string({})", given.chars().count()))
                }
            }
            Node::Array(items) if level >= self.levels => Value::from(format!("array({})", items.len())),
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

    /// The members whose keys may be shown, and how many others there are.
    fn object(&self, members: &[(&str, Node<'_>)], path: &mut Vec<String>, level: usize) -> Value {
        let mut object = serde_json::Map::new();
        for (raw, item) in sorted(members) {
            let name = plain(raw);
            let Some(name) = key(&name).filter(|_| object.len() < self.keys) else {
                continue;
            };
            path.push(name.to_owned());
            let value =
                if names_a_secret(name) { Value::from(REDACTED) } else { self.value(item, path, level + 1) };
            path.pop();
            object.insert(name.to_owned(), value);
        }
        if let Some(more) = members.len().checked_sub(object.len()).filter(|more| *more > 0) {
            object.insert("+".to_owned(), Value::from(format!("{more} more")));
        }
        Value::Object(object)
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
}
