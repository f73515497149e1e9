//! Fills in the placeholders of a catalog from environment variables, and takes out the secrets that it writes out: for `toolfleet dev`,
//! whose catalogs are the files that people use with other programs.
//!
//! A fleet's worker has no [`LocalEnvironment`]: there both are refused (docs/decisions/0008).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::json::below;
use crate::unusable::{Remark, WrittenSecret};
use toolfleet_core::credential::{Sensitive, Template};
use toolfleet_core::literal_secret::{is_placeholder, is_secret_name, wrong_in};

/// The environment of a developer who tries a catalog out.
#[derive(Clone, Default)]
pub struct LocalEnvironment {
    /// The variables that placeholders may name. Values may be secrets, so it does not print.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for LocalEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEnvironment").field("variables", &self.variables.len()).finish()
    }
}

/// What is wrong with a placeholder: the variable that is missing, or a form that nothing fills in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfilled(String);

impl Unfilled {
    fn of_variable(name: &str) -> Self {
        Self(match name.strip_prefix("input:") {
            Some(id) => format!(
                "needs the input `{id}`, which VS Code asks a person for and nobody asks for here; write `${{env:NAME}}` and set that variable, or `secret://name`"
            ),
            None if name.starts_with("file:") => {
                "names a file, which is not read here; write `${env:NAME}` and set that variable, or `secret://name`".to_owned()
            }
            None => format!("needs the variable `{name}`, which is not set"),
        })
    }
}

impl fmt::Display for Unfilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The remarks, secrets and omissions of entries.
#[derive(Debug, Default)]
pub(crate) struct EntryRemarks {
    pub(crate) remarks: Vec<Remark>,
    pub(crate) secrets: Vec<WrittenSecret>,
    /// What was left out of the credentials of a server, by its id.
    pub(crate) left_out: BTreeMap<String, String>,
}

/// Fills in one entry.
pub(crate) struct PlaceholderFiller<'a> {
    pub(crate) local_environment: &'a LocalEnvironment,
    /// Its place.
    pub(crate) entry: &'a str,
    /// The id under which its secrets are kept.
    pub(crate) id: &'a str,
    pub(crate) settled: &'a mut EntryRemarks,
}

