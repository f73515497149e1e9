//! `toolfleet tools import`: prints a configuration of another program as a catalog in our own form, without its secrets.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, NotExecutable, OwnForm};

use super::import_openapi::{self, OpenApiArgs};
use super::source;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `tools import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file: `mcpServers`, `servers`, server.json, Docker's MCP catalog, AgentCore targets, Pika, IDP; JSON or YAML.
    /// Or the word `openapi`, before an OpenAPI document.
    #[arg(value_name = "FILE")]
    place: String,
    /// What is said of an OpenAPI document.
    #[command(flatten)]
    openapi: OpenApiArgs,
    /// Write the catalog to this new file instead of stdout.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Print no catalog, only what of the file is not used or left out.
    #[arg(long)]
    check: bool,
}

/// Reads, and prints or writes.
pub(crate) async fn run(args: &ImportArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    match (args.place.as_str(), &args.openapi.spec) {
        ("openapi", Some(spec)) => return import_openapi::run(spec, &args.openapi, connect, output).await,
        ("openapi", None) => {
            return Err(CommandError::usage("SPEC: is missing; give the OpenAPI document behind `openapi`"));
        }
        (_, Some(_)) => {
            let text = "SPEC: belongs to `openapi` alone; give one file, or `openapi` and the document";
            return Err(CommandError::usage(text));
        }
        (_, None) => {}
    }
    let texts = source::texts("FILE", &args.place, connect).await?;
    let own = Catalog::own_form(&texts.text, &texts.sources.included)
        .map_err(|error| CommandError::usage(format!("{}: {error}", args.place)))?;
    report(&own, output);
    if let Some(path) = &args.out {
        write(path, &own.catalog)?;
    }
    if output.is_json() {
        output.document(&document(&own, args))?;
    } else if args.out.is_none() && !args.check {
        output.line(&format!("{:#}", own.catalog))?;
    }
    let wrong = |(_, found): &(String, NotExecutable)| !found.is_switched_off();
    Ok(if own.left_out.iter().any(wrong) { Exit::NotSucceeded } else { Exit::Done })
}

/// Says on stderr what becomes of the file.
fn report(own: &OwnForm, output: &Output) {
    for remark in &own.remarks {
        output.note(&format!("note: {}: {}", remark.entry, remark.text));
    }
    for secret in &own.secrets {
        let (id, field, variable) = (&secret.id, &secret.field, &secret.variable);
        output.note(&format!(
            "note: {id}.{field}: holds a secret itself; `${{{variable}}}` stands in its place. For `toolfleet dev` set the variable; for a fleet \
             store the secret in Secrets Manager and write `secret://name`"
        ));
    }
    for (_, found) in &own.left_out {
        output.note(&format!("left out: {}: {}", found.entry, found.reason));
    }
}

fn document(own: &OwnForm, args: &ImportArgs) -> Value {
    let remarks = own.remarks.iter().map(|remark| json!({"entry": remark.entry, "text": remark.text}));
    let secrets = own
        .secrets
        .iter()
        .map(|secret| json!({"id": secret.id, "field": secret.field, "variable": secret.variable}));
    let left_out = own
        .left_out
        .iter()
        .map(|(id, found)| json!({"id": id, "entry": found.entry, "reason": found.reason}));
    let mut document = json!({
        "remarks": remarks.collect::<Vec<_>>(), "secrets": secrets.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
    });
    if let (Some(members), None, false) = (document.as_object_mut(), &args.out, args.check) {
        members.insert("catalog".to_owned(), own.catalog.clone());
    }
    document
}

/// Writes a file that is not there yet.
fn write(path: &Path, catalog: &Value) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        let path = path.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return CommandError::usage(format!(
                "--out: {path} exists; give another name, or remove it first"
            ));
        }
        CommandError::Unavailable(anyhow::anyhow!("--out: {path}: {error}"))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    writeln!(file, "{catalog:#}").and_then(|()| file.sync_all()).map_err(failed)
}
