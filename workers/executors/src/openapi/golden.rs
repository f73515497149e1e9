//! The golden table: each style, explode, location and kind of value of OpenAPI 3.0.4 and 3.1.1 ("Style Examples"), the collection
//! formats of 2.0, and each kind of body, byte for byte.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_catalog::openapi::{Document, ReadOptions, read};

use super::encode::{Encoded, encode};

/// The document that has one operation.
fn document(version: &str, path: &str, operation: Value) -> Document {
    let post = json!({ "post": operation });
    let field = if version == "2.0" { "swagger" } else { "openapi" };
    let text = json!({field: version, "host": "h.example", "servers": [{"url": "https://h.example"}], "paths": {path: post}});
    let document =
        read(&text.to_string(), &ReadOptions::default()).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(document.operations.len(), 1, "{:?}", document.left_out);
    document
}

fn request(document: &Document, arguments: &str) -> Result<Encoded, String> {
    let raw = RawValue::from_string(arguments.to_owned()).unwrap();
    encode(&document.operations[0], &raw)
}

fn header<'a>(encoded: &'a Encoded, name: &str) -> Option<&'a str> {
    encoded.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The values of the table, in the order of its columns. Members keep their order.
const VALUES: [&str; 4] =
    [r#""""#, r#""blue""#, r#"["blue","black","brown"]"#, r#"{"R":100,"G":200,"B":150}"#];
/// A cell of the table in which nothing is defined.
const NONE: &str = "n/a";

/// What a request has of a parameter `color` with that value.
fn written(version: &str, place: &str, parameter: &Value, value: &str) -> String {
    let path = if place == "path" { "/x{color}" } else { "/x" };
    let mut parameter = parameter.clone();
    parameter["name"] = json!("color");
    parameter["in"] = json!(place);
    let document = document(version, path, json!({ "parameters": [parameter] }));
    let encoded = request(&document, &format!(r#"{{"color": {value}}}"#))
        .unwrap_or_else(|why| panic!("{place} {value}: {why}"));
    let url = encoded.url.as_str().strip_prefix("https://h.example/x").unwrap();
    match place {
        "path" => url.to_owned(),
        "query" => url.strip_prefix('?').unwrap_or(url).to_owned(),
        "header" => header(&encoded, "color").unwrap().to_owned(),
        "cookie" => header(&encoded, "cookie").unwrap().to_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn each_style_is_written_as_the_table_of_openapi_has_it() {
    // style, explode, location, empty, string, array, object
    let rows = [
        (
            "matrix",
            false,
            "path",
            [";color", ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"],
        ),
        (
            "matrix",
            true,
            "path",
            [";color", ";color=blue", ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"],
        ),
        ("label", false, "path", [".", ".blue", ".blue,black,brown", ".R,100,G,200,B,150"]),
        ("label", true, "path", [".", ".blue", ".blue.black.brown", ".R=100.G=200.B=150"]),
        ("simple", false, "path", ["", "blue", "blue,black,brown", "R,100,G,200,B,150"]),
        ("simple", true, "path", ["", "blue", "blue,black,brown", "R=100,G=200,B=150"]),
        ("simple", false, "header", ["", "blue", "blue,black,brown", "R,100,G,200,B,150"]),
        ("simple", true, "header", ["", "blue", "blue,black,brown", "R=100,G=200,B=150"]),
        (
            "form",
            false,
            "query",
            ["color=", "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"],
        ),
        (
            "form",
            true,
            "query",
            ["color=", "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"],
        ),
        (
            "form",
            false,
            "cookie",
            ["color=", "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"],
        ),
        (
            "form",
            true,
            "cookie",
            ["color=", "color=blue", "color=blue; color=black; color=brown", "R=100; G=200; B=150"],
        ),
        (
            "spaceDelimited",
            false,
            "query",
            [NONE, NONE, "color=blue%20black%20brown", "color=R%20100%20G%20200%20B%20150"],
        ),
        ("spaceDelimited", true, "query", [NONE, NONE, "color=blue&color=black&color=brown", NONE]),
        (
            "pipeDelimited",
            false,
            "query",
            [NONE, NONE, "color=blue%7Cblack%7Cbrown", "color=R%7C100%7CG%7C200%7CB%7C150"],
        ),
        ("pipeDelimited", true, "query", [NONE, NONE, "color=blue&color=black&color=brown", NONE]),
        (
            "deepObject",
            true,
            "query",
            [NONE, NONE, NONE, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"],
        ),
    ];
    for (style, explode, place, expected) in rows {
        for version in ["3.0.4", "3.1.1"] {
            let parameter = json!({"style": style, "explode": explode, "schema": {}, "required": true});
            for (value, expected) in VALUES.iter().zip(expected).filter(|(_, expected)| *expected != NONE) {
                let found = written(version, place, &parameter, value);
                assert_eq!(found, expected, "{version} {style} {explode} {place} {value}");
            }
        }
    }
}

#[test]
fn a_parameter_without_a_style_has_that_of_its_place() {
    for (place, expected) in [
        ("path", "R,100,G,200,B,150"),
        ("query", "R=100&G=200&B=150"),
        ("header", "R,100,G,200,B,150"),
        ("cookie", "R=100; G=200; B=150"),
    ] {
        assert_eq!(
            written("3.0.4", place, &json!({"schema": {}, "required": true}), VALUES[3]),
            expected,
            "{place}"
        );
    }
    let cookie = json!({"style": "cookie", "schema": {}});
    assert_eq!(written("3.2.0", "cookie", &cookie, r#"["a b","c%"]"#), "color=a b; color=c%");
}

#[test]
fn each_collection_format_of_two_is_written() {
    for (format, place, expected) in [
        (None, "query", "color=blue,black,brown"),
        (Some("csv"), "query", "color=blue,black,brown"),
        (Some("ssv"), "query", "color=blue%20black%20brown"),
        (Some("tsv"), "query", "color=blue%09black%09brown"),
        (Some("pipes"), "query", "color=blue%7Cblack%7Cbrown"),
        (Some("multi"), "query", "color=blue&color=black&color=brown"),
        (None, "path", "blue,black,brown"),
        (Some("ssv"), "path", "blue%20black%20brown"),
        (Some("tsv"), "path", "blue%09black%09brown"),
        (Some("pipes"), "path", "blue%7Cblack%7Cbrown"),
        (None, "header", "blue,black,brown"),
        (Some("ssv"), "header", "blue black brown"),
        (Some("tsv"), "header", "blue\tblack\tbrown"),
        (Some("pipes"), "header", "blue|black|brown"),
    ] {
        let mut parameter = json!({"type": "array", "items": {"type": "string"}, "required": true});
        if let Some(format) = format {
            parameter["collectionFormat"] = json!(format);
        }
        assert_eq!(written("2.0", place, &parameter, VALUES[2]), expected, "{format:?} {place}");
    }
}

#[test]
fn values_are_escaped_so_that_they_stay_in_their_place() {
    let odd = r#""a/b?c#d&e=f+g h%i;j,k'äüñ""#;
    let escaped = "a%2Fb%3Fc%23d%26e%3Df%2Bg%20h%25i%3Bj%2Ck%27%C3%A4%C3%BC%C3%B1";
    let plain = json!({"schema": {}, "required": true});
    assert_eq!(written("3.0.4", "path", &plain, odd), escaped);
    assert_eq!(written("3.0.4", "query", &plain, odd), format!("color={escaped}"));
    assert_eq!(written("3.0.4", "cookie", &plain, odd), format!("color={escaped}"));
    assert_eq!(written("3.0.4", "header", &plain, r#""a/b c,ä""#), "a/b c,ä");
    let reserved = json!({"schema": {}, "allowReserved": true});
    let kept = written("3.0.4", "query", &reserved, r#""a/b?c#d&e=f+g h%2Fi%;j,k:[@]!$()*""#);
    assert_eq!(kept, "color=a/b?c%23d%26e=f%2Bg%20h%2Fi%25;j,k:%5B@%5D!$()*");
    let space = json!({"schema": {}, "style": "spaceDelimited", "explode": false});
    assert_eq!(written("3.0.4", "query", &space, r#"["a b","c,d"]"#), "color=a%20b%20c%2Cd");
}

#[test]
fn numbers_keep_their_digits_and_null_is_absent() {
    let plain = json!({"schema": {}});
    for (value, expected) in [
        ("12345678901234567890123", "color=12345678901234567890123"),
        ("1.0", "color=1.0"),
        ("-1e400", "color=-1e400"),
        ("true", "color=true"),
        ("null", ""),
        ("[]", ""),
        ("{}", ""),
        ("[1,null,2.50]", "color=1&color=2.50"),
        (r#"{"a":null,"b":false}"#, "b=false"),
        (r#"{"a":{"b":[1]},"c":1}"#, "a=%7B%22b%22%3A%5B1%5D%7D&c=1"),
    ] {
        assert_eq!(written("3.1.1", "query", &plain, value), expected, "{value}");
    }
    let deep = json!({"schema": {}, "style": "deepObject"});
    let nested = written("3.1.1", "query", &deep, r#"{"a":{"b":1,"c d":"e&f"},"l":["x",{"y":2}],"n":null}"#);
    let expected = "color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bc%20d%5D=e%26f&color%5Bl%5D%5B0%5D=x&color%5Bl%5D%5B1%5D%5By%5D=2";
    assert_eq!(nested, expected);
    let content = json!({"content": {"application/json": {"schema": {}}}});
    assert_eq!(written("3.1.1", "query", &content, r#"{"a": "b"}"#), "color=%7B%22a%22%3A%20%22b%22%7D");
    assert_eq!(written("3.1.1", "header", &content, r#"{"a": "b"}"#), r#"{"a": "b"}"#);
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
fn a_header_argument_cannot_end_its_header() {
    let list = json!([{"name": "X-A", "in": "header", "schema": {}}]);
    let document = document("3.0.4", "/x", json!({ "parameters": list }));
    for value in ["a\r\nX-B: c", "a\nb", "a\u{0}b", "a\u{7f}"] {
        let error = request(&document, &json!({ "X-A": value }).to_string()).unwrap_err();
        assert!(error.contains("control character"), "{error}");
    }
}

/// The `Content-Type` and the text of a body.
fn body(version: &str, operation: Value, arguments: &str) -> (String, String) {
    let encoded = request(&document(version, "/x", operation), arguments)
        .unwrap_or_else(|why| panic!("{arguments}: {why}"));
    let content_type = header(&encoded, "content-type").unwrap().to_owned();
    (content_type, String::from_utf8(encoded.body.unwrap()).unwrap())
}

fn content(media: &str, described: Value) -> Value {
    json!({"requestBody": {"required": true, "content": {media: described}}})
}

#[test]
fn a_json_body_is_sent_as_the_caller_wrote_it() {
    let text = r#"{"z": 1.0, "a": 12345678901234567890123, "$ref": "x"}"#;
    for media in ["application/json", "application/vnd.x+json; charset=utf-8", "application/apply-patch+yaml"]
    {
        let (content_type, found) =
            body("3.0.4", content(media, json!({})), &format!(r#"{{"body": {text} }}"#));
        assert_eq!((content_type.as_str(), found.as_str()), (media, text));
    }
    let two = json!({"consumes": ["*/*"], "parameters": [{"in": "body", "name": "anything", "schema": {"type": "object"}}]});
    assert_eq!(body("2.0", two, r#"{"body": {}}"#), ("application/json".to_owned(), "{}".to_owned()));
    assert_eq!(body("3.0.4", content("text/plain", json!({})), r#"{"body": "a\nb"}"#).1, "a\nb");
}

#[test]
fn a_form_is_written_by_the_encoding_of_its_fields() {
    let media = "application/x-www-form-urlencoded";
    let encoding = json!({
        "deep": {"style": "deepObject", "explode": true}, "joined": {"explode": false}, "piped": {"style": "pipeDelimited"},
        "kept": {"allowReserved": true}, "json": {"contentType": "application/json"},
    });
    let arguments = r#"{"body": {"s": "a b&c=ü", "n": 1.50, "l": ["x", "y"], "o": {"k": "v"}, "none": null,
        "deep": {"a": {"b": 1}}, "joined": ["x", "y"], "piped": ["x", "y"], "kept": "a/b", "json": {"k": 1}}}"#;
    let (content_type, text) = body("3.0.4", content(media, json!({ "encoding": encoding })), arguments);
    assert_eq!(content_type, media);
    assert_eq!(
        text,
        "s=a%20b%26c%3D%C3%BC&n=1.50&l=x&l=y&o=%7B%22k%22%3A%20%22v%22%7D&deep%5Ba%5D%5Bb%5D=1&joined=x,y&piped=x%7Cy&kept=a/b\
         &json=%7B%22k%22%3A%201%7D"
    );
    let field = |name: &str, format: &str| json!({"name": name, "in": "formData", "type": "array", "items": {}, "collectionFormat": format});
    let list = json!([field("c", "csv"), field("m", "multi"), field("t", "tsv"), {"name": "s", "in": "formData", "type": "string"}]);
    let (content_type, text) = body(
        "2.0",
        json!({ "parameters": list }),
        r#"{"body": {"c": ["x", "y"], "m": ["x", "y"], "t": ["x", "y"], "s": "z"}}"#,
    );
    assert_eq!((content_type.as_str(), text.as_str()), (media, "c=x,y&m=x&m=y&t=x%09y&s=z"));
}

#[test]
fn a_multipart_body_has_a_part_for_each_value() {
    let schema = json!({"type": "object", "properties": {
        "file": {"type": "string", "format": "binary"}, "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
    }});
    let encoding = json!({"meta": {"contentType": "application/xml"}, "file": {"contentType": "image/png"}});
    let operation = content("multipart/form-data", json!({"schema": schema, "encoding": encoding}));
    let arguments = r#"{"body": {"s": "a\"b", "n": 7, "o": {"k": 1}, "l": ["x", "y"], "meta": "<a/>",
        "file": {"base64": "aGk=", "filename": "a \"q\".png"}, "files": ["t", {"base64": "aGk", "content_type": "text/x"}], "none": null}}"#;
    let (content_type, text) = body("3.0.4", operation.clone(), arguments);
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    assert_eq!(boundary.len(), 42, "{boundary}");
    let expected = [
        "Content-Disposition: form-data; name=\"s\"\r\n\r\na\"b",
        "Content-Disposition: form-data; name=\"n\"\r\n\r\n7",
        "Content-Disposition: form-data; name=\"o\"\r\nContent-Type: application/json\r\n\r\n{\"k\": 1}",
        "Content-Disposition: form-data; name=\"l\"\r\n\r\nx",
        "Content-Disposition: form-data; name=\"l\"\r\n\r\ny",
        "Content-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/xml\r\n\r\n<a/>",
        "Content-Disposition: form-data; name=\"file\"; filename=\"a %22q%22.png\"\r\nContent-Type: image/png\r\n\r\nhi",
        "Content-Disposition: form-data; name=\"files\"; filename=\"files\"\r\nContent-Type: application/octet-stream\r\n\r\nt",
        "Content-Disposition: form-data; name=\"files\"; filename=\"files\"\r\nContent-Type: text/x\r\n\r\nhi",
    ];
    let parts: String = expected.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    assert_eq!(text, format!("{parts}--{boundary}--\r\n"));
    assert_eq!(body("3.0.4", operation, arguments), (content_type, text), "equal calls are equal bytes");
    let list = json!([{"name": "f", "in": "formData", "type": "file"}, {"name": "s", "in": "formData", "type": "string"}]);
    let (content_type, text) = body("2.0", json!({"parameters": list}), r#"{"body": {"f": "x", "s": "y"}}"#);
    assert!(
        content_type.starts_with("multipart/form-data; boundary=")
            && text.contains("name=\"f\"; filename=\"f\""),
        "{text}"
    );
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
