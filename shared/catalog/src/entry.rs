//! Converts a server's entry, in our own form or another program's, to the fields of our own form.
//!
//! A remark names each field of another program that is not used. Fields that say which tools may be called are kept.

use serde_json::{Map, Value, json};

use crate::json::kind;
use crate::unusable::{Remark, SWITCHED_OFF};
use toolfleet_core::ids::ServerId;
use toolfleet_core::redact::{key, quoted};

/// The fields of a server in our own form.
const OWN: [&str; 17] = [
    "id",
    "url",
    "command",
    "args",
    "env",
    "cwd",
    "trusted",
    "discover",
    "name",
    "description",
    "headers",
    "auth",
    "client_certificate",
    "timeout_ms",
    "progress",
    "stateless",
    "start_timeout_ms",
];

/// Fields of other programs that mean nothing to a fleet.
const CLIENT_ONLY: [&str; 20] = [
    "autoApprove",
    "alwaysAllow",
    "alwaysLoad",
    "trust",
    "autoStart",
    "icon",
    "iconPath",
    "gallery",
    "dev",
    "oauth",
    "oauth_resource",
    "authProviderType",
    "version",
    "source",
    "provider",
    "tags",
    "logo",
    "sandbox",
    "sandboxEnabled",
    "longRunning",
];

/// Milliseconds below this would be no time for a call; programs that count in seconds stay below it (Cline and Roo: up to an hour).
const MOST_SECONDS: f64 = 3_600.0;

/// Whose entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Our own: what is not known is a mistake, which later steps name.
    Own,
    /// Another program's: what is not known is left out and named.
    Foreign,
}

/// An entry in our own form.
#[derive(Debug, Default)]
pub(crate) struct Normal {
    pub(crate) server: Map<String, Value>,
    /// Tools of it that are registered by name, in our own form.
    pub(crate) tools: Vec<Value>,
    pub(crate) remarks: Vec<Remark>,
    /// Why it cannot be called.
    pub(crate) in_the_way: Option<String>,
}

/// The entry in our own form.
pub(crate) fn normal(entry: &str, id: &str, fields: Map<String, Value>, form: Form) -> Normal {
    let mut reading = Reading { entry, normal: Normal { server: fields, ..Normal::default() } };
    let read = reading.read(id, form);
    reading.normal.in_the_way = read.err();
    reading.normal
}

struct Reading<'a> {
    entry: &'a str,
    normal: Normal,
}

