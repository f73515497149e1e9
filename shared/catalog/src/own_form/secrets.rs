//! Takes the secrets out of entries: a placeholder `${NAME}` stands in the place of each.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::entry::{self, Form};
use crate::json::below;
use crate::placeholders::{next_placeholder, variable_name};
use toolfleet_core::credential::Template;
use toolfleet_core::literal_secret::{is_placeholder, is_secret_name, wrong_argument, wrong_in};

/// A secret that the text writes out, and the variable that the catalog names in its place. It has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedSecret {
    /// The variable.
    pub variable: String,
    /// The server or tool by its id.
    pub id: String,
    /// The field of it.
    pub field: String,
}

/// The scheme of a header that stands before its secret.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "Token "];

/// Moves secrets to variables.
pub(super) struct SecretMover {
    taken: BTreeSet<String>,
    pub(super) moved: Vec<MovedSecret>,
}

impl SecretMover {
    /// Variables of these names have another meaning already.
    pub(super) fn new(taken: Vec<String>) -> Self {
        Self { taken: taken.into_iter().collect(), moved: Vec::new() }
    }

    /// A server in our own form.
    pub(super) fn server(&mut self, id: &str, fields: &mut Map<String, Value>) {
        for section in ["headers", "query", "env"] {
            for (name, value) in fields.get_mut(section).and_then(Value::as_object_mut).into_iter().flatten()
            {
                self.text(id, &below(section, name), name, value);
            }
        }
        // A placeholder of the program's own variable would be left to the program.
        let own = fields.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
        self.taken.extend(own.collect::<Vec<_>>());
        if let Some(Value::Array(args)) = fields.get_mut("args") {
            self.arguments(id, args);
        }
        for section in ["auth", "client_certificate"] {
            if let Some(value) = fields.get_mut(section) {
                self.credential(id, section, value);
            }
        }
    }

    /// A tool of Pika.
    pub(super) fn definition(&mut self, id: &str, definition: &mut Value) {
        for section in ["authentication", "auth"] {
            if let Some(value) = definition.get_mut(section) {
                self.credential(id, section, value);
            }
        }
        if let Some(Value::Object(config)) = definition.get_mut("mcpServerConfig") {
            let normal = entry::normal("", id, std::mem::take(config), Form::Foreign);
            *config = normal.server;
            config.remove("discover");
            self.server(id, config);
        }
    }

    /// An agent of the GenAI IDP accelerator, by its number.
    pub(super) fn agent(&mut self, number: usize, agent: &mut Value) {
        let id = format!("external-mcp-agent-{number}");
        for (field, value) in agent.as_object_mut().into_iter().flatten() {
            if is_secret_name(field) {
                self.text(&id, field, field, value);
            }
        }
    }

    /// All texts of a credential.
    fn credential(&mut self, id: &str, field: &str, value: &mut Value) {
        match value {
            Value::String(_) => {
                let name = field.rsplit('.').next().unwrap_or(field).to_owned();
                let named = is_secret_name(&name) && !["auth", "client_auth"].contains(&name.as_str());
                // `value` is Pika's word for a key.
                if named || name == "value" || field.contains("headers.") {
                    let of = if name == "value" { "secret" } else { &name };
                    self.text(id, field, of, value);
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.credential(id, &format!("{field}[{i}]"), item);
                }
            }
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    self.credential(id, &below(field, key), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text under a name, if it is a secret by either.
    fn text(&mut self, id: &str, field: &str, name: &str, value: &mut Value) {
        let Value::String(text) = value else {
            return;
        };
        let Ok(Template { before, secret: None }) = Template::parse(text) else {
            return;
        };
        let literal = without_placeholders(&before);
        let is_secret = if literal == before {
            wrong_in(name, &before, false).is_some()
        } else {
            is_part_of_secret(name, &literal)
        };
        if !is_secret || is_placeholder(&literal) {
            return;
        }
        let scheme = scheme_of(text);
        let placeholder = self.placeholder(id, field);
        *text = format!("{scheme}{placeholder}");
    }

    fn arguments(&mut self, id: &str, args: &mut [Value]) {
        let mut seen: Vec<String> =
            args.iter().map(|arg| arg.as_str().map_or_else(|| arg.to_string(), str::to_owned)).collect();
        while let Some((i, _)) = wrong_argument(&seen) {
            let (Some(arg), Some(text)) = (args.get_mut(i), seen.get_mut(i)) else {
                return;
            };
            if !is_placeholder(text) {
                let (before, option) = match text.split_once('=') {
                    Some((option, _)) if text.starts_with('-') => (format!("{option}="), option.to_owned()),
                    _ => match text.split_once(": ") {
                        Some((header, value)) if !header.contains(' ') => {
                            (format!("{header}: {}", scheme_of(value)), header.to_owned())
                        }
                        _ => (String::new(), format!("args[{i}]")),
                    },
                };
                let field = format!("args[{i}].{}", option.trim_start_matches('-'));
                *arg = Value::from(format!("{before}{}", self.placeholder(id, &field)));
            }
            // A value that is no secret under any name.
            "true".clone_into(text);
        }
    }

    /// A placeholder with a name of its own: a program's variable keeps its name, if no other server's secret has it.
    fn placeholder(&mut self, id: &str, field: &str) -> String {
        let last = field.rsplit('.').next().unwrap_or(field);
        let scoped = format!("{}_{}", variable_name(id), variable_name(last));
        let own =
            field.starts_with("env.").then(|| last.to_owned()).filter(|name| *name == variable_name(name));
        let numbered = (2..).map(|n| format!("{scoped}_{n}"));
        let mut names = own.into_iter().chain([scoped.clone()]).chain(numbered);
        let name = names.find(|name| !self.taken.contains(name)).unwrap_or(scoped.clone());
        self.taken.insert(name.clone());
        self.moved.push(MovedSecret { variable: name.clone(), id: id.to_owned(), field: field.to_owned() });
        format!("${{{name}}}")
    }
}

/// The scheme with which a header's text begins.
fn scheme_of(text: &str) -> &str {
    let is_scheme =
        |scheme: &&str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let len = SCHEMES.iter().find(|scheme| is_scheme(scheme)).map_or(0, |scheme| scheme.len());
    text.get(..len).unwrap_or_default()
}

/// What a text says itself, beside placeholders.
fn without_placeholders(text: &str) -> String {
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, _, after)) = next_placeholder(rest) {
        literal.push_str(before);
        rest = after;
    }
    literal.push_str(rest);
    literal
}

/// Whether what stands beside placeholders is a part of a secret: more than a scheme and a few signs.
fn is_part_of_secret(name: &str, literal: &str) -> bool {
    let rest = literal.get(scheme_of(literal).len()..).unwrap_or_default();
    let words = rest.split(|c: char| !c.is_ascii_alphanumeric());
    words.map(str::len).any(|len| len >= 6) && wrong_in(name, rest, false).is_some()
}
