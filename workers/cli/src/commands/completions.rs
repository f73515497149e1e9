//! `toolfleet completions`: prints the script with which a shell completes commands and options.

use std::io::{self, Write as _};

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the script for `command`.
pub(crate) fn run(
    args: &CompletionsArgs,
    mut command: Command,
    output: &Output,
) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "toolfleet", &mut script);
    if output.is_json() {
        let script = String::from_utf8_lossy(&script);
        output.document(&json!({"shell": args.shell.to_string(), "script": script}))?;
        return Ok(Exit::Done);
    }
    io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
