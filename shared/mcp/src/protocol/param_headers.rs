//! The headers that mirror the body (2026-07-28): `Mcp-Name`, and `Mcp-Param-*` where a tool's schema asks for it. A value that HTTP
//! does not allow in a header is sent in the specification's base64 form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use serde_json::value::RawValue;

/// How deep a schema is walked; deeper annotations are not honoured.
const MAX_DEPTH: usize = 64;

/// Which arguments of a tool are mirrored into which headers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mirrors(Vec<Mirror>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    path: Vec<String>,
    header: HeaderName,
}

/// The value as a header carries it.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    if printable && text.trim() == text && !looks_encoded {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))).ok()
}

impl Mirrors {
    /// Reads the `x-mcp-header` annotations of a tool's schema; an error says why the tool must not be used.
    pub(crate) fn of_schema(schema: &Value) -> Result<Self, String> {
        let mut found = Self::default();
        found.walk(schema, &mut Vec::new(), true, 0)?;
        Ok(found)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers for these arguments. An argument that is absent, null or no scalar has none.
    pub(crate) fn headers(&self, arguments: &RawValue) -> Vec<(HeaderName, HeaderValue)> {
        if self.is_empty() {
            return Vec::new();
        }
        let Ok(arguments) = serde_json::from_str::<Value>(arguments.get()) else {
            return Vec::new();
        };
        let mirrored = self.0.iter().filter_map(|mirror| {
            let value = mirror.path.iter().try_fold(&arguments, |node, key| node.get(key))?;
            Some((mirror.header.clone(), header_value(&scalar(value)?)?))
        });
        mirrored.collect()
    }

    fn walk(
        &mut self,
        node: &Value,
        path: &mut Vec<String>,
        reachable: bool,
        depth: usize,
    ) -> Result<(), String> {
        let Some(schema) = node.as_object() else {
            return Ok(());
        };
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if let Some(annotation) = schema.get("x-mcp-header") {
            let kind = schema.get("type").and_then(Value::as_str);
            self.add(annotation, kind, path, reachable)?;
        }
        for (keyword, value) in schema {
            let inner = depth.saturating_add(1);
            match keyword.as_str() {
                "properties" => {
                    for (name, property) in value.as_object().into_iter().flatten() {
                        path.push(name.clone());
                        self.walk(property, path, reachable, inner)?;
                        path.pop();
                    }
                }
                "items"
                | "contains"
                | "unevaluatedItems"
                | "additionalProperties"
                | "propertyNames"
                | "unevaluatedProperties"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contentSchema" => {
                    self.walk(value, path, false, inner)?;
                }
                "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                    for part in value.as_array().into_iter().flatten() {
                        self.walk(part, path, false, inner)?;
                    }
                }
                "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => {
                    for part in value.as_object().into_iter().flatten().map(|(_, part)| part) {
                        self.walk(part, path, false, inner)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        token: &Value,
        kind: Option<&str>,
        path: &[String],
        reachable: bool,
    ) -> Result<(), String> {
        let place = path.join(".");
        if !reachable || path.is_empty() {
            return Err(format!("x-mcp-header at `{place}` is not reachable through properties alone"));
        }
        if !matches!(kind, Some("string" | "integer" | "boolean")) {
            return Err(format!("x-mcp-header at `{place}` is only allowed on string, integer and boolean"));
        }
        let name = token.as_str().filter(|name| !name.is_empty()).map(|name| format!("mcp-param-{name}"));
        let header = name.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let header = header.ok_or_else(|| format!("x-mcp-header at `{place}` is no header name"))?;
        if self.0.iter().any(|mirror| mirror.header == header) {
            return Err(format!("x-mcp-header `{header}` stands twice in the schema"));
        }
        self.0.push(Mirror { path: path.to_vec(), header });
        Ok(())
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_would_not_survive_a_header_is_base64() {
        assert_eq!(header_value("plain name").unwrap(), "plain name");
        assert_eq!(header_value("é").unwrap(), "=?base64?w6k=?=");
        assert_eq!(header_value(" x").unwrap(), "=?base64?IHg=?=");
        assert_eq!(header_value("=?base64?eA==?=").unwrap(), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
    }

    #[test]
    fn annotated_arguments_are_mirrored_wherever_properties_lead_to_them() {
        let schema = json!({ "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "deep": { "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "absent": { "type": "boolean", "x-mcp-header": "Absent" },
        } });
        let arguments = RawValue::from_string(r#"{"region":"eu","deep":{"n":3}}"#.to_owned()).unwrap();
        let mut headers = Mirrors::of_schema(&schema).unwrap().headers(&arguments);
        headers.sort_by_key(|(name, _)| name.to_string());
        let shown: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(shown, [("mcp-param-n", "3"), ("mcp-param-region", "eu")]);
    }

    #[test]
    fn a_tool_with_an_impossible_annotation_is_refused_with_the_reason() {
        for schema in [
            json!({ "x-mcp-header": "A" }),
            json!({ "properties": { "a": { "type": "number", "x-mcp-header": "A" } } }),
            json!({ "properties": { "a": { "type": "string", "x-mcp-header": "" } } }),
            json!({ "properties": { "a": { "type": "string", "x-mcp-header": "a b" } } }),
            json!({ "properties": { "a": { "items": { "type": "string", "x-mcp-header": "A" } } } }),
            json!({ "properties": {
                "a": { "type": "string", "x-mcp-header": "A" },
                "b": { "type": "string", "x-mcp-header": "a" },
            } }),
        ] {
            assert!(Mirrors::of_schema(&schema).is_err(), "{schema}");
        }
    }
}
