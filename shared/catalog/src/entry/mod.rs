//! Converts a server's entry, in our own form or another program's, to the fields of our own form.
//!
//! A remark names each field of another program that is not used. Fields that say which tools may be called are kept.

mod aliases;
mod id;
mod tools;
mod values;

use serde_json::{Map, Value, json};

use crate::json::kind;
use crate::unusable::{Remark, SWITCHED_OFF};
pub(crate) use id::id_of;
use toolfleet_core::redact::{key, quoted};

/// The fields of a server in our own form.
const OWN: [&str; 30] = [
    "id",
    "url",
    "openapi",
    "transport",
    "command",
    "args",
    "env",
    "cwd",
    "trusted",
    "discover",
    "name",
    "description",
    "headers",
    "query",
    "auth",
    "client_certificate",
    "timeout_ms",
    "progress",
    "limits",
    "cache",
    "stateless",
    "start_timeout_ms",
    "lambda",
    "payload",
    "target_name",
    "attributes",
    "tell_user",
    "durable",
    "role_arn",
    "external_id",
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
pub(crate) struct NormalizedEntry {
    pub(crate) server: Map<String, Value>,
    /// Tools of it that are registered by name, in our own form.
    pub(crate) tools: Vec<Value>,
    pub(crate) remarks: Vec<Remark>,
    /// Why it cannot be called.
    pub(crate) not_callable: Option<String>,
}

/// The entry in our own form.
pub(crate) fn normal(entry: &str, id: &str, fields: Map<String, Value>, form: Form) -> NormalizedEntry {
    let mut reading =
        Reading { entry, normal: NormalizedEntry { server: fields, ..NormalizedEntry::default() } };
    let read = reading.read(id, form);
    reading.normal.not_callable = read.err();
    reading.normal
}

struct Reading<'a> {
    entry: &'a str,
    normal: NormalizedEntry,
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

    /// `type` or `transport`: what the fleet finds out anyway, what it has to be told, or what it does not speak.
    fn transport(&mut self) -> Result<(), String> {
        let mut spoken = None;
        for field in ["type", "transport", "transportType"] {
            let Some(value) = self.take(field) else {
                continue;
            };
            let Some(word) = value.as_str() else {
                return Err(format!(
                    "`{field}` is {}; accepted are `http`, `sse`, `websocket` and `stdio`",
                    kind(&value)
                ));
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
                "sse" | "httpsse" | "ws" | "wss" | "websocket" => {
                    if !has("url") {
                        return Err(format!("`{field}` is `{word}`, and `url` is missing"));
                    }
                    spoken =
                        Some(if plain.to_ascii_lowercase().contains("sse") { "sse" } else { "websocket" });
                }
                "sdk" | "builtin" | "inmemory" | "platform" => {
                    return Err(format!(
                        "`{field}` is `{word}`, a part of another program that nobody else can start"
                    ));
                }
                _ => {
                    let text = "accepted are `http`, `sse`, `websocket` and `stdio`";
                    return Err(format!("`{field}` is {}; {text}", quoted(word)));
                }
            }
        }
        if let Some(spoken) = spoken {
            self.normal.server.insert("transport".to_owned(), Value::from(spoken));
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
}
