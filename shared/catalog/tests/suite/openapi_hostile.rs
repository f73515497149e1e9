//! OpenAPI documents that are written to cost much: cycles, lists of references to lists of references, names like keywords, deep nesting.
//! Each is read in bounded work, and what is lost has a reason.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use toolfleet_catalog::openapi::{Document, MediaKind, ReadOptions, XmlBody, is_xml_name, read};

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
        (0..300).map(|n| (format!("p{n}"), json!({"allOf": [reference("Members"), {}]}))).collect();
    let schemas = json!({"Members": {"type": "object", "properties": members}, "Whole": {"type": "object", "properties": parts}});
    let document = document(schemas, XML, reference("Whole"));
    assert_eq!(codes(&document), ["too_large"], "{:?}", document.left_out);
    assert!(document.left_out[0].reason.to_string().contains("more than 50000 elements"));
}

/// A document with `count` operations that take this body in XML.
fn operations_with(count: usize, schemas: Value, schema: Value) -> Document {
    let post = json!({"post": {"requestBody": {"content": {XML: {"schema": schema}}}}});
    let paths: Map<_, _> = (0..count).map(|n| (format!("/x{n}"), post.clone())).collect();
    let text = json!({"openapi": "3.0.3", "servers": [{"url": "https://h.example"}], "paths": paths, "components": {"schemas": schemas}});
    read(&text.to_string(), &ReadOptions::default()).unwrap_or_else(|reason| panic!("{reason}"))
}

fn body_of(document: &Document, n: usize) -> &XmlBody {
    let MediaKind::Xml(body) = &document.operations[n].body.as_ref().unwrap().media[0].kind else {
        panic!("{document:?}")
    };
    body
}

#[test]
fn schemas_that_need_a_deep_stack_are_read_or_left_out() {
    let member = |schema: Value| json!({"type": "object", "properties": {"parent": schema}});
    let described = member(json!({"description": "d", "allOf": [reference("Category")]}));
    let read = document(json!({"Category": described}), XML, reference("Category"));
    assert_eq!((read.operations.len(), codes(&read)), (1, vec![]));
    assert_eq!(body_of(&read, 0).shared.len(), 1);
    let twice = member(json!({"allOf": [reference("Category"), {"type": "object"}]}));
    let left = document(json!({"Category": twice}), XML, reference("Category"));
    assert_eq!(codes(&left), ["too_large"]);
    assert!(left.left_out[0].reason.to_string().contains("nested more than 100 deep"), "{:?}", left.left_out);
    let chain = |of: fn(Value) -> Value| -> Value {
        let link = |n: usize| (format!("S{n}"), of(reference(&format!("S{}", (n + 1) % 3_000))));
        (0..3_000).map(link).collect::<Map<_, _>>().into()
    };
    for of in [|next| next, |next| json!({"type": "object", "properties": {"next": next}})]
        as [fn(Value) -> Value; 2]
    {
        let read = document(chain(of), XML, reference("S0"));
        assert_eq!((read.operations.len(), codes(&read)), (1, vec![]));
        assert_eq!(body_of(&read, 0).shared.len(), 3_000);
    }
}

#[test]
fn operations_share_their_elements() {
    let members: Map<_, _> = (0..400).map(|n| (format!("m{n}"), json!({"type": "string"}))).collect();
    let document =
        operations_with(200, json!({"Pet": {"type": "object", "properties": members}}), reference("Pet"));
    assert_eq!((document.operations.len(), codes(&document)), (200, vec![]));
    assert!(Arc::ptr_eq(&body_of(&document, 0).shared, &body_of(&document, 199).shared));
    assert_eq!(body_of(&document, 199).shared.len(), 1);
}

