//! Reads which tools of a server may be called.

use serde_json::{Value, json};

use super::Reading;

impl Reading<'_> {
    /// Which of its tools may be called.
    pub(super) fn tools(&mut self, id: &str) -> Result<(), String> {
        let allowed =
            ["includeTools", "enabledTools", "enabled_tools", "allowedTools", "allowed_tools", "tools"];
        for field in allowed {
            let Some(value) = self.take(field) else {
                continue;
            };
            let names = self.names(field, &value)?;
            if names.iter().any(|name| name == "*") {
                continue;
            }
            self.normal.server.insert("discover".to_owned(), Value::Bool(false));
            self.register(id, &names, false);
            if !self.normal.server.contains_key("lambda") {
                self.remark(field, "is kept: no other tool of the server can be called");
                continue;
            }
            self.describe(&value);
        }
        for field in ["excludeTools", "disabledTools", "disabled_tools", "excluded_tools"] {
            let Some(names) = self.take(field).map(|value| self.names(field, &value)).transpose()? else {
                continue;
            };
            self.register(id, &names, true);
            if !names.is_empty() {
                self.remark(field, "is kept: these tools are paused");
            }
        }
        Ok(())
    }

    fn names(&self, field: &str, value: &Value) -> Result<Vec<String>, String> {
        let names = value.as_array().map(|names| {
            let text = |name: &Value| name.as_str().or_else(|| name.get("name")?.as_str()).map(str::to_owned);
            names.iter().map(text).collect::<Option<Vec<_>>>()
        });
        let wrong = || format!("`{field}` says which tools may be called, and is no list of their names");
        names.flatten().ok_or_else(wrong)
    }

    /// Adds what is declared of a function's tools, which it cannot list itself.
    fn describe(&mut self, declared: &Value) {
        for declared in declared.as_array().into_iter().flatten() {
            let name = declared.get("name");
            let tool = self.normal.tools.iter_mut().find(|tool| tool.get("name") == name);
            let Some(Value::Object(tool)) = tool else { continue };
            for (field, ours) in [("description", "description"), ("inputSchema", "input_schema")] {
                if let Some(value) = declared.get(field).filter(|value| !value.is_null()) {
                    tool.insert(ours.to_owned(), value.clone());
                }
            }
        }
    }

    /// Registers tools by name. The last word on one of them wins, which is that it may not be called.
    fn register(&mut self, server: &str, names: &[String], paused: bool) {
        for name in names {
            let id = format!("{server}.{name}");
            self.normal.tools.retain(|tool| tool.get("id").and_then(Value::as_str) != Some(&id));
            self.normal.tools.push(json!({"id": id, "server": server, "name": name, "paused": paused}));
        }
    }
}
