//! Prints tables and text for people, or one JSON document per command with `--json`.
//!
//! **Invariant:** with `--json`, stdout holds only JSON; text for people has no control characters of a tool or a caller, on a terminal, in
//! a file or in a pipe. The exact text is in the JSON.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use toolfleet_core::printable::printable;

use crate::table::{Shape, fit, wrapped};

/// The least width of a terminal, in columns, that is believed.
const LEAST_COLUMNS: u16 = 20;

/// The output of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Output for people, or for machines.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether stdout is JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON document on a line of its own, on stdout.
    pub(crate) fn document(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        let mut stdout = io::stdout().lock();
        let text = if stdout.is_terminal() { printable(&text) } else { text };
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// A line for people on stdout; nothing with `--json`.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { print(text) }
    }

    /// Sentences for people on stdout, wrapped at the width of a terminal; nothing with `--json`.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        match terminal_columns(&io::stdout()) {
            Some(width) => self.line(&wrapped(text, width).join("\n")),
            None => self.line(text),
        }
    }

    /// A table for people on stdout; nothing with `--json`.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        self.shaped(&Shape::of(header), &rows)
    }

    /// A table that says what becomes of its columns in a narrow terminal; nothing with `--json`.
    pub(crate) fn shaped(&self, shape: &Shape<'_>, rows: &[Vec<String>]) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let fitted = fit(shape, rows, terminal_columns(&io::stdout()));
        if !fitted.lines.is_empty() {
            print(&fitted.lines.join("\n"))?;
        }
        if !fitted.left_out.is_empty() {
            self.note(&format!("left out for want of room, and in --json: {}", fitted.left_out.join(", ")));
        }
        Ok(())
    }

    /// A line on stderr, wrapped at the width of a terminal.
    pub(crate) fn note(&self, text: &str) {
        let text = printable(text);
        let text = match terminal_columns(&io::stderr()) {
            Some(width) => wrapped(&text, width).join("\n"),
            None => text,
        };
        // A closed stderr cannot be reported.
        let _lost = writeln!(io::stderr().lock(), "{text}");
    }
}

/// The columns of the terminal, if it is one.
pub(crate) fn terminal_columns(stream: &impl io::IsTerminal) -> Option<usize> {
    let (columns, _) = stream.is_terminal().then(|| ratatui::crossterm::terminal::size().ok()).flatten()?;
    (columns >= LEAST_COLUMNS).then_some(usize::from(columns))
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", printable(text))?;
    stdout.flush()
}