impl Reading<'_> {
    fn read(&mut self, id: &str, form: Form) -> Result<(), String> {
        self.switch()?;
        if form == Form::Foreign {
            self.aliases();
        }
        self.transport()?;
        self.timeout();
        for field in CLIENT_ONLY {
            if self.normal.server.remove(field).is_some() && field != "source" {
                self.unused(field);
            }
        }
        if form == Form::Own {
            return Ok(());
        }
        self.tools(id)?;
        self.changes_meaning()?;
        if self
            .normal
            .server
            .get("auth")
            .is_some_and(|auth| auth.get("type").is_none_or(|kind| !kind.is_string()))
        {
            self.normal.server.remove("auth");
            self.unused("auth");
        }
        let unknown: Vec<String> =
            self.normal.server.keys().filter(|field| !OWN.contains(&field.as_str())).cloned().collect();
        for field in unknown {
            self.normal.server.remove(&field);
            self.unused(&field);
        }
        self.plain_texts();
        self.normal.server.entry("discover").or_insert(Value::Bool(true));
        Ok(())
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.normal.server.remove(field).filter(|value| !value.is_null())
    }

    fn remark(&mut self, field: &str, text: impl Into<String>) {
        let entry = format!("{}.{}", self.entry, key(field).unwrap_or("(a field)"));
        self.normal.remarks.push(Remark { entry, text: text.into() });
    }

    fn unused(&mut self, field: &str) {
        self.remark(field, "is not used here");
    }

    /// Whether it is in use at all.
    fn switch(&mut self) -> Result<(), String> {
        for (field, off) in [("disabled", true), ("enabled", false), ("isActive", false)] {
            match self.take(field) {
                Some(Value::Bool(value)) if value == off => {
                    return Err(format!("{SWITCHED_OFF} (`{field}: {off}`)"));
                }
                None | Some(Value::Bool(_)) => {}
                Some(other) => {
                    return Err(format!("`{field}` is {}; accepted are true and false", kind(&other)));
                }
            }
        }
        Ok(())
    }

    /// Other names of our fields.
    fn aliases(&mut self) {
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
        // `{"command": {"path", "args", "env"}}` (older Zed) and `{"command": [..]}` (opencode).
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
        if let Some(Value::Object(transport)) = self.normal.server.get("transport").cloned() {
            self.normal.server.remove("transport");
            for (field, value) in transport {
                self.normal.server.entry(field).or_insert(value);
            }
        }
    }

    /// `type` or `transport`: what the fleet speaks anyway, or what it does not speak.
    fn transport(&mut self) -> Result<(), String> {
        for field in ["type", "transport", "transportType"] {
            let Some(value) = self.take(field) else {
                continue;
            };
            let Some(word) = value.as_str() else {
                return Err(format!("`{field}` is {}; accepted are `http` and `stdio`", kind(&value)));
            };
            let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
            let has = |field: &str| self.normal.server.get(field).is_some_and(|value| !value.is_null());
            match plain.to_ascii_lowercase().as_str() {
                "http" | "https" | "streamablehttp" | "httpstream" | "streaminghttp" | "streamable"
                | "remote" => {
                    if !has("url") {
                        return Err(format!("`{field}` is `{word}`, and `url` is missing"));
                    }
                }
                "stdio" | "local" | "custom" => {
                    if !has("command") {
                        return Err(format!("`{field}` is `{word}`, and `command` is missing"));
                    }
                }
                "sse" | "httpsse" => {
                    return Err(format!(
                        "`{field}` is `{word}`, the old HTTP+SSE transport of MCP 2024-11-05, which is not spoken here; give the server's \
                         streamable HTTP address (often the same host with the path `/mcp`) and the type `http`, or start a bridge such \
                         as `npx mcp-remote URL` as a `command`"
                    ));
                }
                "ws" | "wss" | "websocket" => {
                    return Err(format!(
                        "`{field}` is `{word}`, and WebSocket is not spoken here; give the server's streamable HTTP address"
                    ));
                }
                "sdk" | "builtin" | "inmemory" | "platform" => {
                    return Err(format!(
                        "`{field}` is `{word}`, a part of another program that nobody else can start"
                    ));
                }
                _ => {
                    return Err(format!("`{field}` is {}; accepted are `http` and `stdio`", quoted(word)));
                }
            }
        }
        Ok(())
    }

    /// `timeout`: seconds or milliseconds, by its size.
    fn timeout(&mut self) {
        let Some(value) = self.take("timeout") else {
            return;
        };
        match value.as_f64().filter(|number| *number > 0.0) {
            Some(_) if self.normal.server.contains_key("timeout_ms") => self.unused("timeout"),
            Some(number) => {
                let seconds = number <= MOST_SECONDS;
                let ms = if seconds { number * 1000.0 } else { number };
                self.normal.server.insert("timeout_ms".to_owned(), json!(ms.round() as u64));
                let unit = if seconds { "seconds" } else { "milliseconds" };
                self.remark(
                    "timeout",
                    format!("is read as {number} {unit}; `timeout_ms` says it without doubt"),
                );
            }
            None => self.unused("timeout"),
        }
    }

    /// Which of its tools may be called.
    fn tools(&mut self, id: &str) -> Result<(), String> {
        let allowed =
            ["includeTools", "enabledTools", "enabled_tools", "allowedTools", "allowed_tools", "tools"];
        for field in allowed {
            let Some(names) = self.take(field).map(|value| self.names(field, &value)).transpose()? else {
                continue;
            };
            if names.iter().any(|name| name == "*") {
                continue;
            }
            self.normal.server.insert("discover".to_owned(), Value::Bool(false));
            self.register(id, &names, false);
            self.remark(field, "is kept: no other tool of the server can be called");
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

    /// Registers tools by name. The last word on one of them wins, which is that it may not be called.
    fn register(&mut self, server: &str, names: &[String], paused: bool) {
        for name in names {
            let id = format!("{server}.{name}");
            self.normal.tools.retain(|tool| tool.get("id").and_then(Value::as_str) != Some(&id));
            self.normal.tools.push(json!({"id": id, "server": server, "name": name, "paused": paused}));
        }
    }

    /// What would make another server of it.
    fn changes_meaning(&mut self) -> Result<(), String> {
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
        if !has("url") && !has("command") {
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
    fn plain_texts(&mut self) {
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

/// A server's id, made of the name that another program's file gives it, and unlike those `taken` before.
pub(crate) fn id_of(name: &str, taken: &[String]) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let clean: String = name.trim().chars().map(fits).take(56).collect();
    let clean = clean.trim_matches('-');
    let clean = if clean.is_empty() { "server" } else { clean }.to_owned();
    let is_free = |id: &String| !taken.contains(id) && ServerId::parse(id.as_str()).is_ok();
    std::iter::once(clean.clone())
        .chain((2..=taken.len() + 2).map(|n| format!("{clean}-{n}")))
        .find(is_free)
        .unwrap_or(clean)
}
