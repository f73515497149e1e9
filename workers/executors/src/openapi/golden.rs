//! The golden table, byte for byte: `toolfleet_testkit::openapi_cases`. The worker's suite sends the same cases to a server. Below it, what
//! makes no request.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_catalog::openapi::{Document, ReadOptions, read};
use toolfleet_testkit::openapi_cases;

use super::encode::{Encoded, encode};

/// The document that has one operation.
fn document_with(version: &str, path: &str, operation: &Value, schemas: &Value) -> Document {
    let post = json!({ "post": operation });
    let field = if version == "2.0" { "swagger" } else { "openapi" };
    let text = json!({field: version, "host": "h.example", "servers": [{"url": "https://h.example"}], "paths": {path: post},
        "components": {"schemas": schemas}});
    let document =
        read(&text.to_string(), &ReadOptions::default()).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(document.operations.len(), 1, "{operation}: {:?}", document.left_out);
    document
}

fn document(version: &str, path: &str, operation: Value) -> Document {
    document_with(version, path, &operation, &json!({}))
}

fn request(document: &Document, arguments: &str) -> Result<Encoded, String> {
    let raw = RawValue::from_string(arguments.to_owned()).unwrap();
    encode(&document.operations[0], &raw)
}

fn header<'a>(encoded: &'a Encoded, name: &str) -> Option<&'a str> {
    encoded.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn each_case_of_the_table_is_written_byte_for_byte() {
    let cases = openapi_cases();
    assert!(cases.len() > 250, "{}", cases.len());
    for case in cases {
        let document = document_with(case.version, &case.path, &case.operation, &case.schemas);
        let encoded = request(&document, &case.arguments)
            .unwrap_or_else(|why| panic!("{} {}: {why}", case.name, case.arguments));
        let target = encoded.url.as_str().strip_prefix("https://h.example").unwrap();
        let compared =
            case.compare(target, |name| header(&encoded, name), encoded.body.as_deref().unwrap_or_default());
        compared.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(request(&document, &case.arguments).unwrap(), encoded, "equal calls are equal bytes");
    }
}

