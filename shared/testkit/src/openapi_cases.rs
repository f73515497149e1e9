//! Golden cases of OpenAPI: an operation, its arguments, and the request byte for byte. They are the tables of OpenAPI 3.0.4 and 3.1.1
//! ("Style Examples"), the collection formats of 2.0, and each kind of body.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One case.
#[derive(Debug, Clone)]
pub struct OpenApiCase {
    /// What it shows.
    pub name: String,
    /// The version of OpenAPI that its document has.
    pub version: &'static str,
    /// The path template.
    pub path: String,
    /// The operation, a POST.
    pub operation: Value,
    /// The schemas of the document's components (3.x), by name.
    pub schemas: Value,
    /// The arguments of the call: a JSON text.
    pub arguments: String,
    /// Path and query of the request.
    pub target: String,
    /// Headers of the request, by names in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// Its body. `{boundary}` stands for the boundary that `Content-Type` names.
    pub body: Option<Vec<u8>>,
}

impl OpenApiCase {
    /// Compares a request with the expected one. `header` gives the value of a header by its name in small letters.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare<'a>(
        &self,
        target: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
    ) -> Result<(), String> {
        let place = format!("{} ({}) {}", self.name, self.version, self.arguments);
        let content_type = header("content-type").unwrap_or_default();
        let boundary = content_type.split_once("boundary=").map_or("", |(_, boundary)| boundary);
        let named = |text: &str| text.replace("{boundary}", boundary);
        if target != self.target {
            return Err(format!("{place}: sent to {target}, expected {}", self.target));
        }
        for (name, expected) in &self.headers {
            if header(name) != Some(named(expected).as_str()) {
                return Err(format!("{place}: header {name} is {:?}, expected {expected:?}", header(name)));
            }
        }
        let expected = self.body.clone().unwrap_or_default();
        let expected =
            String::from_utf8(expected).map_or_else(|e| e.into_bytes(), |text| named(&text).into_bytes());
        if body != expected {
            let [found, expected] =
                [body, &expected].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            return Err(format!("{place}: body is {found:?}, expected {expected:?}"));
        }
        Ok(())
    }
}

/// All of them.
pub fn openapi_cases() -> Vec<OpenApiCase> {
    let mut cases = styles();
    for more in [
        escapes(),
        defaults(),
        collections(),
        values(),
        contents(),
        json_bodies(),
        forms(),
        parts(),
        bytes(),
        xml(),
    ] {
        cases.extend(more);
    }
    cases
}

