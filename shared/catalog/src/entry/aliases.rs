//! Renames fields of other programs to those of our own form.

use serde_json::Value;

use super::Reading;

impl Reading<'_> {
    /// Other names of our fields.
    pub(super) fn aliases(&mut self) {
        for (alias, field) in [
            ("httpUrl", "url"),
            ("serverUrl", "url"),
            ("endpoint", "url"),
            ("baseUrl", "url"),
            ("environment", "env"),
            ("workingDirectory", "cwd"),
            ("http_headers", "headers"),
        ] {
            if let Some(value) = self.take(alias) {
                if self.normal.server.contains_key(field) {
                    self.remark(field, format!("is not used, because `{alias}` stands beside it"));
                }
                self.normal.server.insert(field.to_owned(), value);
            }
        }
        for options in ["requestOptions", "requestInit"] {
            let headers =
                self.take(options).and_then(|mut options| options.get_mut("headers").map(Value::take));
            if let Some(headers) = headers {
                self.normal.server.entry("headers").or_insert(headers);
            }
        }
        self.command();
        if let Some(Value::Object(transport)) = self.normal.server.get("transport").cloned() {
            self.normal.server.remove("transport");
            for (field, value) in transport {
                self.normal.server.entry(field).or_insert(value);
            }
        }
    }

    /// `{"command": {"path", "args", "env"}}` (older Zed) and `{"command": [..]}` (opencode).
    fn command(&mut self) {
        match self.take("command") {
            Some(Value::Object(mut command)) => {
                for (part, field) in [("path", "command"), ("args", "args"), ("env", "env")] {
                    if let Some(value) = command.remove(part).filter(|value| !value.is_null()) {
                        self.normal.server.insert(field.to_owned(), value);
                    }
                }
            }
            Some(Value::Array(words)) => {
                let mut words = words.into_iter();
                if let Some(command) = words.next() {
                    self.normal.server.insert("command".to_owned(), command);
                }
                let more = self.take("args").and_then(|args| args.as_array().cloned()).unwrap_or_default();
                let args: Vec<Value> = words.chain(more).collect();
                self.normal.server.insert("args".to_owned(), Value::Array(args));
            }
            Some(command) => {
                self.normal.server.insert("command".to_owned(), command);
            }
            None => {}
        }
    }
}
