//! The shapes in which Pika's tool definitions come: an array, an agent with its tools, rows of its table as DynamoDB writes them.

use serde_json::{Map, Value};

use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::kind;

/// Where definitions stand beside an agent: what Pika's interface takes and gives.
const TOOLS: [&str; 2] = ["tools", "newToolsToCreate"];

/// Whether a whole text is of Pika's, so that it is no catalog of another form.
pub(crate) fn is_whole(value: &Value) -> bool {
    match value {
        Value::Array(items) => items
            .iter()
            .any(|item| is_definition(item) || item.as_object().is_some_and(|map| within(map).is_some())),
        Value::Object(map) => within(map).is_some(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The definitions, as plain values.
pub(crate) fn definitions(section: Value) -> Result<Vec<Value>, CatalogError> {
    match section {
        Value::Array(items) => {
            let of_item = |item: Value| match &item {
                Value::Object(map) => within(map).unwrap_or_else(|| vec![item]),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    vec![item]
                }
            };
            Ok(items.into_iter().flat_map(of_item).map(plain).collect())
        }
        Value::Object(map) => match within(&map) {
            Some(items) => Ok(items.into_iter().map(plain).collect()),
            None => Err(invalid("pika", "is a single object; put it into an array: [{..}]")),
        },
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Err(invalid("pika", format!("is {}; accepted is an array of tools", kind(&other))))
        }
    }
}

fn is_definition(value: &Value) -> bool {
    ["toolId", "executionType", "functionSchema", "mcpServerUrl", "mcpServerConfig"]
        .iter()
        .any(|field| value.get(field).is_some())
}

/// The definitions within an object that is none itself.
fn within(map: &Map<String, Value>) -> Option<Vec<Value>> {
    if let Some(agent) = map.get("agent") {
        let lists: Vec<_> = TOOLS.iter().filter_map(|field| map.get(*field)?.as_array()).collect();
        if !lists.is_empty() || agent.get("agentId").is_some() {
            return Some(lists.into_iter().flatten().cloned().collect());
        }
    }
    if let Some(Value::Array(items)) = map.get("Items")
        && items.iter().any(is_definition)
    {
        return Some(items.clone());
    }
    if let Some(item) = map.get("Item").or_else(|| map.get("tool")).filter(|item| is_definition(item)) {
        return Some(vec![item.clone()]);
    }
    let tools = map.get("tools").and_then(Value::as_array).filter(|_| !map.contains_key("servers"));
    tools.filter(|tools| tools.iter().any(|tool| tool.get("executionType").is_some())).cloned()
}

/// A row of DynamoDB (`{"toolId": {"S": ".."}}`) as a plain object; any other value as it is.
fn plain(value: Value) -> Value {
    let is_row = value.as_object().is_some_and(|map| !map.is_empty() && map.values().all(is_attribute));
    match value {
        Value::Object(map) if is_row => {
            Value::Object(map.into_iter().map(|(key, value)| (key, attribute(value))).collect())
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value,
    }
}

fn is_attribute(value: &Value) -> bool {
    let Value::Object(map) = value else { return false };
    let mut keys = map.keys().map(String::as_str);
    matches!(
        (keys.next(), keys.next()),
        (Some("S" | "N" | "BOOL" | "NULL" | "M" | "L" | "SS" | "NS" | "BS" | "B"), None)
    )
}

fn attribute(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let Some((kind, value)) = map.into_iter().next() else { return Value::Null };
    match (kind.as_str(), value) {
        ("N", Value::String(number)) => serde_json::from_str(&number).unwrap_or(Value::String(number)),
        ("NULL", _) => Value::Null,
        ("M", Value::Object(map)) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, attribute(value))).collect())
        }
        ("L", Value::Array(items)) => Value::Array(items.into_iter().map(attribute).collect()),
        ("NS", Value::Array(items)) => {
            let number =
                |item: Value| item.as_str().and_then(|n| serde_json::from_str(n).ok()).unwrap_or(item);
            Value::Array(items.into_iter().map(number).collect())
        }
        (_, value) => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_as_dynamodb_writes_it_is_the_plain_definition() {
        let row = json!({"toolId": {"S": "t"}, "executionTimeout": {"N": "2.5"}, "test": {"BOOL": true}, "x": {"NULL": true},
            "tags": {"M": {"a": {"S": "b"}}}, "functionSchema": {"L": [{"M": {"name": {"S": "f"}}}]}, "n": {"NS": ["1"]}});
        let definition = json!({"toolId": "t", "executionTimeout": 2.5, "test": true, "x": null, "tags": {"a": "b"},
            "functionSchema": [{"name": "f"}], "n": [1]});
        for whole in [json!([row]), json!({"Items": [row], "Count": 1}), json!({"Item": row})] {
            assert!(is_whole(&whole), "{whole}");
            assert_eq!(definitions(whole).unwrap(), std::slice::from_ref(&definition));
        }
    }

    #[test]
    fn an_agent_with_its_tools_gives_the_tools() {
        let tool = json!({"toolId": "t", "executionType": "mcp"});
        for whole in [
            json!({"agent": {"agentId": "a"}, "tools": [tool]}),
            json!([{"agent": {"agentId": "a"}, "tools": [tool]}]),
            json!({"agent": {}, "newToolsToCreate": [tool], "userId": "u"}),
            json!({"tools": [tool]}),
            json!({"tool": tool, "userId": "u"}),
        ] {
            assert!(is_whole(&whole), "{whole}");
            assert_eq!(definitions(whole).unwrap(), std::slice::from_ref(&tool));
        }
        assert!(definitions(tool).unwrap_err().to_string().contains("is a single object"));
    }
}