impl PlaceholderFiller<'_> {
    /// A server of our own form, or one that was put into it.
    ///
    /// # Errors
    /// What cannot be left out needs something that is not there.
    pub(crate) fn server(&mut self, server: &mut Map<String, Value>) -> Result<(), String> {
        let own: Vec<String> =
            server.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned().collect();
        for field in ["url", "command", "cwd"] {
            if let Some(Value::String(text)) = server.get_mut(field) {
                *text =
                    self.local_environment.fill(text).map_err(|unfilled| format!("`{field}` {unfilled}"))?;
            }
        }
        // Other programs start a server in the folder that is open in them.
        for field in ["cwd", "command"] {
            if let Some(Value::String(path)) = server.get_mut(field)
                && !path.starts_with('/')
                && (field == "cwd" || path.starts_with('.'))
                && let Some(folder) = self.local_environment.variables.get("workspaceFolder")
            {
                *path = format!("{folder}/{path}");
            }
        }
        if let Some(Value::Array(args)) = server.get_mut("args") {
            for (i, arg) in args.iter_mut().enumerate() {
                if let Value::String(text) = arg {
                    *text = self.argument(i, text, &own)?;
                }
            }
        }
        for section in ["headers", "query", "env"] {
            if let Some(Value::Object(texts)) = server.get_mut(section) {
                self.texts(section, texts);
            }
        }
        self.credential(server, "auth");
        self.credential(server, "client_certificate");
        Ok(())
    }

    /// An agent of the IDP accelerator's secret: nothing of it can be left out.
    pub(crate) fn agent(&mut self, agent: &mut Map<String, Value>) -> Result<(), String> {
        for (field, value) in agent.iter_mut() {
            if let Value::String(text) = value {
                let filled =
                    self.local_environment.fill(text).map_err(|unfilled| format!("`{field}` {unfilled}"))?;
                let literal = filled == *text;
                *text = if is_secret_name(field) {
                    self.without_secret(field, field, literal, filled)
                } else {
                    filled
                };
            }
        }
        Ok(())
    }

    /// Headers or variables: one that cannot be filled in is left out.
    pub(crate) fn texts(&mut self, section: &str, texts: &mut Map<String, Value>) {
        let mut kept = Map::new();
        for (name, value) in std::mem::take(texts) {
            let field = below(section, &name);
            let Value::String(value_text) = &value else {
                kept.insert(name, value);
                continue;
            };
            let filled = self.local_environment.fill(value_text).and_then(|filled| {
                if filled == *value_text && is_placeholder(&filled) {
                    return Err(Unfilled("holds a placeholder that nothing fills in".to_owned()));
                }
                if filled.is_empty() && section != "env" {
                    return Err(Unfilled("is empty".to_owned()));
                }
                Ok(filled)
            });
            match filled {
                Err(unfilled) => {
                    self.leave_out(&field, &unfilled.to_string(), &format!("`{field}` {unfilled}"))
                }
                Ok(text) => {
                    // A value is a secret also where its variable says so, under whatever name it goes on.
                    let named = if names_secret_variable(value_text) { "secret" } else { name.as_str() };
                    let text = self.without_secret(&field, named, text == *value_text, text);
                    kept.insert(name, Value::String(text));
                }
            }
        }
        *texts = kept;
    }

    /// A credential as a whole: where something of it is missing, calls go without it.
    pub(crate) fn credential(&mut self, of: &mut Map<String, Value>, section: &str) {
        let Some(mut value) = of.remove(section) else {
            return;
        };
        match self.within(section, &mut value) {
            Ok(()) => {
                of.insert(section.to_owned(), value);
            }
            Err(text) => self.leave_out(section, &text, &text),
        }
    }

    /// All texts below a field; what is a secret by its name is taken out.
    fn within(&mut self, field: &str, value: &mut Value) -> Result<(), String> {
        match value {
            Value::String(text) => {
                let filled =
                    self.local_environment.fill(text).map_err(|unfilled| format!("`{field}` {unfilled}"))?;
                if filled == *text && is_placeholder(&filled) {
                    return Err(format!("`{field}` holds a placeholder that nothing fills in"));
                }
                let name = field.rsplit('.').next().unwrap_or(field);
                // `value` is Pika's word for a key.
                let named =
                    (is_secret_name(name) && !["auth", "client_auth"].contains(&name)) || name == "value";
                let in_header = field.contains("headers.");
                let literal = filled == *text;
                *text = if named || in_header {
                    self.without_secret(field, name, literal, filled)
                } else {
                    filled
                };
                Ok(())
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.within(&format!("{field}[{i}]"), item)?;
                }
                Ok(())
            }
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    self.within(&below(field, key), value)?;
                }
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// An argument of a program. A placeholder that names a variable of the program itself, and what a script says to its shell, stay.
    fn argument(&mut self, i: usize, text: &str, own: &[String]) -> Result<String, String> {
        let names_own = own.iter().any(|name| text.contains(&format!("${{{name}}}")));
        let script = text.contains(char::is_whitespace);
        match self.local_environment.fill(text) {
            _ if names_own => Ok(text.to_owned()),
            Ok(filled) => {
                if filled != text && is_secret_argument(&filled) {
                    let text = "holds a secret once it is filled in, and every process of the machine can read it there; a fleet \
                                refuses it: give the program a variable in `env`";
                    self.remark(&format!("args[{i}]"), text.to_owned());
                }
                Ok(filled)
            }
            Err(_) if script => Ok(text.to_owned()),
            Err(unfilled) => Err(format!("`args[{i}]` {unfilled}")),
        }
    }

    /// The text with a reference in the place of a secret that it writes out (`literal`) or was filled in with.
    fn without_secret(&mut self, field: &str, name: &str, literal: bool, text: String) -> String {
        let Ok(Template { before, secret: None }) = Template::parse(&text) else {
            return text;
        };
        if wrong_in(name, &before, false).is_none() {
            return text;
        }
        let scheme = ["Bearer ", "Basic ", "Token "]
            .into_iter()
            .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let scheme_len = scheme.map_or(0, str::len);
        let (scheme, secret) = text.split_at_checked(scheme_len).unwrap_or(("", &text));
        let secret = secret.trim();
        if secret.is_empty() {
            return text;
        }
        let value = Sensitive::written(secret);
        let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
        let name = format!("toolfleet-dev/{}/{}", self.id, field.chars().map(fits).collect::<String>());
        let reference = format!("secret://{name}");
        if literal {
            let text = format!(
                "holds a secret itself; `toolfleet dev` keeps it in its own Secrets Manager as `{reference}`. A fleet refuses it: \
                 store it in Secrets Manager there and write the reference"
            );
            self.remark(field, text);
        }
        self.settled.secrets.push(WrittenSecret { name, value });
        format!("{scheme}{reference}")
    }

    fn leave_out(&mut self, field: &str, why: &str, sentence: &str) {
        self.remark(
            field,
            format!("{why}; it is left out, and the server decides what a call without it gets"),
        );
        self.settled.left_out.entry(self.id.to_owned()).or_insert_with(|| sentence.to_owned());
    }

    pub(crate) fn remark(&mut self, field: &str, text: String) {
        self.settled.remarks.push(Remark { entry: below(self.entry, field), text });
    }
}

/// Whether a text is filled in from a variable that holds a secret by its name.
fn names_secret_variable(text: &str) -> bool {
    let mut rest = text;
    let names = std::iter::from_fn(|| {
        let (_, inner, after) = next_placeholder(rest)?;
        rest = after;
        inner.strip_prefix("env:").unwrap_or(inner).split(":-").next()
    });
    let whole = text.rsplit(' ').next().and_then(|word| word.strip_prefix('$'));
    names.chain(whole).any(is_secret_name)
}

