//! Turns the schemas of a document into JSON Schema 2020-12.
//!
//! A schema that is referred to is converted once and stands below `$defs` under a name of its own; nothing is copied into another
//! schema. So a cycle is a cycle of references. All else that is read several times is counted ([`Work`]).
//!
//! Only what stands in the place of a schema is read as one: a property may be called `$ref`, an example may hold anything.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::document::{Raw, SeenSchemas, Version, is_new};
use super::model::{SharedSchema, SharedSchemas};
use super::read_only::{is_read_only, read_only, require_none, required};
use super::reason::{Reason, shown};
use super::sound::{self, Remarks};
use super::work::{OF_SCHEMA, Work};
use toolfleet_core::digest::Digest;

/// The deepest nesting of schemas within one another.
const MOST_DEPTH: usize = 100;
/// The most schemas that one operation may refer to.
const MOST_REFERENCES: usize = 5_000;
/// How many references from one schema to another are looked at in the time of one unit of work.
const STEPS: usize = 8;
/// How many characters of a digest tell two names apart.
const MARK_CHARS: usize = 8;

/// Fields that say nothing about a value, or that a judge of arguments must not follow.
const LEFT_OUT: [&str; 13] = [
    "example",
    "examples",
    "xml",
    "discriminator",
    "externalDocs",
    "$id",
    "id",
    "$schema",
    "$anchor",
    "$dynamicAnchor",
    "$vocabulary",
    "$comment",
    "readOnly",
];
/// Fields that hold one schema.
const ONE: [&str; 12] = [
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
    "additionalItems",
];
/// Fields that hold a list of schemas.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Fields that hold schemas by name.
const BY_NAME: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
/// Fields of which a value of another kind is a mistake that is passed over.
const NUMBERS: [&str; 11] = [
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
];

/// The places of schemas among those that are referred to.
pub(super) type References = Vec<u32>;

/// A schema that is referred to.
struct Referred {
    /// Its name below `$defs`.
    name: String,
    reference: String,
    bytes: Bytes,
    /// The converted schema with what it refers to itself, once it was needed.
    converted: Option<Result<(Value, References), Reason>>,
}

/// The schemas of one document.
pub(super) struct Schemas<'a> {
    raw: Raw<'a>,
    remarks: Remarks,
    all: Vec<Referred>,
    /// Where they are, by their references.
    places: HashMap<(String, Bytes), u32>,
    /// Whether all can be converted that is reached from these, for operations that refer to the same.
    reached: HashMap<References, Result<(), Reason>>,
}

/// What bytes are in the place of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bytes {
    /// A file, which a caller may give in base64: it is decoded before it is sent.
    Decoded,
    /// A string, which is sent as it is.
    AsWritten,
}

impl<'a> Schemas<'a> {
    pub(super) fn of(raw: Raw<'a>) -> Self {
        let (places, reached) = (HashMap::new(), HashMap::new());
        Self { raw, remarks: Remarks::new(), all: Vec::new(), places, reached }
    }

