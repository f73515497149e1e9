//! Bodies: JSON, forms, multipart, XML, text and bytes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::case::{NONE, OpenApiCase, VALUES};

pub(super) fn cases() -> Vec<OpenApiCase> {
    [json_bodies(), forms(), parts(), bytes(), xml()].concat()
}

/// A case with a body in one media type.
fn body(
    media: &str,
    described: Value,
    value: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> OpenApiCase {
    OpenApiCase {
        name: format!("a body in {media}"),
        version: "3.0.4",
        path: "/x".to_owned(),
        operation: json!({"requestBody": {"required": true, "content": {media: described}}}),
        schemas: json!({}),
        arguments: format!(r#"{{"body": {value}}}"#),
        target: "/x".to_owned(),
        headers: vec![("content-type", content_type.to_owned())],
        body: Some(body.into()),
    }
}

/// JSON is sent as the caller wrote it; text as it is.
fn json_bodies() -> Vec<OpenApiCase> {
    let text = r#"{"z": 1.0, "a": 12345678901234567890123, "$ref": "x"}"#;
    let mut cases: Vec<_> =
        ["application/json", "application/vnd.x+json; charset=utf-8", "application/apply-patch+yaml"]
            .map(|media| body(media, json!({}), text, media, text))
            .into();
    for value in ["[1, null]", "7.0", "\"a\"", "true"] {
        cases.push(body("application/json", json!({}), value, "application/json", value));
    }
    let schema = json!({"in": "body", "name": "anything", "schema": {"type": "object"}});
    let two = json!({"consumes": ["*/*"], "parameters": [schema]});
    cases.push(OpenApiCase {
        version: "2.0",
        operation: two,
        ..body("*/*", json!({}), "{}", "application/json", "{}")
    });
    cases.push(body("text/plain", json!({}), r#""a\nb ü""#, "text/plain", "a\nb ü"));
    cases.push(body("application/x-ndjson", json!({}), r#""{}\n{}\n""#, "application/x-ndjson", "{}\n{}\n"));
    let text_in_xml = json!({"schema": {"type": "string"}});
    cases.push(body("application/xml", text_in_xml, r#""<a b=\"1\"/>""#, "application/xml", "<a b=\"1\"/>"));
    cases
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Forms by the encodings of their fields: each style, explode and kind of value, and requests as Stripe's interface takes them.
fn forms() -> Vec<OpenApiCase> {
    let mut cases = Vec::new();
    let rows = [
        (
            json!({}),
            [
                "f=",
                "f=blue",
                "f=blue&f=black&f=brown",
                "f=%7B%22R%22%3A100%2C%22G%22%3A200%2C%22B%22%3A150%7D",
            ],
        ),
        (
            json!({"style": "form", "explode": true}),
            ["f=", "f=blue", "f=blue&f=black&f=brown", "R=100&G=200&B=150"],
        ),
        (
            json!({"style": "form", "explode": false}),
            ["f=", "f=blue", "f=blue,black,brown", "f=R,100,G,200,B,150"],
        ),
        (json!({"explode": false}), ["f=", "f=blue", "f=blue,black,brown", "f=R,100,G,200,B,150"]),
        (
            json!({"style": "spaceDelimited", "explode": false}),
            [NONE, NONE, "f=blue%20black%20brown", "f=R%20100%20G%20200%20B%20150"],
        ),
        (
            json!({"style": "pipeDelimited", "explode": false}),
            [NONE, NONE, "f=blue%7Cblack%7Cbrown", "f=R%7C100%7CG%7C200%7CB%7C150"],
        ),
        (
            json!({"style": "deepObject", "explode": true}),
            [
                "f=",
                "f=blue",
                "f%5B0%5D=blue&f%5B1%5D=black&f%5B2%5D=brown",
                "f%5BR%5D=100&f%5BG%5D=200&f%5BB%5D=150",
            ],
        ),
        (
            json!({"contentType": "application/json"}),
            [NONE, NONE, NONE, "f=%7B%22R%22%3A100%2C%22G%22%3A200%2C%22B%22%3A150%7D"],
        ),
    ];
    for (encoding, expected) in rows {
        for (value, expected) in VALUES.into_iter().zip(expected).filter(|(_, expected)| *expected != NONE) {
            let described = json!({"encoding": {"f": encoding}});
            cases.push(body(FORM, described, &format!(r#"{{"f": {value}}}"#), FORM, expected));
        }
    }
    let encoding = json!({"kept": {"allowReserved": true}, "pipes": {"style": "pipeDelimited"}});
    let value = r#"{"s": "a b&c=ü", "n": 1.50, "none": null, "kept": "a/b&c", "pipes": ["x", "y"]}"#;
    let expected = "s=a%20b%26c%3D%C3%BC&n=1.50&kept=a/b%26c&pipes=x%7Cy";
    cases.push(body(FORM, json!({ "encoding": encoding }), value, FORM, expected));
    cases.extend(stripe());
    let field = |name: &str, format: &str| json!({"name": name, "in": "formData", "type": "array", "items": {}, "collectionFormat": format});
    let list = json!([field("c", "csv"), field("m", "multi"), field("t", "tsv"), field("s", "ssv"), field("p", "pipes"),
        {"name": "z", "in": "formData", "type": "string"}]);
    let value = r#"{"c": ["x", "y"], "m": ["x", "y"], "t": ["x", "y"], "s": ["x", "y"], "p": ["x", "y"], "z": "a b"}"#;
    let expected = "c=x,y&m=x&m=y&t=x%09y&s=x%20y&p=x%7Cy&z=a%20b";
    let two = json!({ "parameters": list });
    cases.push(OpenApiCase {
        version: "2.0",
        operation: two,
        ..body(FORM, json!({}), value, FORM, expected)
    });
    cases
}

/// `deepObject` forms with objects in lists and lists in objects. An empty text unsets a field.
fn stripe() -> Vec<OpenApiCase> {
    let deep = json!({"style": "deepObject", "explode": true});
    let encoding =
        json!({"address": deep, "expand": deep, "metadata": deep, "items": deep, "payment_settings": deep});
    let value = r#"{"customer": "cus_1", "address": {"city": "München", "line1": "a & b"}, "metadata": {"order id": "7", "gone": ""},
        "expand": ["latest_invoice.payment_intent", "customer"],
        "items": [{"price": "price_1", "quantity": 2, "tax_rates": ["txr_1", "txr_2"]}, {"price_data": {"currency": "eur", "product": "p"}}],
        "payment_settings": {"payment_method_types": ["card", "sepa_debit"], "save": null}, "trial_end": "", "off_session": true}"#;
    let expected = [
        ("customer", "cus_1"),
        ("address[city]", "M%C3%BCnchen"),
        ("address[line1]", "a%20%26%20b"),
        ("metadata[order%20id]", "7"),
        ("metadata[gone]", ""),
        ("expand[0]", "latest_invoice.payment_intent"),
        ("expand[1]", "customer"),
        ("items[0][price]", "price_1"),
        ("items[0][quantity]", "2"),
        ("items[0][tax_rates][0]", "txr_1"),
        ("items[0][tax_rates][1]", "txr_2"),
        ("items[1][price_data][currency]", "eur"),
        ("items[1][price_data][product]", "p"),
        ("payment_settings[payment_method_types][0]", "card"),
        ("payment_settings[payment_method_types][1]", "sepa_debit"),
        ("trial_end", ""),
        ("off_session", "true"),
    ];
    let mut text = String::new();
    for (name, value) in expected {
        let name = name.replace('[', "%5B").replace(']', "%5D");
        let between = if text.is_empty() { "" } else { "&" };
        let _ = write!(text, "{between}{name}={value}");
    }
    vec![body(FORM, json!({ "encoding": encoding }), value, FORM, text)]
}

const MULTIPART: &str = "multipart/form-data";

/// A part for each value.
fn parts() -> Vec<OpenApiCase> {
    let schema = json!({"type": "object", "properties": {
        "file": {"type": "string", "format": "binary"}, "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
    }});
    let encoding = json!({"meta": {"contentType": "application/xml"}, "file": {"contentType": "image/png"},
        "joined": {"style": "form", "explode": false}});
    let value = r#"{"s": "a\"b", "n": 7, "o": {"k": 1}, "l": ["x", "y"], "meta": "<a/>", "joined": ["x", "y"],
        "file": {"base64": "aGk=", "filename": "a \"q\".png"}, "files": ["t", {"base64": "aGk", "content_type": "text/x"}], "none": null}"#;
    let expected = [
        "Content-Disposition: form-data; name=\"s\"\r\n\r\na\"b",
        "Content-Disposition: form-data; name=\"n\"\r\n\r\n7",
        "Content-Disposition: form-data; name=\"o\"\r\nContent-Type: application/json\r\n\r\n{\"k\": 1}",
        "Content-Disposition: form-data; name=\"l\"\r\n\r\nx",
        "Content-Disposition: form-data; name=\"l\"\r\n\r\ny",
        "Content-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/xml\r\n\r\n<a/>",
        "Content-Disposition: form-data; name=\"joined\"\r\n\r\nx,y",
        "Content-Disposition: form-data; name=\"file\"; filename=\"a %22q%22.png\"\r\nContent-Type: image/png\r\n\r\nhi",
        "Content-Disposition: form-data; name=\"files\"; filename=\"files\"\r\nContent-Type: application/octet-stream\r\n\r\nt",
        "Content-Disposition: form-data; name=\"files\"; filename=\"files\"\r\nContent-Type: text/x\r\n\r\nhi",
    ];
    let whole = |parts: &[&str]| {
        let parts: String = parts.iter().map(|part| format!("--{{boundary}}\r\n{part}\r\n")).collect();
        format!("{parts}--{{boundary}}--\r\n")
    };
    let named = "multipart/form-data; boundary={boundary}";
    let list = json!([{"name": "f", "in": "formData", "type": "file"}, {"name": "s", "in": "formData", "type": "string"}]);
    let two = [
        "Content-Disposition: form-data; name=\"f\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\nx",
        "Content-Disposition: form-data; name=\"s\"\r\n\r\ny",
    ];
    let of_two = body(MULTIPART, json!({}), r#"{"f": "x", "s": "y"}"#, named, whole(&two));
    vec![
        body(MULTIPART, json!({"schema": schema, "encoding": encoding}), value, named, whole(&expected)),
        OpenApiCase { version: "2.0", operation: json!({ "parameters": list }), ..of_two },
    ]
}

/// Bytes are sent as they are.
fn bytes() -> Vec<OpenApiCase> {
    let media = "application/octet-stream";
    [
        (r#"{"base64": "AAH/"}"#, media, vec![0, 1, 255]),
        (r#"{"base64": "AAH_"}"#, media, vec![0, 1, 255]),
        (r#"{"base64": "aGk=", "content_type": "image/png"}"#, "image/png", b"hi".to_vec()),
        (r#""hü""#, media, "hü".as_bytes().to_vec()),
    ]
    .map(|(value, content_type, expected)| body(media, json!({}), value, content_type, expected))
    .into()
}

const XML: &str = "application/xml";

/// XML by the XML Objects of a schema: the examples of OpenAPI 3.0.4, section 4.8.26, and what they leave open.
fn xml() -> Vec<OpenApiCase> {
    let of = |schema: Value, value: &str, expected: &str| {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{expected}");
        body(XML, json!({ "schema": schema }), value, XML, text)
    };
    let text = json!({"type": "string"});
    let named = |name: &str| json!({"type": "string", "xml": {"name": name}});
    // The XML Object of the array `animals`, and its items.
    let arrays = [
        (json!({}), text.clone(), "<animals>value</animals>"),
        (json!({}), named("animal"), "<animal>value</animal>"),
        (json!({"name": "aliens"}), named("animal"), "<animal>value</animal>"),
        (json!({"name": "aliens"}), text.clone(), "<animals>value</animals>"),
        (json!({"wrapped": true}), text.clone(), "<animals><animals>value</animals></animals>"),
        (json!({"wrapped": true}), named("animal"), "<animals><animal>value</animal></animals>"),
        (
            json!({"name": "aliens", "wrapped": true}),
            named("animal"),
            "<aliens><animal>value</animal></aliens>",
        ),
        (json!({"name": "aliens", "wrapped": true}), text, "<aliens><aliens>value</aliens></aliens>"),
    ];
    let mut cases = Vec::new();
    for (xml, items, expected) in arrays {
        let animals = json!({"type": "array", "items": items, "xml": xml});
        let schema = json!({"type": "object", "properties": {"animals": animals}, "xml": {"name": "r"}});
        cases.push(of(schema, r#"{"animals": ["value"]}"#, &format!("<r>{expected}</r>")));
    }
    let person = json!({"type": "object", "properties": {
        "id": {"type": "integer", "xml": {"attribute": true}},
        "name": {"type": "string", "xml": {"namespace": "https://example.com/schema/sample", "prefix": "sample"}},
        "friends": {"type": "array", "items": {"$ref": "#/components/schemas/Person"}, "xml": {"wrapped": true}},
    }});
    let expected = "<Person id=\"123\"><sample:name xmlns:sample=\"https://example.com/schema/sample\">ex &lt;&amp;&gt; &quot;a&quot;</sample:name>\
                    <friends><friends id=\"7\"></friends></friends></Person>";
    let value = r#"{"name": "ex <&> \"a\"", "id": 123, "friends": [{"id": 7}]}"#;
    let reference = json!({"$ref": "#/components/schemas/Person"});
    cases.push(OpenApiCase { schemas: json!({ "Person": person }), ..of(reference, value, expected) });
    let order = json!({"type": "object", "xml": {"name": "order", "namespace": "urn:o"}, "properties": {
        "note": {"type": "string"}, "lines": {"type": "array", "items": {"type": "object", "xml": {"name": "line"}, "properties": {
            "sku": {"type": "string", "xml": {"attribute": true, "prefix": "p", "namespace": "urn:p"}}, "count": {"type": "integer"}}}}}});
    let value = r#"{"note": "a\nb", "none": null, "more": {"x": [1, 2.50]}, "lines": [{"sku": "A\tB", "count": 1.0}, {"count": 2}]}"#;
    let expected = "<order xmlns=\"urn:o\"><note>a&#10;b</note><more><x>1</x><x>2.50</x></more>\
                    <line xmlns:p=\"urn:p\" p:sku=\"A&#9;B\"><count>1.0</count></line><line><count>2</count></line></order>";
    cases.push(of(order.clone(), value, expected));
    let list = json!({"type": "array", "xml": {"name": "tags"}, "items": {"type": "string", "xml": {"name": "tag"}}});
    cases.push(of(list, r#"["a", "b"]"#, "<tags><tag>a</tag><tag>b</tag></tags>"));
    let part = json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string", "xml": {"attribute": true}}}}], "xml": {"name": "whole"}});
    cases.push(of(part, r#"{"a": "1"}"#, "<whole a=\"1\"></whole>"));
    let two = json!({"consumes": ["text/xml"], "parameters": [{"in": "body", "name": "any", "required": true, "schema": order}]});
    let of_two = of(json!({}), r#"{"note": "n"}"#, "<order xmlns=\"urn:o\"><note>n</note></order>");
    cases.push(OpenApiCase {
        version: "2.0",
        operation: two,
        headers: vec![("content-type", "text/xml".to_owned())],
        ..of_two
    });
    cases
}
