//! Which fleet a command uses: the context that its options name, the environment, the current context, or a running `toolfleet dev`.

use super::dev_fleet::{self, DevFleet};
use super::file::Contexts;
use super::variables::Variables;
use super::wish::Wish;
use crate::exit::CommandError;
use crate::network::variable;

/// What a command uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// The variables of the environment and the options, as they are.
    Environment,
    /// A context.
    Context {
        /// Its name.
        name: String,
        /// What names it.
        by: &'static str,
        /// Its variables.
        variables: Variables,
    },
    /// A running `toolfleet dev`.
    Dev(DevFleet),
    /// Nothing is configured.
    Nothing,
}

/// What the command line, the environment, the file of contexts and this machine choose.
///
/// # Errors
/// The file cannot be read, a context is missing, or two of them are named.
pub(crate) fn choose(wish: &Wish) -> Result<Chosen, CommandError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of_environment = set("TOOLFLEET_CONTEXT");
    let has_queue = set("TOOLFLEET_QUEUE_URL").is_some();
    let two = |name: &str, how: &str| {
        CommandError::usage(format!(
            "two fleets are named: {how} is `{name}`, and an option or TOOLFLEET_QUEUE_URL names another; leave one of them out"
        ))
    };
    let context = |name: String, by| {
        let variables = Contexts::read()?.get(&name)?.clone();
        Ok(Chosen::Context { name, by, variables })
    };
    match (&wish.named, of_environment) {
        (Some(name), _) if wish.has_fleet => Err(two(name, "--context")),
        (Some(name), _) => context(name.clone(), "--context"),
        (None, Some(name)) if wish.has_fleet || has_queue => Err(two(&name, "TOOLFLEET_CONTEXT")),
        (None, Some(name)) => context(name, "TOOLFLEET_CONTEXT"),
        (None, None) if wish.has_fleet || has_queue => Ok(Chosen::Environment),
        (None, None) => match Contexts::read()?.current {
            Some(name) => context(name, "`toolfleet context use`"),
            None => Ok(dev_fleet::running().map_or(Chosen::Nothing, Chosen::Dev)),
        },
    }
}
