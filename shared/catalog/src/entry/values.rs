//! Refuses fields that would make another server of an entry, and converts values to the types of our own form.

use serde_json::{Map, Value};

use super::Reading;

impl Reading<'_> {
    /// What would make another server of it.
    pub(super) fn changes_meaning(&mut self) -> Result<(), String> {
        for (field, what, remedy) in [
            ("envFile", "names a file of variables, which is not read here", "write them into `env`"),
            ("env_file", "names a file of variables, which is not read here", "write them into `env`"),
            (
                "headersHelper",
                "names a program that prints headers, which is not started here",
                "write `headers`",
            ),
            (
                "bearer_token_env_var",
                "names a variable",
                "write `headers`: {\"Authorization\": \"Bearer ${env:NAME}\"}",
            ),
            ("env_http_headers", "names variables", "write `headers` with `${env:NAME}`"),
            ("env_vars", "names variables that are passed on", "write them into `env` as `${env:NAME}`"),
            (
                "shell",
                "would have a shell read the command",
                "give the program in `command` and its words in `args`",
            ),
        ] {
            match self.take(field) {
                None | Some(Value::Bool(false)) => {}
                Some(_) => return Err(format!("`{field}` {what}; {remedy}")),
            }
        }
        let has = |field: &str| self.normal.server.get(field).is_some_and(|value| !value.is_null());
        if !has("url") && !has("command") && !has("lambda") && !has("openapi") {
            return Err(
                "has neither `url` nor `command`: it belongs to a program that knows this server itself"
                    .to_owned(),
            );
        }
        if has("url") && has("command") {
            return Err("has both `url` and `command`; a server has one of them".to_owned());
        }
        Ok(())
    }

    /// Numbers and switches that stand for texts, and parts of the other kind of server.
    pub(super) fn plain_texts(&mut self) {
        let program = self.normal.server.contains_key("command");
        let other = if program {
            ["headers", "auth"].as_slice()
        } else {
            ["args", "env", "cwd", "stateless", "start_timeout_ms"].as_slice()
        };
        for field in other {
            if self.take(field).is_some_and(|value| !is_empty(&value)) {
                let text = if program { "belongs to a server with a `url`" } else { "belongs to a program" };
                self.remark(field, format!("is not used: it {text}"));
            }
        }
        for section in ["env", "headers"] {
            if let Some(Value::Object(map)) = self.normal.server.get_mut(section) {
                map.retain(|_, value| !value.is_null());
                map.values_mut().for_each(to_text);
            }
        }
        if let Some(Value::Array(args)) = self.normal.server.get_mut("args") {
            args.iter_mut().for_each(to_text);
        }
        for field in ["args", "env", "headers", "cwd", "name", "description", "auth"] {
            if self.normal.server.get(field).is_some_and(Value::is_null) {
                self.normal.server.remove(field);
            }
        }
        self.split_command();
    }

    /// `"command": "npx -y server"`: the words of a command that has no path and no arguments beside it.
    fn split_command(&mut self) {
        let command = self.normal.server.get("command").and_then(Value::as_str).unwrap_or_default();
        let args =
            self.normal.server.get("args").and_then(Value::as_array).is_some_and(|args| !args.is_empty());
        if args || !command.trim().contains(' ') || command.contains(['/', '\\', '"', '\'', '$']) {
            return;
        }
        let mut words = command.split_whitespace().map(Value::from);
        let first = words.next();
        let rest: Vec<Value> = words.collect();
        if let Some(first) = first {
            self.normal.server.insert("command".to_owned(), first);
            self.normal.server.insert("args".to_owned(), Value::Array(rest));
            self.remark("command", "is read as a program and its arguments");
        }
    }
}

fn to_text(value: &mut Value) {
    if let Value::Number(_) | Value::Bool(_) = value {
        *value = Value::String(value.to_string());
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}
