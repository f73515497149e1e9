//! Keeps the last lines of a program's stderr, and decides which caller may see them.
//!
//! A program that several conversations share may write one caller's data there. Lines from before the handshake are visible to all; a
//! later line is visible to the caller whose request was the only pending one. A program of one conversation shows all lines to it.
//!
//! A program that cannot start often says why first, and then prints its usage: the first line of its start that tells of an error is kept
//! beside the last ones.
//!
//! **Invariant:** at most [`KEPT`] lines and one more are kept, each of them sanitised and short.

use std::collections::VecDeque;

/// Lines that are kept.
const KEPT: usize = 5;

/// Whose request a line may tell of: nobody's, because it came before the handshake; or that of the one who was waiting, if it was one.
type Of = Option<Option<u64>>;

/// The last lines.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<(String, Of)>,
    /// The first error before the handshake, once it is none of the last lines.
    first_error: Option<String>,
    one_conversation: bool,
}

impl Tail {
    /// Of a program that one conversation has for itself, or not.
    pub(crate) const fn of(one_conversation: bool) -> Self {
        Self { lines: VecDeque::new(), first_error: None, one_conversation }
    }

    pub(crate) fn push(&mut self, line: String, of: Of) {
        if self.lines.len() >= KEPT
            && let Some((oldest, of)) = self.lines.pop_front()
            && of.is_none()
            && self.first_error.is_none()
            && tells_of_an_error(&oldest)
        {
            self.first_error = Some(oldest);
        }
        self.lines.push_back((line, of));
    }

    /// What the caller with that request may read, as a part of a sentence.
    pub(crate) fn said_to(&self, request: Option<u64>) -> String {
        let may_read = |of: &Of| match of {
            None => true,
            Some(_) if self.one_conversation => true,
            Some(whose) => whose.is_some() && *whose == request,
        };
        let lines: Vec<_> =
            self.lines.iter().filter(|(_, of)| may_read(of)).map(|(line, _)| format!("`{line}`")).collect();
        let last = match lines.len() {
            0 => String::new(),
            1 => format!("the last line of its stderr is {}", lines.concat()),
            n => format!("the last {n} lines of its stderr are {}", lines.join(", ")),
        };
        let starting = self.lines.iter().all(|(_, of)| of.is_none());
        match &self.first_error {
            Some(error) if starting => format!("its stderr begins with the error `{error}`; {last}"),
            Some(_) | None => last,
        }
    }
}

fn tells_of_an_error(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["error", "fatal", "panic"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(one_conversation: bool) -> Tail {
        let mut tail = Tail::of(one_conversation);
        tail.push("starting".to_owned(), None);
        tail.push("of 1".to_owned(), Some(Some(1)));
        tail.push("of nobody".to_owned(), Some(None));
        tail
    }

    #[test]
    fn a_shared_program_shows_its_start_and_the_lines_of_one_request() {
        assert_eq!(tail(false).said_to(Some(1)), "the last 2 lines of its stderr are `starting`, `of 1`");
        for other in [Some(2), None] {
            assert_eq!(tail(false).said_to(other), "the last line of its stderr is `starting`");
        }
        assert!(tail(true).said_to(None).contains("`starting`, `of 1`, `of nobody`"));
    }

    #[test]
    fn the_first_error_of_a_start_is_shown_before_a_long_usage() {
        let mut tail = Tail::of(false);
        for line in ["reading settings", "Error: no cluster is configured", "Usage:", "  --one", "  --two"] {
            tail.push(line.to_owned(), None);
        }
        assert!(!tail.said_to(None).contains("begins with"), "it is one of the last lines");
        for line in ["  --three", "  --error-file", "  --five", "  --six", "  --seven", "  --eight"] {
            tail.push(line.to_owned(), None);
        }
        let said = tail.said_to(None);
        assert!(
            said.starts_with(
                "its stderr begins with the error `Error: no cluster is configured`; the last 5"
            ),
            "{said}"
        );
        // It has started after all: what it said long ago explains no failure of a call.
        tail.push("of 1".to_owned(), Some(Some(1)));
        assert!(!tail.said_to(Some(1)).contains("begins with"));
    }

    #[test]
    fn no_more_than_five_lines_are_kept() {
        let mut tail = Tail::of(true);
        for n in 0..20 {
            tail.push(format!("line {n}"), None);
        }
        assert_eq!(
            tail.said_to(None),
            "the last 5 lines of its stderr are `line 15`, `line 16`, `line 17`, `line 18`, `line 19`"
        );
    }
}
