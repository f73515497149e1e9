//! Reads the two forms of a function's parameters: a JSON Schema, and the map of parameters that Bedrock agents use.
//!
//! **Invariant:** what is neither is refused, not passed as a schema that accepts everything.

use serde_json::{Map, Value, json};

use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::{below, kind, kind as kind_of};
use toolfleet_core::redact::quoted;

/// Depth to which parameters may hold parameters.
const MOST_DEPTH: usize = 16;

/// The JSON Schema of the arguments.
pub(super) fn schema(entry: &str, parameters: Value) -> Result<Value, CatalogError> {
    let Value::Object(map) = parameters else {
        return Err(invalid(entry, format!("is {}; accepted is an object", kind(&parameters))));
    };
    if map.is_empty() {
        return Ok(Value::Object(map));
    }
    if is_schema(&map) { property(entry, map, 0).map(|(schema, _)| schema) } else { of_map(entry, map, 0) }
}

/// A map of parameters holds an object under every key, also under `type`, `properties` and `required`.
fn is_schema(map: &Map<String, Value>) -> bool {
    let plain = |field: &str| map.get(field).is_some_and(|value| !value.is_object());
    let lists = ["required", "allOf", "anyOf", "oneOf", "enum"]
        .iter()
        .any(|field| map.get(*field).is_some_and(Value::is_array));
    let properties = map.get("properties").and_then(Value::as_object);
    plain("type")
        || plain("$ref")
        || plain("$schema")
        || lists
        || properties
            .is_some_and(|properties| properties.values().all(Value::is_object) && !properties.is_empty())
}

/// Bedrock's map: names, and what each parameter is.
fn of_map(entry: &str, map: Map<String, Value>, depth: usize) -> Result<Value, CatalogError> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, value) in map {
        let place = below(entry, &name);
        let parameter = match value {
            Value::Object(parameter) => parameter,
            // `{"sku": "string"}`
            Value::String(word) => Map::from_iter([("type".to_owned(), Value::String(word))]),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                return Err(invalid(&place, format!("is {}; accepted is an object", kind(&other))));
            }
        };
        if !parameter.contains_key("type") && !is_schema(&parameter) {
            return Err(invalid(&below(&place, "type"), format!("is missing; accepted are {TYPES}")));
        }
        let (schema, is_required) = property(&place, parameter, depth)?;
        if is_required {
            required.push(name.clone());
        }
        properties.insert(name, schema);
    }
    Ok(json!({"type": "object", "properties": properties, "required": required}))
}

/// The schema of one parameter, and whether it says of itself that it is required.
fn property(
    entry: &str,
    mut parameter: Map<String, Value>,
    depth: usize,
) -> Result<(Value, bool), CatalogError> {
    if depth > MOST_DEPTH {
        return Err(invalid(entry, format!("is nested more than {MOST_DEPTH} levels deep")));
    }
    let is_required = match parameter.get("required") {
        Some(Value::Bool(required)) => Some(*required),
        Some(Value::String(word)) if word == "true" || word == "false" => Some(word == "true"),
        Some(_) | None => None,
    };
    if is_required.is_some() {
        parameter.remove("required");
    }
    use_schema_type(entry, &mut parameter)?;
    nested_properties(entry, &mut parameter, depth)?;
    nested_items(entry, &mut parameter, depth)?;
    Ok((Value::Object(parameter), is_required == Some(true)))
}

/// Replaces another word for a type by JSON Schema's.
fn use_schema_type(entry: &str, parameter: &mut Map<String, Value>) -> Result<(), CatalogError> {
    match parameter.get("type").cloned() {
        Some(Value::String(word)) => {
            let (kind, format) = known(&word).ok_or_else(|| {
                invalid(&below(entry, "type"), format!("is {}; accepted are {TYPES}", quoted(&word)))
            })?;
            match kind {
                Some(kind) => parameter.insert("type".to_owned(), Value::from(kind)),
                None => parameter.remove("type"),
            };
            if let Some(format) = format {
                parameter.entry("format").or_insert_with(|| Value::from(format));
            }
        }
        Some(Value::Array(_)) | None => {}
        Some(other) => {
            return Err(invalid(
                &below(entry, "type"),
                format!("is {}; accepted are {TYPES}", kind_of(&other)),
            ));
        }
    }
    Ok(())
}

fn nested_properties(
    entry: &str,
    parameter: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), CatalogError> {
    if let Some(Value::Object(properties)) = parameter.get("properties").cloned() {
        let mut required: Vec<Value> =
            parameter.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut schemas = Map::new();
        for (name, value) in properties {
            let place = below(&below(entry, "properties"), &name);
            let Value::Object(value) = value else {
                schemas.insert(name, value);
                continue;
            };
            let (schema, is_required) = property(&place, value, depth + 1)?;
            if is_required && !required.iter().any(|known| known.as_str() == Some(&name)) {
                required.push(Value::from(name.as_str()));
            }
            schemas.insert(name, schema);
        }
        parameter.insert("properties".to_owned(), Value::Object(schemas));
        if !required.is_empty() {
            parameter.insert("required".to_owned(), Value::Array(required));
        }
    }
    Ok(())
}

fn nested_items(entry: &str, parameter: &mut Map<String, Value>, depth: usize) -> Result<(), CatalogError> {
    match parameter.remove("items") {
        Some(Value::Object(items)) => {
            let (items, _) = property(&below(entry, "items"), items, depth + 1)?;
            parameter.insert("items".to_owned(), items);
        }
        // `"items": "string"`
        Some(Value::String(word)) => {
            let items = Map::from_iter([("type".to_owned(), Value::String(word))]);
            let (items, _) = property(&below(entry, "items"), items, depth + 1)?;
            parameter.insert("items".to_owned(), items);
        }
        Some(other) => {
            parameter.insert("items".to_owned(), other);
        }
        None => {}
    }
    Ok(())
}

const TYPES: &str =
    "string, number, integer, boolean, array, object, null, date, time, date-time, uuid, uri, email, any";

/// What JSON Schema calls a type: its type (none where every value fits) and its format.
fn known(word: &str) -> Option<(Option<&'static str>, Option<&'static str>)> {
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    Some(match plain.to_ascii_lowercase().as_str() {
        "string" | "str" | "text" | "char" | "varchar" | "enum" => (Some("string"), None),
        "number" | "float" | "double" | "decimal" | "numeric" => (Some("number"), None),
        "integer" | "int" | "long" | "int32" | "int64" | "short" | "bigint" => (Some("integer"), None),
        "boolean" | "bool" => (Some("boolean"), None),
        "array" | "list" | "set" => (Some("array"), None),
        "object" | "map" | "dict" | "record" | "json" | "struct" => (Some("object"), None),
        "null" => (Some("null"), None),
        "date" => (Some("string"), Some("date")),
        "datetime" | "timestamp" => (Some("string"), Some("date-time")),
        "time" => (Some("string"), Some("time")),
        "uuid" => (Some("string"), Some("uuid")),
        "uri" | "url" => (Some("string"), Some("uri")),
        "email" => (Some("string"), Some("email")),
        "any" | "mixed" => (None, None),
        _ => return None,
    })
}
