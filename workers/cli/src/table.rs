//! Tables that fit a terminal, and texts that are wrapped at words.
//!
//! **Invariant:** no cell is cut: what the next command needs, such as an id, is always whole. A table that is too wide writes times without
//! their date, then long texts below their rows, then leaves columns out and names them, and at last writes each row as `name value` lines.

use std::collections::BTreeSet;

use toolfleet_core::printable::one_line;
use unicode_width::UnicodeWidthStr as _;

/// The columns between two columns.
const GAP: usize = 2;
/// The columns before a text that stands below its row.
const INDENT: usize = 2;
/// The most bytes of a label before a text.
const LABEL: usize = 16;

/// The columns of a table, and what becomes of them in a narrow terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    header: &'a [&'a str],
    times: &'a [&'a str],
    below: &'a [&'a str],
    left_out: &'a [&'a str],
}

impl<'a> Shape<'a> {
    /// Columns with these names.
    pub(crate) const fn of(header: &'a [&'a str]) -> Self {
        Self { header, times: &[], below: &[], left_out: &[] }
    }

    /// The columns that are instants in UTC, which need no date where all are of one day.
    pub(crate) const fn times(self, times: &'a [&'a str]) -> Self {
        Self { times, ..self }
    }

    /// The columns that are texts, written below their rows.
    pub(crate) const fn below(self, below: &'a [&'a str]) -> Self {
        Self { below, ..self }
    }

    /// The columns that are left out, the first one first.
    pub(crate) const fn left_out(self, left_out: &'a [&'a str]) -> Self {
        Self { left_out, ..self }
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| *column == name)
    }
}

/// A table in so many columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fitted<'a> {
    /// Its lines, with the head.
    pub(crate) lines: Vec<String>,
    /// The columns that it had no room for.
    pub(crate) left_out: &'a [&'a str],
}

/// The table in so many columns; without a width, as wide as it is.
pub(crate) fn fit<'a>(shape: &Shape<'a>, rows: &[Vec<String>], width: Option<usize>) -> Fitted<'a> {
    let mut grid = Grid {
        head: shape.header.iter().map(|name| name.to_uppercase()).collect(),
        rows: rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect(),
    };
    let all: Vec<usize> = (0..shape.header.len()).collect();
    let whole = |grid: &Grid, shown: &[usize]| Fitted { lines: grid.lines(shown, &[], 0), left_out: &[] };
    let Some(width) = width else { return whole(&grid, &all) };
    if grid.width_of(&all) <= width {
        return whole(&grid, &all);
    }
    for at in shape.times.iter().filter_map(|name| shape.at(name)) {
        grid.shorten_times(at);
    }
    if grid.width_of(&all) <= width {
        return whole(&grid, &all);
    }
    let below: Vec<_> = shape.below.iter().filter_map(|name| shape.at(name)).collect();
    for count in 0..=shape.left_out.len() {
        let (left_out, _) = shape.left_out.split_at(count);
        let gone: BTreeSet<_> = left_out.iter().filter_map(|name| shape.at(name)).collect();
        let kept = |at: &usize| !gone.contains(at);
        let shown: Vec<_> = all.iter().copied().filter(|at| kept(at) && !below.contains(at)).collect();
        if grid.width_of(&shown) <= width {
            let below: Vec<_> = below.iter().copied().filter(kept).collect();
            return Fitted { lines: grid.lines(&shown, &below, width), left_out };
        }
    }
    Fitted { lines: grid.cards(width), left_out: &[] }
}

struct Grid {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn cells(&self, at: usize) -> impl Iterator<Item = &String> {
        self.head.get(at).into_iter().chain(self.rows.iter().filter_map(move |row| row.get(at)))
    }

    fn width_at(&self, at: usize) -> usize {
        self.cells(at).map(|cell| cell.width()).max().unwrap_or(0)
    }

    fn width_of(&self, shown: &[usize]) -> usize {
        let gaps = shown.len().saturating_sub(1).saturating_mul(GAP);
        shown.iter().map(|at| self.width_at(*at)).sum::<usize>().saturating_add(gaps)
    }

