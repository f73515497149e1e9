//! Mends schemas that no value fits, as documents of providers have them: a call with such an argument would always be refused here, though
//! the provider takes it.
//!
//! Each mend is remarked, once for a document.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Number, Value, json};

const INT_OR_STRING: &str = "has values that are an integer or a string (`int-or-string`); both are taken";
const ENUM: &str = "has schemas whose `enum` or `const` is of another type than their `type`; the listed values are taken, in either type";
const LIST_ENUM: &str = "has lists with an `enum` that no list is in; it is read as that of their items";
const PATTERN: &str =
    "has patterns between slashes (`/../`); they are read without these, and not at all where flags follow";
const BOUNDS: &str = "has schemas whose lower bound is above the upper one; neither is held";

/// Pairs of a lower and an upper bound.
const PAIRS: [(&str, &str); 4] = [
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
];

/// What is read otherwise than it is written.
pub(super) type Remarks = BTreeSet<&'static str>;

/// Mends a schema that was made of `fields`.
pub(super) fn mend(made: &mut Map<String, Value>, fields: &Map<String, Value>, remarks: &mut Remarks) {
    let is_either = fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
        || fields.get("format").and_then(Value::as_str) == Some("int-or-string");
    if is_either {
        made.insert("type".to_owned(), json!(["integer", "string"]));
        remarks.insert(INT_OR_STRING);
    }
    enumeration(made, remarks);
    pattern(made, remarks);
    for (lower, upper) in PAIRS {
        let bound = |name: &str| made.get(name).and_then(Value::as_f64);
        if bound(lower).zip(bound(upper)).is_some_and(|(lower, upper)| lower > upper) {
            made.remove(lower);
            made.remove(upper);
            remarks.insert(BOUNDS);
        }
    }
    any_of(made);
}

/// An `enum` of values of another type than `type`.
fn enumeration(made: &mut Map<String, Value>, remarks: &mut Remarks) {
    let types: Vec<String> = match made.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return,
    };
    let fits = |value: &Value| types.iter().any(|of| is_of(value, of));
    if made.get("const").is_some_and(|value| !fits(value)) {
        made.remove("type");
        remarks.insert(ENUM);
    }
    let Some(Value::Array(values)) = made.get("enum").filter(|_| made.contains_key("type")) else { return };
    if values.is_empty() || values.iter().any(fits) {
        return;
    }
    let mut values = values.clone();
    if types == ["array"] {
        made.remove("enum");
        remarks.insert(LIST_ENUM);
        of_items(made, values);
        return;
    }
    made.remove("type");
    remarks.insert(ENUM);
    let listed: HashSet<String> = values.iter().map(Value::to_string).collect();
    let others = values.iter().filter_map(|value| in_other_type(value, &types));
    let others: Vec<Value> = others.filter(|other| !listed.contains(&other.to_string())).collect();
    values.extend(others);
    made.insert("enum".to_owned(), Value::Array(values));
}

/// Adds the values to the schema of the items, unless that has values or a type of its own that they do not fit.
fn of_items(made: &mut Map<String, Value>, values: Vec<Value>) {
    let items = made.entry("items").or_insert_with(|| Value::Object(Map::new()));
    if *items == Value::Bool(true) {
        *items = Value::Object(Map::new());
    }
    let Some(items) = items.as_object_mut() else { return };
    let fits = match items.get("type").and_then(Value::as_str) {
        Some(of) => values.iter().any(|value| is_of(value, of)),
        None => items.is_empty(),
    };
    if fits {
        items.entry("enum").or_insert(Value::Array(values));
    }
}

/// The value as it would be written in one of the types.
fn in_other_type(value: &Value, types: &[String]) -> Option<Value> {
    let has = |name: &str| types.iter().any(|of| of == name);
    match value {
        Value::Number(_) | Value::Bool(_) if has("string") => Some(Value::from(value.to_string())),
        Value::String(text) if has("integer") || has("number") => {
            text.trim().parse::<Number>().ok().map(Value::Number)
        }
        Value::String(text) if has("boolean") => text.trim().parse::<bool>().ok().map(Value::Bool),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

/// Whether the value is of that type of JSON Schema.
fn is_of(value: &Value, of: &str) -> bool {
    match of {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        // A type that is not known is passed over.
        _ => true,
    }
}

/// A pattern as programs write it, `/^[a-z]+$/i`: between slashes an anchor can never hold.
fn pattern(made: &mut Map<String, Value>, remarks: &mut Remarks) {
    let Some(text) = made.get("pattern").and_then(Value::as_str) else { return };
    let Some((inner, flags)) = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) else { return };
    let is_anchored = inner.starts_with('^') || inner.ends_with('$');
    if !is_anchored || !flags.chars().all(|flag| "dgimsuvxy".contains(flag)) {
        return;
    }
    // `i`, `m`, `s` and `x` change what fits, and JSON Schema cannot say so.
    let means_the_same = flags.chars().all(|flag| "dguvy".contains(flag));
    let inner = inner.to_owned();
    made.remove("pattern");
    if means_the_same {
        made.insert("pattern".to_owned(), Value::from(inner));
    }
    remarks.insert(PATTERN);
}

/// One value often fits two branches of a `oneOf` (a number that is an integer, a string with another format), which the provider takes.
fn any_of(made: &mut Map<String, Value>) {
    let Some(branches) = made.remove("oneOf") else { return };
    if !made.contains_key("anyOf") {
        made.insert("anyOf".to_owned(), branches);
        return;
    }
    let all = made.entry("allOf").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.push(json!({ "anyOf": branches }));
    }
}
