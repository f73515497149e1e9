//! Reads the operations of a document: each becomes a tool, or is left out with a reason.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};
use url::Url;

use super::document::{Document, LeftOut, Raw, ReadOptions, Version, text, texts};
use super::filter::{Applied, Seen};
use super::given::Given;
use super::media::is_json;
use super::model::{Body, Location, MediaKind, Method, Operation};
use super::names::{self, Place};
use super::reason::{Reason, shown};
use super::schemas::Schemas;
use super::security::Security;
use super::xml::Elements;
use super::{base, body, parameters};

/// The most operations of a document that may be wanted.
const MOST_OPERATIONS: usize = 20_000;
/// The longest description that is kept, in characters.
const MOST_DESCRIPTION: usize = 4_096;
/// What each field of a path item counts, for each of its paths.
const OF_OPERATION: usize = 20;
/// Fields of a path item that are no operations.
const NOT_METHODS: [&str; 5] = ["parameters", "servers", "summary", "description", "$ref"];

/// An operation as the document has it.
struct Found<'a> {
    method: Method,
    path: &'a str,
    item: &'a Map<String, Value>,
    fields: &'a Map<String, Value>,
    id: Option<&'a str>,
    tags: Vec<String>,
}

/// What the operations of one document are read with.
struct Reader<'a> {
    raw: Raw<'a>,
    options: &'a ReadOptions,
    base: Url,
    security: Security<'a>,
    schemas: Schemas<'a>,
    elements: Elements<'a>,
}

/// Reads a document.
pub(super) fn read(raw: &Raw<'_>, options: &ReadOptions) -> Result<Document, Reason> {
    let base = base::of_document(raw, options)?;
    let (found, mut left_out) = found(raw)?;
    let names = names(&found);
    let seen: Vec<Seen<'_>> = found.iter().zip(&names).map(|(one, name)| seen(one, name)).collect();
    let Applied { unwanted: wanted, missing } = options.filter.apply(&seen, options.is_theirs)?;
    let count = wanted.iter().filter(|unwanted| unwanted.is_none()).count();
    if count > MOST_OPERATIONS {
        let text = format!(
            "has {count} operations that are wanted, and {MOST_OPERATIONS} are read; choose some by `include` and `exclude`"
        );
        return Err(Reason::new("too_large", text));
    }
    let mut reader = Reader {
        raw: *raw,
        options,
        base: base.clone(),
        security: Security::of(*raw),
        schemas: Schemas::of(*raw),
        elements: Elements::of(*raw),
    };
    let mut operations = Vec::new();
    for ((one, name), unwanted) in found.iter().zip(names.clone()).zip(wanted) {
        let read = unwanted.map_or_else(|| reader.operation(one, name), Err);
        match read {
            Ok(operation) => operations.push(operation),
            Err(reason) => left_out.push(left(one.method.as_str(), one.path, one.id, reason)),
        }
    }
    let mut remarks = remarks(raw);
    remarks.extend(reader.schemas.remarks());
    let (shared, elements) = (reader.schemas.shared(), reader.elements.shared());
    for operation in &mut operations {
        operation.shared = Arc::clone(&shared);
        for media in operation.body.iter_mut().flat_map(|body| &mut body.media) {
            if let MediaKind::Xml(body) = &mut media.kind {
                body.shared = Arc::clone(&elements);
            }
        }
    }
    let info =
        |field: &str| raw.root.pointer(&format!("/info/{field}")).and_then(Value::as_str).map(str::to_owned);
    let (title, description) = (info("title"), info("description"));
    let version = raw.version_text();
    Ok(Document { title, description, version, url: base, operations, left_out, missing, remarks })
}

fn left(method: &str, path: &str, id: Option<&str>, reason: Reason) -> LeftOut {
    LeftOut { method: method.to_owned(), path: path.to_owned(), id: id.map(str::to_owned), reason }
}

fn names(found: &[Found<'_>]) -> Vec<String> {
    let places: Vec<Place<'_>> =
        found.iter().map(|one| Place { method: one.method, path: one.path, id: one.id }).collect();
    names::names(&places)
}

fn seen<'a>(one: &'a Found<'_>, name: &'a str) -> Seen<'a> {
    Seen { name, id: one.id, method: one.method, path: one.path, tags: &one.tags }
}

/// What of a document is no operation that a caller asks for.
fn remarks(raw: &Raw<'_>) -> Vec<String> {
    let count = |field: &str| raw.root.get(field).and_then(Value::as_object).map_or(0, Map::len);
    match count("webhooks") {
        0 => Vec::new(),
        n => vec![format!("has {n} webhooks, which are requests to you and no tools")],
    }
}

