//! Lines of a screen that is no wider than its terminal: texts that are cut, and tables of aligned columns.
//!
//! Foreign text (a server's failure, a tool's name, an operator's reason) is cleaned here: no control characters, and none that turn the
//! direction of writing.

use std::ops::Range;

use toolfleet_core::printable::one_line;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The columns between two columns of a table, and those that its first and its last column keep in a narrow terminal.
const GAP: usize = 2;
const FIRST_KEPT: usize = 8;
const LAST_KEPT: usize = 12;

/// What a line says, for its colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// Something to look at.
    Notice,
    /// Something that is broken.
    Alarm,
    /// Nothing to see.
    Faint,
}

/// A line of the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) tone: Tone,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: one_line(&text.into()) }
    }

    /// The same line, no wider than that.
    pub(super) fn within(self, width: usize) -> Self {
        Self { text: cut(&self.text, width), ..self }
    }
}

/// The text, cut to so many columns; an ellipsis says that it was.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.trim_end().to_owned();
    }
    let mut used = 0_usize;
    let mut kept = String::new();
    for c in text.chars() {
        used = used.saturating_add(c.width().unwrap_or(0));
        if used >= width {
            break;
        }
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// A table. The first column is cut where the table is too wide; the edge cuts the last one.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    head: Vec<&'static str>,
    /// The columns that are numbers, which stand to the right.
    numbers: Range<usize>,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Grid {
    pub(super) fn new(head: &[&'static str], numbers: Range<usize>) -> Self {
        Self { head: head.to_vec(), numbers, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, tone: Tone, cells: Vec<String>) {
        self.rows.push((tone, cells.iter().map(|cell| one_line(cell)).collect()));
    }

    /// Its lines with the head, in so many columns.
    pub(super) fn lines(self, width: usize) -> Vec<Line> {
        let head = self.head.iter().map(|name| name.to_uppercase()).collect();
        let rows: Vec<_> = std::iter::once((Tone::Heading, head)).chain(self.rows).collect();
        let mut widths = vec![0_usize; self.head.len()];
        for (_, cells) in &rows {
            for (most, cell) in widths.iter_mut().zip(cells) {
                *most = (*most).max(cell.width());
            }
        }
        let gaps = widths.len().saturating_sub(1).saturating_mul(GAP);
        let others: usize = widths.iter().skip(1).rev().skip(1).sum();
        let last = widths.last().copied().unwrap_or(0);
        // A long text at the end is cut by the edge; it keeps some columns where the first column can give them.
        let left = width.saturating_sub(gaps + others + last.min(LAST_KEPT));
        if let Some(first) = widths.first_mut() {
            *first = (*first).min(left.max(FIRST_KEPT));
        }
        rows.into_iter()
            .map(|(tone, cells)| {
                let shown = cells.iter().zip(&widths).enumerate();
                let shown = shown.map(|(at, (cell, width))| padded(cell, *width, self.numbers.contains(&at)));
                let text = shown.collect::<Vec<_>>().join(&" ".repeat(GAP));
                Line { tone, text: text.trim_end().to_owned() }.within(width)
            })
            .collect()
    }
}

fn padded(cell: &str, width: usize, to_the_right: bool) -> String {
    let cell = cut(cell, width);
    let room = " ".repeat(width.saturating_sub(cell.width()));
    if to_the_right { room + &cell } else { cell + &room }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_moves_no_cursor_and_turns_no_line() {
        let line = Line::new(Tone::Plain, "a\u{1b}[2Jb\r\n\u{202e}c\u{9b}d\u{2028}e");
        assert_eq!(line.text, "a [2Jb   c d e");
    }

    #[test]
    fn a_text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("abc", 1).as_str(), cut("abc", 0).as_str()), ("…", ""));
    }

    #[test]
    fn a_table_keeps_its_numbers_where_it_is_narrow() {
        let mut grid = Grid::new(&["queue", "visible", "age"], 1..2);
        grid.row(Tone::Plain, vec!["a-queue-with-a-long-name".into(), "12".into(), "3 s".into()]);
        grid.row(Tone::Alarm, vec!["b".into(), "1234567".into(), "1 min 3 s".into()]);
        let text = |width| grid.clone().lines(width).into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(
            text(60),
            [
                "QUEUE                     VISIBLE  AGE",
                "a-queue-with-a-long-name       12  3 s",
                "b                         1234567  1 min 3 s"
            ]
        );
        assert_eq!(
            text(30),
            ["QUEUE       VISIBLE  AGE", "a-queue-w…       12  3 s", "b           1234567  1 min 3 s"]
        );
        for width in 0..60 {
            assert!(text(width).iter().all(|line| line.width() <= width), "{width}");
        }
    }
}
