//! OpenAPI documents whose parts are multiplied: many operations or schemas that share a large part. What is read again for each of them has a
//! bound by the document's size, and what is beyond it is left out as `too_large`.

use serde_json::{Map, Value, json};
use toolfleet_catalog::openapi::{Document, Given, Operation, ReadOptions, Reason, read};

fn read_of(document: &Value) -> Result<Document, Reason> {
    let options = ReadOptions { given: Some(Given::default()), ..ReadOptions::default() };
    read(&document.to_string(), &options)
}

fn three(paths: Value, components: Value) -> Value {
    json!({"openapi": "3.0.3", "servers": [{"url": "https://h.example"}], "paths": paths, "components": components})
}

fn many(count: usize, name: &str, of: impl Fn(usize) -> Value) -> Value {
    (0..count).map(|n| (format!("{name}{n}"), of(n))).collect::<Map<_, _>>().into()
}

fn reference(place: &str) -> Value {
    json!({"$ref": format!("#/components/{place}")})
}

fn body(media: &str, schema: &Value) -> Value {
    json!({"content": {media: {"schema": schema}}})
}

/// Some operations were read, and all others are too large.
fn assert_bounded(document: &Value) {
    let document = read_of(document).unwrap_or_else(|reason| panic!("{reason}"));
    assert!(
        !document.operations.is_empty() && !document.left_out.is_empty(),
        "{}",
        document.operations.len()
    );
    for left in &document.left_out {
        assert!(left.reason.code == "too_large" && left.reason.text.contains("takes more work"), "{left:?}");
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

#[test]
fn operations_share_the_schemas_that_they_reach() {
    let ring = |size: usize| {
        many(
            size,
            "S",
            |n| json!({"type": "object", "properties": {"next": reference(&format!("schemas/S{}", (n + 1) % size))}}),
        )
    };
    let operations = |count: usize, size: usize| {
        let of = |n: usize| json!({"post": {"requestBody": body("application/json", &reference(&format!("schemas/S{}", n % size)))}});
        three(many(count, "/", of), json!({"schemas": ring(size)}))
    };
    let whole = read_of(&operations(500, 100)).unwrap();
    assert_eq!((whole.operations.len(), whole.left_out.len()), (500, 0));
    let defs = |operation: &Operation| operation.arguments()["$defs"].as_object().map(Map::len);
    assert_eq!(defs(&whole.operations[499]), Some(100));
    assert_bounded(&operations(3_000, 4_000));
}

#[test]
fn a_shared_path_item_is_not_read_for_each_path_without_end() {
    let parameters: Vec<_> =
        (0..2_000).map(|n| json!({"name": format!("p{n}"), "in": "query", "schema": text()})).collect();
    let item = json!({"parameters": parameters, "get": {}});
    let paths = many(500, "/", |_| reference("pathItems/One"));
    assert_bounded(&three(paths, json!({"pathItems": {"One": item}})));
}

#[test]
fn a_shared_body_is_not_read_for_each_operation_without_end() {
    let schema = json!({"type": "object", "properties": many(2_000, "p", |_| text())});
    for media in ["application/json", "application/x-www-form-urlencoded"] {
        let paths = many(500, "/", |_| json!({"post": {"requestBody": reference("requestBodies/One")}}));
        assert_bounded(&three(paths, json!({"requestBodies": {"One": body(media, &schema)}})));
    }
    // The fields of a form are looked for in each operation.
    let form = body("application/x-www-form-urlencoded", &reference("schemas/One"));
    let paths = many(5_000, "/", |_| json!({"post": {"requestBody": form}}));
    assert_bounded(&three(paths, json!({"schemas": {"One": schema}})));
}

#[test]
fn what_is_left_out_is_not_listed_without_end() {
    let item = many(3_000, "m", |_| json!({}));
    let paths = many(3_000, "/", |_| reference("pathItems/One"));
    let refused = read_of(&three(paths, json!({"pathItems": {"One": item}}))).unwrap_err();
    assert!(refused.code == "too_large" && refused.text.contains("takes more work"), "{refused}");
}

#[test]
fn a_long_enum_of_another_type_is_mended_once() {
    let numbers: Vec<_> = (0..50_000).collect();
    let schema = json!({"type": "string", "enum": numbers});
    let paths = json!({"/x": {"post": {"requestBody": body("application/json", &schema)}}});
    let document = read_of(&three(paths, json!({}))).unwrap();
    let arguments = document.operations[0].arguments();
    assert_eq!(arguments.pointer("/properties/body/enum").unwrap().as_array().unwrap().len(), 100_000);
}

#[test]
fn many_media_types_and_parameters_are_read_once() {
    let schema =
        |n: usize| json!({"type": "object", "required": ["a", "b", "c"], "title": format!("t{}", n / 2)});
    let media: Map<_, _> =
        (0..5_000).map(|n| (format!("application/x{n:04}+json"), json!({"schema": schema(n)}))).collect();
    let parameters: Vec<_> =
        (0..5_000).map(|n| json!({"name": format!("p{n}"), "in": "query", "schema": text()})).collect();
    let again: Vec<_> = (0..5_000)
        .map(|n| json!({"name": format!("p{n}"), "in": "query", "required": true, "schema": text()}))
        .collect();
    let item =
        json!({"parameters": parameters, "post": {"parameters": again, "requestBody": {"content": media}}});
    let document = read_of(&three(json!({"/x": item}), json!({}))).unwrap();
    let operation = &document.operations[0];
    assert!(operation.parameters.len() == 5_000 && operation.parameters.iter().all(|one| one.required));
    let body = &operation.arguments()["properties"]["body"];
    assert_eq!(body["anyOf"].as_array().unwrap().len(), 2_500, "equal schemas stand there once");
}

#[test]
fn read_only_members_are_not_looked_for_without_end() {
    let big = json!({"type": "object", "properties": many(2_000, "p", |_| json!({"type": "string", "readOnly": true}))});
    let mut schemas = many(3_000, "S", |_| json!({"allOf": [reference("schemas/Big")], "required": ["p1"]}));
    schemas["Big"] = big;
    let of = |n: usize| json!({"post": {"requestBody": body("application/json", &reference(&format!("schemas/S{n}")))}});
    assert_bounded(&three(many(3_000, "/", of), json!({"schemas": schemas})));
}

#[test]
fn general_lists_are_not_read_for_each_operation_without_end() {
    let operations = many(1_000, "/", |_| json!({"get": {"responses": {}}}));
    let mut security = three(operations.clone(), json!({}));
    // The last of them is given.
    let alternatives = vec![json!({"k": []}); 20_000].into_iter().chain([json!({})]);
    security["security"] = alternatives.collect::<Vec<_>>().into();
    assert_bounded(&security);
    let produces: Vec<_> = (0..20_000).map(|n| format!("a/{n}")).collect();
    assert_bounded(
        &json!({"swagger": "2.0", "host": "h.example", "paths": operations, "produces": produces}),
    );
    let responses: Value = many(2_000, "2", |_| json!({"content": {"a/b": {}}}));
    let paths = many(1_000, "/", |_| reference("pathItems/One"));
    assert_bounded(&three(paths, json!({"pathItems": {"One": {"get": {"responses": responses}}}})));
}

#[test]
fn alternatives_of_xml_are_not_looked_at_without_end() {
    let schema = json!({"xml": {"name": "r"}, "anyOf": vec![reference("schemas/Kind"); 5_000]});
    let paths = many(500, "/", |_| json!({"post": {"requestBody": reference("requestBodies/One")}}));
    let components =
        json!({"schemas": {"Kind": text()}, "requestBodies": {"One": body("application/xml", &schema)}});
    assert_bounded(&three(paths, components));
}

#[test]
fn json_has_a_bound_of_nodes() {
    let text = format!(r#"{{"openapi": "3.0.3", "paths": {{}}, "x": [{}0]}}"#, "0,".repeat(5_000_000));
    let refused = read(&text, &ReadOptions::default()).unwrap_err();
    assert!(refused.code == "too_large" && refused.text.contains("more than 5000000 values"), "{refused}");
    // What stands within a text is no node.
    let text = format!(
        r#"{{"openapi": "3.0.3", "servers": [{{"url": "https://h.example"}}], "paths": {{}}, "x": "\"{}"}}"#,
        ",".repeat(5_000_000)
    );
    assert!(read(&text, &ReadOptions::default()).is_ok());
}
