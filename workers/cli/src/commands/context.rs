//! `toolfleet context`: lists, shows, chooses and changes contexts.

use clap::{Args, Subcommand};
use serde_json::json;
use toolfleet_client::shell_command::quoted;

use crate::context::chosen::{Chosen, choose};
use crate::context::dev_fleet;
use crate::context::file::{Contexts, path};
use crate::context::variables::{Variables, names, parse_setting, replaced, with_region};
use crate::context::wish::Wish;
use crate::exit::{CommandError, Exit};
use crate::network::variable;
use crate::output::Output;
use crate::table::Shape;

/// The verbs of `context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts, and the fleet of a running `toolfleet dev`.
    List,
    /// Show the variables of a context, or which fleet commands use now and why.
    Show(ShowArgs),
    /// Use a context in all further commands; without a name, none.
    Use(UseArgs),
    /// Make a context, or change it.
    Set(SetArgs),
    /// Make a context of the variables that are set in this shell, or replace it.
    Save(NameArgs),
    /// Remove a context.
    Remove(NameArgs),
}

/// Which context.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The context's name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
}

/// Which context, if one is named.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The context's name; the fleet in use unless given.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
}

/// Which context from now on.
#[derive(Debug, Args)]
pub(crate) struct UseArgs {
    /// The context's name; none unless given.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
}

/// Which context, and its variables.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The context's name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// A variable and its value, for example AWS_PROFILE=prod; without a value, the variable is taken out.
    #[arg(value_name = "VARIABLE=VALUE", required = true, value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

/// Runs a verb.
pub(crate) fn run(command: &ContextCommand, wish: &Wish, output: &Output) -> Result<Exit, CommandError> {
    match command {
        ContextCommand::List => list(output),
        ContextCommand::Show(ShowArgs { name: Some(name) }) => {
            show(name, "its name", &with_region(Contexts::read()?.get(name)?.clone()), output)
        }
        ContextCommand::Show(ShowArgs { name: None }) => show_chosen(wish, output),
        ContextCommand::Use(args) => use_it(args.name.clone(), output),
        ContextCommand::Set(args) => set(args, output),
        ContextCommand::Save(args) => save(&args.name, output),
        ContextCommand::Remove(args) => remove(&args.name, output),
    }
}

fn list(output: &Output) -> Result<Exit, CommandError> {
    let file = Contexts::read()?;
    let dev = dev_fleet::running();
    if output.is_json() {
        output.document(&json!({"current": file.current, "contexts": file.contexts, "dev": dev}))?;
        return Ok(Exit::Done);
    }
    let variables_of = |variables: &Variables| with_region(variables.clone());
    let cell = |variables: &Variables, name: &str| variables.get(name).cloned().unwrap_or_default();
    let row = |used: &str, name: &str, variables: &Variables| {
        let variables = &variables_of(variables);
        let profile = cell(variables, "AWS_PROFILE");
        let region = cell(variables, "AWS_REGION");
        vec![used.to_owned(), name.to_owned(), cell(variables, "TOOLFLEET_QUEUE_URL"), region, profile]
    };
    let mut rows: Vec<_> = file
        .contexts
        .iter()
        .map(|(name, variables)| {
            row(if file.current.as_ref() == Some(name) { "*" } else { "" }, name, variables)
        })
        .collect();
    rows.extend(dev.iter().map(|dev| row(if file.current.is_none() { "*" } else { "" }, "(dev)", &dev.env)));
    if rows.is_empty() {
        output.note("no contexts, and no `toolfleet dev` runs; `toolfleet context set NAME VARIABLE=VALUE` makes a context");
        return Ok(Exit::Done);
    }
    output.shaped(&Shape::of(&["", "context", "queue", "region", "profile"]).below(&["queue"]), &rows)?;
    Ok(Exit::Done)
}

fn show_chosen(wish: &Wish, output: &Output) -> Result<Exit, CommandError> {
    match choose(wish)? {
        Chosen::Context { name, by, variables } => show(&name, by, &with_region(variables), output),
        Chosen::Dev(dev) => show("(dev)", "a `toolfleet dev` that runs on this machine", &dev.env, output),
        Chosen::Environment => {
            let of_shell = of_shell();
            show("(environment)", "TOOLFLEET_QUEUE_URL of this shell", &of_shell, output)
        }
        Chosen::Nothing => {
            if output.is_json() {
                output.document(&json!({"context": null, "by": null, "variables": {}}))?;
            }
            output.note("no fleet is configured; start one here with `toolfleet dev`, or see `toolfleet context --help`");
            Ok(Exit::NoResult)
        }
    }
}

