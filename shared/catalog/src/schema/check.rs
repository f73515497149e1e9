//! Checks a schema when its catalog is loaded, at a fraction of the time and memory of compiling it.
//!
//! Nearly all of the work of compiling is in the regular expressions. So the schema is built, and dropped, with a literal in the place of
//! each expression, and the expressions are parsed. Both together find what compiling would find, except that an expression is too large.

use serde_json::Value;

use super::cost::Plan;
use super::options::options;

/// An expression for which no automaton is built.
const LITERAL: &str = "^a";

/// Why the schema does not compile. One that is over the budget of compiling passes: it is never compiled.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    if Plan::of(schema).is_none() {
        return Ok(());
    }
    let (mut skeleton, mut expressions) = (schema.clone(), Vec::new());
    take_expressions(&mut skeleton, &mut expressions);
    options().build(&skeleton).map_err(|error| error.to_string())?;
    expressions.iter().try_for_each(|expression| check_expression(expression))
}

/// Replaces every expression by a literal. That of a `const` or an `enum` is replaced as well, which changes nothing of the check.
fn take_expressions(value: &mut Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "pattern"
                    && let Value::String(text) = value
                {
                    found.push(std::mem::replace(text, LITERAL.to_owned()));
                } else {
                    take_expressions(value, found);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_expressions(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the parser does not know, such as a look-ahead, or what only ECMA 262 writes so, is compiled by itself and dropped.
fn check_expression(expression: &str) -> Result<(), String> {
    if regex_syntax::parse(expression).is_ok() {
        return Ok(());
    }
    let alone = serde_json::json!({ "pattern": expression });
    options().build(&alone).map(|_| ()).map_err(|error| error.to_string())
}
