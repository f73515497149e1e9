//! Prints tables and text for people, or one JSON document per command with `--json`.
//!
//! **Invariant:** with `--json`, stdout holds only JSON; text for people has no control characters of a tool or a caller, on a terminal, in
//! a file or in a pipe. The exact text is in the JSON.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use toolfleet_core::printable::{one_line, printable};

/// The least width of a terminal, in columns, for which tables are wrapped.
const LEAST_COLUMNS: u16 = 100;

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

    /// A table for people on stdout; nothing with `--json`.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        if self.json { Ok(()) } else { print(&table(header, rows)) }
    }

    /// A line on stderr.
    pub(crate) fn note(&self, text: &str) {
        // A closed stderr cannot be reported.
        let _lost = writeln!(io::stderr().lock(), "{}", printable(text));
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", printable(text))?;
    stdout.flush()
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // Cells are wrapped in a wide terminal only; a narrow one shows long lines better.
    let wide = io::stdout().is_terminal() && table.width().is_some_and(|columns| columns >= LEAST_COLUMNS);
    let arrangement = if wide { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_on_its_line_and_no_line_ends_in_spaces() {
        let text = table(&["a", "b"], vec![vec!["x\ny".into(), String::new()]]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text:?}");
    }
}