    pub(super) const fn work(&self) -> &'a Work {
        self.raw.work
    }

    /// The schema as JSON Schema. What it refers to is added to `refers_to`.
    pub(super) fn convert(
        &mut self,
        schema: &Value,
        bytes: Bytes,
        refers_to: &mut References,
    ) -> Result<Value, Reason> {
        self.schema(schema, (bytes, refers_to), 0)
    }

    /// Converts all schemas that are reached from these. Gives these, each once.
    pub(super) fn reach(&mut self, mut from: References) -> Result<References, Reason> {
        from.sort_unstable();
        from.dedup();
        let known = self.reached.get(&from).cloned();
        let result = known.unwrap_or_else(|| {
            let result = self.search(&from);
            self.reached.insert(from.clone(), result.clone());
            result
        });
        result.map(|()| from)
    }

    fn search(&mut self, from: &[u32]) -> Result<(), Reason> {
        let mut seen: HashSet<u32> = HashSet::new();
        let mut waiting = from.to_vec();
        while let Some(at) = waiting.pop() {
            if !seen.insert(at) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                let text = format!("has arguments that refer to more than {MOST_REFERENCES} schemas");
                return Err(Reason::new("too_large", text));
            }
            let refers_to = self.converted(at)?;
            waiting.extend(refers_to.iter().filter(|to| !seen.contains(to)));
            let steps = 1 + refers_to.len() / STEPS;
            self.raw.work.count(steps)?;
        }
        Ok(())
    }

    /// All schemas that operations refer to.
    pub(super) fn shared(self) -> SharedSchemas {
        let shared = |one: Referred| {
            let (schema, refers_to) = one.converted.and_then(Result::ok).unwrap_or_default();
            SharedSchema { name: one.name, schema, refers_to }
        };
        self.all.into_iter().map(shared).collect()
    }

    /// Converts the schema at that place, once; gives what it refers to.
    fn converted(&mut self, at: u32) -> Result<&[u32], Reason> {
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        if let Some(one) = self.all.get(place).filter(|one| one.converted.is_none()) {
            let (reference, bytes) = (one.reference.clone(), one.bytes);
            let mut refers_to = References::new();
            let schema = self.raw.target(&reference);
            let made = schema.and_then(|schema| self.schema(schema, (bytes, &mut refers_to), 0));
            refers_to.sort_unstable();
            refers_to.dedup();
            if let Some(one) = self.all.get_mut(place) {
                one.converted = Some(made.map(|schema| (schema, refers_to)));
            }
        }
        match self.all.get(place).and_then(|one| one.converted.as_ref()) {
            Some(Ok((_, refers_to))) => Ok(refers_to),
            Some(Err(reason)) => Err(reason.clone()),
            None => Ok(&[]),
        }
    }

    /// What is read otherwise than it is written.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> {
        self.remarks.iter().map(|text| (*text).to_owned())
    }

    /// The place of what a reference points to, and its name below `$defs`.
    fn referred(&mut self, reference: &str, bytes: Bytes) -> Result<(u32, &str), Reason> {
        let reference = self.raw.local(reference);
        self.raw.target(reference)?;
        let key = (reference.to_owned(), bytes);
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                let at = u32::try_from(self.all.len()).map_err(|_| Reason::broken(reference))?;
                let name = name_of(self.raw.version, reference, bytes);
                self.all.push(Referred { name, reference: key.0.clone(), bytes, converted: None });
                self.places.insert(key, at);
                at
            }
        };
        let one = usize::try_from(at).ok().and_then(|place| self.all.get(place));
        one.map(|one| (at, one.name.as_str())).ok_or_else(|| Reason::broken(reference))
    }

    fn schema(
        &mut self,
        schema: &Value,
        (bytes, refers_to): (Bytes, &mut References),
        depth: usize,
    ) -> Result<Value, Reason> {
        if depth > MOST_DEPTH {
            let text = format!("has a schema that is nested more than {MOST_DEPTH} deep");
            return Err(Reason::new("too_large", text));
        }
        let Value::Object(fields) = schema else {
            // `true` and `false` are schemas; anything else says nothing.
            return Ok(schema.as_bool().map_or(Value::Bool(true), Value::Bool));
        };
        if fields.contains_key("$dynamicRef") || fields.contains_key("$recursiveRef") {
            let text = "has a schema with `$dynamicRef`, which is not followed";
            return Err(Reason::new("unsupported_schema", text));
        }
        self.raw.work.count(OF_SCHEMA + fields.len())?;
        let mut made = Map::new();
        if let Some(Value::String(reference)) = fields.get("$ref") {
            let (at, name) = self.referred(reference, bytes)?;
            made.insert("$ref".to_owned(), Value::from(format!("#/$defs/{name}")));
            refers_to.push(at);
            if self.raw.version != Version::ThreeOne {
                // Siblings of a reference mean nothing before 3.1; people write `nullable` all the same.
                return Ok(nullable(fields, Value::Object(made)));
            }
        }
        if bytes == Bytes::Decoded && is_binary(fields) {
            self.raw.work.count_texts(fields.get("description"))?;
            return Ok(binary(fields));
        }
        for (field, value) in fields {
            if field == "$ref" || field.starts_with("x-") || LEFT_OUT.contains(&field.as_str()) {
                continue;
            }
            if let Some(value) = self.field(field, value, fields, (bytes, refers_to), depth)? {
                made.insert(field.clone(), value);
            }
        }
        if self.raw.version != Version::ThreeOne {
            bounds(&mut made);
        }
        sound::mend(&mut made, fields, &mut self.remarks);
        if self.raw.version != Version::ThreeOne {
            return Ok(nullable(fields, Value::Object(made)));
        }
        Ok(Value::Object(made))
    }

    /// The value of one field, or nothing where it says nothing.
    fn field(
        &mut self,
        field: &str,
        value: &Value,
        fields: &Map<String, Value>,
        (bytes, refers_to): (Bytes, &mut References),
        depth: usize,
    ) -> Result<Option<Value>, Reason> {
        let depth = depth + 1;
        if ONE.contains(&field) {
            // A list of schemas in `items` is what drafts before 2020-12 call `prefixItems`.
            let one = value.as_array().and_then(|items| items.first()).unwrap_or(value);
            return self.schema(one, (bytes, refers_to), depth).map(Some);
        }
        if LIST.contains(&field) {
            let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
                return Ok(None);
            };
            let items: Result<Vec<Value>, Reason> =
                items.iter().map(|item| self.schema(item, (bytes, refers_to), depth)).collect();
            let mut items = items?;
            if field == "allOf" {
                let read_only = read_only(&self.raw, fields);
                items.iter_mut().for_each(|branch| require_none(&self.raw, branch, &read_only));
            }
            return Ok(Some(Value::Array(items)));
        }
        if BY_NAME.contains(&field) {
            let mut made = Map::new();
            for (name, schema) in value.as_object().into_iter().flatten() {
                if field == "properties" && is_read_only(&self.raw, schema) {
                    continue;
                }
                self.raw.work.count_with(&[name])?;
                made.insert(name.clone(), self.schema(schema, (bytes, refers_to), depth)?);
            }
            return Ok(Some(Value::Object(made)));
        }
        let is_kept = match field {
            "type" => return Ok(types(value)),
            "required" => {
                self.raw.work.count_texts(Some(value))?;
                return Ok(required(value, &read_only(&self.raw, fields)));
            }
            "nullable" => false,
            "enum" => value.as_array().is_some_and(|all| !all.is_empty()),
            "exclusiveMinimum" | "exclusiveMaximum" => value.is_number() || value.is_boolean(),
            _ if NUMBERS.contains(&field) => value.is_number(),
            "pattern" | "format" | "description" | "title" => value.is_string(),
            "uniqueItems" | "deprecated" | "writeOnly" => value.is_boolean(),
            "default" => !value.is_null(),
            _ => self.raw.version == Version::ThreeOne,
        };
        is_kept.then(|| self.raw.work.copy(value)).transpose()
    }

    /// The schema of a field, looked for through references and `allOf`, as far as a property `name` is found.
    pub(super) fn properties(&self, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        self.add_properties(schema, &mut found, &mut seen, 0);
        found
    }

    fn add_properties(
        &self,
        schema: &'a Value,
        found: &mut Vec<(&'a str, &'a Value)>,
        seen: &mut SeenSchemas,
        depth: usize,
    ) {
        if depth > 8 {
            return;
        }
        let Ok(fields) = self.raw.resolved(schema) else { return };
        if !is_new(fields, seen) {
            return;
        }
        let own = fields.get("properties").and_then(Value::as_object);
        if self.raw.work.count(own.map_or(0, Map::len)).is_err() {
            return;
        }
        let own = own.into_iter().flatten();
        found.extend(own.map(|(name, schema)| (name.as_str(), schema)));
        for list in ["allOf", "anyOf", "oneOf"] {
            for part in fields.get(list).and_then(Value::as_array).into_iter().flatten() {
                self.add_properties(part, found, seen, depth + 1);
            }
        }
    }

    /// Whether a value of the schema, or an item of it, is a file.
    pub(super) fn is_file(&self, schema: &Value) -> bool {
        let raw = self.raw;
        let of = |value: &Value| match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                raw.target(reference).ok().and_then(|at| raw.resolved(at).ok()).is_some_and(is_binary)
            }
            None => value.as_object().is_some_and(is_binary),
        };
        of(schema) || schema.get("items").is_some_and(of)
    }
}