fn is_secret_argument(text: &str) -> bool {
    let value = text.split_once('=').map_or(text, |(_, value)| value);
    wrong_in(text.split('=').next().unwrap_or_default().trim_start_matches('-'), value, false).is_some()
}

impl LocalEnvironment {
    /// The text with `${VAR}`, `${env:VAR}`, `{env:VAR}`, `${VAR:-default}` and, as a whole, `$VAR` filled in.
    pub(crate) fn fill(&self, text: &str) -> Result<String, Unfilled> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, inner, after)) = next_placeholder(rest) {
            filled.push_str(before);
            filled.push_str(&self.value(inner)?);
            rest = after;
        }
        filled.push_str(rest);
        if filled != text {
            return Ok(filled);
        }
        let (scheme, word) = text.rsplit_once(' ').map_or(("", text), |(scheme, word)| (scheme, word));
        let name = word.strip_prefix('$').map(|name| name.strip_prefix("env:").unwrap_or(name));
        match name.filter(|name| is_variable(name) && scheme.chars().all(|c| c.is_ascii_alphabetic())) {
            Some(name) if scheme.is_empty() => self.value(name),
            Some(name) => Ok(format!("{scheme} {}", self.value(name)?)),
            None => Ok(filled),
        }
    }

    fn value(&self, inner: &str) -> Result<String, Unfilled> {
        let (name, default) =
            inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        let name = name.trim();
        let name = name.strip_prefix("env:").unwrap_or(name);
        let set = self.variables.get(name).filter(|value| !value.is_empty());
        set.cloned().or_else(|| default.map(str::to_owned)).ok_or_else(|| Unfilled::of_variable(name))
    }
}

/// What stands before a placeholder, within it, and after it.
pub(crate) fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let starts = ["${", "{env:", "{file:"];
    let (at, start) = starts.iter().filter_map(|start| Some((text.find(start)?, *start))).min()?;
    let (before, rest) = text.split_at_checked(at)?;
    // `{env:VAR}` and `{file:path}` are opencode's; what they name stands within them.
    let open = if start == "${" { 2 } else { 1 };
    let (inner, after) = rest.get(open..)?.split_once('}')?;
    Some((before, inner, after))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A name that a variable can have: capitals, digits and `_`.
pub(crate) fn variable_name(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = name.trim().chars().map(fits).collect();
    let name = name.trim_matches('_');
    match name.chars().next() {
        None => "VALUE".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) => name.to_owned(),
    }
}

/// The variables that the placeholders of a text name.
pub(crate) fn names_in(text: &str) -> Vec<&str> {
    let mut rest = text;
    let inner = std::iter::from_fn(|| {
        let (_, inner, after) = next_placeholder(rest)?;
        rest = after;
        let name = inner.split(":-").next()?.trim();
        Some(name.strip_prefix("env:").unwrap_or(name))
    });
    let mut names: Vec<_> = inner.collect();
    if names.is_empty() {
        let word = text.rsplit(' ').next().and_then(|word| word.strip_prefix('$'));
        names.extend(
            word.map(|word| word.strip_prefix("env:").unwrap_or(word)).filter(|word| is_variable(word)),
        );
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local_environment() -> LocalEnvironment {
        let variables = [("TOKEN", "t0k"), ("EMPTY", ""), ("userHome", "/home/u")];
        LocalEnvironment { variables: variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into() }
    }

    #[test]
    fn placeholders_are_filled_in_all_their_forms() {
        for (text, expected) in [
            ("${TOKEN}", "t0k"),
            ("Bearer ${env:TOKEN}", "Bearer t0k"),
            ("${MISSING:-d}/${TOKEN}", "d/t0k"),
            ("${EMPTY:-d}", "d"),
            ("${MISSING:-}", ""),
            ("$TOKEN", "t0k"),
            ("Bearer $TOKEN", "Bearer t0k"),
            ("$env:TOKEN", "t0k"),
            ("Bearer {env:TOKEN}", "Bearer t0k"),
            ("{\"a\": 1}", "{\"a\": 1}"),
            ("${userHome}/x", "/home/u/x"),
            ("costs $5", "costs $5"),
            ("${open", "${open"),
        ] {
            assert_eq!(local_environment().fill(text).unwrap(), expected, "{text}");
        }
        for (text, name) in [
            ("${MISSING}", "variable `MISSING`, which is not set"),
            ("${env:EMPTY}", "variable `EMPTY`"),
            ("${input:key}", "input `key`"),
            ("$MISSING", "variable `MISSING`"),
            ("{env:MISSING}", "variable `MISSING`"),
            ("{file:~/.key}", "names a file"),
        ] {
            let unfilled = local_environment().fill(text).unwrap_err().to_string();
            assert!(unfilled.contains(name), "{unfilled}");
        }
    }

    #[test]
    fn a_local_environment_does_not_print_its_variables() {
        assert!(!format!("{:?}", local_environment()).contains("t0k"));
    }
}
