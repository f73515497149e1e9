//! `toolfleet tools import openapi SPEC`: says which tools an OpenAPI document makes, and why each other operation is left out.

use clap::Args;
use serde_json::{Value, json};
use toolfleet_catalog::openapi::{Document, Filter, Given, LeftOut, Operation, ReadOptions, Selection, read};
use url::Url;

use super::source;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::table::Shape;

/// Options of `tools import openapi`.
#[derive(Debug, Args)]
pub(crate) struct OpenApiArgs {
    /// The OpenAPI document: a file, an address, s3://BUCKET/KEY, secret://NAME or table://KEY; JSON or YAML.
    #[arg(value_name = "SPEC")]
    pub(super) spec: Option<String>,
    /// The address of the interface, in the place of the document's.
    #[arg(long, value_name = "URL", requires = "spec")]
    url: Option<Url>,
    /// Take these operations only: tag:NAME, path:PATTERN (`*` for any characters) or operation:NAME.
    #[arg(long, value_name = "WHAT", requires = "spec")]
    include: Vec<String>,
    /// Leave these operations out.
    #[arg(long, value_name = "WHAT", requires = "spec")]
    exclude: Vec<String>,
}

/// The longest description that a table shows, in characters.
const SHORT_CHARS: usize = 60;

/// Reads the document, and shows what becomes of it.
pub(super) async fn run(
    place: &str,
    args: &OpenApiArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let (text, source) = source::document("SPEC", place, connect).await?;
    let options = ReadOptions {
        url: args.url.clone(),
        source,
        place: Some(place.to_owned()),
        filter: Filter { include: selection(&args.include)?, exclude: selection(&args.exclude)? },
        // Whoever names an operation that is not there wants to know it now.
        is_theirs: false,
        given: None,
    };
    let wrong = |reason| CommandError::usage(format!("{place}: {reason}"));
    let document = read(&text, &options).map_err(wrong)?;
    // The same without any credential says which operations ask for one.
    let asking = read(&text, &ReadOptions { given: Some(Given::default()), ..options }).map_err(wrong)?;
    let credentials: Vec<&LeftOut> =
        asking.left_out.iter().filter(|one| one.reason.code == "credential").collect();
    let server = server(place, args);
    for remark in &document.remarks {
        output.note(&format!("note: the document {remark}"));
    }
    if let Some(first) = credentials.first() {
        let (method, path, reason) = (&first.method, &first.path, &first.reason);
        output.note(&format!(
            "note: {} operations ask for credentials, for example `{method} {path}`: it {reason}",
            credentials.len()
        ));
    }
    if output.is_json() {
        output.document(&shown(&document, &credentials, server))?;
    } else {
        tables(&document, output)?;
        output.line("")?;
        output.line(&format!("The server's entry in a catalog: {server}"))?;
    }
    let lost = document.left_out.iter().any(|one| one.reason.code != "filtered");
    Ok(if lost { Exit::NotSucceeded } else { Exit::Done })
}

/// What words such as `tag:pet` name.
fn selection(words: &[String]) -> Result<Selection, CommandError> {
    let mut made = Selection::none();
    for word in words {
        let (list, name) = match word.split_once(':') {
            Some(("tag", name)) => (&mut made.tags, name),
            Some(("path", name)) => (&mut made.paths, name),
            Some(("operation", name)) => (&mut made.operations, name),
            Some(_) | None => {
                let text = format!("`{word}` is neither `tag:NAME`, `path:PATTERN` nor `operation:NAME`");
                return Err(CommandError::usage(format!("--include, --exclude: {text}")));
            }
        };
        list.push(name.to_owned());
    }
    Ok(made)
}

/// The entry of a catalog that registers the same.
fn server(place: &str, args: &OpenApiArgs) -> Value {
    let name = place.rsplit(['/', '\\']).next().unwrap_or(place);
    let stem = name.split('.').next().unwrap_or(name);
    let id: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let id = if id.is_empty() { "interface".to_owned() } else { id };
    let mut server = json!({ "id": id, "openapi": place });
    let mut add = |field: &str, value: Option<Value>| {
        if let (Some(value), Some(fields)) = (value, server.as_object_mut()) {
            fields.insert(field.to_owned(), value);
        }
    };
    add("url", args.url.as_ref().map(Url::to_string).map(Value::from));
    for (field, words) in [("include", &args.include), ("exclude", &args.exclude)] {
        let selection = selection(words).ok().filter(|selection| !selection.is_empty());
        add(field, selection.and_then(|selection| serde_json::to_value(selection).ok()));
    }
    server
}

fn tables(document: &Document, output: &Output) -> Result<(), CommandError> {
    let title = document.title.as_deref().unwrap_or("An interface");
    output.line(&format!("{title} at {} (OpenAPI {}):", document.url, document.version))?;
    let row = |one: &Operation| {
        let description = one.description.as_deref().unwrap_or_default();
        let short: String =
            description.lines().next().unwrap_or_default().chars().take(SHORT_CHARS).collect();
        vec![one.name.clone(), one.method.as_str().to_owned(), one.path.clone(), short]
    };
    output
        .table(&["tool", "method", "path", "description"], document.operations.iter().map(row).collect())?;
    if !document.left_out.is_empty() {
        output.line("")?;
        let row = |one: &LeftOut| vec![one.method.clone(), one.path.clone(), one.reason.to_string()];
        let shape = Shape::of(&["left out", "path", "because it"]).below(&["because it"]);
        output.shaped(&shape, &document.left_out.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn shown(document: &Document, credentials: &[&LeftOut], server: Value) -> Value {
    let tool = |one: &Operation| {
        json!({
            "name": one.name, "method": one.method.as_str(), "path": one.path, "operation_id": one.id, "tags": one.tags,
            "description": one.description, "input_schema": one.arguments(),
        })
    };
    let left = |one: &LeftOut| {
        json!({
            "method": one.method, "path": one.path, "operation_id": one.id, "code": one.reason.code, "reason": one.reason.text,
        })
    };
    json!({
        "title": document.title, "version": document.version, "url": document.url.as_str(),
        "tools": document.operations.iter().map(tool).collect::<Vec<_>>(),
        "left_out": document.left_out.iter().map(left).collect::<Vec<_>>(),
        "ask_for_credentials": credentials.iter().map(|one| left(one)).collect::<Vec<_>>(),
        "remarks": document.remarks,
        "server": server,
    })
}
