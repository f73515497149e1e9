//! `toolfleet call`: sends a call, waits for its result and shows it. A wait that is too short is not an error of the call.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_client::shell_command;
use toolfleet_client::system_clock;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;

use super::request::{Ready, RequestArgs};
use super::reused_id;
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit, error};
use crate::output::Output;
use crate::show::{self, span};
use crate::span_of_time::parse_span;

/// Options of `call`.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(super) request: RequestArgs,
    /// How long to wait for the result.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span)]
    pub(super) wait: Duration,
    /// The same in milliseconds: the name before 2026-11-29.
    #[arg(long, hide = true, value_name = "MS", conflicts_with = "wait")]
    pub(super) wait_ms: Option<u64>,
}

impl CallArgs {
    /// How long to wait for the result.
    fn wait(&self) -> Duration {
        self.wait_ms.map_or(self.wait, Duration::from_millis)
    }
}

/// Sends, waits, shows.
pub(crate) async fn run(args: &CallArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let ready = args.request.request()?;
    let client = connect.client().await?;
    let shown = send_and_wait(args, &client, &ready, output).await;
    shown.map_err(|error| error.of_call(&ready.request.key))
}

async fn send_and_wait(
    args: &CallArgs,
    client: &ClientHandle,
    ready: &Ready,
    output: &Output,
) -> Result<Exit, CommandError> {
    let key = &ready.request.key;
    let spinner = spinner(key);
    // Listened for before the message is sent, so that an interruption prints the call's id.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| CommandError::Unavailable(e.into()))?;
    let sent = system_clock()();
    let is_other_callers =
        |row: &CallRow| row.caller.as_ref().is_some_and(|caller| !caller.could_ask(&ready.request));
    output.note(&format!("call {} of tenant {}", key.call_id, key.tenant));
    let is_sent = Cell::new(false);
    let ended = async {
        let message_id = client.send(ready).await?;
        is_sent.set(true);
        let see = |row: &CallRow| {
            if !is_other_callers(row) {
                show_progress(&spinner, row);
            }
        };
        client.wait(key, &message_id, args.wait(), see).await
    };
    let row = tokio::select! {
        row = ended => row?,
        _ = interrupt.recv() => {
            spinner.finish_and_clear();
            return interrupted(output, key, is_sent.get());
        }
    };
    if let Some(row) = row.as_ref().filter(|row| is_other_callers(row)) {
        let within = args.wait();
        let shown = reused_id::show(client, output, &ready.request, row, sent, within).await;
        spinner.finish_and_clear();
        return shown;
    }
    spinner.finish_and_clear();
    show_row(args, ready, row.as_ref(), output)
}

/// Shows the result, or that there is none yet.
fn show_row(
    args: &CallArgs,
    ready: &Ready,
    row: Option<&CallRow>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let key = &ready.request.key;
    let is_other_question = |row: &CallRow| {
        row.digest.as_ref().is_some_and(|stored| !ready.request.is_of(stored, row.caller.as_deref()))
    };
    if row.is_some_and(is_other_question) {
        output.note(&format!(
            "refused (idempotency_mismatch): the id {} was used before for another question; this is the result of \
             that call. Send this one under an id of its own.",
            key.call_id
        ));
        show::call(output, key, row)?;
        return Ok(Exit::NotSucceeded);
    }
    let exit = show::call(output, key, row)?;
    if exit == Exit::NoResult {
        let waited = span(u64::try_from(args.wait().as_millis()).unwrap_or(u64::MAX));
        output.note(&format!(
            "no result within {waited}; the call goes on. Read it later with: {}",
            shell_command::result(key)
        ));
    }
    Ok(exit)
}

/// Says how to read the result later.
fn interrupted(output: &Output, key: &CallKey, is_sent: bool) -> Result<Exit, CommandError> {
    let goes_on = match is_sent {
        true => "stopped waiting; the call goes on",
        false => "stopped before the queue replied; if it has the message, the call goes on",
    };
    output.note(&format!(
        "{goes_on}. Read it later with: {}\nor cancel it with: {}",
        shell_command::result(key),
        shell_command::cancel(key)
    ));
    if output.is_json() {
        output.document(&error("interrupted", goes_on, Some(key)))?;
    }
    Ok(Exit::NoResult)
}

/// Shows the progress, and what the call waits for.
fn show_progress(spinner: &ProgressBar, row: &CallRow) {
    if let Some(progress) = row.notes.as_ref().and_then(|notes| notes.progress.as_ref()) {
        spinner.set_message(format!("call {}: {}", row.key.call_id, show::progress(progress)));
    }
    if let Some(held) = row.held() {
        spinner.set_message(format!("call {}: {}", row.key.call_id, show::held(held)));
    }
}

/// The spinner of a terminal.
fn spinner(key: &CallKey) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(format!("call {} is sent", key.call_id));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
