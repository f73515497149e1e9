//! Prompts and resources: listed, read and completed through the fleet.

use serde_json::{Value, json};
use toolfleet_client::RecordsOf;
use toolfleet_core::ids::Tenant;
use toolfleet_gateway::Limits;
use toolfleet_testkit::{MockMcp, ProtocolRevision, ToolAnswer};

use crate::events::listen;
use crate::rig::{Http, Rig};

pub(crate) const VERSIONS: [&str; 4] = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"];
/// What servers give: a page of an app, binary contents, annotations, members that nobody knows.
const APP: &str = r#"{"contents":[{"uri":"ui://app/view.html","mimeType":"text/html;profile=mcp-app","text":"<p>é\u00e9</p>","_meta":{"ui":{"csp":{}}},"n":1.50}]}"#;
const IMAGE: &str = r#"{"contents":[{"uri":"img:1","mimeType":"image/png","blob":"iVBORw0KGgo="}],"ttlMs":250,"cacheScope":"public"}"#;

/// All that one server lists is published, and nothing else.
pub(crate) fn one_server(url: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": url, "discover": true}],
        "tenants": {"queue": ["*"]},
        "publish": {"servers": {"main": true}, "prompts": {"main": ""}, "resources": {"main": true}},
    })
}

/// A server with two pages of resources, a template, prompts and completions.
pub(crate) fn furnish(mcp: &MockMcp) {
    mcp.method("resources/list", |params| match params.get("cursor").and_then(Value::as_str) {
        None => json!({"resources": [
            {"uri": "ui://app/view.html", "name": "app", "mimeType": "text/html;profile=mcp-app", "size": 7, "annotations": {"priority": 0.5}, "_meta": {"x": 1}},
            {"uri": "img:1", "name": "image"},
        ], "nextCursor": "two"}),
        Some(_) => json!({"resources": [{"uri": "file:///notes/a b.txt", "name": "note"}, {"name": "without an address"}]}),
    });
    mcp.method(
        "resources/templates/list",
        |_| json!({"resourceTemplates": [{"uriTemplate": "file:///notes/{+path}", "name": "notes"}]}),
    );
    mcp.method("resources/read", |params| match params["uri"].as_str().unwrap() {
        "ui://app/view.html" => ToolAnswer::Raw(APP.into()),
        "img:1" => ToolAnswer::Raw(IMAGE.into()),
        uri if uri.starts_with("file:///notes/") => {
            ToolAnswer::Result(json!({"contents": [{"uri": uri, "text": "a note"}]}))
        }
        uri => ToolAnswer::Error { code: -32002, message: format!("no {uri} here") },
    });
    mcp.method("prompts/list", |_| json!({"prompts": [{"name": "greet", "arguments": [{"name": "who"}]}, {"name": "write a letter"}]}));
    mcp.method("prompts/get", |params| match params["name"].as_str().unwrap() {
        "greet" => ToolAnswer::Result(json!({"description": "d", "messages": [
            {"role": "user", "content": {"type": "text", "text": params["arguments"]["who"]}},
            {"role": "user", "content": {"type": "resource", "resource": {"uri": "ui://app/view.html", "text": "x"}}},
        ]})),
        name => ToolAnswer::Error { code: -32602, message: format!("no prompt {name}") },
    });
    mcp.method("completion/complete", |params| json!({"completion": {"values": [format!("{}-{}", params["argument"]["value"].as_str().unwrap(), params["ref"]["type"].as_str().unwrap())], "hasMore": false}}));
}

pub(crate) async fn all(http: &Http, method: &str, member: &str, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut params = json!({});
    loop {
        let list = http.result(method, params).await;
        found
            .extend(list[member].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()));
        match list.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => return found,
        }
    }
}

