//! Parameters: each style, explode, location and kind of value.

use serde_json::{Value, json};

use super::case::{NONE, OpenApiCase, VALUES};

pub(super) fn cases() -> Vec<OpenApiCase> {
    [styles(), escapes(), defaults(), collections(), values(), contents()].concat()
}

/// The same kinds with every character that a style gives a meaning.
const ODD_VALUES: [&str; 3] = [
    r#""a,b;c.d|e=f&g h/i?j#k%l+m""#,
    r#"["a,b","c d","e|f","g;h.i=j&k"]"#,
    r#"{"k 1":"a,b|c","k=2":"d&e;f"}"#,
];

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
