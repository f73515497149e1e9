//! The body of an operation: `requestBody`, or `body` and `formData` parameters of 2.0, in the media types that can be written.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use super::document::{Raw, Version, flag, text, texts};
use super::media::{FORM, JSON_PATCH, MULTIPART, essence, is_json, is_xml, rank};
use super::model::{Body, Field, Media, MediaKind};
use super::parameters::{self, Written, describe};
use super::reason::{Reason, shown};
use super::schemas::{Bytes, References, Schemas, is_binary};
use super::xml::Elements;

/// A body with the schema of its argument.
pub(super) struct Described {
    pub(super) body: Body,
    pub(super) schema: Value,
}

/// The body, if the operation has one.
pub(super) fn read<'a>(
    raw: &Raw<'a>,
    operation: &'a Map<String, Value>,
    written: &[Written<'a>],
    schemas: &mut Schemas<'a>,
    elements: &mut Elements<'a>,
    refers_to: &mut References,
) -> Result<Option<Described>, Reason> {
    if raw.version == Version::Two {
        return two(raw, operation, written, schemas, elements, refers_to);
    }
    let Some(value) = operation.get("requestBody") else {
        return Ok(None);
    };
    let fields = raw.resolved(value)?;
    let Some(content) =
        fields.get("content").and_then(Value::as_object).filter(|content| !content.is_empty())
    else {
        return Ok(None);
    };
    let mut kinds: Vec<(&'a str, &'a Value)> =
        content.iter().map(|(media, value)| (media.as_str(), value)).collect();
    kinds.sort_by_key(|(media, _)| rank(media));
    let mut made: Vec<(Media, Value)> = Vec::new();
    for (media, described) in kinds {
        raw.work.count_with(&[media])?;
        let described = raw.resolved(described)?;
        let schema = described.get("schema");
        let Some(media) = media_of(media, schema, described, schemas)? else { continue };
        let schema = match (&media.kind, schema) {
            (MediaKind::Bytes, _) => super::schemas::binary(&Map::new()),
            (kind, Some(schema)) => of_patch(&media, schemas.convert(schema, bytes_of(kind), refers_to)?),
            (MediaKind::Text, None) => json!({ "type": "string" }),
            (_, None) => Value::Bool(true),
        };
        made.push((media, schema));
    }
    if made.is_empty() {
        let schemas_of = content
            .iter()
            .filter_map(|(media, value)| Some((media.as_str(), raw.resolved(value).ok()?.get("schema")?)));
        made.extend(in_xml(schemas_of, schemas, elements, refers_to)?);
    }
    of_kinds(raw, made, content.keys().map(String::as_str), fields).map(Some)
}

/// XML made of a schema, which is written where the operation takes nothing else.
fn in_xml<'a, 'm>(
    kinds: impl Iterator<Item = (&'m str, &'a Value)>,
    schemas: &mut Schemas<'a>,
    elements: &mut Elements<'a>,
    refers_to: &mut References,
) -> Result<Option<(Media, Value)>, Reason> {
    for (media, schema) in kinds.filter(|(media, _)| is_xml(media)) {
        let converted = schemas.convert(schema, Bytes::AsWritten, refers_to)?;
        if let Some(body) = elements.body(schema)? {
            let kind = MediaKind::Xml(body);
            return Ok(Some((Media { content_type: media.trim().to_owned(), kind }, converted)));
        }
    }
    Ok(None)
}

