//! What the verbs of `dlq` share: their options, how they stop, and how they show a dead letter.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_client::{DeadLetter, Judged, LetterFilter, Stop};
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::{Timestamp, span};

use crate::commands::which::parse_tenant;
use crate::exit::CommandError;
use crate::output::Output;
use crate::span_of_time::parse_span;
use crate::table::Shape;

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only those of this tool: the registered id, or SERVER/NAME.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Only those of this tenant.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Option<Tenant>,
    /// Only those with this reason: `received_too_often`, or the code of a record, such as `undecodable`.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only those whose call was first sent longer ago than this: a number and ms, s, m, h or d.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    older_than: Option<std::time::Duration>,
}

impl FilterArgs {
    pub(super) fn filter(&self, now: Timestamp) -> LetterFilter {
        let ms = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let before = |span| Timestamp::from_ms(now.as_ms().saturating_sub(ms(span)));
        LetterFilter {
            tool: self.tool.clone(),
            tenant: self.tenant.clone(),
            reason: self.reason.clone(),
            sent_before: self.older_than.map(before),
        }
    }
}

/// Where the registered tools are.
#[derive(Debug, Args)]
pub(super) struct CatalogArgs {
    /// The workers' catalog: a file, secret://NAME or table://KEY. It says which tools are safe to repeat, and whose messages workers
    /// believe.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    pub(super) catalog: Option<String>,
}

/// Stops the reading at the first SIGINT or SIGTERM, so that what it has hidden is made visible again. A second one ends the command at
/// once.
pub(super) fn stop_at_signals(stop: Stop) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::Unavailable(error.into());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::spawn(async move {
        for is_last in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.stop();
            if is_last {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// Says how many messages stay hidden, if any.
pub(super) fn note_hidden(output: &Output, hidden: usize) {
    if hidden > 0 {
        output.note(&format!("{hidden} messages stay hidden for up to 30 s: SQS did not make them visible"));
    }
}

/// Says how many messages could not be read.
pub(super) fn note_missed(output: &Output, missed: u64) {
    if missed > 0 {
        output.note(&format!(
            "about {missed} messages were hidden by others, for example by a worker that looks for due ones; run the command again for them"
        ));
    }
}

/// The columns for people.
pub(super) const SHAPE: Shape<'_> =
    Shape::of(&["age", "tenant", "call", "tool", "reason", "may have run", "redrive", "message"])
        .below(&["message"])
        .left_out(&["reason", "may have run"]);

pub(super) fn row(letter: &DeadLetter, judged: &Judged, now: Timestamp) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        span(now.ms_since(letter.first_sent())),
        text(letter.key().map(|key| key.tenant.to_string())),
        text(letter.key().map(|key| key.call_id.to_string())),
        text(letter.tool()),
        letter.reason().to_owned(),
        if judged.may_have_run() { "yes" } else { "no" }.to_owned(),
        judged.class.as_str().to_owned(),
        letter.message_id().to_owned(),
    ]
}

pub(super) fn document(letter: &DeadLetter, judged: &Judged) -> serde_json::Value {
    let key = letter.key();
    serde_json::json!({
        "message_id": letter.message_id(),
        "tenant": key.map(|key| key.tenant.to_string()),
        "call_id": key.map(|key| key.call_id.to_string()),
        "tool": letter.tool(),
        "reason": letter.reason(),
        "class": judged.class.as_str(),
        "may_have_run": judged.may_have_run(),
        "state": judged.row.as_ref().map(|row| row.state.as_str()),
        "first_sent_at": letter.first_sent(),
        "received": letter.received(),
        "queue": letter.queue(),
    })
}
