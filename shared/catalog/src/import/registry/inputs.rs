//! The inputs of a description in the MCP registry: values, defaults, and what its user has to give.

use serde_json::Value;

use crate::import::asked::Asked;

/// A field by its name of today, or as it was written before 2025-09-16 (`is_required`).
pub(super) fn get<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    let older = || {
        let mut snake = String::new();
        for c in field.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        snake
    };
    value.get(field).or_else(|| value.get(older())).filter(|value| !value.is_null())
}

/// The items of a list, if it is there.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    get(value, field).and_then(Value::as_array).into_iter().flatten()
}

/// A text, or the text of a number or switch.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether an input has to be given.
pub(super) fn is_required(input: &Value) -> bool {
    get(input, "isRequired") == Some(&Value::Bool(true))
}

/// The default of an input, or the placeholder of one that has to be given.
pub(super) fn chosen(input: &Value, name: &str, field: &str, asked: &mut Asked) -> Option<String> {
    let default = get(input, "default").and_then(text_of).filter(|text| !text.is_empty());
    default.or_else(|| is_required(input).then(|| asked.scoped(field, name)))
}

/// The parts `{name}` of a value, which `variables` of its input describe.
pub(super) struct Braces<'a> {
    pub(super) input: &'a Value,
    /// Whether a name is one that `variables` do not have: in addresses and headers people write no other braces.
    pub(super) undeclared: bool,
}

impl Braces<'_> {
    /// The text with values and placeholders in the place of its variables.
    pub(super) fn filled(&self, asked: &mut Asked, field: &str, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next(rest) {
            filled.push_str(before);
            let whole = rest.get(before.len()..rest.len() - after.len()).unwrap_or_default();
            filled.push_str(&self.part(asked, field, name).unwrap_or_else(|| whole.to_owned()));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    fn part(&self, asked: &mut Asked, field: &str, name: &str) -> Option<String> {
        let variable = get(self.input, "variables").and_then(|variables| variables.get(name));
        let of = |part: &str| variable.and_then(|input| get(input, part)).and_then(text_of);
        let known = of("value").or_else(|| of("default"));
        if variable.is_none() && !self.undeclared {
            return None;
        }
        Some(known.unwrap_or_else(|| asked.scoped(field, name)))
    }
}

/// What stands before a name in braces, the name, and what stands after it. A placeholder `${NAME}` is none.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in text.match_indices('{') {
        let (before, rest) = text.split_at_checked(at)?;
        let (name, after) = rest.get(1..)?.split_once('}')?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if is_name && !before.ends_with(['$', '{']) && !after.starts_with('}') {
            return Some((before, name, after));
        }
    }
    None
}
