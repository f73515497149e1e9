//! Imports the extensions of Goose's `config.yaml` and of its recipes.

use serde_json::{Map, Value};

use super::asked::Asked;
use super::mcp_servers::{Entry, Imported};

/// Takes the extensions out of a file of that form.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<Imported> {
    let is_extension = |value: &Value| {
        let has = |field: &str| value.get(field).is_some();
        has("type") || has("cmd") || has("uri") || has("config") && has("enabled")
    };
    let named = match file.get("extensions") {
        Some(Value::Object(map)) if map.values().all(is_extension) => {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Some(Value::Array(list)) if list.iter().all(is_extension) => {
            let name =
                |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or("extension").to_owned();
            list.iter().map(|value| (name(value), value.clone())).collect::<Vec<_>>()
        }
        Some(_) | None => return None,
    };
    file.remove("extensions");
    let servers = named.into_iter().map(|(name, value)| entry(name, value)).collect();
    Some(Imported { servers, remarks: Vec::new() })
}

fn entry(name: String, value: Value) -> Entry {
    let mut asked = Asked::of(&name);
    let value = fields(value, &mut asked).map(Value::Object);
    Entry { section: "extensions", name, value, remarks: asked.remarks }
}

fn fields(value: Value, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let Value::Object(mut fields) = value else {
        return Err(format!("it is {}; accepted is an object", crate::json::kind(&value)));
    };
    // Older files keep all but the switch in a section.
    if let Some(Value::Object(config)) = fields.remove("config") {
        fields.extend(config);
    }
    let is_on = fields.get("enabled") != Some(&Value::Bool(false));
    match fields.get("type").and_then(Value::as_str) {
        Some(kind @ ("builtin" | "platform" | "frontend")) if is_on => {
            return Err(format!(
                "is of the type `{kind}`, a part of Goose itself that nobody else can start"
            ));
        }
        Some("inline_python") if is_on => {
            return Err("is of the type `inline_python`, a program in the file itself; save it, and name it as a `command`".to_owned());
        }
        // It tells a program from an address, which the fields do as well.
        Some("stdio" | "streamable_http") => {
            fields.remove("type");
        }
        Some(_) | None => {}
    }
    for (of, field) in
        [("cmd", "command"), ("uri", "url"), ("envs", "env"), ("available_tools", "enabledTools")]
    {
        if let Some(value) = fields
            .remove(of)
            .filter(|value| value.as_array().is_none_or(|list| !list.is_empty() || field != "enabledTools"))
        {
            fields.insert(field.to_owned(), value);
        }
    }
    for key in fields.remove("env_keys").and_then(|keys| keys.as_array().cloned()).unwrap_or_default() {
        let Some(name) = key.as_str() else {
            return Err("`env_keys` is no list of names".to_owned());
        };
        let placeholder = asked.exact(&format!("env.{name}"), name);
        let env = fields.entry("env").or_insert_with(|| Value::Object(Map::new()));
        if let Some(env) = env.as_object_mut() {
            env.entry(name).or_insert(Value::from(placeholder));
        }
    }
    // It is in seconds, whatever its size.
    if let Some(seconds) =
        fields.remove("timeout").and_then(|value| value.as_u64()).filter(|seconds| *seconds > 0)
    {
        fields.insert("timeout_ms".to_owned(), Value::from(seconds.saturating_mul(1000)));
    }
    fields.remove("bundled");
    if let Some(name) = fields.remove("display_name").filter(Value::is_string) {
        fields.insert("name".to_owned(), name);
    }
    Ok(fields)
}
