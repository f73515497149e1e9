//! `toolfleet`: the command for developers and operators. Owns the start and the exit code; every verb is a file in `commands`.
//!
//! **Invariant:** data goes to stdout, everything else to stderr, and every kind of end has an exit code of its own.

mod cli;
mod commands;
mod connect;
mod ending;
mod fleet_file;
mod network;
mod output;
mod shell;
mod show;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::ending::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    toolfleet_mcp::launched().unwrap_or_else(asked)
}

#[tokio::main]
async fn asked() -> ExitCode {
    if let Some(failure) = not_text() {
        return failure.report(&Output::new(false));
    }
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    if let Err(failure) = log_to_stderr(&cli) {
        return failure.report(&output);
    }
    match Box::pin(commands::run(cli, &output)).await {
        Ok(ending) => ending.code(),
        Err(failure) => failure.report(&output),
    }
}

/// Which argument is no text, which clap would not say.
fn not_text() -> Option<Failure> {
    let (place, argument) =
        std::env::args_os().enumerate().find(|(_, argument)| argument.to_str().is_none())?;
    let shown: String = argument.to_string_lossy().chars().take(60).collect();
    Some(Failure::usage(format!(
        "argument {place}: `{shown}` is not UTF-8 text; mend it, or give a file with @FILE"
    )))
}

fn log_to_stderr(cli: &Cli) -> Result<(), Failure> {
    let filter = cli.log.as_deref().unwrap_or_else(|| cli.command.log_level());
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|e| Failure::usage(format!("TOOLFLEET_LOG: `{filter}` is not a log filter: {e}")))?;
    tracing_subscriber::fmt()
        .compact()
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