#[test]
fn the_bodies_of_a_document_have_one_bound() {
    let members: Map<_, _> = (0..400).map(|n| (format!("m{n}"), json!({"type": "string"}))).collect();
    let document = operations_with(
        200,
        json!({}),
        json!({"type": "object", "properties": members, "xml": {"name": "r"}}),
    );
    assert!(document.operations.len() > 100 && codes(&document).len() > 50, "{}", document.operations.len());
    assert!(codes(&document).iter().all(|code| *code == "too_large"));
    // A long text counts as many elements: it is copied into each part.
    let parts: Map<_, _> =
        (0..300).map(|n| (format!("p{n}"), json!({"allOf": [reference("Long"), {}]}))).collect();
    let long = json!({"xml": {"namespace": "n".repeat(100_000)}});
    let whole = json!({"type": "object", "properties": parts, "xml": {"name": "r"}});
    assert_eq!(codes(&operations_with(1, json!({"Long": long}), whole)), ["too_large"]);
}

#[test]
fn what_refers_to_a_schema_that_is_left_out_is_left_out() {
    let either = json!({"oneOf": [{"xml": {"name": "a"}}, {"xml": {"name": "b"}}]});
    let node =
        json!({"type": "object", "properties": {"next": reference("Node"), "either": reference("Either")}});
    let document = operations_with(3, json!({"Either": either, "Node": node}), reference("Node"));
    assert_eq!(codes(&document), ["unsupported_body"; 3]);
}

#[test]
fn alternatives_that_say_how_they_are_written_are_left_out() {
    let pet =
        json!({"type": "object", "properties": {"id": {"type": "integer", "xml": {"attribute": true}}}});
    let read = |schema: Value| {
        let whole = json!({"type": "object", "xml": {"name": "r"}, "properties": {"a": schema}});
        document(json!({"Pet": pet, "Kind": {"enum": ["x"]}}), XML, whole)
    };
    for list in ["oneOf", "anyOf"] {
        let left = read(json!({list: [reference("Pet"), {"type": "string"}]}));
        assert_eq!(codes(&left), ["unsupported_body"]);
        assert!(left.left_out[0].reason.to_string().contains(&format!("`{list}`")), "{:?}", left.left_out);
        assert_eq!(codes(&read(json!({list: [reference("Kind"), {"type": "string"}]}))), Vec::<&str>::new());
        let nullable = read(json!({list: [reference("Pet"), {"type": "null"}]}));
        assert!(body_of(&nullable, 0).root.members["a"].members["id"].attribute);
    }
    assert_eq!(codes(&read(json!({"allOf": [reference("Pet"), {"type": "object"}]}))), Vec::<&str>::new());
}

#[test]
fn names_are_those_of_xml() {
    for name in ["a", "_a-1.b", "é", "名", "a\u{b7}", "a\u{300}", "\u{10000}"] {
        assert!(is_xml_name(name), "{name}");
    }
    // Letters and digits of Unicode are not all characters of names.
    for name in [
        "",
        "1",
        "-a",
        "a:b",
        "a b",
        "\u{aa}",
        "\u{b5}",
        "\u{d7}",
        "a\u{b2}",
        "\u{300}",
        "a\u{2160}\u{3000}",
        "\u{24b6}",
    ] {
        assert!(!is_xml_name(name), "{name}");
    }
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
fn variables_of_an_address_are_filled_in_once() {
    let with = |url: &str, variables: Value| {
        let server = json!({"url": url, "variables": variables});
        let text = json!({"openapi": "3.0.3", "servers": [server], "paths": {}});
        read(&text.to_string(), &ReadOptions::default()).map(|document| document.url.to_string())
    };
    // Each names the next twice: 2^40 bytes, if a value were looked at again.
    let doubling: Map<_, _> = (0..40)
        .map(|n| (format!("v{n:02}"), json!({"default": format!("{{v{0:02}}}{{v{0:02}}}", n + 1)})))
        .collect();
    let refused = with("https://h.example/{v00}", doubling.into()).unwrap_err();
    assert!(refused.code == "invalid" && refused.text.contains("a variable without a value"), "{refused}");
    // A long value, many times.
    let long = json!({"v": {"default": "x".repeat(1_000)}});
    let refused = with(&format!("https://h.example/{}", "{v}".repeat(1_000_000)), long).unwrap_err();
    assert!(refused.code == "invalid" && refused.text.contains("more than 8 KiB"), "{refused}");
    let two = json!({"host": {"default": "h.example"}, "port": {"enum": [8443]}});
    assert_eq!(with("https://{host}:{port}/a/{host}", two).unwrap(), "https://h.example:8443/a/h.example");
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
