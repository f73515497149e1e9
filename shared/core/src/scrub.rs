//! Removes values of a call's arguments from a server's texts: secrets from every text, in audit records all values that are not
//! registered to be shown.

use crate::argument_shape::ShownArguments;
use crate::canonical_json::{Node, plain};
use crate::redact::{self, REDACTED, is_a_credential, names_a_secret};

/// Shorter secrets are not looked for: they would stand in any text.
const SECRET_BYTES: usize = 4;
/// Shorter values are not looked for, for the same reason.
const VALUE_BYTES: usize = 6;
/// So many values of a kind are looked for at most; arguments with more are a document, which no server repeats word by word.
const MOST_VALUES: usize = 2_000;

/// The text without secrets of the arguments: values of keys that name one, and values in the form of a credential.
pub fn without_secrets(text: String, arguments: &str) -> String {
    without(text, arguments, None)
}

/// The text without any value of the arguments that is not `shown`.
pub fn without_values(text: String, arguments: &str, shown: &ShownArguments) -> String {
    without(text, arguments, Some(shown))
}

fn without(text: String, arguments: &str, shown: Option<&ShownArguments>) -> String {
    let Ok(node) = Node::parse(arguments) else {
        return text;
    };
    // Each kind has a bound of its own: many plain values may not displace one secret.
    let kinds = [Some(Kind::Named), Some(Kind::Formed), shown.map(Kind::NotShown)];
    let mut found = Vec::new();
    for kind in kinds.into_iter().flatten() {
        let mut search = Search { text: &text, kind, found: &mut found, left: MOST_VALUES };
        search.node(&node, &mut Vec::new(), false);
    }
    // A value may stand in another one.
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found.into_iter().fold(text, |text, value| text.replace(&value, REDACTED))
}

/// What one search looks for.
#[derive(Clone, Copy)]
enum Kind<'s> {
    /// Values below a key that names a secret.
    Named,
    /// Values in the form of a credential, and keys that are none.
    Formed,
    /// All values that are not registered to be shown.
    NotShown(&'s ShownArguments),
}

struct Search<'s> {
    text: &'s str,
    kind: Kind<'s>,
    found: &'s mut Vec<String>,
    left: usize,
}

impl Search<'_> {
    fn node(&mut self, node: &Node<'_>, path: &mut Vec<String>, named: bool) {
        if self.left == 0 {
            return;
        }
        match node {
            Node::Null | Node::Bool(_) => {}
            Node::Number(written) => {
                if self.wants(path, named, || false) {
                    self.value(written);
                }
            }
            Node::Text(raw) => {
                let value = plain(raw);
                if self.wants(path, named, || is_a_credential(&value)) {
                    self.value(&value);
                    // As JSON writes it.
                    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                    if inner != value {
                        self.value(inner);
                    }
                }
            }
            Node::Array(items) => items.iter().for_each(|item| self.node(item, path, named)),
            Node::Object(members) => {
                for (key, item) in members {
                    let key = plain(key);
                    let below = named || names_a_secret(&key);
                    // A map can be keyed by a token or an address.
                    if matches!(self.kind, Kind::Formed) && redact::key(&key).is_none() {
                        self.value(&key);
                    }
                    path.push(key.into_owned());
                    self.node(item, path, below);
                    path.pop();
                }
            }
        }
    }

    fn wants(&self, path: &[String], named: bool, formed: impl FnOnce() -> bool) -> bool {
        match self.kind {
            Kind::Named => named,
            Kind::Formed => formed(),
            Kind::NotShown(shown) => !shown.show(path),
        }
    }

    fn value(&mut self, value: &str) {
        let least = match self.kind {
            Kind::Named | Kind::Formed => SECRET_BYTES,
            Kind::NotShown(_) => VALUE_BYTES,
        };
        if value.len() < least || self.left == 0 {
            return;
        }
        self.left -= 1;
        if self.text.contains(value) {
            self.found.push(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &str = r#"{"city":"Bergen","note":"meet \"Ann\" now","login":{"password":"hunt","pin":7712},"n":123456,"h":"Bearer abc"}"#;

    #[test]
    fn secrets_of_the_arguments_are_taken_out_of_a_servers_words() {
        let said = "Bergen: password hunt and 7712 of Bearer abc do not fit 123456".to_owned();
        let expected = "Bergen: password [redacted] and [redacted] of [redacted] do not fit 123456";
        assert_eq!(without_secrets(said, ARGUMENTS), expected);
    }

    #[test]
    fn a_record_repeats_no_value_that_is_not_shown() {
        let shown = ShownArguments::parse(&["city".to_owned()]).unwrap();
        let said = r#"Bergen: "meet "Ann" now" or meet \"Ann\" now, 123456, hunt, yes"#.to_owned();
        let expected = r#"Bergen: "[redacted]" or [redacted], [redacted], [redacted], yes"#;
        assert_eq!(without_values(said, ARGUMENTS, &shown), expected);
    }

    #[test]
    fn many_plain_values_displace_no_secret() {
        let plain = vec!["\"plain one\""; 5_000].join(",");
        let keys: Vec<_> = (0..5_000).map(|n| format!("\"a{n}@example.com\":{n}")).collect();
        let keys = keys.join(",");
        for arguments in [
            format!(r#"{{"rows":[{plain}],"password":"hunt"}}"#),
            format!(r#"{{"rows":[{plain}],"z":{{"deep":[{{"api_key":"hunt"}}]}}}}"#),
            format!(r#"{{"rows":{{{keys}}},"password":"hunt"}}"#),
            format!(r#"{{"rows":[{plain}],"h":"Bearer hunt"}}"#),
        ] {
            for text in [
                without_secrets("no Bearer hunt here".to_owned(), &arguments),
                without_values("no Bearer hunt here".to_owned(), &arguments, &ShownArguments::none()),
            ] {
                assert!(!text.contains("hunt"), "{text}");
            }
        }
    }

    #[test]
    fn large_arguments_cost_no_more_than_their_reading() {
        let many = format!("[{}]", vec!["\"aaaaaaa\""; 100_000].join(","));
        assert_eq!(without_values("text".repeat(500), &many, &ShownArguments::none()).len(), 2_000);
    }
}
