//! `toolfleet`: the command for developers and operators. Each verb is a file in `commands`.
//!
//! Data goes to stdout, everything else to stderr.

mod cli;
mod commands;
mod connect;
mod context;
mod demo_catalog;
mod examples;
mod exit;
mod log_lines;
mod nearest;
mod network;
mod output;
mod secret_setting;
mod show;
mod signals;
mod span_of_time;
mod start_page;
mod table;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use toolfleet_config::settings::is_coloured;

use crate::cli::Cli;
use crate::exit::CommandError;
use crate::output::Output;

fn main() -> ExitCode {
    toolfleet_mcp::launched().unwrap_or_else(run)
}

fn run() -> ExitCode {
    if let Some(failure) = invalid_argument() {
        return failure.report(&Output::new(asks_for_json()));
    }
    if let Err(failure) = context::apply(Cli::command()) {
        return failure.report(&Output::new(asks_for_json()));
    }
    if std::env::args_os().len() < 2 {
        return start_page::show();
    }
    match parse() {
        Ok(cli) => run_verb(cli),
        Err(error) => wrong_arguments(&error),
    }
}

#[tokio::main]
async fn run_verb(cli: Cli) -> ExitCode {
    let output = Output::new(cli.json);
    if let Err(failure) = log_to_stderr(&cli) {
        return failure.report(&output);
    }
    match Box::pin(commands::run(cli, &output)).await {
        Ok(exit) => exit.code(),
        Err(failure) => failure.report(&output),
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = examples::with_examples(Cli::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Prints what is wrong with the arguments, or the help that they ask for.
fn wrong_arguments(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && asks_for_json() {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let text = text.split("\n\nFor more information, try").next().unwrap_or(text);
        return CommandError::usage(text.trim_end()).report(&Output::new(true));
    }
    error.exit()
}

/// Whether `--json` is among the arguments, for an error before they are understood.
fn asks_for_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
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
        .with_ansi(is_coloured(std::io::stderr().is_terminal()))
        .event_format(log_lines::LogLines)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
