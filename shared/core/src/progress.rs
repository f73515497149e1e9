//! What a server reports about a running call: its latest progress and its last log lines.
//!
//! It is bounded, whatever a server sends: a number fits the tables, a text is one short line, and few lines are kept.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::time::Timestamp;

/// Log lines kept; older ones are forgotten.
pub const LINES: usize = 5;
/// The bound on a message or a log line, in characters.
pub const TEXT_CHARS: usize = 160;
/// The bound on a log level, in characters.
pub const LEVEL_CHARS: usize = 16;

/// A number that a server gave, if the tables can hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount(f64);

impl Amount {
    /// The number, unless it is none or is so large or small that tables might not hold it without loss: up to 1e15, and down to 1e-15.
    pub fn new(number: f64) -> Option<Self> {
        let size = number.abs();
        (size == 0.0 || (1e-15..1e15).contains(&size)).then_some(Self(number + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only a whole number that stays the same is written as one"
        )]
        let whole = self.0 as i64;
        #[expect(
            clippy::cast_precision_loss,
            clippy::float_cmp,
            reason = "asked is whether anything was lost"
        )]
        let same = whole as f64 == self.0;
        if same { serializer.serialize_i64(whole) } else { serializer.serialize_f64(self.0) }
    }
}

/// How far a call is, in the server's own measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// How much is done.
    pub progress: Amount,
    /// Of how much, where the server knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
    /// What it says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A line that a server logged for the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Its level, one of RFC 5424's.
    pub level: String,
    /// Its text.
    pub text: String,
}

/// One report of a server.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgressNote {
    /// How far it is.
    Progress(Progress),
    /// A log line.
    Log(LogLine),
}

/// What is kept of all reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallProgress {
    /// When the latest report came.
    pub at: Timestamp,
    /// The latest progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last log lines, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogLine>,
}

impl CallProgress {
    /// No notes yet.
    pub const fn none(at: Timestamp) -> Self {
        Self { at, progress: None, log: Vec::new() }
    }

    /// Keeps a report.
    pub fn take(&mut self, note: ProgressNote, at: Timestamp) {
        self.at = at;
        match note {
            ProgressNote::Progress(progress) => self.progress = Some(progress),
            ProgressNote::Log(line) => {
                if self.log.len() >= LINES {
                    self.log.remove(0);
                }
                self.log.push(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_progress_and_the_last_lines_are_kept() {
        let mut notes = CallProgress::none(Timestamp::from_ms(0));
        for n in 0..20_u32 {
            let progress =
                Progress { progress: Amount::new(f64::from(n)).unwrap(), total: None, message: None };
            notes.take(ProgressNote::Progress(progress), Timestamp::from_ms(i64::from(n)));
            notes.take(
                ProgressNote::Log(LogLine { level: "info".into(), text: n.to_string() }),
                Timestamp::from_ms(i64::from(n)),
            );
        }
        assert_eq!(notes.at, Timestamp::from_ms(19));
        assert_eq!(notes.progress.unwrap().progress.to_string(), "19");
        assert_eq!(
            notes.log.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
            ["15", "16", "17", "18", "19"]
        );
    }

    #[test]
    fn a_number_that_no_table_holds_is_none() {
        for number in [f64::NAN, f64::INFINITY, 1e15, -1e300, 1e-16] {
            assert_eq!(Amount::new(number), None, "{number}");
        }
        let shown = [0.1, -0.0, 3.0, 1e14, 2.5e-7].map(|number| Amount::new(number).unwrap().to_string());
        assert_eq!(shown, ["0.1", "0", "3", "100000000000000", "0.00000025"]);
    }

    #[test]
    fn whole_numbers_are_shown_as_such() {
        let json = |number| serde_json::to_string(&Amount::new(number).unwrap()).unwrap();
        assert_eq!([json(3.0), json(0.5), json(-7.0)], ["3", "0.5", "-7"]);
    }
}
