//! Redaction of a key in the query of an interface: a part of the hunt of `leaks.rs`. The interface gets the key, and repeats it in each way.

use serde_json::{Value, json};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{EchoFault, EchoHttp};

use crate::leaks::{Lines, forms, found, kept_of, secret};
use crate::rig::Rig;

/// The rig's catalog with an interface at that address, whose key is `vault#query`.
fn catalog(rig: &Rig, url: &str) -> Value {
    let key = json!({"type": "apiKey", "in": "query", "name": "api_key"});
    let list =
        json!([{"name": "q", "in": "query", "style": "form", "explode": true, "schema": {"type": "object"}}]);
    let path = json!({"get": {"operationId": "find", "parameters": list, "security": [{"key": []}], "responses": {}}});
    let document = json!({"openapi": "3.0.4", "info": {"title": "t", "version": "1"}, "paths": {"/find": path},
        "components": {"securitySchemes": {"key": key}}});
    let mut catalog = rig.catalog();
    let server = json!({"id": "keyed", "url": url, "openapi": document, "query": {"api_key": "secret://vault#query"}, "timeout_ms": 10_000});
    catalog["servers"].as_array_mut().unwrap().push(server);
    catalog
}

/// What an interface does with the key that it was given.
fn betrayals(echo: &EchoHttp) -> Vec<(&'static str, Option<EchoFault>)> {
    let all = forms(&secret("query")).join(" | ");
    let within = format!("{}/elsewhere?api_key=old&{}", echo.url(), forms(&secret("query"))[2]);
    let status =
        |status: u16, header: (&str, &str), body: &str| Some(EchoFault::status(status, header, body, true));
    let bytes = |media: &str, body: Vec<u8>| {
        let headers = vec![("content-type".to_owned(), media.to_owned())];
        Some(EchoFault::Answer { status: 200, headers, body, runs: true })
    };
    let link = format!("<{within}>; rel=\"next\"");
    let escaped: String = secret("query").bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    vec![
        ("an echo", None),
        ("a page", status(200, ("link", &link), "{}")),
        ("a made thing", status(201, ("location", &within), "{}")),
        ("where it is", status(200, ("content-location", &within), "{}")),
        ("a tag", status(200, ("etag", &format!("\"{}\"", secret("query").replace('"', "\\\""))), "{}")),
        ("a page of an error", status(404, ("link", &link), "no")),
        ("escapes", status(200, ("x", "y"), &format!("{{\"a\": \"{escaped}\"}}"))),
        ("Latin letters", bytes("text/plain; charset=ISO-8859-1", [b"caf\xe9 ", all.as_bytes()].concat())),
        ("a broken byte", bytes("application/json", [b"\xff ", all.as_bytes()].concat())),
        ("a picture", bytes("image/png", [b"\x89PNG\0 ", all.as_bytes()].concat())),
        ("an error", status(400, ("x", "y"), &all)),
        ("a failure", status(500, ("x-echo", "y"), &all)),
        ("a refusal", status(401, ("www-authenticate", "Basic realm=\"x\""), &all)),
        ("a throttle", status(429, ("retry-after", "1"), &all)),
        ("a redirect", status(307, ("location", &within), "")),
        (
            "a redirect to another origin",
            status(
                302,
                ("location", &format!("https://elsewhere.example/?{}", forms(&secret("query"))[2])),
                "",
            ),
        ),
        ("a text", status(200, ("content-type", "text/plain"), &all)),
        ("a lost answer", Some(EchoFault::RunAndCut)),
        ("a closed connection", Some(EchoFault::Close)),
    ]
}

/// Calls the interface in each way, and looks for the key; gives what was logged.
pub(crate) async fn hunt(rig: &Rig, lines: &Lines) -> String {
    let (echo, key) = (EchoHttp::start().await, [secret("query")]);
    let catalog = catalog(rig, echo.url());
    let mut heard = String::new();
    for (place, fault) in betrayals(&echo) {
        fault.into_iter().for_each(|fault| echo.next(fault));
        let (id, before) = (uuid::Uuid::new_v4().to_string(), echo.requests().len());
        // Whoever calls cannot choose the key.
        let tool = json!({"server": "keyed", "name": "find", "arguments": {"q": {"api_key": "theirs", "page": "2"}}});
        let (kind, kept) = kept_of(rig, catalog.clone(), &id, tool).await;
        assert_eq!(found(place, &kept, &key), None);
        let logged = lines.take();
        assert_eq!(found(&format!("the log ({place})"), &logged, &key), None);
        heard.push_str(&logged);
        let requests = echo.requests();
        assert!(requests.len() > before, "{place}: {kept}");
        for request in &requests[before..] {
            let url = url::Url::parse(&format!("http://h.example{}", request.target)).unwrap();
            let given: Vec<_> = url.query_pairs().filter(|(name, _)| name == "api_key").collect();
            assert!(given.len() == 1 && given[0].1 == key[0], "{place}: {}", request.target.len());
        }
        if place == "an echo" {
            assert_eq!(kind, OutcomeKind::Succeeded, "{kept}");
            assert!(
                requests[before].target.starts_with("/find?page=2&api_key="),
                "the rest of the query stays"
            );
        }
        if place == "a redirect" {
            assert_eq!((kind, requests.len() - before), (OutcomeKind::Succeeded, 2), "{kept}");
        }
    }
    // A key that cannot be had is named by its parameter, and nothing is sent.
    let mut broken = catalog;
    let servers = broken["servers"].as_array_mut().unwrap();
    servers.last_mut().unwrap()["query"]["api_key"] = json!("secret://vault#no-such-query");
    let before = echo.requests().len();
    let tool = json!({"server": "keyed", "name": "find", "arguments": {}});
    let (_, kept) = kept_of(rig, broken, "broken-query", tool).await;
    assert!(kept.contains("credential_unavailable"), "{kept}");
    assert_eq!((found("a key that is not there", &kept, &key), echo.requests().len()), (None, before));
    heard
}