#[test]
fn a_path_argument_never_leads_to_another_path() {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {}});
    let document = document("3.0.4", "/a/{b}{c}/d", json!({"parameters": [parameter("b"), parameter("c")]}));
    let of = |b: &str, c: &str| request(&document, &json!({"b": b, "c": c}).to_string());
    for (b, c) in [("", ""), (".", ""), (".", "."), ("..", "")] {
        let error = of(b, c).unwrap_err();
        assert!(error.contains("leads to another path"), "{error}");
    }
    for (b, c, path) in [
        ("../x", "", "/a/..%2Fx/d"),
        ("%2e%2e", "", "/a/%252e%252e/d"),
        ("..", ".", "/a/.../d"),
        ("x?y=1#z", "\\..\\", "/a/x%3Fy%3D1%23z%5C..%5C/d"),
        ("//evil.example", "@h", "/a/%2F%2Fevil.example%40h/d"),
    ] {
        assert_eq!(of(b, c).unwrap().url.as_str(), format!("https://h.example{path}"), "{b} {c}");
    }
    assert_eq!(request(&document, r#"{"b": "x"}"#).unwrap_err(), "`c` is missing");
    let own_query = self::document(
        "3.0.4",
        "/q?fixed=1#Part",
        json!({"parameters": [{"name": "x", "in": "query", "schema": {}}]}),
    );
    assert_eq!(request(&own_query, r#"{"x": 2}"#).unwrap().url.as_str(), "https://h.example/q?fixed=1&x=2");
}

#[test]
fn half_a_surrogate_pair_is_refused_and_never_left_out() {
    let query = |name: &str, more: Value| {
        let mut parameter = json!({"name": name, "in": "query", "schema": {}});
        parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parameter
    };
    let deep = json!({"style": "deepObject", "explode": true});
    let parameters = json!([
        query("name", json!({})),
        query("f", deep),
        {"name": "X-H", "in": "header", "schema": {}},
        {"name": "j", "in": "query", "content": {"application/json": {}}},
    ]);
    let plain = document("3.0.4", "/x", json!({ "parameters": parameters }));
    for (name, arguments) in [
        ("`name`", r#"{"name":"caf\ud83d"}"#),
        ("`name`", r#"{"name":["a","\udc00"]}"#),
        ("`f`", r#"{"f":{"owner":"me","\ud83d":"x"}}"#),
        ("`X-H`", r#"{"X-H":"\ud83d"}"#),
        ("`j`", r#"{"j":{"a":"\ud83d"}}"#),
        ("`more`", r#"{"more":"\ud83d"}"#),
        ("the name of an argument", r#"{"name":"a","\ud83d":"x"}"#),
    ] {
        let error = request(&plain, arguments).unwrap_err();
        assert!(error.starts_with(&format!("{name} has half a surrogate pair")), "{arguments}: {error}");
    }
    let whole = request(&plain, r#"{"name":"\ud83d\ude00"}"#).unwrap();
    assert_eq!(whole.url.as_str(), "https://h.example/x?name=%F0%9F%98%80");
    let xml = json!({"schema": {"type": "object", "xml": {"name": "r"}}});
    let plain_media = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "image/png"];
    let medias = plain_media.map(|media| (media, json!({}))).into_iter().chain([("application/xml", xml)]);
    for (media, described) in medias {
        let document = document("3.0.4", "/x", content(media, described));
        for body in
            [r#"{"body":{"base64":"\ud83d","a":1}}"#, r#"{"body":"\ud83d"}"#, r#"{"body":{"\ud83d":"x"}}"#]
        {
            let error = request(&document, body).unwrap_err();
            assert!(error.starts_with("`body` has half a surrogate pair"), "{media} {body}: {error}");
        }
    }
    let optional = json!({"requestBody": {"content": {"application/json": {}}}});
    for operation in [content("application/json", json!({})), optional] {
        let json = document("3.0.4", "/x", operation);
        let sent = request(&json, r#"{"body":"\ud83d"}"#).unwrap();
        assert_eq!(sent.body.as_deref(), Some(&br#""\ud83d""#[..]), "JSON goes out byte for byte");
    }
}

#[test]
fn a_header_argument_cannot_end_its_header() {
    let list = json!([{"name": "X-A", "in": "header", "schema": {}}]);
    let document = document("3.0.4", "/x", json!({ "parameters": list }));
    for value in ["a\r\nX-B: c", "a\nb", "a\u{0}b", "a\u{7f}"] {
        let error = request(&document, &json!({ "X-A": value }).to_string()).unwrap_err();
        assert!(error.contains("control character"), "{error}");
    }
}

fn content(media: &str, described: Value) -> Value {
    json!({"requestBody": {"required": true, "content": {media: described}}})
}

#[test]
fn bytes_are_sent_as_they_are() {
    let document = document("3.0.4", "/x", content("application/octet-stream", json!({})));
    let sent = |arguments: &str| request(&document, arguments).map(|encoded| encoded.body.unwrap());
    assert_eq!(sent(r#"{"body": {"base64": "AAH/"}}"#).unwrap(), [0, 1, 255]);
    assert_eq!(sent(r#"{"body": {"base64": "AAH_"}}"#).unwrap(), [0, 1, 255]);
    assert_eq!(sent(r#"{"body": "hü"}"#).unwrap(), "hü".as_bytes());
    assert_eq!(sent(r#"{"body": {"base64": "*"}}"#).unwrap_err(), "`body.base64` is not base64");
    assert!(sent(r#"{"body": 7}"#).is_ok() && sent(r#"{"body": [7]}"#).is_err());
    assert_eq!(sent("{}").unwrap_err(), "`body` is missing");
}

#[test]
fn the_caller_chooses_among_several_media_types() {
    let body = json!({"requestBody": {"content": {"application/xml": {"schema": {"type": "object"}}, "text/csv": {}, "application/json": {}}}});
    let document = document("3.0.4", "/x", body);
    let sent = |arguments: &str| {
        request(&document, arguments)
            .map(|encoded| (header(&encoded, "content-type").map(str::to_owned), encoded.body))
    };
    assert_eq!(sent(r#"{"body": "a"}"#).unwrap().0.as_deref(), Some("application/json"));
    let (media, bytes) = sent(r#"{"body": "a", "content_type": "text/csv"}"#).unwrap();
    assert_eq!((media.as_deref(), bytes.as_deref()), (Some("text/csv"), Some(&b"a"[..])));
    let error = sent(r#"{"body": "a", "content_type": "application/xml"}"#).unwrap_err();
    assert_eq!(error, "`content_type` is none of application/json, text/csv");
    assert_eq!(sent("{}").unwrap(), (None, None));
}

#[test]
fn a_value_that_no_xml_can_have_is_named() {
    let schema = json!({"type": "object", "xml": {"name": "r"}, "properties": {"a": {"type": "string", "xml": {"attribute": true}}}});
    let document = document("3.0.4", "/x", content("application/xml", json!({ "schema": schema })));
    let wrong = |arguments: &str| request(&document, arguments).unwrap_err();
    assert_eq!(
        wrong(r#"{"body": {"b": "x\u0000"}}"#),
        "`body.b` has the character U+0000 in it, which no XML can have"
    );
    assert_eq!(
        wrong(r#"{"body": {"a": "\u001b"}}"#),
        "`body.a` has the character U+001B in it, which no XML can have"
    );
    assert_eq!(wrong(r#"{"body": {"x><y": 1}}"#), "`body.x><y` is no name that an element of XML can have");
    assert_eq!(wrong(r#"{"body": {"x y": 1}}"#), "`body.x y` is no name that an element of XML can have");
    for name in ["p:x", "a:b:c", "x\u{d7}", "\u{300}"] {
        let error = wrong(&json!({"body": {name: 1}}).to_string());
        assert_eq!(error, format!("`body.{name}` is no name that an element of XML can have"));
    }
    assert_eq!(
        wrong(r#"{"body": {"l": [{"k": ["\u0000"]}]}}"#),
        "`body.l[0].k[0]` has the character U+0000 in it, which no XML can have"
    );
    let deep = format!(r#"{{"body": {}1{}}}"#, r#"{"d":"#.repeat(120), "}".repeat(120));
    let error = wrong(&deep);
    assert!(error.contains("is nested more than 100 deep"), "{error}");
}

#[test]
fn a_prefix_is_written_where_it_means_a_namespace() {
    let named = |xml: Value| json!({"type": "string", "xml": xml});
    let properties = json!({
        "undeclared": named(json!({"prefix": "p", "name": "a"})),
        "declared": named(json!({"prefix": "q", "name": "b", "namespace": "urn:q"})),
        "inherited": named(json!({"prefix": "r", "name": "c"})),
        "lang": named(json!({"prefix": "xml", "attribute": true, "namespace": "urn:mine"})),
    });
    let root = json!({"name": "root", "prefix": "r", "namespace": "urn:r"});
    let schema = json!({"type": "object", "xml": root, "properties": properties});
    let document = document("3.0.4", "/x", content("application/xml", json!({ "schema": schema })));
    let body = r#"{"body": {"lang": "en", "undeclared": "1", "declared": "2", "inherited": "3"}}"#;
    let sent = request(&document, body).unwrap().body.unwrap();
    let expected = "<r:root xmlns:r=\"urn:r\" xml:lang=\"en\"><a>1</a><q:b xmlns:q=\"urn:q\">2</q:b><r:c>3</r:c></r:root>";
    let sent = String::from_utf8(sent).unwrap();
    assert!(sent.ends_with(expected), "{sent}");
    // Declared for its own element alone.
    let twice = r#"{"body": {"declared": "2", "undeclared": "1"}}"#;
    let sent = String::from_utf8(request(&document, twice).unwrap().body.unwrap()).unwrap();
    assert!(sent.ends_with("<q:b xmlns:q=\"urn:q\">2</q:b><a>1</a></r:root>"), "{sent}");
}

#[test]
fn an_attribute_stands_once() {
    let attribute = |mut xml: Value| {
        xml["attribute"] = json!(true);
        json!({"type": "string", "xml": xml})
    };
    let properties = json!({"a": attribute(json!({})), "b": attribute(json!({"name": "a"})), "xmlns": attribute(json!({})),
        "p": attribute(json!({"prefix": "p", "namespace": "urn:1"})), "q": attribute(json!({"prefix": "p", "namespace": "urn:2"}))});
    let sent = |xml: Value, body: &str| {
        let schema = json!({"type": "object", "xml": xml, "properties": properties});
        let document = document("3.0.4", "/x", content("application/xml", json!({ "schema": schema })));
        let encoded = request(&document, &format!(r#"{{"body": {body}}}"#))?;
        Ok::<_, String>(String::from_utf8(encoded.body.unwrap()).unwrap())
    };
    let (plain, spaced) = (json!({"name": "r"}), json!({"name": "r", "namespace": "urn:r"}));
    let second = |name: &str| {
        format!("`body.{name}` would be a second attribute of one name; leave one of the two out")
    };
    assert_eq!(sent(plain.clone(), r#"{"a": "1", "b": "2"}"#).unwrap_err(), second("b"));
    assert_eq!(sent(spaced, r#"{"xmlns": "urn:x"}"#).unwrap_err(), second("xmlns"));
    let error = sent(plain.clone(), r#"{"p": "1", "q": "2"}"#).unwrap_err();
    assert_eq!(error, "`body.q` has a prefix that means another namespace beside it");
    assert!(sent(plain.clone(), r#"{"b": "2", "a": null}"#).unwrap().ends_with("<r a=\"2\"></r>"));
    assert!(sent(plain, r#"{"xmlns": "urn:x"}"#).unwrap().ends_with("<r xmlns=\"urn:x\"></r>"));
}

#[test]
fn many_members_and_long_names_are_written_in_bounded_work() {
    let schema = json!({"type": "object", "xml": {"name": "r"}, "properties": {"n": {"type": "array", "items": {"xml": {"name": "i"}}}}});
    let document = document("3.0.4", "/x", content("application/xml", json!({ "schema": schema })));
    let sent =
        |body: &str| request(&document, &format!(r#"{{"body": {body}}}"#)).map(|sent| sent.body.unwrap());
    let members: Vec<String> = (0..100_000).map(|n| format!(r#""m{n}": {n}"#)).collect();
    let many = sent(&format!(r#"{{"m7": 0, {}, "m99999": 1}}"#, members.join(", "))).unwrap();
    assert!(String::from_utf8(many).unwrap().ends_with("<m99998>99998</m99998><m99999>1</m99999></r>"));
    // Each item of the list repeats the list's name.
    let items = vec!["1"; 50_000].join(",");
    let error = sent(&format!(r#"{{"{}": [{items}]}}"#, "x".repeat(500_000))).unwrap_err();
    assert!(error.ends_with("makes an XML document of more than 16777216 bytes") && error.len() < 300);
    // The place of each item would hold the long name.
    let long = sent(&format!(r#"{{"{}": {{"n": [{items}]}}}}"#, "x".repeat(500_000))).unwrap();
    assert!(long.len() < 2_000_000);
}

#[test]
fn an_argument_in_a_cookie_begins_no_other_cookie() {
    let parameter = |more: Value| {
        let mut parameter = json!({"name": "c", "in": "cookie", "schema": {}});
        parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document("3.2.0", "/x", json!({ "parameters": [parameter] }))
    };
    for document in [parameter(json!({"style": "cookie"})), parameter(json!({"allowReserved": true}))] {
        for value in [
            json!("a; admin=1"),
            json!(["a", "b;admin=1"]),
            json!({"x": "1;admin=1"}),
            json!({"x;admin": 1}),
            json!("a,admin=1"),
            json!("\"a"),
        ] {
            let error = request(&document, &json!({ "c": value }).to_string()).unwrap_err();
            assert!(
                error.starts_with("`c` has a character in it that no cookie can have"),
                "{value}: {error}"
            );
        }
        let sent = request(&document, r#"{"c": "a/b=="}"#).unwrap();
        assert_eq!(header(&sent, "cookie"), Some("c=a/b=="));
    }
    let escaped = request(&parameter(json!({})), r#"{"c": "a; admin=1"}"#).unwrap();
    assert_eq!(header(&escaped, "cookie"), Some("c=a%3B%20admin%3D1"));
}
