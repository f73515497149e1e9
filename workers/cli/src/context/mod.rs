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
pub(crate) mod wish;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::exit::CommandError;
use crate::network::variable;
use crate::output::Output;
use chosen::{Chosen, choose};
use wish::Wish;

/// Set by this program for the program that it starts again, with its process id: a context is applied.
const APPLIED: &str = "TOOLFLEET_CONTEXT_APPLIED";

/// Starts this program again with the variables of the chosen context, if one is chosen. Returns only if not.
///
/// # Errors
/// The context cannot be read or started.
pub(crate) fn apply(cli: clap::Command) -> Result<(), CommandError> {
    // The program that is started in this one's place has its process id.
    let own = std::process::id().to_string();
    if variable(APPLIED).as_ref() == Some(&own) {
        return Ok(());
    }
    let wish = Wish::of(cli, std::env::args_os());
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