/// All operations of the document, and those that no method of ours sends.
fn found<'a>(raw: &Raw<'a>) -> Result<(Vec<Found<'a>>, Vec<LeftOut>), Reason> {
    let Some(paths) = raw.root.get("paths").and_then(Value::as_object) else {
        return match raw.version {
            Version::ThreeOne => Ok((Vec::new(), Vec::new())),
            Version::Two | Version::Three => Err(Reason::invalid("has no `paths`")),
        };
    };
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
        let item = match raw.resolved(item) {
            Ok(item) => item,
            Err(reason) => {
                left_out.push(left("*", path, None, reason));
                continue;
            }
        };
        let more = item.get("additionalOperations").and_then(Value::as_object);
        for (field, value) in item.iter().chain(more.into_iter().flatten()) {
            // A path item may be that of many paths.
            raw.work.count(OF_OPERATION)?;
            raw.work.count_with(&[path, field])?;
            let is_other = NOT_METHODS.contains(&field.as_str()) || field.starts_with("x-");
            if is_other || field == "additionalOperations" {
                continue;
            }
            match operation(raw, path, item, field, value) {
                Ok(one) => found.push(one),
                Err(reason) => left_out.push(left(&field.to_ascii_uppercase(), path, None, reason)),
            }
        }
    }
    raw.work.count(1)?;
    Ok((found, left_out))
}

fn operation<'a>(
    raw: &Raw<'a>,
    path: &'a str,
    item: &'a Map<String, Value>,
    field: &str,
    value: &'a Value,
) -> Result<Found<'a>, Reason> {
    let Some(method) = Method::of_field(field) else {
        let text = format!("has the method {}, which is not sent here", shown(field));
        return Err(Reason::new("unsupported_method", text));
    };
    let Some(fields) = value.as_object() else {
        return Err(Reason::invalid("has something else in the place of an operation"));
    };
    let id = text(fields, "operationId");
    raw.work.count_with(&[id.unwrap_or_default()])?;
    raw.work.count_texts(fields.get("tags"))?;
    let tags = texts(fields.get("tags"));
    Ok(Found { method, path, item, fields, id, tags })
}

impl<'a> Reader<'a> {
    /// Reads an operation, unless more was done for the document than may be.
    fn operation(&mut self, one: &Found<'a>, name: String) -> Result<Operation, Reason> {
        self.raw.work.count(1)?;
        let operation = self.read(one, name)?;
        self.raw.work.count(1)?;
        Ok(operation)
    }

    fn read(&mut self, one: &Found<'a>, name: String) -> Result<Operation, Reason> {
        let base = self.base_of(one)?;
        self.raw.work.count_with(&[base.as_str()])?;
        if let Some(given) = &self.options.given {
            self.security.check(one.fields, given)?;
        }
        let mut refers_to = Vec::new();
        let none = Given::default();
        let given = self.options.given.as_ref().unwrap_or(&none);
        let raw = self.raw;
        let written = parameters::written(&raw, one.item, one.fields)?;
        let mut described = parameters::read(&raw, &written, &mut self.schemas, &mut refers_to, given)?;
        let (schemas, elements) = (&mut self.schemas, &mut self.elements);
        let body = body::read(&raw, one.fields, &written, schemas, elements, &mut refers_to)?;
        check_path(one.path, &described)?;
        let mut arguments = Arguments::default();
        for one in &mut described {
            arguments.add_parameter(one);
        }
        let body = body.map(|body| arguments.add_body(body));
        Ok(Operation {
            name,
            method: one.method,
            path: one.path.to_owned(),
            id: one.id.map(str::to_owned),
            tags: one.tags.clone(),
            description: description(&raw, one)?,
            base,
            accept: accept(&raw, one.fields)?,
            parameters: described.into_iter().map(|described| described.parameter).collect(),
            body,
            schema: arguments.schema(),
            refers_to: self.schemas.reach(refers_to)?,
            shared: Arc::from([]),
            kept: OnceLock::new(),
            kept_definition: OnceLock::new(),
        })
    }

    /// The address of the operation. Credentials go to one origin only, so an operation at another one is left out.
    fn base_of(&self, one: &Found<'_>) -> Result<Url, Reason> {
        if self.raw.version == Version::Two {
            return Ok(self.base.clone());
        }
        let own = base::own(&self.raw, one.fields, self.options)
            .or_else(|| base::own(&self.raw, one.item, self.options));
        let Some(own) = own.transpose()? else {
            return Ok(self.base.clone());
        };
        if own.origin() == self.base.origin() {
            return Ok(own);
        }
        let text = format!(
            "is at an address of its own ({}), and credentials go to one origin; register the document a second time with that `url`",
            shown(own.as_str())
        );
        Err(Reason::new("other_server", text))
    }
}

