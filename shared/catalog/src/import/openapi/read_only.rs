//! Which members a request must not have: those that are `readOnly`, by themselves, by what they refer to, or in another branch of `allOf`.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::document::{Raw, SeenSchemas, flag, is_new};

/// How deep `allOf` may lead to `allOf`.
const MOST_DEPTH: u32 = 8;

/// Whether a property is one that a request must not have.
pub(super) fn is_read_only(raw: &Raw<'_>, schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    let referred = || {
        let reference = fields.get("$ref")?.as_str()?;
        raw.resolved(raw.target(reference).ok()?).ok()
    };
    flag(fields, "readOnly") || referred().is_some_and(|fields| flag(fields, "readOnly"))
}

/// The names of such properties, in the schema and in the branches of its `allOf`.
pub(super) fn read_only(raw: &Raw<'_>, fields: &Map<String, Value>) -> BTreeSet<String> {
    let (mut names, mut seen) = (BTreeSet::new(), HashSet::new());
    add(raw, fields, &mut names, &mut seen, MOST_DEPTH);
    names
}

fn add(
    raw: &Raw<'_>,
    fields: &Map<String, Value>,
    names: &mut BTreeSet<String>,
    seen: &mut SeenSchemas,
    depth: u32,
) {
    let Some(depth) = depth.checked_sub(1).filter(|_| is_new(fields, seen)) else { return };
    for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if raw.work.count(1).is_err() {
            return;
        }
        if is_read_only(raw, schema) {
            names.insert(name.clone());
        }
    }
    for branch in fields.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        let reference = branch.get("$ref").and_then(Value::as_str);
        let referred = reference.map(|reference| raw.target(reference).and_then(|at| raw.resolved(at)).ok());
        if let Some(fields) = referred.unwrap_or_else(|| branch.as_object()) {
            add(raw, fields, names, seen, depth);
        }
    }
}

/// The required members without those.
pub(super) fn required(value: &Value, read_only: &BTreeSet<String>) -> Option<Value> {
    let sent = |name: &&str| !read_only.contains(*name);
    let mut all: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).filter(sent).collect();
    all.sort_unstable();
    all.dedup();
    Some(json!(all))
}

/// Takes those from the required members of a branch that was made, and of the branches within it.
pub(super) fn require_none(raw: &Raw<'_>, branch: &mut Value, read_only: &BTreeSet<String>) {
    let Some(made) = branch.as_object_mut().filter(|_| !read_only.is_empty()) else { return };
    let members = made.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    if raw.work.count(1 + members).is_err() {
        return;
    }
    if let Some(left) = made.get("required").and_then(|value| required(value, read_only)) {
        made.insert("required".to_owned(), left);
    }
    for branch in made.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        require_none(raw, branch, read_only);
    }
}
