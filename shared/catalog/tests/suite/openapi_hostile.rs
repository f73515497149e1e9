//! OpenAPI documents that are written to cost much: cycles, lists of references to lists of references, names like keywords, deep nesting.
//! Each is read in bounded work, and what is lost has a reason.

use serde_json::{Map, Value, json};
use toolfleet_catalog::openapi::{Document, MediaKind, ReadOptions, read};

fn document(schemas: Value, media: &str, schema: Value) -> Document {
    let body = json!({"required": true, "content": {media: {"schema": schema}}});
    let text = json!({
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://h.example"}],
        "paths": {"/x": {"post": {"operationId": "send", "requestBody": body}}}, "components": {"schemas": schemas},
    });
    read(&text.to_string(), &ReadOptions::default()).unwrap_or_else(|reason| panic!("{reason}"))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn codes(document: &Document) -> Vec<&str> {
    document.left_out.iter().map(|one| one.reason.code).collect()
}

const XML: &str = "application/xml";
const FORM: &str = "application/x-www-form-urlencoded";

/// Levels of schemas, each of which refers many times to the next: 60^9 paths.
fn fan() -> Value {
    let level = |n: usize| match n {
        9 => {
            json!({"type": "object", "properties": {"leaf": {"type": "string", "xml": {"attribute": true}}}})
        }
        n => json!({"allOf": vec![reference(&format!("L{}", n + 1)); 60]}),
    };
    (0..10).map(|n| (format!("L{n}"), level(n))).collect::<Map<_, _>>().into()
}

#[test]
fn lists_of_references_to_lists_of_references_are_searched_once() {
    for media in [XML, FORM, "multipart/form-data", "application/json"] {
        let document = document(fan(), media, reference("L0"));
        assert_eq!((document.operations.len(), codes(&document)), (1, vec![]), "{media}");
    }
}

#[test]
fn schemas_that_lead_back_to_themselves_are_read_once() {
    let schemas = json!({
        "Self": {"$ref": "#/components/schemas/Self"},
        "A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"},
        "Node": {"type": "object", "properties": {"next": reference("Node"), "all": {"type": "array", "items": reference("Node")}}},
        "Part": {"allOf": [reference("Part"), {"type": "object"}]},
    });
    for name in ["Self", "A", "Node", "Part"] {
        for media in [XML, FORM] {
            let document = document(schemas.clone(), media, reference(name));
            assert_eq!(document.operations.len() + document.left_out.len(), 1, "{media} {name}");
        }
    }
    let node = document(schemas, XML, reference("Node"));
    let MediaKind::Xml(body) = &node.operations[0].body.as_ref().unwrap().media[0].kind else {
        panic!("{node:?}")
    };
    assert_eq!((body.root.name.as_deref(), body.shared.len()), (Some("Node"), 1));
}

#[test]
fn a_body_in_xml_has_a_bound() {
    // Each of 300 schemas has all members of one: 90,000 elements.
    let members: Map<_, _> = (0..300).map(|n| (format!("m{n}"), json!({"type": "string"}))).collect();
    let parts: Map<_, _> =
        (0..300).map(|n| (format!("p{n}"), json!({"allOf": [reference("Members")]}))).collect();
    let schemas = json!({"Members": {"type": "object", "properties": members}, "Whole": {"type": "object", "properties": parts}});
    let document = document(schemas, XML, reference("Whole"));
    assert_eq!(codes(&document), ["too_large"], "{:?}", document.left_out);
    assert!(document.left_out[0].reason.to_string().contains("more than 20000 elements"));
}

#[test]
fn properties_may_be_called_like_keywords() {
    let odd = json!({"type": "object", "xml": {"name": "r"}, "properties": {
        "$ref": {"type": "string"}, "xml": {"type": "object", "properties": {"name": {"type": "string"}}},
        "properties": {"type": "array", "items": {"type": "string"}}, "allOf": {"type": "integer"}}});
    let document = document(json!({}), XML, odd);
    let MediaKind::Xml(body) = &document.operations[0].body.as_ref().unwrap().media[0].kind else {
        panic!("{document:?}")
    };
    let names: Vec<_> = body.root.members.keys().map(String::as_str).collect();
    assert_eq!(names, ["$ref", "allOf", "properties", "xml"]);
    assert!(body.root.members["properties"].items.is_some());
}

#[test]
fn a_name_that_would_end_its_element_is_none() {
    let xml = json!({"name": "a><b", "prefix": "p q", "namespace": "urn:x\" y=\""});
    let schema =
        json!({"type": "object", "xml": {"name": "r"}, "properties": {"m": {"type": "string", "xml": xml}}});
    let document = document(json!({}), XML, schema);
    let MediaKind::Xml(body) = &document.operations[0].body.as_ref().unwrap().media[0].kind else {
        panic!("{document:?}")
    };
    let member = &body.root.members["m"];
    assert_eq!((&member.name, &member.prefix), (&None, &None));
}

#[test]
fn xml_is_written_where_nothing_else_is_taken_and_its_root_has_a_name() {
    let schema = json!({"type": "object"});
    let unnamed = document(json!({}), XML, schema.clone());
    assert_eq!(codes(&unnamed), ["unsupported_body"]);
    assert!(unnamed.left_out[0].reason.to_string().contains("`xml.name`"), "{:?}", unnamed.left_out);
    let list = document(json!({"Pet": schema}), XML, json!({"type": "array", "items": reference("Pet")}));
    assert_eq!(codes(&list), ["unsupported_body"]);
    let named = document(json!({"Pet": schema}), "application/soap+xml", reference("Pet"));
    assert_eq!((named.operations.len(), codes(&named)), (1, vec![]));
}

#[test]
fn a_schema_that_is_nested_without_end_is_left_out() {
    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"type": "object", "properties": {"d": deep}});
    }
    // Deeper texts are no JSON here: the reader stops at 128 levels.
    let document = document(json!({"Deep": deep}), XML, reference("Deep"));
    assert_eq!(document.operations.len() + document.left_out.len(), 1);
    let text = format!(
        r#"{{"openapi": "3.1.0", "paths": {{"/x": {}{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(&text, &ReadOptions::default()).is_err());
}