/// The values of the tables, in the order of their columns. Members keep their order.
const VALUES: [&str; 4] =
    [r#""""#, r#""blue""#, r#"["blue","black","brown"]"#, r#"{"R":100,"G":200,"B":150}"#];
/// The same kinds with every character that a style gives a meaning.
const ODD_VALUES: [&str; 3] = [
    r#""a,b;c.d|e=f&g h/i?j#k%l+m""#,
    r#"["a,b","c d","e|f","g;h.i=j&k"]"#,
    r#"{"k 1":"a,b|c","k=2":"d&e;f"}"#,
];
/// A cell of a table in which nothing is defined.
const NONE: &str = "n/a";

/// A case with one parameter `color`; `expected` is what the request has of it.
fn parameter(version: &'static str, place: &str, said: &Value, value: &str, expected: &str) -> OpenApiCase {
    let mut said = said.clone();
    let named = [("name", json!("color")), ("in", json!(place)), ("required", json!(place == "path"))];
    for (field, value) in named {
        if let Some(fields) = said.as_object_mut() {
            fields.insert(field.to_owned(), value);
        }
    }
    let (path, target, headers) = match place {
        "path" => ("/x{color}", format!("/x{expected}"), Vec::new()),
        "query" if expected.is_empty() => ("/x", "/x".to_owned(), Vec::new()),
        "query" => ("/x", format!("/x?{expected}"), Vec::new()),
        "header" => ("/x", "/x".to_owned(), vec![("color", expected.to_owned())]),
        _ => ("/x", "/x".to_owned(), vec![("cookie", expected.to_owned())]),
    };
    OpenApiCase {
        name: format!("{place} {said}"),
        version,
        path: path.to_owned(),
        operation: json!({ "parameters": [said] }),
        schemas: json!({}),
        arguments: format!(r#"{{"color": {value}}}"#),
        target,
        headers,
        body: None,
    }
}

fn styled(style: &str, explode: bool) -> Value {
    json!({"style": style, "explode": explode, "schema": {}})
}

/// "Style Examples".
fn styles() -> Vec<OpenApiCase> {
    // style, explode, location; empty, string, array, object
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
    let mut cases = Vec::new();
    for (style, explode, place, expected) in rows {
        for version in ["3.0.4", "3.1.1"] {
            let cells = VALUES.iter().zip(expected).filter(|(_, expected)| *expected != NONE);
            cases.extend(cells.map(|(value, expected)| {
                parameter(version, place, &styled(style, explode), value, expected)
            }));
        }
    }
    let cookie = json!({"style": "cookie", "schema": {}});
    cases.push(parameter("3.2.0", "cookie", &cookie, r#"["a b","c%"]"#, "color=a b; color=c%"));
    cases
}

/// Characters that have a meaning in a style do not get it by standing in a value.
fn escapes() -> Vec<OpenApiCase> {
    const TEXT: &str = "a%2Cb%3Bc.d%7Ce%3Df%26g%20h%2Fi%3Fj%23k%25l%2Bm";
    const LIST: [&str; 4] = ["a%2Cb", "c%20d", "e%7Cf", "g%3Bh.i%3Dj%26k"];
    const MEMBERS: [(&str, &str); 2] = [("k%201", "a%2Cb%7Cc"), ("k%3D2", "d%26e%3Bf")];
    let joined = |between: &str| LIST.join(between);
    let named = |between: &str| LIST.map(|item| format!("color={item}")).join(between);
    let flat = |between: &str| MEMBERS.map(|(name, value)| format!("{name}{between}{value}")).join(between);
    let pairs = |between: &str| MEMBERS.map(|(name, value)| format!("{name}={value}")).join(between);
    let deep = MEMBERS.map(|(name, value)| format!("color%5B{name}%5D={value}")).join("&");
    let rows = [
        (
            "matrix",
            false,
            "path",
            format!(";color={TEXT}"),
            format!(";color={}", joined(",")),
            format!(";color={}", flat(",")),
        ),
        (
            "matrix",
            true,
            "path",
            format!(";color={TEXT}"),
            format!(";{}", named(";")),
            format!(";{}", pairs(";")),
        ),
        ("label", false, "path", format!(".{TEXT}"), format!(".{}", joined(",")), format!(".{}", flat(","))),
        ("label", true, "path", format!(".{TEXT}"), format!(".{}", joined(".")), format!(".{}", pairs("."))),
        ("simple", false, "path", TEXT.to_owned(), joined(","), flat(",")),
        ("simple", true, "path", TEXT.to_owned(), joined(","), pairs(",")),
        (
            "form",
            false,
            "query",
            format!("color={TEXT}"),
            format!("color={}", joined(",")),
            format!("color={}", flat(",")),
        ),
        ("form", true, "query", format!("color={TEXT}"), named("&"), pairs("&")),
        (
            "form",
            false,
            "cookie",
            format!("color={TEXT}"),
            format!("color={}", joined(",")),
            format!("color={}", flat(",")),
        ),
        ("form", true, "cookie", format!("color={TEXT}"), named("; "), pairs("; ")),
        (
            "spaceDelimited",
            false,
            "query",
            NONE.to_owned(),
            format!("color={}", joined("%20")),
            format!("color={}", flat("%20")),
        ),
        (
            "pipeDelimited",
            false,
            "query",
            NONE.to_owned(),
            format!("color={}", joined("%7C")),
            format!("color={}", flat("%7C")),
        ),
        ("deepObject", true, "query", NONE.to_owned(), NONE.to_owned(), deep),
        // Nothing is percent-encoded in a header (OpenAPI 3.0.4, appendix D).
        (
            "simple",
            false,
            "header",
            "a,b;c.d|e=f&g h/i?j#k%l+m".to_owned(),
            "a,b,c d,e|f,g;h.i=j&k".to_owned(),
            "k 1,a,b|c,k=2,d&e;f".to_owned(),
        ),
        ("simple", true, "header", NONE.to_owned(), NONE.to_owned(), "k 1=a,b|c,k=2=d&e;f".to_owned()),
    ];
    let mut cases = Vec::new();
    for (style, explode, place, text, list, members) in rows {
        for (value, expected) in
            ODD_VALUES.into_iter().zip([text, list, members]).filter(|(_, expected)| expected != NONE)
        {
            cases.push(parameter("3.1.1", place, &styled(style, explode), value, &expected));
        }
    }
    let reserved = |style: &str, explode: bool| json!({"style": style, "explode": explode, "schema": {}, "allowReserved": true});
    let kept = r#""a/b?c#d&e=f+g h%2Fi%;j,k:[@]!$()*'""#;
    cases.push(parameter(
        "3.0.4",
        "query",
        &reserved("form", true),
        kept,
        "color=a/b?c%23d%26e=f%2Bg%20h%2Fi%25;j,k:%5B@%5D!$()*%27",
    ));
    for (style, explode, value, expected) in [
        ("form", false, r#"["a/b","c&d"]"#, "color=a/b,c%26d"),
        ("form", true, r#"["a/b","c&d"]"#, "color=a/b&color=c%26d"),
        ("form", true, r#"{"k/1":"a/b"}"#, "k%2F1=a/b"),
        ("pipeDelimited", false, r#"["a/b","c|d"]"#, "color=a/b%7Cc%7Cd"),
        ("deepObject", true, r#"{"k/1":"a/b#"}"#, "color%5Bk%2F1%5D=a/b%23"),
    ] {
        cases.push(parameter("3.1.1", "query", &reserved(style, explode), value, expected));
    }
    for (place, expected) in [
        ("path", "%C3%A4%F0%9F%98%80"),
        ("query", "color=%C3%A4%F0%9F%98%80"),
        ("cookie", "color=%C3%A4%F0%9F%98%80"),
        ("header", "ä😀"),
    ] {
        cases.push(parameter("3.0.4", place, &json!({"schema": {}}), r#""ä😀""#, expected));
    }
    cases
}

/// A parameter without a style has that of its place.
fn defaults() -> Vec<OpenApiCase> {
    let rows = [
        ("path", "R,100,G,200,B,150"),
        ("query", "R=100&G=200&B=150"),
        ("header", "R,100,G,200,B,150"),
        ("cookie", "R=100; G=200; B=150"),
    ];
    rows.map(|(place, expected)| parameter("3.0.4", place, &json!({"schema": {}}), VALUES[3], expected))
        .into()
}

/// `collectionFormat` of 2.0.
fn collections() -> Vec<OpenApiCase> {
    let rows = [
        (None, "query", "color=blue,black,brown"),
        (Some("csv"), "query", "color=blue,black,brown"),
        (Some("ssv"), "query", "color=blue%20black%20brown"),
        (Some("tsv"), "query", "color=blue%09black%09brown"),
        (Some("pipes"), "query", "color=blue%7Cblack%7Cbrown"),
        (Some("multi"), "query", "color=blue&color=black&color=brown"),
        (None, "path", "blue,black,brown"),
        (Some("csv"), "path", "blue,black,brown"),
        (Some("ssv"), "path", "blue%20black%20brown"),
        (Some("tsv"), "path", "blue%09black%09brown"),
        (Some("pipes"), "path", "blue%7Cblack%7Cbrown"),
        (None, "header", "blue,black,brown"),
        (Some("csv"), "header", "blue,black,brown"),
        (Some("ssv"), "header", "blue black brown"),
        (Some("tsv"), "header", "blue\tblack\tbrown"),
        (Some("pipes"), "header", "blue|black|brown"),
    ];
    let mut cases = Vec::new();
    for (format, place, expected) in rows {
        let mut said = json!({"type": "array", "items": {"type": "string"}});
        if let (Some(format), Some(fields)) = (format, said.as_object_mut()) {
            fields.insert("collectionFormat".to_owned(), json!(format));
        }
        cases.push(parameter("2.0", place, &said, VALUES[2], expected));
    }
    for (kind, value, expected) in [
        ("string", r#""a b""#, "color=a%20b"),
        ("integer", "7", "color=7"),
        ("boolean", "true", "color=true"),
    ] {
        cases.push(parameter("2.0", "query", &json!({ "type": kind }), value, expected));
    }
    cases
}

/// Numbers keep their digits, null is absent, and what is nested is JSON but in `deepObject`.
fn values() -> Vec<OpenApiCase> {
    let plain = json!({"schema": {}});
    let mut cases: Vec<_> = [
        ("12345678901234567890123", "color=12345678901234567890123"),
        ("1.0", "color=1.0"),
        ("-1.5e300", "color=-1.5e300"),
        ("true", "color=true"),
        ("null", ""),
        ("[]", ""),
        ("{}", ""),
        ("[1,null,2.50]", "color=1&color=2.50"),
        (r#"{"a":null,"b":false}"#, "b=false"),
        (r#"{"a":{"b":[1]},"c":1}"#, "a=%7B%22b%22%3A%5B1%5D%7D&c=1"),
    ]
    .map(|(value, expected)| parameter("3.1.1", "query", &plain, value, expected))
    .into();
    for (place, value, expected) in [
        ("path", "1.50", "1.50"),
        ("path", "false", "false"),
        ("path", "[1,null,2.50]", "1,2.50"),
        ("header", "1.50", "1.50"),
        ("header", "[1,null,true]", "1,true"),
        ("cookie", "[1,null,true]", "color=1; color=true"),
    ] {
        cases.push(parameter("3.1.1", place, &plain, value, expected));
    }
    let deep = json!({"schema": {}, "style": "deepObject"});
    let nested = r#"{"a":{"b":1,"c d":"e&f"},"l":["x",{"y":2}],"n":null}"#;
    let expected = "color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bc%20d%5D=e%26f&color%5Bl%5D%5B0%5D=x&color%5Bl%5D%5B1%5D%5By%5D=2";
    cases.push(parameter("3.1.1", "query", &deep, nested, expected));
    cases
}

/// Parameters with `content`.
fn contents() -> Vec<OpenApiCase> {
    let said = json!({"content": {"application/json": {"schema": {}}}});
    [
        ("query", "color=%7B%22a%22%3A%20%22b%22%7D"),
        ("header", r#"{"a": "b"}"#),
        ("cookie", "color=%7B%22a%22%3A%20%22b%22%7D"),
        ("path", "%7B%22a%22%3A%20%22b%22%7D"),
    ]
    .map(|(place, expected)| parameter("3.1.1", place, &said, r#"{"a": "b"}"#, expected))
    .into()
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
