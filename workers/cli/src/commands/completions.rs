//! Owns `toolfleet completions`: the script that makes a shell complete commands and options.
//!
//! **Invariant:** needs no connection.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::ending::{Ending, Failure};

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "toolfleet", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Ending::Done)
}
