//! Keeps the last lines of a program's stderr, and decides which caller may see them.
//!
//! A program that several conversations share may write one caller's data there. Lines from before the handshake are visible to all; a
//! later line is visible to the caller whose request was the only pending one. A program of one conversation shows all lines to it.
//!
//! **Invariant:** at most [`KEPT`] lines are kept, each of them sanitised and short.

use std::collections::VecDeque;

/// Lines that are kept.
const KEPT: usize = 5;

/// Whose request a line may tell of: nobody's, because it came before the handshake; or that of the one who was waiting, if it was one.
type Of = Option<Option<u64>>;

/// The last lines.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<(String, Of)>,
    one_conversation: bool,
}

impl Tail {
    /// Of a program that one conversation has for itself, or not.
    pub(crate) const fn of(one_conversation: bool) -> Self {
        Self { lines: VecDeque::new(), one_conversation }
    }

    pub(crate) fn push(&mut self, line: String, of: Of) {
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
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
        match lines.len() {
            0 => String::new(),
            1 => format!("the last line of its stderr is {}", lines.concat()),
            n => format!("the last {n} lines of its stderr are {}", lines.join(", ")),
        }
    }
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