pub(crate) async fn refused(http: &Http, method: &str, params: Value) -> Value {
    let answered = http.ask(method, params).await;
    assert!(answered.body["error"].is_object(), "{answered:?}");
    answered.body["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_versions_list_and_read() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::start_with(one_server).await;
        rig.mcp.become_era(era);
        furnish(&rig.mcp);
        let served = rig.gateway(Limits::default()).await;
        for version in VERSIONS {
            let (http, is_modern) = (Http::of(&served, version), version == "2026-07-28");
            let list = http.result("resources/list", json!({})).await;
            let uris: Vec<&Value> =
                list["resources"].as_array().unwrap().iter().map(|one| &one["uri"]).collect();
            assert_eq!(uris, ["file:///notes/a b.txt", "img:1", "ui://app/view.html"]);
            let app = &list["resources"][2];
            assert_eq!(
                (&app["size"], &app["annotations"]["priority"], &app["_meta"]),
                (&json!(7), &json!(0.5), &json!({"x": 1}))
            );
            let templates = http.result("resources/templates/list", json!({})).await;
            assert_eq!(
                templates["resourceTemplates"],
                json!([{"uriTemplate": "file:///notes/{+path}", "name": "notes"}])
            );
            let response = http
                .post(&http.message("resources/read", json!({"uri": "ui://app/view.html"})))
                .send()
                .await
                .unwrap();
            let body = response.text().await.unwrap();
            // What it contains is passed on byte for byte.
            assert!(body.contains(&APP[1..APP.len() - 1]), "{body}");
            let image = http.result("resources/read", json!({"uri": "img:1"})).await;
            assert_eq!(image["contents"][0]["blob"], "iVBORw0KGgo=");
            let cached = is_modern.then(|| json!([250, "private"]));
            assert_eq!(image.get("ttlMs").map(|ttl| json!([ttl, image["cacheScope"]])), cached);
            let note = http.result("resources/read", json!({"uri": "file:///notes/x/y.txt"})).await;
            assert_eq!(note["contents"][0]["text"], "a note");
            assert_eq!(all(&http, "prompts/list", "prompts", "name").await, ["greet", "write a letter"]);
            let prompt =
                http.result("prompts/get", json!({"name": "greet", "arguments": {"who": "Ann"}})).await;
            assert_eq!(prompt["messages"][0]["content"]["text"], "Ann");
            for reference in [
                json!({"type": "ref/prompt", "name": "greet"}),
                json!({"type": "ref/resource", "uri": "file:///notes/{+path}"}),
            ] {
                let params = json!({"ref": reference, "argument": {"name": "who", "value": "A"}, "context": {"arguments": {"a": "b"}}});
                let completed = http.result("completion/complete", params).await;
                assert_eq!(
                    completed["completion"]["values"][0],
                    format!("A-{}", reference["type"].as_str().unwrap())
                );
            }
            assert!([&list, &image, &prompt].iter().all(|one| one.get("resultType").is_some() == is_modern));
        }
        // Each listing was read once, all of its pages.
        assert_eq!(rig.mcp.requests_of("resources/list").len(), 2);
        assert_eq!(rig.mcp.requests_of("prompts/list").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_published_is_offered() {
    let rig = Rig::start().await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits::default()).await;
    let capabilities =
        |result: &Value| result["capabilities"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for version in VERSIONS {
        let http = Http::of(&served, version);
        for method in
            ["resources/list", "resources/read", "prompts/list", "prompts/get", "completion/complete"]
        {
            let wrong = refused(&http, method, json!({"uri": "img:1", "name": "img:1"})).await;
            assert_eq!(wrong["code"], -32601, "{wrong}");
        }
    }
    let modern = Http::modern(&served);
    assert_eq!(capabilities(&modern.result("server/discover", json!({})).await), ["extensions", "tools"]);
    assert_eq!(rig.mcp.requests_of("resources/read").len(), 0);
    let all = Rig::start_with(one_server).await;
    let served = all.gateway(Limits::default()).await;
    let discovered = Http::modern(&served).result("server/discover", json!({})).await;
    assert_eq!(capabilities(&discovered), ["completions", "extensions", "prompts", "resources", "tools"]);
    assert_eq!(
        discovered["capabilities"]["resources"],
        json!({"listChanged": true}),
        "nothing is said of subscriptions"
    );
    let opened =
        Http::of(&served, "2025-06-18").result("initialize", json!({"protocolVersion": "2025-06-18"})).await;
    assert_eq!(capabilities(&opened), ["completions", "prompts", "resources", "tools"]);
    let wrong =
        refused(&Http::of(&served, "2025-11-25"), "resources/subscribe", json!({"uri": "img:1"})).await;
    assert!(
        wrong["code"] == -32601 && wrong["message"].as_str().unwrap().contains("no notifications"),
        "{wrong}"
    );
    let mut events = listen(&served, json!(["img:1"])).await;
    let acknowledged = events.next().await["params"].clone();
    assert_eq!(acknowledged["notifications"], json!({"resourceSubscriptions": []}));
    assert!(acknowledged["_meta"]["toolfleet/refused"]["img:1"].is_string(), "{acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_behind_its_cursor_and_no_other_list_takes_it() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits { page: 1, ..Limits::default() }).await;
    let http = Http::modern(&served);
    assert_eq!(
        all(&http, "resources/list", "resources", "uri").await,
        ["file:///notes/a b.txt", "img:1", "ui://app/view.html"]
    );
    let first = http.result("resources/list", json!({})).await;
    for cursor in [first["nextCursor"].clone(), json!("!"), json!(""), json!("eA")] {
        let wrong = refused(&http, "prompts/list", json!({"cursor": cursor})).await;
        assert_eq!(wrong["code"], -32602, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_said_in_the_clients_version() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits::default()).await;
    for (version, code) in [("2026-07-28", -32602), ("2025-11-25", -32002)] {
        let http = Http::of(&served, version);
        let wrong = refused(&http, "resources/read", json!({"uri": "test://none"})).await;
        assert_eq!((&wrong["code"], &wrong["data"]["uri"]), (&json!(code), &json!("test://none")), "{wrong}");
        for params in [
            json!({"name": "none"}),
            json!({"name": "greet", "arguments": {"who": 7}}),
            json!({}),
            json!({"name": ""}),
        ] {
            let wrong = refused(&http, "prompts/get", params).await;
            assert_eq!(wrong["code"], -32602, "{wrong}");
        }
        for uri in [json!(""), json!(7), json!("x".repeat(3_000))] {
            let wrong = refused(&http, "resources/read", json!({"uri": uri})).await;
            assert_eq!(wrong["code"], -32602, "{wrong}");
        }
        let wrong =
            refused(&http, "completion/complete", json!({"ref": {"type": "ref/prompt", "name": "greet"}}))
                .await;
        assert_eq!(wrong["code"], -32602, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_prompts_and_resources_is_left_out() {
    let rig = Rig::start_with(one_server).await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    for (method, member) in [
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ] {
        let list = http.result(method, json!({})).await;
        assert_eq!(list[member], json!([]));
        assert!(list["_meta"].get("toolfleet/unlistedServers").is_none(), "{list}");
    }
    assert_eq!(refused(&http, "resources/read", json!({"uri": "img:1"})).await["code"], -32602);
    assert_eq!(refused(&http, "prompts/get", json!({"name": "greet"})).await["code"], -32602);
    let params =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": ""}});
    assert_eq!(http.result("completion/complete", params).await["completion"], json!({"values": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_asks_goes_on_with_the_answers() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let question = json!({"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {"type": "object"}}});
    rig.mcp.method("prompts/get", move |params| match params.get("inputResponses") {
        None => json!({"resultType": "input_required", "inputRequests": {"who": question}, "requestState": "s"}),
        Some(given) => json!({"messages": [{"role": "user", "content": {"type": "text", "text": given["who"]["content"]["name"]}}], "state": params["requestState"]}),
    });
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with_tasks();
    let asked = http.result("prompts/get", json!({"name": "greet"})).await;
    assert_eq!(
        (&asked["resultType"], &asked["inputRequests"]["who"]["params"]["message"]),
        (&json!("input_required"), &json!("Who?"))
    );
    let with = |name: &str, responses: Value| json!({"name": name, "requestState": asked["requestState"], "inputResponses": responses});
    let again = http.result("prompts/get", with("greet", json!({}))).await;
    assert_eq!(again["resultType"], "input_required");
    let answers = json!({"who": {"action": "accept", "content": {"name": "Ann"}}});
    let prompt = http.result("prompts/get", with("greet", answers.clone())).await;
    assert_eq!((&prompt["messages"][0]["content"]["text"], &prompt["state"]), (&json!("Ann"), &json!("s")));
    // A state is good for its own request alone.
    let wrong = refused(&http, "prompts/get", with("write a letter", answers)).await;
    assert_eq!(wrong["code"], -32602, "{wrong}");
    let wrong = refused(&Http::of(&served, "2025-11-25"), "prompts/get", json!({"name": "greet"})).await;
    assert_eq!(wrong["data"]["toolfleet/outcome"]["outcome"], "input_required", "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_has_its_record_and_no_argument_in_it() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with("x-conversation", "conversation-1");
    let params = json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "MARKED"}});
    http.result("completion/complete", params).await;
    http.result("resources/read", json!({"uri": "img:1"})).await;
    let client = rig.client();
    let span = client.last(std::time::Duration::from_secs(60));
    let tenant = Tenant::parse("acme").unwrap();
    let records = loop {
        let records = client.records(&tenant, &RecordsOf::Everything, span, 10).await.unwrap();
        if records.len() >= 2 {
            break records;
        }
    };
    let mut operations: Vec<_> = records.iter().map(|one| one.operation.as_deref().unwrap()).collect();
    operations.sort_unstable();
    assert_eq!(operations, ["completion/complete", "resources/read"]);
    for record in records {
        assert_eq!(record.session.as_ref().map(|session| session.as_str()), Some("conversation-1"));
        assert!(!format!("{record:?}").contains("MARKED"), "{record:?}");
    }
}