/// The body of these media types, each with its schema.
fn of_kinds<'a>(
    raw: &Raw<'_>,
    made: Vec<(Media, Value)>,
    named: impl Iterator<Item = &'a str>,
    fields: &Map<String, Value>,
) -> Result<Described, Reason> {
    if made.is_empty() {
        let named: Vec<&str> = named.collect();
        let why = if named.iter().any(|media| is_xml(media)) {
            "whose root element has no name (`xml.name`), which is needed to write it"
        } else {
            "which is not written here"
        };
        let text = format!("has a body in {}, {why}", shown(&named.join(", ")));
        return Err(Reason::new("unsupported_body", text));
    }
    let (media, all): (Vec<Media>, Vec<Value>) = made.into_iter().unzip();
    let mut seen = HashSet::new();
    let mut distinct: Vec<Value> = all.into_iter().filter(|schema| seen.insert(schema.to_string())).collect();
    let mut schema = match distinct.len() {
        1 => distinct.pop().unwrap_or(Value::Bool(true)),
        _ => json!({ "anyOf": distinct }),
    };
    describe(raw, &mut schema, fields)?;
    let type_argument = (media.len() > 1).then(|| "content_type".to_owned());
    let body = Body { argument: "body".to_owned(), type_argument, required: flag(fields, "required"), media };
    Ok(Described { body, schema })
}

/// A JSON Patch is a list, whatever the document says of it: Kubernetes has one schema, an object, for every kind of patch.
fn of_patch(media: &Media, schema: Value) -> Value {
    let says_list = schema.get("type").and_then(Value::as_str) == Some("array");
    if essence(&media.content_type) != JSON_PATCH || says_list {
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "array", "items": { "type": "object" } }] })
}

/// Only a part of a form of several parts is a file.
const fn bytes_of(kind: &MediaKind) -> Bytes {
    match kind {
        MediaKind::Multipart(_) | MediaKind::Bytes => Bytes::Decoded,
        MediaKind::Json | MediaKind::Form(_) | MediaKind::Text | MediaKind::Xml(_) => Bytes::AsWritten,
    }
}

/// How a media type is written, if it is.
fn media_of<'a>(
    media: &str,
    schema: Option<&'a Value>,
    described: &'a Map<String, Value>,
    schemas: &Schemas<'a>,
) -> Result<Option<Media>, Reason> {
    let plain = essence(media);
    let is_file = schema.is_some_and(|schema| schemas.is_file(schema));
    let is_range = plain.contains('*');
    let kind = if is_json(&plain) {
        MediaKind::Json
    } else if plain == FORM {
        MediaKind::Form(fields_of(schema, described, schemas)?)
    } else if plain == MULTIPART {
        MediaKind::Multipart(fields_of(schema, described, schemas)?)
    } else if plain.starts_with("multipart/") || (is_xml(&plain) && !is_text(schema)) {
        return Ok(None);
    } else if plain.starts_with("text/") && !is_file || is_xml(&plain) || is_lines(&plain) {
        MediaKind::Text
    } else if is_range && !is_file && !plain.starts_with("image/") {
        MediaKind::Json
    } else {
        MediaKind::Bytes
    };
    let content_type = match (&kind, is_range) {
        (MediaKind::Json, true) => "application/json".to_owned(),
        (MediaKind::Text, true) => "text/plain".to_owned(),
        (_, true) => "application/octet-stream".to_owned(),
        (_, false) => media.trim().to_owned(),
    };
    Ok(Some(Media { content_type, kind }))
}

/// JSON in lines is written by the caller: it is no one value.
fn is_lines(media: &str) -> bool {
    ["application/x-ndjson", "application/jsonl", "application/json-seq", "application/graphql"]
        .contains(&media)
}

fn is_text(schema: Option<&Value>) -> bool {
    let Some(schema) = schema else { return true };
    schema.get("type").and_then(Value::as_str) == Some("string")
}

/// What is said of the fields of a form.
fn fields_of<'a>(
    schema: Option<&'a Value>,
    described: &'a Map<String, Value>,
    schemas: &Schemas<'a>,
) -> Result<BTreeMap<String, Field>, Reason> {
    let encodings = described.get("encoding").and_then(Value::as_object);
    schemas.work().count(encodings.map_or(0, Map::len))?;
    let properties = schema.map(|schema| schemas.properties(schema)).unwrap_or_default();
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for (name, schema) in properties {
        let field = fields.entry(name.to_owned()).or_default();
        field.binary |= schemas.is_file(schema);
        let media = schema.get("contentMediaType").and_then(Value::as_str);
        if field.content_type.is_none() {
            field.content_type = media.map(str::to_owned);
        }
    }
    for (name, encoding) in encodings.into_iter().flatten() {
        let Some(encoding) = encoding.as_object() else { continue };
        let field = fields.entry(name.clone()).or_default();
        field.encoding = parameters::of_field(encoding);
        // Several media types, or a range of them, leave the choice to the sender.
        let one = text(encoding, "contentType").filter(|media| !media.contains([',', '*']));
        if let Some(media) = one {
            field.content_type = Some(media.to_owned());
        }
    }
    fields.retain(|_, field| *field != Field::default());
    Ok(fields)
}

