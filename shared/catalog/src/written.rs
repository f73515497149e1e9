//! What a catalog says, before placeholders are filled in: servers and tools in our own form, and the sections of Pika and the GenAI IDP
//! accelerator as they are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use toolfleet_core::ids::ServerId;

/// What a catalog says.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) servers: BTreeMap<ServerId, Map<String, Value>>,
    pub(crate) tools: Vec<Value>,
    pub(crate) pika: Option<Value>,
    pub(crate) idp: Option<Value>,
}

impl Written {
    /// Gives every text that a placeholder may stand in, with the name of its field.
    pub(crate) fn each_text(&self, give: &mut impl FnMut(&str, &str)) {
        for fields in self.servers.values() {
            fields.iter().for_each(|(field, value)| each_text(field, value, give));
        }
        for section in [&self.pika, &self.idp].into_iter().flatten() {
            each_text("", section, give);
        }
    }
}

fn each_text(field: &str, value: &Value, give: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => give(field, text),
        Value::Array(items) => items.iter().for_each(|item| each_text(field, item, give)),
        Value::Object(map) => map.iter().for_each(|(field, value)| each_text(field, value, give)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
