//! The `toolfleet` command that shows the same as a page.

use toolfleet_client::shell_command::quoted;

/// A command as it is typed: the verb, its options, its words.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    text: String,
    words: Vec<String>,
}

impl Command {
    pub(crate) fn new(verb: &str) -> Self {
        Self { text: format!("toolfleet {verb}"), words: Vec::new() }
    }

    /// The same with a word.
    #[must_use]
    pub(crate) fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// The same with an option.
    #[must_use]
    pub(crate) fn option(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        // A value that looks like an option would be taken for one.
        let separator = if value.starts_with('-') { "=" } else { " " };
        self.text.push_str(&format!(" --{name}{separator}{}", quoted(value)));
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
            self.text.push_str(&format!(" --{name}"));
        }
        self
    }

    pub(crate) fn text(self) -> String {
        let Self { mut text, words } = self;
        if words.iter().any(|word| word.starts_with('-')) {
            text.push_str(" --");
        }
        for word in words {
            text.push(' ');
            text.push_str(&quoted(&word));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_is_meant() {
        let command =
            Command::new("history").word("a|b").option("since", "1h").flag_if("failed", true).text();
        assert_eq!(command, "toolfleet history --since 1h --failed 'a|b'");
        assert_eq!(Command::new("why").word("-a").word("-c").text(), "toolfleet why -- -a -c");
        assert_eq!(Command::new("stats").option("tool", "-x").text(), "toolfleet stats --tool=-x");
    }
}