fn two<'a>(
    raw: &Raw<'a>,
    operation: &'a Map<String, Value>,
    written: &[Written<'a>],
    schemas: &mut Schemas<'a>,
    elements: &mut Elements<'a>,
    refers_to: &mut References,
) -> Result<Option<Described>, Reason> {
    let consumes = operation.get("consumes").or_else(|| raw.root.get("consumes"));
    raw.work.count_texts(consumes)?;
    let mut consumes = texts(consumes);
    consumes.sort_by_key(|media| rank(media));
    let form: Vec<&Written<'a>> = written.iter().filter(|one| one.place == "formData").collect();
    if !form.is_empty() {
        return form_of_two(raw, &form, &consumes, schemas, refers_to).map(Some);
    }
    let Some(body) = written.iter().find(|one| one.place == "body") else {
        return Ok(None);
    };
    if consumes.is_empty() {
        consumes.push("application/json".to_owned());
    }
    let schema = body.fields.get("schema");
    let mut made = Vec::new();
    for media in consumes.iter().filter(|media| ![FORM, MULTIPART].contains(&essence(media).as_str())) {
        let Some(media) = media_of(media, schema, body.fields, schemas)? else { continue };
        let converted = match (&media.kind, schema) {
            (MediaKind::Bytes, _) => super::schemas::binary(&Map::new()),
            (kind, Some(schema)) => of_patch(&media, schemas.convert(schema, bytes_of(kind), refers_to)?),
            (_, None) => Value::Bool(true),
        };
        made.push((media, converted));
    }
    if let (true, Some(schema)) = (made.is_empty(), schema) {
        let kinds = consumes.iter().map(|media| (media.as_str(), schema));
        made.extend(in_xml(kinds, schemas, elements, refers_to)?);
    }
    of_kinds(raw, made, consumes.iter().map(String::as_str), body.fields).map(Some)
}

/// The form that `formData` parameters make. A file needs `multipart/form-data`.
fn form_of_two<'a>(
    raw: &Raw<'a>,
    form: &[&Written<'a>],
    consumes: &[String],
    schemas: &mut Schemas<'a>,
    refers_to: &mut References,
) -> Result<Described, Reason> {
    let (mut properties, mut required, mut fields) = (Map::new(), Vec::new(), BTreeMap::new());
    for one in form {
        let own = Value::Object(parameters::of_two(raw, one.fields)?);
        properties.insert(one.name.to_owned(), schemas.convert(&own, Bytes::Decoded, refers_to)?);
        if flag(one.fields, "required") {
            required.push(one.name);
        }
        let is_list = text(one.fields, "type") == Some("array");
        let encoding = is_list.then(|| parameters::of_collection(one.name, one.fields, true)).transpose()?;
        let binary = is_binary(one.fields);
        if binary || encoding.is_some() {
            fields.insert(one.name.to_owned(), Field { content_type: None, encoding, binary });
        }
    }
    let has_file = fields.values().any(|field| field.binary);
    let says = |media: &str| consumes.iter().any(|named| essence(named) == media);
    let multipart = has_file || (says(MULTIPART) && !says(FORM));
    let (content_type, kind) =
        if multipart { (MULTIPART, MediaKind::Multipart(fields)) } else { (FORM, MediaKind::Form(fields)) };
    let media = vec![Media { content_type: content_type.to_owned(), kind }];
    let is_required = !required.is_empty();
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    let body = Body { argument: "body".to_owned(), type_argument: None, required: is_required, media };
    Ok(Described { body, schema })
}
