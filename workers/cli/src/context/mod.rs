//! Contexts: named sets of the variables that connect the command to a fleet, and the fleet of a running `toolfleet dev`.
//!
//! The AWS SDK and the worker read the environment, so a context is applied by starting this program again with its variables. That
//! happens before anything else is read.
//!
//! **Invariant:** the variables of two fleets are never mixed: a context replaces all that the environment says about a fleet.

pub(crate) mod chosen;
pub(crate) mod dev_fleet;
pub(crate) mod file;
pub(crate) mod variables;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::exit::CommandError;
use crate::network::variable;
use crate::output::Output;
use chosen::{Chosen, choose};

/// Set by this program for the program that it starts again: the context that it has applied.
const APPLIED: &str = "TOOLFLEET_CONTEXT_APPLIED";

/// What the command line says about contexts, as far as it must be known before it is parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The value of `--context`.
    named: Option<String>,
    /// Whether `--queue-url` is given.
    has_queue: bool,
    /// Whether the verb needs no fleet, or starts one.
    is_local: bool,
    /// Whether `--json` is given.
    json: bool,
}

impl Wish {
    /// That context, if one is named.
    pub(crate) fn named(context: Option<&str>) -> Self {
        Self { named: context.map(str::to_owned), ..Self::default() }
    }

    /// Reads the arguments after the program's name.
    pub(crate) fn of(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut wish = Self::default();
        let mut arguments = arguments.into_iter().take_while(|argument| argument != "--");
        let mut verb = None;
        while let Some(argument) = arguments.next() {
            match argument.split_once('=') {
                Some(("--context", name)) => wish.named = Some(name.to_owned()),
                Some(("--queue-url", _)) => wish.has_queue = true,
                _ if argument == "--context" => wish.named = arguments.next(),
                _ if argument == "--queue-url" => wish.has_queue = arguments.next().is_some(),
                _ if argument == "--json" => wish.json = true,
                _ if ["--help", "-h", "--version", "-V"].contains(&argument.as_str()) => wish.is_local = true,
                _ if verb.is_none() && !argument.starts_with('-') => verb = Some(argument),
                _ => {}
            }
        }
        let verb = verb.as_deref();
        wish.is_local |= matches!(verb, None | Some("dev" | "context" | "completions" | "help"));
        wish
    }
}

/// Starts this program again with the variables of the chosen context, if one is chosen. Returns only if not.
///
/// # Errors
/// The context cannot be read or started.
pub(crate) fn apply() -> Result<(), CommandError> {
    let wish = Wish::of(std::env::args().skip(1));
    if wish.is_local || variable(APPLIED).is_some() {
        return Ok(());
    }
    let chosen = choose(&wish)?;
    let (name, set) = match &chosen {
        Chosen::Environment | Chosen::Nothing => return Ok(()),
        Chosen::Context { name, variables, .. } => (name.as_str(), variables),
        Chosen::Dev(dev) => {
            if !wish.json {
                let text = format!("using the fleet of `toolfleet dev` on this machine, process {}", dev.pid);
                Output::new(false).note(&text);
            }
            ("dev", &dev.env)
        }
    };
    let program = std::env::current_exe().map_err(|error| CommandError::Unavailable(error.into()))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    for name in variables::replaced(set) {
        command.env_remove(name);
    }
    let error = command.envs(set).env(APPLIED, name).exec();
    Err(CommandError::Unavailable(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &str) -> Wish {
        Wish::of(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_context_is_read_wherever_it_stands() {
        for line in ["--context prod status", "status --context prod", "status --context=prod --json"] {
            assert_eq!(wish(line).named.as_deref(), Some("prod"), "{line}");
        }
        assert_eq!(wish("call -- --context prod").named, None, "it is an argument");
        assert!(wish("status --queue-url https://q").has_queue);
    }

    #[test]
    fn verbs_without_a_fleet_have_no_context() {
        for line in ["", "dev --demo", "context list", "completions bash", "status --help", "--version"] {
            assert!(wish(line).is_local, "{line}");
        }
        assert!(!wish("status").is_local);
    }
}
