//! Shell commands that are shown to the user. Ids are quoted: they may have characters with a meaning in a shell.

use std::borrow::Cow;

use toolfleet_core::ids::CallKey;

/// The text as one word of a POSIX shell.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@+=%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}

/// The command that reads a call's result.
pub fn result(key: &CallKey) -> String {
    format!("toolfleet result {} {}", quoted(key.tenant.as_str()), quoted(key.call_id.as_str()))
}

/// The command that says why a call is not running.
pub fn why(key: &CallKey) -> String {
    format!("toolfleet why {} {}", quoted(key.tenant.as_str()), quoted(key.call_id.as_str()))
}

/// The command that cancels a call.
pub fn cancel(key: &CallKey) -> String {
    format!("toolfleet cancel {} {}", quoted(key.tenant.as_str()), quoted(key.call_id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_special_characters_of_a_shell_is_quoted() {
        for (text, expected) in
            [("c-1:a/b@c", "c-1:a/b@c"), ("a|b", "'a|b'"), ("$(rm)", "'$(rm)'"), ("~x", "'~x'"), ("", "''")]
        {
            assert_eq!(quoted(text), expected);
        }
    }
}
