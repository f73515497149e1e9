//! `toolfleet tools approve`: shows a plan of pins, and with `--apply` writes them into the catalog file.
//!
//! The file keeps its form: only the section `pins`, or a tool's own `pin`, is rewritten.
//!
//! **Invariant:** a file is replaced only by a valid catalog that holds every approved pin.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, plain};

use super::pin_status::{ListedNow, PinStatus, statuses};
use super::{diff, source};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `tools approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The catalog file.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: String,
    /// Every tool that the servers of the catalog list.
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Write the catalog file; without this, only the plan is shown.
    #[arg(long)]
    apply: bool,
    /// The tools to approve, as SERVER/NAME.
    #[arg(value_name = "SERVER/NAME", required_unless_present = "all")]
    targets: Vec<String>,
}

/// Lists, plans, and writes with `--apply`.
pub(crate) async fn run(
    args: &ApproveArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let (texts, catalog) = source::read(&args.catalog, connect).await?;
    let Some(path) = source::file(&args.catalog) else {
        return Err(CommandError::usage("--catalog: only a file is written by this command"));
    };
    let statuses = statuses(&catalog, &args.targets, args.all).await?;
    let missing = statuses.iter().find(|s| !matches!(s.now, ListedNow::Listed { .. }));
    if let Some(status) = missing.filter(|_| !args.all) {
        let why = match &status.now {
            ListedNow::Unknown(problem) => problem.as_str(),
            ListedNow::NotListed | ListedNow::Listed { .. } => "its server does not list it",
        };
        return Err(CommandError::usage(format!("{}: cannot be approved: {why}", status.target)));
    }
    let due: Vec<_> = statuses.into_iter().filter(|s| matches!(s.word(), "changed" | "not pinned")).collect();
    diff::show(&due, output)?;
    if !due.is_empty() {
        let text = pinned(&texts.text, &catalog, &due)?;
        verify(&text, &texts.sources, &due)?;
        if args.apply {
            replace(&path, &text)
                .map_err(|e| CommandError::Unavailable(anyhow::anyhow!("{}: {e}", path.display())))?;
        }
    }
    let written = args.apply && !due.is_empty();
    if output.is_json() {
        let tools: Vec<_> = due.iter().map(|s| json!({"tool": s.target, "was": s.word()})).collect();
        output.document(&json!({"approve": tools, "applied": written}))?;
    }
    output.line(match (due.is_empty(), args.apply) {
        (true, _) => "nothing to approve",
        (false, true) => "approved; workers reload the catalog by themselves, at once after SIGHUP",
        (false, false) => "a plan; --apply writes it into the catalog file",
    })?;
    Ok(Exit::Done)
}

/// The catalog's text with the new pins.
fn pinned(text: &str, catalog: &Catalog, due: &[PinStatus]) -> Result<String, CommandError> {
    let mut text = text.to_owned();
    let mut section = BTreeMap::new();
    for status in due {
        let ListedNow::Listed { pin, entry } = &status.now else {
            continue;
        };
        let old = status.approved.as_ref().filter(|a| a.entry.is_none()).map(|a| a.pin.to_string());
        match old {
            // A pin without its entry may be a tool's own: it is replaced in place.
            Some(old) => {
                if text.matches(&old).count() != 1 {
                    let text = format!(
                        "{}: its pin {old} is in the file more than once; change it by hand to {pin}",
                        status.target
                    );
                    return Err(CommandError::usage(text));
                }
                text = text.replace(&old, &pin.to_string());
            }
            None => {
                section.insert(status.target.clone(), entry.clone());
            }
        }
    }
    if section.is_empty() {
        return Ok(text);
    }
    for (server, name, approved) in catalog.pinned() {
        if let Some(entry) = &approved.entry {
            section.entry(format!("{server}/{name}")).or_insert_with(|| entry.clone());
        }
    }
    with_section(&text, section)
}

/// Rewrites the section `pins`, and keeps every other character of the text.
fn with_section(text: &str, entries: BTreeMap<String, Value>) -> Result<String, CommandError> {
    // It has the same length as the text, and every value the same place.
    let json = plain(text);
    let top: BTreeMap<String, &RawValue> = serde_json::from_str(&json).map_err(|_| {
        if !json.trim_start().starts_with('[') {
            let text = "this catalog is YAML, which is not rewritten; write it as JSON with `toolfleet tools import FILE --out catalog.json`";
            return CommandError::usage(text);
        }
        let text = "this catalog is an array by itself, which cannot hold pins; put it under `pika` or `idp` of a catalog";
        CommandError::usage(text)
    })?;
    let mut section: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(old) = top.get("pins") {
        section = serde_json::from_str(old.get()).map_err(|e| CommandError::Unavailable(e.into()))?;
    }
    section.extend(entries);
    let pins = serde_json::to_string_pretty(&section).map_err(|e| CommandError::Unavailable(e.into()))?;
    let pins = pins.replace('\n', "\n  ");
    let start_of = |raw: &RawValue| raw.get().as_ptr() as usize - json.as_ptr() as usize;
    let (before, after, pins) = match top.get("pins") {
        Some(old) => (start_of(old), start_of(old) + old.get().len(), pins),
        None => {
            let end = top.values().map(|raw| start_of(raw) + raw.get().len()).max();
            let end = end.ok_or_else(|| CommandError::usage("the catalog is empty"))?;
            (end, end, format!(",\n  \"pins\": {pins}"))
        }
    };
    let (head, tail) = (text.get(..before).unwrap_or_default(), text.get(after..).unwrap_or_default());
    Ok(format!("{head}{pins}{tail}"))
}

fn verify(
    text: &str,
    material: &toolfleet_catalog::CatalogSources,
    due: &[PinStatus],
) -> Result<(), CommandError> {
    let catalog = Catalog::parse_with(text, material).map_err(|e| CommandError::usage(e.to_string()))?;
    for status in due {
        let holds = |(server, name, approved): &(
            &toolfleet_core::ids::ServerId,
            &str,
            &toolfleet_catalog::Approved,
        )| {
            format!("{server}/{name}") == status.target
                && matches!(&status.now, ListedNow::Listed { pin, .. } if approved.pin == *pin)
        };
        if !catalog.pinned().iter().any(holds) {
            let text = format!("the pin of {} cannot be written; write it by hand", status.target);
            return Err(CommandError::Unavailable(anyhow::anyhow!(text)));
        }
    }
    Ok(())
}

/// Replaces the file atomically: a worker reads the old text or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A link is followed, and the file keeps its permissions.
    let path = std::fs::canonicalize(path)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(&path)?.permissions())?;
    std::fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str) -> BTreeMap<String, Value> {
        BTreeMap::from([(format!("s/{name}"), json!({"name": name}))])
    }

    #[test]
    fn only_the_section_of_pins_is_rewritten() {
        let text = "{ \"servers\" : [ ],   \"tenants\": {\"queue\":[\"*\"]} }\n";
        let first = with_section(text, section("a")).unwrap();
        assert!(
            first.starts_with("{ \"servers\" : [ ],   \"tenants\": {\"queue\":[\"*\"]},\n  \"pins\": {"),
            "{first}"
        );
        let second = with_section(&first, section("b")).unwrap();
        let value: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(value["pins"], json!({"s/a": {"name": "a"}, "s/b": {"name": "b"}}));
        assert!(second.ends_with("} }\n"), "{second}");
    }

    #[test]
    fn comments_and_trailing_commas_stay() {
        let text = "{ // mine\n  \"servers\": [/* none */], // none yet\n  \"tenants\": {\"queue\": [\"*\"]}, // all\n}\n";
        let first = with_section(text, section("a")).unwrap();
        for kept in ["{ // mine\n", "[/* none */], // none yet", "// all\n}\n"] {
            assert!(first.contains(kept), "{first}");
        }
        let value: Value = serde_json::from_str(&plain(&first)).unwrap();
        assert_eq!(value["pins"], json!({"s/a": {"name": "a"}}));
    }
}
