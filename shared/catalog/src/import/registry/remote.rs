//! The address of a server that runs somewhere, as its description in the MCP registry has it.

use serde_json::{Map, Value};

use super::inputs::{Braces, get, list, text_of};
use crate::import::asked::Asked;

/// The transport it names.
pub(super) fn kind(remote: &Value) -> Option<&str> {
    ["type", "transport_type", "transportType"].iter().find_map(|field| remote.get(field)?.as_str())
}

/// The fields of our own form.
pub(super) fn fields(remote: &Value, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let Some(address) = remote.get("url").and_then(Value::as_str) else {
        return Err("has no `url`".to_owned());
    };
    let mut fields = Map::new();
    let url = Braces { input: remote, undeclared: true }.filled(asked, "url", address);
    fields.insert("url".to_owned(), Value::from(url));
    fields.insert("type".to_owned(), Value::from(kind(remote).unwrap_or("streamable-http")));
    let mut headers = Map::new();
    for header in list(remote, "headers") {
        let Some(name) = header.get("name").and_then(Value::as_str) else {
            return Err("has a header without a name".to_owned());
        };
        let field = format!("headers.{name}");
        let value = match get(header, "value").and_then(text_of) {
            Some(value) => Some(Braces { input: header, undeclared: true }.filled(asked, &field, &value)),
            None => super::inputs::chosen(header, name, &field, asked),
        };
        match value {
            Some(value) => {
                headers.insert(name.to_owned(), Value::from(value));
            }
            None => asked.remark(&field, "is optional and has no value; it is not sent"),
        }
    }
    if !headers.is_empty() {
        fields.insert("headers".to_owned(), Value::Object(headers));
    }
    Ok(fields)
}
