use serde_json::{Value, json};

use super::*;

fn compiled(schema: &Value) -> Result<Judge, NotCompiled> {
    InputSchema::checked(schema).map_err(|error| NotCompiled::Invalid(error.into()))?.compile()
}

fn judged(schema: &Value, arguments: &str) -> Verdict {
    judged_within(schema, arguments, Budget::MOST)
}

fn judged_within(schema: &Value, arguments: &str, budget: Budget) -> Verdict {
    match compiled(schema) {
        Ok(judge) => judge.judge(arguments, budget),
        Err(NotCompiled::TooLarge) => Verdict::OverBudget,
        Err(NotCompiled::Invalid(error)) => panic!("{schema}: {error}"),
    }
}

fn is_too_large(schema: &Value) -> bool {
    matches!(compiled(schema), Err(NotCompiled::TooLarge))
}

/// Each of `levels` parts refers to the next one twice, by `keyword`.
fn doubling(levels: usize, double: impl Fn(Value) -> Value) -> Value {
    let mut parts = serde_json::Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        parts.insert(format!("d{level}"), double(next));
    }
    parts.insert(format!("d{levels}"), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/d0", "$defs": parts })
}

#[test]
fn references_that_double_are_left_to_the_server_at_once() {
    let both = |next: Value| json!({ "allOf": [next, next] });
    let either = |next: Value| json!({ "anyOf": [next, next] });
    let one = |next: Value| json!({ "oneOf": [next, { "not": next }] });
    let unevaluated = |next: Value| json!({ "allOf": [next], "unevaluatedProperties": next });
    let whether = |next: Value| json!({ "if": next, "then": next, "else": next });
    let depends = |next: Value| json!({ "dependentSchemas": { "a": next, "b": next } });
    for schema in [
        doubling(34, both),
        doubling(34, either),
        doubling(34, one),
        doubling(60, unevaluated),
        doubling(34, whether),
        doubling(34, depends),
    ] {
        assert_eq!(judged(&schema, r#"{"a":1,"b":2}"#), Verdict::OverBudget, "{schema:.80}");
    }
}

#[test]
fn a_schema_that_doubles_a_few_times_is_still_judged() {
    let schema = doubling(6, |next| json!({ "allOf": [next, next] }));
    assert_eq!(judged(&schema, "{}"), Verdict::Fits);
    assert!(matches!(judged(&schema, "[]"), Verdict::Problems(_)));
}

#[test]
fn a_recursive_schema_is_judged_as_far_as_its_arguments_go() {
    let tree = json!({
        "type": "object", "required": ["name"],
        "properties": { "name": { "type": "string" }, "children": { "items": { "$ref": "#" } } },
    });
    assert_eq!(judged(&tree, r#"{"name":"a","children":[{"name":"b","children":[]}]}"#), Verdict::Fits);
    let Verdict::Problems(problems) = judged(&tree, r#"{"name":"a","children":[{}]}"#) else {
        panic!("a problem")
    };
    assert!(problems[0].starts_with("arguments/children/0:"), "{problems:?}");
}

#[test]
fn exponential_recursion_is_left_to_the_server() {
    let schema = json!({ "properties": { "a": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } } });
    let deep = |levels: usize| format!("{}{{}}{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert_eq!(judged(&schema, &deep(4)), Verdict::Fits);
    assert_eq!(judged(&schema, &deep(60)), Verdict::OverBudget);
}

#[test]
fn a_circle_at_one_value_is_left_to_the_server() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "not": { "$dynamicRef": "#me" }, "$dynamicAnchor": "me" }),
    ] {
        let verdict = compiled(&schema).map(|judge| judge.judge("{}", Budget::MOST));
        assert!(matches!(verdict, Ok(Verdict::OverBudget) | Err(_)), "{schema}: {verdict:?}");
    }
}

#[test]
fn a_chain_of_references_too_long_for_the_stack_is_not_compiled() {
    let mut parts = serde_json::Map::new();
    for n in 0..5_000 {
        parts.insert(format!("d{n}"), json!({ "$ref": format!("#/$defs/d{}", n + 1) }));
    }
    parts.insert("d5000".to_owned(), json!({}));
    assert!(is_too_large(&json!({ "$ref": "#/$defs/d0", "$defs": parts })));
}

