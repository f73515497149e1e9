//! Which secrets a server's entry refers to.

use std::collections::BTreeMap;

use serde_json::Value;
use toolfleet_core::credential::{SecretRef, Template};

use super::registered::Server;

impl Server {
    /// The references to secrets in its entry: headers, query, credential, certificate, variables of a program. Each is named once.
    pub fn secrets(&self) -> Vec<SecretRef> {
        let mut found = BTreeMap::new();
        let headers = self.http().into_iter().flat_map(|http| http.headers.values());
        let query = self.openapi().into_iter().flat_map(|openapi| openapi.query.values());
        headers.chain(query).for_each(|value| add(value.expose(), &mut found));
        walk(&serde_json::to_value(&self.transport).unwrap_or_default(), &mut found);
        found.into_values().collect()
    }
}

/// The texts of a serialised entry. A secret that it writes out is not among them.
fn walk(value: &Value, found: &mut BTreeMap<String, SecretRef>) {
    match value {
        Value::String(text) => add(text, found),
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(members) => members.values().for_each(|member| walk(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn add(text: &str, found: &mut BTreeMap<String, SecretRef>) {
    if let Ok(Template { secret: Some(reference), .. }) = Template::parse(text) {
        found.insert(reference.to_string(), reference);
    }
}