    /// Instants as `HH:MM:SS`, with the month and the day where they are not all of one day. The head says that they are in UTC.
    fn shorten_times(&mut self, at: usize) {
        let instants = self.rows.iter().filter_map(|row| row.get(at)).filter(|cell| is_instant(cell));
        let days: BTreeSet<String> = instants.filter_map(|cell| cell.get(..10)).map(str::to_owned).collect();
        if days.is_empty() {
            return;
        }
        if let Some(name) = self.head.get_mut(at) {
            name.push_str(" UTC");
        }
        for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(at)).filter(|cell| is_instant(cell)) {
            let (day, time) = (cell.get(5..10).unwrap_or_default(), cell.get(11..19).unwrap_or_default());
            *cell = if days.len() == 1 { time.to_owned() } else { format!("{day} {time}") };
        }
    }

    /// The lines of these columns, and the texts below each row.
    fn lines(&self, shown: &[usize], below: &[usize], width: usize) -> Vec<String> {
        let widths: Vec<_> = shown.iter().map(|at| (*at, self.width_at(*at))).collect();
        let line = |row: &[String]| {
            let cells = widths.iter().map(|(at, width)| padded(row.get(*at), *width));
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        let mut lines = vec![line(&self.head)];
        for row in &self.rows {
            lines.push(line(row));
            for text in below.iter().filter_map(|at| row.get(*at)).filter(|text| !text.trim().is_empty()) {
                lines.extend(wrapped(&format!("{}{}", " ".repeat(INDENT), text.trim()), width));
            }
        }
        lines
    }

    /// Each row as lines of a name and a value.
    fn cards(&self, width: usize) -> Vec<String> {
        let names = self.head.iter().map(|name| name.width()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for row in &self.rows {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            for (name, value) in self.head.iter().zip(row).filter(|(_, value)| !value.trim().is_empty()) {
                let name = padded(Some(&name.to_lowercase()), names);
                lines.extend(hanging(&format!("{name}{}", " ".repeat(GAP)), value.trim(), width));
            }
        }
        lines
    }
}

/// Whether a cell is an instant, such as `2026-11-30T12:00:00.000Z`.
fn is_instant(cell: &str) -> bool {
    cell.is_ascii() && cell.len() >= 20 && cell.get(10..11) == Some("T") && cell.ends_with('Z')
}

fn padded(cell: Option<&String>, width: usize) -> String {
    let cell = cell.map_or("", String::as_str);
    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width())))
}

/// The lines of a text in so many columns, broken between words and never within one, nor within a command in backticks. What stands before the
/// text, spaces and a label of one column, stays before its first line.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    text.lines()
        .flat_map(|line| {
            let (begin, rest) = line.split_at(label_of(line));
            if line.width() <= width { vec![line.to_owned()] } else { hanging(begin, rest, width) }
        })
        .collect()
}

/// Where the text of a line begins: after its spaces, and after a label that two or more spaces end.
fn label_of(line: &str) -> usize {
    let indent = line.len() - line.trim_start().len();
    let (_, text) = line.split_at(indent);
    let Some(label) = text.find("  ").filter(|at| *at <= LABEL) else { return indent };
    let (_, after) = text.split_at(label);
    indent + label + (after.len() - after.trim_start().len())
}