#[test]
fn the_deepest_checked_schema_fits_on_a_small_stack() {
    let judge = || {
        let mut parts = serde_json::Map::new();
        for n in 0..55 {
            parts.insert(format!("d{n}"), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", n + 1) }] }));
        }
        parts.insert("d55".to_owned(), json!({}));
        let chain = json!({ "$ref": "#/$defs/d0", "$defs": parts });
        assert_eq!(judged(&chain, "{}"), Verdict::Fits);
        let tree = json!({ "items": { "allOf": [{ "$ref": "#" }] } });
        let nested = format!("{}{}", "[".repeat(80), "]".repeat(80));
        assert_eq!(judged(&tree, &nested), Verdict::Fits);
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(judge).unwrap().join().unwrap();
}

#[test]
fn a_pattern_that_goes_back_for_ever_is_no_complaint() {
    let schema = json!({ "properties": { "a": { "pattern": "^(?=(a+)+$)(a|aa)+\\1b$" } } });
    let text = format!(r#"{{"a":"{}"}}"#, "a".repeat(5_000));
    assert_ne!(
        std::mem::discriminant(&judged(&schema, &text)),
        std::mem::discriminant(&Verdict::Problems(vec![]))
    );
    let usual = json!({ "properties": { "a": { "pattern": "^(?=.*[A-Z]).{8,64}$" } } });
    assert_eq!(judged(&usual, r#"{"a":"Long enough"}"#), Verdict::Fits);
    assert!(matches!(judged(&usual, r#"{"a":"short"}"#), Verdict::Problems(_)));
}

#[test]
fn a_pattern_with_too_many_states_is_not_compiled() {
    for pattern in ["((a{1,200}){1,200}){1,200}", "[a-z]{1,100000}", "(((x{50}){50}){50}){50}"] {
        assert!(is_too_large(&json!({ "pattern": pattern })), "{pattern}");
    }
    for pattern in
        ["^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", "^\\d{4}-\\d{2}-\\d{2}$", "^.{1,1000}$"]
    {
        assert!(!is_too_large(&json!({ "pattern": pattern })), "{pattern}");
    }
}

#[test]
fn large_arguments_are_not_checked_by_a_costly_schema() {
    let numbers = format!("[{}]", vec!["1"; 50_000].join(","));
    assert_eq!(judged(&json!({ "items": { "type": "integer" } }), &numbers), Verdict::Fits);
    let schema = json!({ "items": { "enum": (0..5_000).collect::<Vec<_>>() } });
    assert_eq!(judged(&schema, &numbers), Verdict::OverBudget);
    let integers = json!({ "items": { "type": "integer" } });
    assert_eq!(judged_within(&integers, &numbers, Budget::INLINE), Verdict::OverBudget);
}

#[test]
fn a_schema_of_very_many_parts_is_not_compiled() {
    let properties: serde_json::Map<_, _> = (0..30_000).map(|n| (n.to_string(), json!({}))).collect();
    assert!(is_too_large(&json!({ "properties": properties })));
}

#[test]
fn references_by_anchor_id_and_escaped_pointer_are_followed() {
    let number = json!({ "type": "number" });
    for schema in [
        json!({ "properties": { "a": { "$ref": "#n" } }, "$defs": { "x": { "$anchor": "n", "type": "number" } } }),
        json!({ "properties": { "a": { "$ref": "#/$defs/a%20b~1c" } }, "$defs": { "a b/c": number } }),
        json!({
            "$id": "https://example.com/root", "properties": { "a": { "$ref": "inner#/$defs/n" } },
            "$defs": { "i": { "$id": "inner", "$defs": { "n": number } } },
        }),
        json!({ "$id": "https://example.com/root", "properties": { "a": { "$ref": "https://example.com/root#/$defs/n" } }, "$defs": { "n": number } }),
    ] {
        assert_eq!(judged(&schema, r#"{"a":1}"#), Verdict::Fits, "{schema}");
        assert!(matches!(judged(&schema, r#"{"a":"x"}"#), Verdict::Problems(_)), "{schema}");
    }
}

#[test]
fn a_reference_out_of_the_document_is_not_followed() {
    assert!(InputSchema::checked(&json!({ "$ref": "https://example.com/other" })).is_err());
    let of_schemas = json!({ "$ref": "https://json-schema.org/draft/2020-12/schema" });
    assert_eq!(judged(&of_schemas, "{}"), Verdict::OverBudget);
}

#[test]
fn half_a_surrogate_pair_in_arguments_is_judged_as_a_character() {
    let schema = json!({ "properties": { "a": { "type": "string", "maxLength": 1 } } });
    assert_eq!(judged(&schema, r#"{"a":"\ud800"}"#), Verdict::Fits);
    assert!(matches!(judged(&schema, r#"{"a":"\ud800x"}"#), Verdict::Problems(_)));
}

#[test]
fn what_does_not_compile_is_found_when_the_catalog_is_loaded() {
    for schema in [
        json!({ "type": "objekt" }),
        json!({ "properties": { "a": { "minLength": "two" } } }),
        json!({ "properties": { "pattern": "a text is no schema" } }),
        json!({ "properties": { "a": { "$ref": "#/$defs/none" } } }),
        json!({ "properties": { "a": { "pattern": "[z-a]" } } }),
        json!({ "properties": { "a": { "pattern": "(?=open" } } }),
        json!({ "patternProperties": { "(": {} } }),
        json!({ "allOf": [{ "items": { "pattern": "a{2,1}" } }] }),
    ] {
        assert!(InputSchema::checked(&schema).is_err(), "{schema}");
        let compiled = InputSchema::unchecked(&schema).compile();
        assert!(matches!(compiled, Err(NotCompiled::Invalid(_))), "{schema}: {compiled:?}");
    }
}

#[test]
fn expressions_of_every_dialect_pass_the_check() {
    for pattern in [
        "^(?=.*[A-Z]).{8,64}$",
        "(a)\\1",
        "^\\cA$",
        "\\u0041",
        "^[\\w.-]+@[\\w-]+$",
        "\\p{Letter}",
        "^[^/]*$",
    ] {
        let schema = json!({ "properties": { "pattern": { "pattern": pattern } } });
        assert_eq!(InputSchema::checked(&schema).err(), None, "{pattern}");
        assert!(compiled(&schema).is_ok(), "{pattern}");
    }
}

#[test]
fn an_expression_over_the_limit_of_bytes_is_left_to_the_server() {
    let schema = json!({ "pattern": "^(\\p{L}\\p{N}){500}$" });
    assert!(is_too_large(&schema));
}

#[test]
fn a_schema_that_is_known_is_not_read_again() {
    let schema = json!({ "properties": { "a": { "type": "string" } } });
    let first = KnownSchemas::default().read("e", Some(&schema)).unwrap().unwrap();
    let known = KnownSchemas::of(std::iter::once(&first));
    let second = known.read("e", Some(&schema)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first.0, &second.0));
    let other = known.read("e", Some(&json!({ "type": "object" }))).unwrap().unwrap();
    assert_ne!(other.digest(), first.digest());
}