/// The name below `$defs` of what a reference points to. It depends on the reference alone, so that another operation changes no pinned
/// definition: the schemas that the document names keep their names, and all others have a mark.
fn name_of(version: Version, reference: &str, bytes: Bytes) -> String {
    let named = match version {
        Version::Two => "#/definitions/",
        Version::Three | Version::ThreeOne => "#/components/schemas/",
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_plain = |name: &&str| !name.is_empty() && name.chars().all(fits) && !looks_marked(name);
    if bytes == Bytes::AsWritten
        && let Some(name) = reference.strip_prefix(named).filter(is_plain)
    {
        return name.to_owned();
    }
    let last = reference.rsplit('/').next().unwrap_or_default();
    let plain: String = last.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    let with_files = if bytes == Bytes::Decoded { " with files" } else { "" };
    let mark = Digest::of_text(&format!("{reference}{with_files}"));
    format!("{plain}_{}", mark.short(MARK_CHARS))
}

/// Whether a name ends as one with a mark.
fn looks_marked(name: &str) -> bool {
    let mark = name.rsplit_once('_').map(|(_, mark)| mark);
    mark.is_some_and(|mark| mark.len() == MARK_CHARS && mark.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether a string of the schema is bytes.
pub(super) fn is_binary(fields: &Map<String, Value>) -> bool {
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    let raw_media =
        text("contentMediaType").is_some_and(|media| !media.starts_with("text/") && !media.contains("json"));
    text("type") == Some("file")
        || (text("type") == Some("string") && text("format") == Some("binary"))
        || (raw_media && text("contentEncoding").is_none() && matches!(text("type"), None | Some("string")))
}

/// What stands for bytes among arguments, which are JSON.
pub(super) fn binary(fields: &Map<String, Value>) -> Value {
    let described =
        fields.get("description").and_then(Value::as_str).map(|text| format!("{text} ")).unwrap_or_default();
    json!({
        "description": format!("{described}A file: a string is sent as UTF-8 text; for other bytes give an object with `base64`."),
        "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": {
                    "base64": { "type": "string" },
                    "filename": { "type": "string" },
                    "content_type": { "type": "string" },
                },
                "required": ["base64"],
                "additionalProperties": false,
            },
        ],
    })
}

/// The types that JSON Schema knows.
fn types(value: &Value) -> Option<Value> {
    let known = |text: &&str| TYPES.contains(text);
    match value {
        Value::String(text) => known(&text.as_str()).then(|| value.clone()),
        Value::Array(all) => {
            let mut seen = HashSet::new();
            let known = all.iter().filter_map(Value::as_str).filter(known);
            let all: Vec<&str> = known.filter(|name| seen.insert(*name)).collect();
            (!all.is_empty()).then(|| json!(all))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Before 3.1 `exclusiveMinimum` is a flag of `minimum`.
fn bounds(made: &mut Map<String, Value>) {
    for (exclusive, plain) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match made.get(exclusive) {
            Some(Value::Bool(true)) => match made.remove(plain) {
                Some(bound) => made.insert(exclusive.to_owned(), bound),
                None => made.remove(exclusive),
            },
            Some(Value::Bool(false)) => made.remove(exclusive),
            _ => None,
        };
    }
}

/// The schema that also takes null, where `nullable` (3.0) or `x-nullable` (2.0) says so.
fn nullable(fields: &Map<String, Value>, schema: Value) -> Value {
    let says = ["nullable", "x-nullable"].iter().any(|field| fields.get(*field) == Some(&Value::Bool(true)));
    if says { json!({ "anyOf": [schema, { "type": "null" }] }) } else { schema }
}

/// The error of a schema that is no schema.
pub(super) fn missing(what: &str) -> Reason {
    Reason::invalid(format!("has no schema for {}", shown(what)))
}