/// The text after that beginning, its further lines below the text.
fn hanging(begin: &str, text: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(begin.width());
    let (mut lines, mut line, mut is_empty) = (Vec::new(), begin.to_owned(), true);
    for word in words(text) {
        let gap = usize::from(!is_empty);
        if !is_empty && line.width() + gap + word.width() > width {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// The words of a text; what stands between backticks is a part of one.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut begin, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        quoted ^= c == '`';
        if c == ' ' && !quoted {
            words.push(text.get(begin..at).unwrap_or_default());
            begin = at + 1;
        }
    }
    words.push(text.get(begin..).unwrap_or_default());
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199c3f0-6c1e-7d1a-9f3e-2b1c3d4e5f60";

    fn shape() -> Shape<'static> {
        Shape::of(&["time", "call", "tool", "outcome", "worker", "message"])
            .times(&["time"])
            .below(&["message"])
            .left_out(&["worker", "tool"])
    }

    fn rows() -> Vec<Vec<String>> {
        let row = |time: &str, message: &str| {
            [time, ID, "weather", "failed", "ip-10-0-100-7-12", message].map(str::to_owned).to_vec()
        };
        let long = "the server answered with status 503, and the call was tried three times within its deadline of a minute";
        vec![row("2026-11-30T12:00:00.000Z", long), row("2026-11-30T12:00:01.000Z", "")]
    }

    #[test]
    fn a_table_of_a_pipe_is_as_wide_as_it_is() {
        let fitted = fit(&shape(), &rows(), None);
        assert_eq!((fitted.lines.len(), fitted.left_out.len()), (3, 0));
        assert!(fitted.lines[1].contains("2026-11-30T12:00:00.000Z  0199c3f0"), "{:?}", fitted.lines);
        assert!(fitted.lines[1].ends_with("of a minute") && fitted.lines[2].ends_with("ip-10-0-100-7-12"));
    }

    #[test]
    fn a_table_fits_the_terminal_and_cuts_no_id() {
        for width in [60, 80, 100, 120] {
            let fitted = fit(&shape(), &rows(), Some(width));
            let text = fitted.lines.join("\n");
            assert!(fitted.lines.iter().all(|line| line.width() <= width), "{width}:\n{text}");
            assert_eq!(text.matches(ID).count(), 2, "{width}:\n{text}");
            assert!(!text.contains('…'), "{text}");
        }
    }

    #[test]
    fn times_lose_their_day_then_texts_go_below_then_columns_go() {
        let at_80 = fit(&shape(), &rows(), Some(80));
        assert_eq!(
            at_80.lines,
            [
                "TIME UTC  CALL                                  TOOL     OUTCOME",
                "12:00:00  0199c3f0-6c1e-7d1a-9f3e-2b1c3d4e5f60  weather  failed",
                "  the server answered with status 503, and the call was tried three times within",
                "  its deadline of a minute",
                "12:00:01  0199c3f0-6c1e-7d1a-9f3e-2b1c3d4e5f60  weather  failed",
            ]
        );
        assert_eq!(at_80.left_out, ["worker"]);
        let at_60 = fit(&shape(), &rows(), Some(60));
        assert_eq!(at_60.left_out, ["worker", "tool"]);
        assert_eq!(at_60.lines[0], "TIME UTC  CALL                                  OUTCOME");
        assert_eq!(fit(&shape(), &rows(), Some(100)).left_out.len(), 0);
    }

    #[test]
    fn a_row_without_room_is_written_as_names_and_values() {
        let fitted = fit(&Shape::of(&["queue", "visible"]), &[vec![ID.into(), "7".into()]], Some(30));
        assert_eq!(fitted.lines, [format!("queue    {ID}"), "visible  7".to_owned()]);
        let text = "one two three four five".to_owned();
        let fitted = fit(&Shape::of(&["id", "text"]), &[vec!["a".into(), text]], Some(16));
        assert_eq!(fitted.lines, ["id    a", "text  one two", "      three four", "      five"]);
    }

    #[test]
    fn times_of_two_days_keep_their_day() {
        let rows = [vec!["2026-11-30T12:00:00.000Z".into()], vec!["2026-11-29T23:59:59.000Z".to_owned()]];
        let shape = Shape::of(&["since"]).times(&["since"]);
        assert_eq!(fit(&shape, &rows, Some(16)).lines, ["SINCE UTC", "11-30 12:00:00", "11-29 23:59:59"]);
    }

    #[test]
    fn a_cell_stays_on_its_line_and_no_line_ends_in_spaces() {
        let lines = fit(&Shape::of(&["a", "b"]), &[vec!["x\ny".into(), String::new()]], None).lines;
        assert_eq!(lines, ["A    B", "x y"]);
    }

    #[test]
    fn a_text_is_broken_between_words_and_not_within_a_command() {
        assert_eq!(wrapped("  a note of words", 10), ["  a note", "  of words"]);
        assert_eq!(
            wrapped("see `toolfleet history acme` now", 12),
            ["see", "`toolfleet history acme`", "now"]
        );
        assert_eq!(wrapped("a\nb", 10), ["a", "b"]);
        assert_eq!(wrapped("  ok      q: a text", 14), ["  ok      q: a", "          text"]);
    }
}
