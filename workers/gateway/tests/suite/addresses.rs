//! Whose a name or an address is, where several servers have some, and what cannot be read here.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;
use toolfleet_testkit::{MockMcp, ProtocolRevision};

use crate::reading::{VERSIONS, all, furnish, refused};
use crate::rig::{Http, Rig};

/// Two servers, of which one is open to administrators alone.
fn two_servers(first: &str, second: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": first, "discover": true}],
        "pika": [{"toolId": "guarded", "name": "guarded", "description": "Guarded", "executionType": "mcp", "mcpServerUrl": second,
                  "accessRules": [{"enabled": true, "userRoles": ["admin"]}]}],
        "tenants": {"queue": ["*"]},
        "publish": {"servers": {"main": true}, "prompts": {"main": true, "guarded": "g"}, "resources": {"main": true, "guarded": "g"}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_an_address_lead_to_their_server_alone() {
    let second = MockMcp::start(ProtocolRevision::Legacy).await;
    furnish(&second);
    let rig = Rig::start_with(|first| {
        let mut catalog = two_servers(first, &second.url());
        catalog["pika"][0].as_object_mut().unwrap().remove("accessRules");
        catalog
    })
    .await;
    furnish(&rig.mcp);
    let linked = json!({"content": [{"type": "resource_link", "uri": "img:1", "name": "i"}, {"type": "resource", "resource": {"uri": "ui://app/view.html", "text": "x"}}]});
    let answer = linked.clone();
    rig.mcp
        .tool("link", move |_| answer.clone())
        .listing("_meta", json!({"ui": {"resourceUri": "ui://app/view.html"}}));
    let served = rig.gateway(Limits::default()).await;
    for version in VERSIONS {
        let http = Http::of(&served, version);
        let listed = all(&http, "resources/list", "resources", "uri").await;
        assert_eq!(
            listed,
            [
                "file://g~/~/notes/a b.txt",
                "file://main~/~/notes/a b.txt",
                "img:g~/1",
                "img:main~/1",
                "ui://g~/app/view.html",
                "ui://main~/app/view.html",
            ]
        );
        let templates = all(&http, "resources/templates/list", "resourceTemplates", "uriTemplate").await;
        assert_eq!(templates, ["file://g~/~/notes/{+path}", "file://main~/~/notes/{+path}"]);
        assert_eq!(
            all(&http, "prompts/list", "prompts", "name").await,
            ["g__greet", "g__write a letter", "main__greet", "main__write a letter"]
        );
        // What a tool or a prompt names is read under the name it is given.
        let result = http.call("main__link", json!({})).await;
        let list = http.result("tools/list", json!({})).await;
        let tool = list["tools"]
            .as_array()
            .unwrap()
            .iter()
            .find(|tool| tool["name"] == "main__link")
            .unwrap()
            .clone();
        let prompt =
            http.result("prompts/get", json!({"name": "g__greet", "arguments": {"who": "Ann"}})).await;
        let named = [
            (&result["content"][0]["uri"], "main~"),
            (&result["content"][1]["resource"]["uri"], "main~"),
            (&tool["_meta"]["ui"]["resourceUri"], "main~"),
            (&prompt["messages"][1]["content"]["resource"]["uri"], "g~"),
        ];
        for (uri, prefix) in named {
            assert!(uri.as_str().unwrap().contains(prefix), "{uri}");
            let read = http.result("resources/read", json!({"uri": uri})).await;
            assert_eq!(read["contents"][0]["uri"], *uri, "and the answer has the same address");
        }
        let params = json!({"ref": {"type": "ref/resource", "uri": "file://g~/~/notes/{+path}"}, "argument": {"name": "path", "value": "x"}});
        assert_eq!(
            http.result("completion/complete", params).await["completion"]["values"],
            json!(["x-ref/resource"])
        );
        for nobody in ["img:1", "ui://app/view.html", "img:other~/1", "img:~/1"] {
            let wrong = refused(&http, "resources/read", json!({"uri": nobody})).await;
            assert_eq!(wrong["data"]["uri"], nobody, "{wrong}");
        }
    }
    // Each server was asked for its own alone, as it names it.
    let asked = |mcp: &MockMcp| {
        let all = mcp.requests_of("resources/read");
        let mut uris: Vec<_> =
            all.iter().map(|one| one.body["params"]["uri"].as_str().unwrap().to_owned()).collect();
        uris.sort();
        uris.dedup();
        uris
    };
    assert_eq!(asked(&rig.mcp), ["img:1", "ui://app/view.html"]);
    assert_eq!(asked(&second), ["ui://app/view.html"]);
    assert_eq!(
        second.requests_of("completion/complete")[0].body["params"]["ref"]["uri"],
        "file:///notes/{+path}"
    );
    assert!(rig.mcp.requests_of("completion/complete").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_access_rules_close() {
    let second = MockMcp::start(ProtocolRevision::Modern).await;
    furnish(&second);
    let rig = Rig::start_with(|first| two_servers(first, &second.url())).await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    assert_eq!(
        all(&http, "resources/list", "resources", "uri").await,
        ["file://main~/~/notes/a b.txt", "img:main~/1", "ui://main~/app/view.html"]
    );
    assert_eq!(all(&http, "prompts/list", "prompts", "name").await, ["main__greet", "main__write a letter"]);
    // Closed and not there are one answer, whatever is written.
    let unknown = refused(&http, "resources/read", json!({"uri": "img:none~/1"})).await["message"].clone();
    for uri in ["img:g~/1", "img:G~/1", "ui://g~/app/view.html", "file://g~/~/notes/x"] {
        assert_eq!(refused(&http, "resources/read", json!({"uri": uri})).await["message"], unknown);
    }
    // The other server is asked for what begins as an address of the first.
    let main = refused(&http, "resources/read", json!({"uri": "img:main~/g~/1"})).await;
    assert!(main["message"].as_str().unwrap().contains("img:g~/1"), "{main}");
    assert_eq!(refused(&http, "prompts/get", json!({"name": "g__greet"})).await["code"], -32602);
    let params =
        json!({"ref": {"type": "ref/prompt", "name": "g__greet"}, "argument": {"name": "who", "value": "x"}});
    assert_eq!(refused(&http, "completion/complete", params).await["code"], -32602);
    // A cursor says where to go on, and opens nothing.
    let cursor = "cmVzb3VyY2VzL2xpc3QKaW1nOmZ+";
    let list = http.ask("resources/list", json!({"cursor": cursor})).await;
    assert!(!list.body.to_string().contains("g~"), "{list:?}");
    assert!(second.requests().is_empty(), "nothing reached the closed server: {:?}", second.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_links_to_elsewhere_is_not_passed_on_as_readable() {
    let second = MockMcp::start(ProtocolRevision::Legacy).await;
    furnish(&second);
    // The tools of the first are published, the resources of the second.
    let rig = Rig::start_with(|first| {
        json!({
            "servers": [{"id": "main", "url": first, "discover": true}, {"id": "other", "url": second.url(), "discover": true}],
            "tenants": {"queue": ["*"]},
            "publish": {"servers": {"main": true}, "resources": {"other": true}},
        })
    })
    .await;
    let linked = json!({"content": [
        {"type": "resource_link", "uri": "img:1", "name": "image"},
        {"type": "resource", "resource": {"uri": "ui://app/view.html", "text": "x"}},
        {"type": "resource_link", "uri": "https://example.com/x", "name": "page"},
    ]});
    rig.mcp.tool("link", move |_| linked.clone());
    let served = rig.gateway(Limits::default()).await;
    for version in VERSIONS {
        let http = Http::of(&served, version);
        let content = http.call("main__link", json!({})).await["content"].clone();
        assert_eq!(
            content[0],
            json!({"type": "text", "text": "A resource that cannot be read here: image: img:1"})
        );
        assert_eq!(content[1]["_meta"], json!({"toolfleet/unreadable": true}));
        assert_eq!(content[1]["resource"]["text"], "x");
        assert_eq!(content[2]["uri"], "https://example.com/x");
        let uri = &content[1]["resource"]["uri"];
        assert_eq!(refused(&http, "resources/read", json!({"uri": uri})).await["data"]["uri"], *uri);
    }
    assert!(second.requests_of("resources/read").is_empty(), "nobody was led to the other server");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_nowhere_are_said_to_be_left_out() {
    let second = MockMcp::start(ProtocolRevision::Modern).await;
    furnish(&second);
    let rig = Rig::start_with(|first| {
        let mut catalog = two_servers(first, &second.url());
        catalog["publish"]["prompts"] = json!({"main": "", "guarded": "g"});
        catalog
    })
    .await;
    rig.mcp.tool("bad name", |_: &Value| json!({"content": []}));
    rig.mcp.method("prompts/list", |_| json!({"prompts": [{"name": "g__greet"}, {"name": "greet"}]}));
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let tools = http.result("tools/list", json!({})).await;
    assert_eq!(tools["_meta"]["toolfleet/leftOut"], json!({"main": ["bad name"]}));
    assert!(!tools["tools"].to_string().contains("bad name"));
    let prompts = http.result("prompts/list", json!({})).await;
    assert_eq!(prompts["_meta"]["toolfleet/leftOut"], json!({"main": ["g__greet"]}));
    assert_eq!(prompts["prompts"], json!([{"name": "greet"}]));
}