/// The arguments of an operation, each under a name of its own.
#[derive(Default)]
struct Arguments {
    taken: HashSet<String>,
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Arguments {
    fn add_parameter(&mut self, described: &mut parameters::Described) {
        let parameter = &mut described.parameter;
        parameter.argument = self.free(&parameter.name, parameter.location.as_str());
        if parameter.required {
            self.required.push(parameter.argument.clone());
        }
        self.properties.insert(parameter.argument.clone(), std::mem::take(&mut described.schema));
    }

    fn add_body(&mut self, described: body::Described) -> Body {
        let body::Described { mut body, schema } = described;
        body.argument = self.free(&body.argument, "of_request");
        if body.required {
            self.required.push(body.argument.clone());
        }
        self.properties.insert(body.argument.clone(), schema);
        if let Some(argument) = body.type_argument.take() {
            let argument = self.free(&argument, "of_body");
            let all: Vec<&str> = body.media.iter().map(|media| media.content_type.as_str()).collect();
            let text = "The media type of the body.";
            let schema = json!({ "enum": all, "default": all.first(), "description": text });
            self.properties.insert(argument.clone(), schema);
            body.type_argument = Some(argument);
        }
        body
    }

    /// A name that no other argument has: the wanted one, else with what tells it apart.
    fn free(&mut self, wanted: &str, mark: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.taken.insert(name.clone()) {
            name = format!("{name}_{mark}");
        }
        name
    }

    fn schema(self) -> Map<String, Value> {
        let mut schema = Map::from_iter([
            ("type".to_owned(), Value::from("object")),
            ("properties".to_owned(), Value::Object(self.properties)),
            ("additionalProperties".to_owned(), Value::Bool(false)),
        ]);
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), json!(self.required));
        }
        schema
    }
}

/// Each variable of the path is a parameter of it.
fn check_path(path: &str, described: &[parameters::Described]) -> Result<(), Reason> {
    let is_of_path = |one: &&parameters::Described| one.parameter.location == Location::Path;
    let names: HashSet<&str> =
        described.iter().filter(is_of_path).map(|one| one.parameter.name.as_str()).collect();
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else {
            return Err(Reason::invalid("has a path with `{` and no `}`"));
        };
        if !names.contains(name) {
            return Err(Reason::invalid(format!("has no path parameter {}", shown(name))));
        }
        rest = behind;
    }
    Ok(())
}

fn description(raw: &Raw<'_>, one: &Found<'_>) -> Result<Option<String>, Reason> {
    let texts = [text(one.fields, "summary"), text(one.fields, "description")];
    let mut parts: Vec<&str> = texts.into_iter().flatten().collect();
    raw.work.count_with(&parts)?;
    parts.dedup();
    let whole = parts.join("\n\n");
    let cut: String = whole.chars().take(MOST_DESCRIPTION).collect();
    Ok((!cut.is_empty()).then_some(cut))
}

/// The media types of the answers that mean success, JSON before others.
fn accept(raw: &Raw<'_>, fields: &Map<String, Value>) -> Result<String, Reason> {
    let mut all: Vec<String> = match raw.version {
        Version::Two => {
            let produces = fields.get("produces").or_else(|| raw.root.get("produces"));
            raw.work.count_texts(produces)?;
            texts(produces)
        }
        Version::Three | Version::ThreeOne => {
            let responses = fields.get("responses").and_then(Value::as_object);
            raw.work.count(responses.map_or(0, Map::len))?;
            let good = responses
                .into_iter()
                .flatten()
                .filter(|(status, _)| status.starts_with('2') || *status == "default");
            let content =
                good.filter_map(|(_, response)| raw.resolved(response).ok()?.get("content")?.as_object());
            let named = content.flat_map(|content| content.keys());
            named
                .map(|media| raw.work.count_with(&[media]).map(|()| media.clone()))
                .collect::<Result<_, _>>()?
        }
    };
    let fits = |media: &String| media.is_ascii() && !media.contains(|c: char| c.is_ascii_control());
    all.retain(fits);
    all.sort_by_key(|media| !is_json(media));
    let mut seen = HashSet::new();
    all.retain(|media| media != "*/*" && seen.insert(media.clone()));
    all.truncate(5);
    if all.is_empty() {
        return Ok("application/json, */*;q=0.5".to_owned());
    }
    all.push("*/*;q=0.1".to_owned());
    Ok(all.join(", "))
}
