//! Owns what a server's words repeat of a call's arguments: secrets are taken out of every text, in an audit record all values that are
//! not registered to be shown.

use crate::canonical::{Node, plain};
use crate::redact::{self, REDACTED, is_a_credential, names_a_secret};
use crate::shape::ShownArguments;

/// Shorter secrets are not looked for: they would stand in any text.
const SECRET_BYTES: usize = 4;
/// Shorter values are not looked for, for the same reason.
const VALUE_BYTES: usize = 6;
/// So many values are looked for at most; arguments with more are a document, which nobody repeats word by word.
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
    let mut search = Search { text: &text, shown, found: Vec::new(), left: MOST_VALUES };
    search.node(&node, &mut Vec::new(), false);
    let mut found = search.found;
    // A value may stand in another one.
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found.into_iter().fold(text, |text, value| text.replace(&value, REDACTED))
}

struct Search<'s> {
    text: &'s str,
    shown: Option<&'s ShownArguments>,
    found: Vec<String>,
    left: usize,
}

impl Search<'_> {
    fn node(&mut self, node: &Node<'_>, path: &mut Vec<String>, secret: bool) {
        if self.left == 0 {
            return;
        }
        match node {
            Node::Null | Node::Bool(_) => {}
            Node::Number(written) => self.value(written, path, secret),
            Node::Text(raw) => {
                let value = plain(raw);
                self.value(&value, path, secret || is_a_credential(&value));
                // As JSON writes it.
                let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                if inner != value {
                    self.value(inner, path, secret || is_a_credential(&value));
                }
            }
            Node::Array(items) => items.iter().for_each(|item| self.node(item, path, secret)),
            Node::Object(members) => {
                for (key, item) in members {
                    let key = plain(key);
                    let below = secret || names_a_secret(&key);
                    // A map can be keyed by a token or an address.
                    if redact::key(&key).is_none() {
                        self.value(&key, path, true);
                    }
                    path.push(key.into_owned());
                    self.node(item, path, below);
                    path.pop();
                }
            }
        }
    }

    fn value(&mut self, value: &str, path: &[String], secret: bool) {
        self.left = self.left.saturating_sub(1);
        let looked_for = match self.shown {
            _ if secret => value.len() >= SECRET_BYTES,
            Some(shown) => value.len() >= VALUE_BYTES && !shown.show(path),
            None => false,
        };
        if looked_for && self.text.contains(value) {
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
    fn large_arguments_cost_no_more_than_their_reading() {
        let many = format!("[{}]", vec!["\"aaaaaaa\""; 100_000].join(","));
        assert_eq!(without_values("text".repeat(500), &many, &ShownArguments::none()).len(), 2_000);
    }
}
