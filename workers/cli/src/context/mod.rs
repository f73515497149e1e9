//! Contexts: named sets of the variables that connect the command to a fleet, and the fleet of a running `toolfleet dev`.
//!
//! The AWS SDK and the worker read the environment, so a context is applied by starting this program again with its variables. That
//! happens before anything else is read.
//!
//! **Invariant:** the variables of two fleets are never mixed: a context replaces all that the environment says about a fleet,
//! and is refused beside options that name another.

pub(crate) mod chosen;
pub(crate) mod dev_fleet;
pub(crate) mod file;
pub(crate) mod variables;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};

use crate::cli::Cli;
use crate::exit::CommandError;
use crate::network::variable;
use crate::output::Output;
use chosen::{Chosen, choose};

/// Set by this program for the program that it starts again, with its process id: a context is applied.
const APPLIED: &str = "TOOLFLEET_CONTEXT_APPLIED";

/// Options that name a fleet, or a part of one.
const FLEET_OPTIONS: [&str; 6] =
    ["queue_url", "queue_url_high", "queue_url_low", "table_prefix", "history_shards", "payload_bucket"];

/// What the command line says about the fleet, as far as it must be known before it is parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The value of `--context`.
    named: Option<String>,
    /// Whether an option names a fleet, or a part of one.
    has_fleet: bool,
    /// Whether the verb needs no fleet, or starts one.
    is_local: bool,
}

impl Wish {
    /// Reads the arguments, the program's name first. What is wrong in them is said later.
    pub(crate) fn of(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let parsed = Cli::command().ignore_errors(true).try_get_matches_from(arguments);
        // It asks for help or for the version.
        let Ok(matches) = parsed else { return Self { is_local: true, ..Self::default() } };
        let given = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        Self {
            named: matches.get_one::<String>("context").cloned(),
            has_fleet: FLEET_OPTIONS.iter().any(given),
            is_local: is_local(&matches),
        }
    }
}

fn is_local(matches: &ArgMatches) -> bool {
    let Some((verb, of_verb)) = matches.subcommand() else { return true };
    match verb {
        "dev" | "context" | "completions" | "help" => true,
        "tools" => of_verb.subcommand_name() == Some("import"),
        "plan" => of_verb.value_source("from_history").is_none(),
        _ => false,
    }
}

/// Starts this program again with the variables of the chosen context, if one is chosen. Returns only if not.
///
/// # Errors
/// The context cannot be read or started.
pub(crate) fn apply() -> Result<(), CommandError> {
    // The program that is started in this one's place has its process id.
    let own = std::process::id().to_string();
    if variable(APPLIED).as_ref() == Some(&own) {
        return Ok(());
    }
    let wish = Wish::of(std::env::args_os());
    if wish.is_local {
        return Ok(());
    }
    let set = match choose(&wish)? {
        Chosen::Environment | Chosen::Nothing => return Ok(()),
        Chosen::Context { variables, .. } => variables::with_region(variables),
        Chosen::Dev(dev) => {
            let text = format!("using the fleet of `toolfleet dev` on this machine, process {}", dev.pid);
            Output::new(false).note(&text);
            let mut env = dev.env;
            // Which catalog to look at is not a part of the fleet.
            env.retain(|name, _| name != "TOOLFLEET_CATALOG" || variable(name).is_none());
            env
        }
    };
    let program = std::env::current_exe().map_err(|error| CommandError::Unavailable(error.into()))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    for name in variables::replaced(&set) {
        command.env_remove(name);
    }
    let error = command.envs(set).env(APPLIED, own).exec();
    Err(CommandError::Unavailable(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &str) -> Wish {
        Wish::of(std::iter::once("toolfleet").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn a_context_is_read_wherever_it_stands() {
        for line in [
            "--context prod status",
            "status --context prod",
            "status --context=prod --json",
            "--table-prefix dev --context prod queue status",
            "--log help --context prod status --nope",
            "sessions --context prod show acme",
        ] {
            assert_eq!(wish(line).named.as_deref(), Some("prod"), "{line}");
            assert!(!wish(line).is_local, "{line}");
        }
        assert_eq!(wish("call -- --context prod").named, None, "it is an argument");
        for line in
            ["status --queue-url https://q", "--table-prefix other status", "status --payload-bucket b"]
        {
            assert!(wish(line).has_fleet, "{line}");
        }
        assert!(!wish("status --json").has_fleet);
    }

    #[test]
    fn verbs_without_a_fleet_have_no_context() {
        for line in [
            "",
            "dev --demo",
            "--log debug dev",
            "context list",
            "completions bash",
            "status --help",
            "--version",
            "tools import x.json",
            "plan --rate 1/s --calls 1:1s",
        ] {
            assert!(wish(line).is_local, "{line}");
        }
        for line in ["status", "tools list", "plan --from-history 7d", "frobnicate --context x"] {
            assert!(!wish(line).is_local || line.starts_with("frob"), "{line}");
        }
    }
}
