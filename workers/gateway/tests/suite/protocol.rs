//! The rules of the transport, of each version.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;

use crate::access::Issuer;
use crate::rig::{Answered, Http, Rig, answered};

fn error_code(body: &Value) -> Option<i64> {
    body["error"]["code"].as_i64()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_opens_as_it_does() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let discovered = Http::modern(&served).result("server/discover", json!({})).await;
    assert_eq!(
        discovered["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
    );
    assert!(discovered["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object());
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2030-01-01"] {
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let http = Http::of(&served, "2025-11-25");
        let opened = http.ask("initialize", params).await;
        let expected = if version == "2030-01-01" { "2025-11-25" } else { version };
        assert_eq!(opened.body["result"]["protocolVersion"], expected);
        assert!(opened.headers.contains_key("mcp-session-id"));
        assert_eq!(http.notify("notifications/initialized", json!({})).await, 202);
    }
    assert_eq!(Http::of(&served, "2025-06-18").result("ping", json!({})).await, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_body_have_to_agree() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let list = http.message("tools/list", json!({}));
    let code = |body: &Value| body["error"]["code"].as_i64();
    let wrong_method = answered(http.post(&list).header("mcp-method", "tools/call")).await;
    assert_eq!((wrong_method.status, code(&wrong_method.body)), (400, Some(-32020)), "two values");
    let mut other = list.clone();
    other["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2025-11-25");
    let mismatch = answered(http.post(&other)).await;
    assert_eq!((mismatch.status, code(&mismatch.body)), (400, Some(-32020)));
    let mut call = http.message("tools/call", json!({"name": "echo"}));
    let request = http.post(&call);
    call["params"]["name"] = json!("other");
    let mismatch = answered(request.body(call.to_string())).await;
    assert_eq!((mismatch.status, code(&mismatch.body)), (400, Some(-32020)));
    let unknown = http.ask("tools/unknown", json!({})).await;
    assert_eq!((unknown.status, code(&unknown.body)), (404, Some(-32601)));
    let unknown = Http::of(&served, "2025-11-25").ask("tools/unknown", json!({})).await;
    assert_eq!((unknown.status, code(&unknown.body)), (200, Some(-32601)));
    let mut bare = list.clone();
    bare["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
    let bare = answered(http.post(&bare)).await;
    assert_eq!((bare.status, code(&bare.body)), (400, Some(-32602)));
    let version = answered(
        Http::of(&served, "2019-01-01").post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})),
    )
    .await;
    assert_eq!((version.status, code(&version.body)), (400, Some(-32022)));
    assert_eq!(version.body["error"]["data"]["requested"], "2019-01-01");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits { max_body_bytes: 2_000, ..Limits::default() }).await;
    let http = reqwest::Client::new();
    let post =
        |body: &str| http.post(&served.url).header("content-type", "application/json").body(body.to_owned());
    for (body, status, code) in [
        ("{", 400, -32700),
        ("[]", 400, -32600),
        ("{\"id\":1}", 400, -32600),
        ("", 400, -32700),
        ("{\"id\":null,\"method\":\"ping\"}", 400, -32600),
        ("{\"id\":1,\"method\":\"ping\",\"params\":[]}", 400, -32602),
    ] {
        let refused = answered(post(body)).await;
        assert_eq!((refused.status, refused.body["error"]["code"].as_i64()), (status, Some(code)), "{body}");
    }
    assert_eq!(answered(post(&" ".repeat(3_000))).await.status, 413);
    assert_eq!(answered(http.post(&served.url).body("{}")).await.status, 415);
    assert_eq!(answered(http.get(&served.url)).await.status, 405);
    assert_eq!(answered(http.delete(&served.url)).await.status, 405);
    assert_eq!(answered(post("{}").header("host", "evil.example.com")).await.status, 403);
    assert_eq!(answered(post("{}").header("origin", "https://evil.example.com")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_allowed_origin_reads_every_answer() {
    let (rig, issuer) = (Rig::start().await, Issuer::new());
    let open = rig.gateway(Limits::default()).await;
    let closed = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let (page, other) = ("http://localhost:6274", "https://evil.example.com");
    let origin_of = |answered: &Answered| {
        let allowed = answered.headers.get("access-control-allow-origin")?;
        Some(allowed.to_str().unwrap().to_owned())
    };
    for (served, status) in [(&open, 200), (&closed, 401)] {
        let answered = Http::modern(served).with("origin", page).ask("tools/list", json!({})).await;
        assert_eq!((answered.status, origin_of(&answered).as_deref()), (status, Some(page)));
        assert_eq!(answered.headers["vary"], "origin");
        let exposed = answered.headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("mcp-session-id") && exposed.contains("www-authenticate"), "{exposed}");
        let refused = Http::modern(served).with("origin", other).ask("tools/list", json!({})).await;
        assert_eq!((refused.status, origin_of(&refused)), (403, None));
        let no_page = Http::modern(served).ask("tools/list", json!({})).await;
        assert_eq!((no_page.status, origin_of(&no_page)), (status, None));
    }
    let client = reqwest::Client::new();
    let asks = |url: &str, origin: &str| {
        let asked = "Authorization,content-type, mcp-protocol-version,x-conversation,x-tenant";
        client
            .request(reqwest::Method::OPTIONS, url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", asked)
    };
    // It is asked before there is a token.
    let may_send = answered(asks(&open.url, page)).await;
    assert_eq!((may_send.status, origin_of(&may_send).as_deref()), (204, Some(page)));
    let headers = &may_send.headers["access-control-allow-headers"];
    assert_eq!(headers, "authorization, content-type, mcp-protocol-version, x-conversation");
    assert_eq!(may_send.headers["access-control-allow-methods"], "GET, POST");
    assert_eq!(answered(asks(&closed.url, page)).await.status, 204);
    let other_page = answered(asks(&open.url, other)).await;
    assert_eq!((other_page.status, origin_of(&other_page)), (405, None));
    let metadata = closed.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let read = answered(client.get(&metadata).header("origin", other)).await;
    assert_eq!((read.status, origin_of(&read).as_deref()), (200, Some("*")));
    assert_eq!(answered(asks(&metadata, other)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_its_order() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::of(&served, "2025-03-26");
    let call = |id: u64, text: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": text}}});
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let batch = json!([call(1, "a"), notification, call(2, "b"), {"jsonrpc": "2.0", "id": 3, "method": "no/such"}, 7, [1], {"id": "i", "method": "initialize"}]);
    let found = answered(http.post(&batch)).await;
    let found = found.body.as_array().unwrap_or_else(|| panic!("{found:?}"));
    let brief = |one: &Value| json!([one["id"], one["result"]["content"][0]["text"], one["error"]["code"]]);
    assert_eq!(
        found.iter().map(brief).collect::<Vec<_>>(),
        [
            json!([1, "a", null]),
            json!([2, "b", null]),
            json!([3, null, -32601]),
            json!([null, null, -32600]),
            json!([null, null, -32600]),
            json!(["i", null, -32602]),
        ]
    );
    assert_eq!(answered(http.post(&json!([notification, notification]))).await.status, 202);
    let many = serde_json::Value::from(vec![notification.clone(); 51]);
    for (version, batch) in
        [("2025-03-26", many), ("2025-06-18", json!([notification])), ("2025-11-25", json!([notification]))]
    {
        let refused = answered(Http::of(&served, version).post(&batch)).await;
        assert_eq!((refused.status, error_code(&refused.body)), (400, Some(-32600)), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_no_more_calls_at_once_than_requests_have() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits { max_requests: 2, ..Limits::default() }).await;
    let http = Http::of(&served, "2025-03-26");
    let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"});
    let found = answered(http.post(&json!([ping(1), ping(2), ping(3)]))).await;
    let answers = found.body.as_array().unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(answers.iter().filter(|one| one["result"].is_object()).count(), 2, "{found:?}");
    assert_eq!(error_code(&answers[2]), Some(-32603));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_answered_than_may_be() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits { max_requests: 1, ..Limits::default() }).await;
    let http = Http::modern(&served);
    http.result("tools/list", json!({})).await;
    let held = rig.mcp.hold();
    let waiting = tokio::spawn(http.post(&http.message("tools/call", json!({"name": "echo"}))).send());
    rig.mcp.arrived("tools/call", 1).await;
    let refused = http.ask("tools/list", json!({})).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (503, "1"));
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}
