//! The command line of the worker, and the table of its settings.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use toolfleet_config::settings::{self, SettingsError, Variables};

use super::WorkerArgs;
use crate::telemetry::TelemetryArgs;

/// The command line of the worker. Every setting is an argument and a variable.
#[derive(Debug, Parser)]
#[command(
    name = "toolfleet-worker",
    version,
    about = "Executes tool-call requests from an SQS queue on MCP servers",
    after_help = AFTER_HELP,
    max_term_width = 120
)]
struct CommandLine {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

const AFTER_HELP: &str = "Also read: the AWS SDK's own variables (AWS_REGION, AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB, \
                          AWS_ENDPOINT_URL_S3, ...) and OpenTelemetry's (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, ...).";

/// What the process does instead of working.
#[derive(Debug, Subcommand)]
enum Action {
    /// Asks the worker at TOOLFLEET_HTTP_ADDR whether it is ready
    Health,
    /// Prints the settings as Markdown
    #[command(hide = true)]
    Settings,
}

/// What the process was asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Work, with these settings.
    Work(ArgMatches),
    /// Ask the worker beside this process whether it is ready.
    Health,
    /// Print the settings as Markdown.
    Settings,
}

impl Invocation {
    /// Reads the arguments, which exclude the program's name, and the variables.
    ///
    /// # Errors
    /// A wrong value, or what the command line asks for or does wrong.
    pub fn read(arguments: &[OsString], variables: Variables<'_>) -> Result<Self, SettingsError> {
        let matches = settings::parse(CommandLine::command(), arguments, variables)?;
        let line = CommandLine::from_arg_matches(&matches);
        match line.map_err(|error| SettingsError::CommandLine(Box::new(error)))?.action {
            None => Ok(Self::Work(matches)),
            Some(Action::Health) => Ok(Self::Health),
            Some(Action::Settings) => Ok(Self::Settings),
        }
    }
}

/// The settings as Markdown: docs/reference/settings.md.
pub fn reference() -> String {
    let command = CommandLine::command();
    format!(
        "# Settings of the worker\n\nGenerated from the declarations by `toolfleet-worker settings`; a test compares them. \
         An argument of the command line takes precedence over the variable.\n{}\n{AFTER_HELP}\n",
        settings::reference(&command)
    )
}
