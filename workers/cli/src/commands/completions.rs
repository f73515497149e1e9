//! `toolfleet completions`: prints the script with which a shell completes commands and options.

use std::io::{self, Write as _};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::{CommandError, Exit};

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the script for `command`.
pub(crate) fn run(args: &CompletionsArgs, mut command: Command) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "toolfleet", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