fn show(name: &str, by: &str, variables: &Variables, output: &Output) -> Result<Exit, CommandError> {
    if output.is_json() {
        output.document(&json!({"context": name, "by": by, "variables": variables}))?;
    }
    output.line(&format!("# context {name}, chosen by {by}"))?;
    // Pasted into a shell, they replace what it says about another fleet.
    let others: Vec<_> =
        replaced(variables).into_iter().filter(|name| !variables.contains_key(*name)).collect();
    output.line(&format!("unset {}", others.join(" ")))?;
    for (variable, value) in variables {
        output.line(&format!("export {variable}={}", quoted(value)))?;
    }
    Ok(Exit::Done)
}

fn use_it(name: Option<String>, output: &Output) -> Result<Exit, CommandError> {
    let (file, ()) = Contexts::change(|file| {
        if let Some(name) = &name {
            file.get(name)?;
        }
        file.current = name;
        Ok(())
    })?;
    if output.is_json() {
        output.document(&json!({"current": file.current}))?;
    }
    output.line(&match &file.current {
        Some(name) => format!("commands use context {name}"),
        None => "commands use no context".to_owned(),
    })?;
    for first in ["TOOLFLEET_QUEUE_URL", "TOOLFLEET_CONTEXT"] {
        if variable(first).is_some_and(|value| !value.is_empty()) {
            output.note(&format!("{first} is set in this shell and comes first; unset it"));
        }
    }
    Ok(Exit::Done)
}

fn set(args: &SetArgs, output: &Output) -> Result<Exit, CommandError> {
    let (file, stored) = Contexts::change(|file| {
        let variables = file.contexts.entry(args.name.clone()).or_default();
        for (variable, value) in &args.settings {
            if value.is_empty() {
                variables.remove(variable);
            } else {
                variables.insert(variable.clone(), value.clone());
            }
        }
        Ok(variables.clone())
    })?;
    shown(&args.name, &stored, &file, output)
}

fn save(name: &str, output: &Output) -> Result<Exit, CommandError> {
    let variables = of_shell();
    if !variables.contains_key("TOOLFLEET_QUEUE_URL") {
        return Err(CommandError::usage(
            "TOOLFLEET_QUEUE_URL is not set in this shell; set the variables of the fleet first, or use `toolfleet context set`",
        ));
    }
    let (file, _) = Contexts::change(|file| Ok(file.contexts.insert(name.to_owned(), variables.clone())))?;
    if variable("AWS_ACCESS_KEY_ID").is_some() {
        output.note("AWS_ACCESS_KEY_ID is not kept: put the credentials into a profile, and its name into AWS_PROFILE");
    }
    shown(name, &variables, &file, output)
}

fn remove(name: &str, output: &Output) -> Result<Exit, CommandError> {
    let (file, ()) = Contexts::change(|file| {
        file.get(name)?;
        file.contexts.remove(name);
        if file.current.as_deref() == Some(name) {
            file.current = None;
        }
        Ok(())
    })?;
    if output.is_json() {
        output.document(&json!({"removed": name, "current": file.current}))?;
    }
    output.line(&format!("context {name} is removed"))?;
    Ok(Exit::Done)
}

/// What is stored of a context after a change, and where.
fn shown(name: &str, variables: &Variables, file: &Contexts, output: &Output) -> Result<Exit, CommandError> {
    if output.is_json() {
        output.document(&json!({"context": name, "current": file.current, "variables": variables}))?;
    }
    let place = path().map(|path| path.display().to_string()).unwrap_or_default();
    output.line(&format!("context {name} has {} variables, in {place}", variables.len()))?;
    if file.current.as_deref() != Some(name) {
        output.note(&format!(
            "use it with: toolfleet context use {}, or --context {}",
            quoted(name),
            quoted(name)
        ));
    }
    Ok(Exit::Done)
}

/// The variables of a context that this shell has set.
fn of_shell() -> Variables {
    let set = |name: &'static str| Some((name.to_owned(), variable(name).filter(|value| !value.is_empty())?));
    names().filter_map(set).collect()
}

fn parse_name(text: &str) -> Result<String, String> {
    let accepted = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(accepted);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("is no name of a context: accepted are 1 to 64 of A-Z a-z 0-9 - _ .".to_owned())
    }
}
