//! Owns the two forms of a function's parameters: a JSON Schema, and the map of parameters that Bedrock agents use.
//!
//! **Invariant:** what is neither is refused, not passed as a schema that accepts everything.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::json::{below, kind, typed};
use super::super::{CatalogError, problem};
use crate::redact::quoted;

/// One parameter in Bedrock's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    r#type: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    required: bool,
}

/// The JSON Schema of the arguments.
pub(super) fn schema(entry: &str, parameters: Value) -> Result<Value, CatalogError> {
    let Value::Object(map) = &parameters else {
        return Err(problem(entry, format!("is {}; accepted is an object", kind(&parameters))));
    };
    let is_schema = map.get("type").is_some_and(Value::is_string) || map.contains_key("$ref");
    if is_schema || map.is_empty() {
        return Ok(parameters);
    }
    of_map(entry, map)
}

fn of_map(entry: &str, map: &Map<String, Value>) -> Result<Value, CatalogError> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, value) in map {
        let place = below(entry, name);
        let parameter: Parameter = typed(&place, value.clone())?;
        if !["string", "number", "integer", "boolean", "array"].contains(&parameter.r#type.as_str()) {
            let text = format!(
                "is {}; accepted are string, number, integer, boolean, array",
                quoted(&parameter.r#type)
            );
            return Err(problem(&below(&place, "type"), text));
        }
        let mut property = json!({"type": parameter.r#type});
        if let (Some(description), Some(property)) = (parameter.description, property.as_object_mut()) {
            property.insert("description".into(), Value::from(description));
        }
        properties.insert(name.clone(), property);
        if parameter.required {
            required.push(name.clone());
        }
    }
    Ok(json!({"type": "object", "properties": properties, "required": required}))
}
