//! Owns `toolfleet call`: sends a call, waits for its result and shows it.
//!
//! **Invariant:** a wait that was too short is said as such, with the way to the result; it is never shown as a failure of the call.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_client::system_clock;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;

use super::another;
use super::request::RequestArgs;
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;
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
    let fleet = connect.fleet().await?;
    let key = &ready.request.key;
    let spinner = spinner(key);
    // Heard from before the message is sent: whoever stops waiting then is told of the call.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::Ours(e.into()))?;
    let sent = system_clock()();
    let is_of_another =
        |row: &CallRow| row.caller.as_ref().is_some_and(|caller| !caller.could_ask(&ready.request));
    fleet.send(&ready).await?;
    let row = tokio::select! {
        row = fleet.wait(key, Duration::from_millis(args.wait_ms), |row| {
            if !is_of_another(row) {
                tell(&spinner, row);
            }
        }) => row?,
        _ = interrupt.recv() => {
            spinner.finish_and_clear();
            output.note(&format!(
                "stopped waiting; the call goes on. Read it later with: toolfleet result {0} {1}\n\
                 or withdraw it with: toolfleet cancel --tenant {0} --call-id {1}",
                key.tenant, key.call_id
            ));
            return Ok(Ending::NoResult);
        }
    };
    let another =
        |row: &&CallRow| row.caller.as_ref().is_some_and(|caller| !caller.could_ask(&ready.request));
    if let Some(row) = row.as_ref().filter(another) {
        let within = Duration::from_millis(args.wait_ms);
        let ending = another::show(&fleet, output, &ready.request, row, sent, within).await;
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
            "no result within {waited}; the call goes on. Read it later with: toolfleet result {} {}",
            key.tenant, key.call_id
        ));
    }
    Ok(ending)
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
