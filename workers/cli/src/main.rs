//! `toolfleet`: the command for developers and operators. Each verb is a file in `commands`.
//!
//! Data goes to stdout, everything else to stderr.

mod cli;
mod commands;
mod connect;
mod demo_catalog;
mod exit;
mod network;
mod output;
mod shell_command;
mod show;
mod span_of_time;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::exit::CommandError;
use crate::output::Output;

fn main() -> ExitCode {
    toolfleet_mcp::launched().unwrap_or_else(run)
}

#[tokio::main]
async fn run() -> ExitCode {
    if let Some(failure) = invalid_argument() {
        return failure.report(&Output::new(false));
    }
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    if let Err(failure) = log_to_stderr(&cli) {
        return failure.report(&output);
    }
    match Box::pin(commands::run(cli, &output)).await {
        Ok(exit) => exit.code(),
        Err(failure) => failure.report(&output),
    }
}

/// The argument that is not UTF-8, which clap does not name.
fn invalid_argument() -> Option<CommandError> {
    let (place, argument) =
        std::env::args_os().enumerate().find(|(_, argument)| argument.to_str().is_none())?;
    let shown: String = argument.to_string_lossy().chars().take(60).collect();
    Some(CommandError::usage(format!(
        "argument {place}: `{shown}` is not UTF-8 text; correct it, or give a file with @FILE"
    )))
}

fn log_to_stderr(cli: &Cli) -> Result<(), CommandError> {
    let filter = cli.log.as_deref().unwrap_or_else(|| cli.command.log_level());
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|e| CommandError::usage(format!("TOOLFLEET_LOG: `{filter}` is not a log filter: {e}")))?;
    tracing_subscriber::fmt()
        .compact()
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
