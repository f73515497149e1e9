//! Turns the schemas of a document into JSON Schema 2020-12.
//!
//! A schema that is referred to is converted once and stands below `$defs` under a name of its own; nothing is copied into another
//! schema. So a cycle is a cycle of references, and the work is bounded by the document's size.
//!
//! Only what stands in the place of a schema is read as one: a property may be called `$ref`, an example may hold anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::document::{Raw, SeenSchemas, Version, is_new};
use super::model::SharedSchemas;
use super::read_only::{is_read_only, read_only, require_none, required};
use super::reason::{Reason, shown};
use super::sound::{self, Remarks};
use toolfleet_core::digest::Digest;

/// The deepest nesting of schemas within one another.
const MOST_DEPTH: usize = 100;
/// The most schemas that one operation may refer to.
const MOST_REFERENCES: usize = 5_000;
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

/// The schemas of one document.
pub(super) struct Schemas<'a> {
    raw: Raw<'a>,
    /// The name of each schema that is referred to, by its reference.
    names: HashMap<(String, Bytes), String>,
    remarks: Remarks,
    /// The converted ones by name, each with the names that it refers to.
    converted: HashMap<String, Result<(Value, Vec<String>), Reason>>,
    references: HashMap<String, (String, Bytes)>,
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
        let (names, remarks) = (HashMap::new(), Remarks::new());
        Self { raw, names, remarks, converted: HashMap::new(), references: HashMap::new() }
    }

    /// The schema as JSON Schema. What it refers to is added to `refers_to`.
    pub(super) fn convert(
        &mut self,
        schema: &Value,
        bytes: Bytes,
        refers_to: &mut Vec<String>,
    ) -> Result<Value, Reason> {
        self.schema(schema, (bytes, refers_to), 0)
    }

    /// The names of all schemas that are referred to from these, directly or through others.
    pub(super) fn closure(&mut self, start: Vec<String>) -> Result<Vec<String>, Reason> {
        let mut seen: HashSet<String> = HashSet::new();
        let mut waiting = start;
        while let Some(name) = waiting.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                let text = format!("has arguments that refer to more than {MOST_REFERENCES} schemas");
                return Err(Reason::new("too_large", text));
            }
            waiting.extend(self.converted(&name)?);
        }
        let mut all: Vec<String> = seen.into_iter().collect();
        all.sort_unstable();
        Ok(all)
    }

    /// All schemas that operations refer to.
    pub(super) fn shared(self) -> SharedSchemas {
        let found =
            |(name, schema): (String, Result<(Value, Vec<String>), Reason>)| Some((name, schema.ok()?.0));
        Arc::new(self.converted.into_iter().filter_map(found).collect())
    }

    /// Converts the schema of that name, once; gives what it refers to.
    fn converted(&mut self, name: &str) -> Result<Vec<String>, Reason> {
        if let Some(known) = self.converted.get(name) {
            return known.as_ref().map(|(_, refers_to)| refers_to.clone()).map_err(Clone::clone);
        }
        let Some((reference, bytes)) = self.references.get(name).cloned() else {
            return Err(Reason::broken(name));
        };
        let raw = self.raw;
        let mut refers_to = Vec::new();
        let converted =
            raw.target(&reference).and_then(|schema| self.schema(schema, (bytes, &mut refers_to), 0));
        let result = converted.as_ref().map(|_| refers_to.clone()).map_err(Clone::clone);
        self.converted.insert(name.to_owned(), converted.map(|schema| (schema, refers_to)));
        result
    }

    /// What is read otherwise than it is written.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> {
        self.remarks.iter().map(|text| (*text).to_owned())
    }

    /// The name below `$defs` of what a reference points to.
    fn name_of(&mut self, reference: &str, bytes: Bytes) -> Result<String, Reason> {
        let reference = self.raw.local(reference);
        let key = (reference.to_owned(), bytes);
        if let Some(name) = self.names.get(&key) {
            return Ok(name.clone());
        }
        self.raw.target(reference)?;
        let name = name_of(self.raw.version, reference, bytes);
        self.references.insert(name.clone(), key.clone());
        self.names.insert(key, name.clone());
        Ok(name)
    }

    fn schema(
        &mut self,
        schema: &Value,
        (bytes, refers_to): (Bytes, &mut Vec<String>),
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
        let mut made = Map::new();
        if let Some(Value::String(reference)) = fields.get("$ref") {
            let name = self.name_of(reference, bytes)?;
            refers_to.push(name.clone());
            made.insert("$ref".to_owned(), Value::from(format!("#/$defs/{name}")));
            if self.raw.version != Version::ThreeOne {
                // Siblings of a reference mean nothing before 3.1; people write `nullable` all the same.
                return Ok(nullable(fields, Value::Object(made)));
            }
        }
        if bytes == Bytes::Decoded && is_binary(fields) {
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
        (bytes, refers_to): (Bytes, &mut Vec<String>),
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
                items.iter_mut().for_each(|branch| require_none(branch, &read_only));
            }
            return Ok(Some(Value::Array(items)));
        }
        if BY_NAME.contains(&field) {
            let mut made = Map::new();
            for (name, schema) in value.as_object().into_iter().flatten() {
                if field == "properties" && is_read_only(&self.raw, schema) {
                    continue;
                }
                made.insert(name.clone(), self.schema(schema, (bytes, refers_to), depth)?);
            }
            return Ok(Some(Value::Object(made)));
        }
        Ok(match field {
            "type" => types(value),
            "required" => required(value, &read_only(&self.raw, fields)),
            "enum" => value.as_array().filter(|all| !all.is_empty()).map(|_| value.clone()),
            "nullable" => None,
            "exclusiveMinimum" | "exclusiveMaximum" => {
                (value.is_number() || value.is_boolean()).then(|| value.clone())
            }
            _ if NUMBERS.contains(&field) => value.is_number().then(|| value.clone()),
            "pattern" | "format" | "description" | "title" => value.is_string().then(|| value.clone()),
            "uniqueItems" | "deprecated" | "writeOnly" => value.is_boolean().then(|| value.clone()),
            "default" => (!value.is_null()).then(|| value.clone()),
            _ => (self.raw.version == Version::ThreeOne).then(|| value.clone()),
        })
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
        let own = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
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
            let all: Vec<&str> = all.iter().filter_map(Value::as_str).filter(known).collect();
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
