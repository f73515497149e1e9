//! Who changes something, why, and for how long: the options that all of these verbs share.

use std::time::Duration;

use clap::Args;
use toolfleet_client::system_clock;
use toolfleet_core::time::Timestamp;

use crate::exit::CommandError;
use crate::network::variable;
use crate::span_of_time::parse_span;

/// The longest text of who and why, in characters.
const LONGEST: usize = 200;

/// Who and why.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why; it is shown to whoever asks why a call waits, and stands in the audit record.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who you are; without it TOOLFLEET_OPERATOR, then the user of this machine.
    #[arg(long, value_name = "NAME", env = "TOOLFLEET_OPERATOR", hide_env_values = true)]
    by: Option<String>,
}

/// How long it lasts.
#[derive(Debug, Args)]
pub(crate) struct Lasting {
    /// How long it lasts: a number and ms, s, m, h or d. Without it, until it is ended.
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
    lasting: Option<Duration>,
}

impl Reason {
    /// Who and why, as other options gave them.
    pub(crate) const fn new(why: String, by: Option<String>) -> Self {
        Self { why, by }
    }

    /// Who and why, checked.
    pub(crate) fn read(&self) -> Result<(String, String), CommandError> {
        let by = self.by.clone().or_else(|| variable("USER")).filter(|by| !by.trim().is_empty());
        let by = by.ok_or_else(|| {
            CommandError::usage(
                "--by: say who you are with it or TOOLFLEET_OPERATOR; the audit record needs it",
            )
        })?;
        Ok((checked("--by", &by)?, checked("--why", &self.why)?))
    }
}

impl Lasting {
    /// When it ends by itself.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        self.lasting.map(|span| end_after(span, now()))
    }
}

/// The first whole second after so long: it lasts no shorter than it was asked for.
fn end_after(span: Duration, now: Timestamp) -> Timestamp {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    now.plus_ms(ms.saturating_add(999)).whole_s()
}

/// The machine's clock.
pub(crate) fn now() -> Timestamp {
    system_clock()()
}

fn checked(option: &str, text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    let count = text.chars().count();
    if text.is_empty() || count > LONGEST || text.chars().any(char::is_control) {
        return Err(CommandError::usage(format!(
            "{option}: has {count} characters; accepted are 1 to {LONGEST} without control characters"
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_change_lasts_as_long_as_it_was_asked_for() {
        let now = Timestamp::from_ms(10_600);
        let end_ms = |ms| end_after(Duration::from_millis(ms), now).as_ms();
        assert_eq!((end_ms(500), end_ms(1_000), end_ms(400)), (12_000, 12_000, 11_000));
    }
}
