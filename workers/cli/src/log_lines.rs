//! Log lines as a person reads them: the time of day, the level, the message, and the fields that say more.
//!
//! The fields of spans are left out: they are for machines, which read the JSON of `toolfleet-worker`.
//!
//! **Invariant:** an event is one line, and its text controls no terminal.

use std::fmt::{self, Write as _};

use toolfleet_client::system_clock;
use toolfleet_core::printable::escaped;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format.
pub(crate) struct LogLines;

impl<S, N> FormatEvent<S, N> for LogLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let now = system_clock()().to_string();
        // 2026-11-21T09:30:00.123Z
        let time = now.get(11..23).unwrap_or(&now);
        let mut line = Line::default();
        event.record(&mut line);
        let (message, fields) = (escaped(&line.message), escaped(&line.fields));
        if writer.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 34,
            };
            writeln!(
                writer,
                "\u{1b}[2m{time}\u{1b}[0m \u{1b}[{colour}m{level:>5}\u{1b}[0m {message}\u{1b}[2m{fields}\u{1b}[0m"
            )
        } else {
            writeln!(writer, "{time} {level:>5} {message}{fields}")
        }
    }
}

/// The parts of a line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes whatever is written.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
