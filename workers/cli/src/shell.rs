//! Quotes what a shown command holds: an id may have characters that mean something to a shell.

use std::borrow::Cow;

use toolfleet_core::ids::CallKey;

/// The word as a POSIX shell reads it back.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@+=%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}

/// The command that reads a call's result.
pub(crate) fn result(key: &CallKey) -> String {
    format!("toolfleet result {} {}", word(key.tenant.as_str()), word(key.call_id.as_str()))
}

/// The command that withdraws a call.
pub(crate) fn cancel(key: &CallKey) -> String {
    let (tenant, call_id) = (word(key.tenant.as_str()), word(key.call_id.as_str()));
    format!("toolfleet cancel --tenant {tenant} --call-id {call_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_signs_of_the_shell_is_quoted() {
        for (text, expected) in
            [("c-1:a/b@c", "c-1:a/b@c"), ("a|b", "'a|b'"), ("$(rm)", "'$(rm)'"), ("~x", "'~x'"), ("", "''")]
        {
            assert_eq!(word(text), expected);
        }
    }
}
