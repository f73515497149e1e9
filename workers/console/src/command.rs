//! The `toolfleet` command that shows the same as a page.

use std::fmt::Write as _;

use toolfleet_client::shell_command::quoted;

/// A command as it is typed.
#[derive(Debug, Clone)]
pub(crate) struct Command(String);

impl Command {
    pub(crate) fn new(verb: &str) -> Self {
        Self(format!("toolfleet {verb}"))
    }

    /// The same with a word.
    #[must_use]
    pub(crate) fn word(mut self, word: &str) -> Self {
        // A word that looks like an option would be taken for one.
        let separator = if word.starts_with('-') { " -- " } else { " " };
        let _written = write!(self.0, "{separator}{}", quoted(word));
        self
    }

    /// The same with an option.
    #[must_use]
    pub(crate) fn option(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        let separator = if value.starts_with('-') { "=" } else { " " };
        let _written = write!(self.0, " --{name}{separator}{}", quoted(value));
        self
    }

    /// The same with an option, if it has a value.
    #[must_use]
    pub(crate) fn option_if_some(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.option(name, value),
            None => self,
        }
    }

    /// The same with a flag, if it is set.
    #[must_use]
    pub(crate) fn flag_if(mut self, name: &str, set: bool) -> Self {
        if set {
            let _written = write!(self.0, " --{name}");
        }
        self
    }

    pub(crate) fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_is_meant() {
        let command =
            Command::new("history").option("since", "1h").flag_if("failed", true).word("a|b").text();
        assert_eq!(command, "toolfleet history --since 1h --failed 'a|b'");
        assert_eq!(Command::new("why").word("acme").word("-c").text(), "toolfleet why acme -- -c");
        assert_eq!(Command::new("stats").option("tool", "-x").text(), "toolfleet stats --tool=-x");
    }
}
