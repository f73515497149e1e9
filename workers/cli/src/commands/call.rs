//! Owns `toolfleet call`: sends a call, waits for its result and shows it.
//!
//! **Invariant:** a wait that was too short is said as such, with the way to the result; it is never shown as a failure of the call.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_client::system_clock;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;

use super::another;
use super::request::{Ready, RequestArgs};
use crate::connect::{ClientHandle, Connect};
use crate::ending::{Ending, Failure, error};
use crate::output::Output;
use crate::shell;
use crate::show::{self, span};

/// Options of `call`.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How long to wait for the result, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    wait_ms: u64,
}

/// Sends, waits, shows.
pub(crate) async fn run(args: &CallArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let ready = args.request.request()?;
    let client = connect.client().await?;
    let shown = send_and_wait(args, &client, &ready, output).await;
    shown.map_err(|failure| failure.of_call(&ready.request.key))
}

async fn send_and_wait(
    args: &CallArgs,
    client: &ClientHandle,
    ready: &Ready,
    output: &Output,
) -> Result<Ending, Failure> {
    let key = &ready.request.key;
    let spinner = spinner(key);
    // Heard from before the message is sent: whoever stops waiting then is told of the call.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::Ours(e.into()))?;
    let sent = system_clock()();
    let is_of_another =
        |row: &CallRow| row.caller.as_ref().is_some_and(|caller| !caller.could_ask(&ready.request));
    output.note(&format!("call {} of tenant {}", key.call_id, key.tenant));
    let is_sent = Cell::new(false);
    let ended = async {
        let message_id = client.send(ready).await?;
        is_sent.set(true);
        let see = |row: &CallRow| {
            if !is_of_another(row) {
                tell(&spinner, row);
            }
        };
        client.wait(key, &message_id, Duration::from_millis(args.wait_ms), see).await
    };
    let row = tokio::select! {
        row = ended => row?,
        _ = interrupt.recv() => {
            spinner.finish_and_clear();
            return interrupted(output, key, is_sent.get());
        }
    };
    let another =
        |row: &&CallRow| row.caller.as_ref().is_some_and(|caller| !caller.could_ask(&ready.request));
    if let Some(row) = row.as_ref().filter(another) {
        let within = Duration::from_millis(args.wait_ms);
        let ending = another::show(client, output, &ready.request, row, sent, within).await;
        spinner.finish_and_clear();
        return ending;
    }
    spinner.finish_and_clear();
    let asks_other = |row: &CallRow| {
        row.digest.as_ref().is_some_and(|stored| !ready.request.is_of(stored, row.caller.as_deref()))
    };
    if row.as_ref().is_some_and(asks_other) {
        output.note(&format!(
            "refused (idempotency_mismatch): the id {} was used before for another question; what follows is the result of \
             that call. Send this one under an id of its own.",
            key.call_id
        ));
        show::call(output, key, row.as_ref())?;
        return Ok(Ending::NotSucceeded);
    }
    let ending = show::call(output, key, row.as_ref())?;
    if ending == Ending::NoResult {
        let waited = span(args.wait_ms);
        output.note(&format!(
            "no result within {waited}; the call goes on. Read it later with: {}",
            shell::result(key)
        ));
    }
    Ok(ending)
}

/// What is said to whoever stops waiting.
fn interrupted(output: &Output, key: &CallKey, is_sent: bool) -> Result<Ending, Failure> {
    let goes_on = match is_sent {
        true => "stopped waiting; the call goes on",
        false => "stopped before the queue had answered; if it took the message, the call goes on",
    };
    output.note(&format!(
        "{goes_on}. Read it later with: {}\nor withdraw it with: {}",
        shell::result(key),
        shell::cancel(key)
    ));
    if output.is_json() {
        output.document(&error("interrupted", goes_on, Some(key)))?;
    }
    Ok(Ending::NoResult)
}

/// Shows what the server tells, and what the call waits for.
fn tell(spinner: &ProgressBar, row: &CallRow) {
    if let Some(progress) = row.notes.as_ref().and_then(|notes| notes.progress.as_ref()) {
        spinner.set_message(format!("call {}: {}", row.key.call_id, show::progress(progress)));
    }
    if let Some(held) = row.held() {
        spinner.set_message(format!("call {}: {}", row.key.call_id, show::held(held)));
    }
}

/// A sign of life for people who wait at a terminal.
fn spinner(key: &CallKey) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(format!("call {} is on its way", key.call_id));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
