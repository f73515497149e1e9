//! Listing and calling, by real clients of both generations and by hand.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;
use toolfleet_peer::Generation;
use toolfleet_peer::client::RmcpClient;

use crate::rig::{Http, Rig, text};

fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_with_a_long_name_is_listed_and_called() {
    let rig = Rig::start().await;
    let name = |end: char| format!("{}{end}", "delete_collection_of_".repeat(4));
    for end in ['a', 'b'] {
        rig.mcp.tool(
            &name(end),
            move |_: &Value| json!({"content": [{"type": "text", "text": end.to_string()}]}),
        );
    }
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let list = Http::modern(&first).result("tools/list", json!({})).await;
    let names = names(&list);
    let long: Vec<_> = names.iter().filter(|name| name.starts_with("main__delete")).collect();
    assert!(long.len() == 2 && long.iter().all(|name| name.len() == 64), "{names:?}");
    let mut said = Vec::new();
    for name in long {
        // A gateway that has not listed yet.
        said.push(text(&Http::modern(&second).call(name, json!({})).await).to_owned());
    }
    said.sort();
    assert_eq!(said, ["a", "b"]);
    let strange = format!("main__{}", "x".repeat(58));
    let unknown = Http::modern(&second).call(&strange, json!({})).await;
    assert!(text(&unknown).contains("unknown_tool"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_of_both_generations_call_a_tool() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    for generation in [Generation::Newest, Generation::Sessions] {
        let client = RmcpClient::connect(&served.url, generation).await.unwrap();
        let arguments = json!({"text": "hello"}).as_object().unwrap().clone();
        let result: Value = serde_json::from_str(&client.call("echo", arguments).await.unwrap()).unwrap();
        assert_eq!((text(&result), &result["structuredContent"]["text"]), ("hello", &json!("hello")));
    }
    assert_eq!(rig.mcp.executions("echo"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_what_the_caller_may_call() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let list = Http::modern(&served).result("tools/list", json!({})).await;
    // `secret` needs a role and `stopped` is paused. `echo`, `ask` and `long` are published by themselves.
    assert_eq!(names(&list), ["get_result", "ask", "echo", "main__fail", "take_long"]);
    assert_eq!((&list["resultType"], &list["cacheScope"]), (&json!("complete"), &json!("private")));
    let echo = &list["tools"][2];
    assert_eq!((&echo["title"], &echo["description"]), (&json!("Echo"), &json!("Says it again.")));
    assert_eq!(echo["inputSchema"]["properties"]["text"]["type"], "string");
    for version in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let list = Http::of(&served, version).result("tools/list", json!({})).await;
        assert_eq!(names(&list).len(), 5);
        assert!(list.get("resultType").is_none() && list.get("ttlMs").is_none(), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_each_tool_once() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits { page: 1, search_above: 2, ..Limits::default() }).await;
    let http = Http::modern(&served);
    let (mut seen, mut cursor) = (Vec::new(), json!({}));
    loop {
        let list = http.result("tools/list", cursor).await;
        seen.extend(names(&list).into_iter().map(str::to_owned));
        match list.get("nextCursor") {
            Some(next) => cursor = json!({"cursor": next}),
            None => break,
        }
    }
    assert_eq!(seen, ["get_result", "search_tools", "ask", "echo", "main__fail", "take_long"]);
    let wrong = http.ask("tools/list", json!({"cursor": "!"})).await;
    assert_eq!(wrong.body["error"]["code"], -32602);
    let found = http.call("search_tools", json!({"query": "say something again"})).await;
    let long = http.call("search_tools", json!({"query": "a ".repeat(501)})).await;
    assert!(long["isError"] == true && text(&long).contains("1000"), "{long}");
    let found: Value = serde_json::from_str(text(&found)).unwrap();
    assert_eq!(found[0]["name"], "echo");
    assert_eq!(
        text(&http.call("search_tools", json!({"query": "zzz"})).await).split('.').next(),
        Some("No tool fits these words")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_said_so_that_a_model_can_act() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let broken = http.call("main__fail", json!({})).await;
    assert_eq!((text(&broken), &broken["isError"]), ("it is broken", &json!(true)));
    // The fleet refuses what the list hides, and records it.
    let refused = http.call("secret", json!({})).await;
    assert_eq!(refused["isError"], true);
    let outcome = &refused["_meta"]["toolfleet/outcome"];
    assert_eq!((&outcome["code"], &outcome["mayHaveRun"]), (&json!("access_denied"), &json!("no")));
    assert!(text(&refused).contains("did not run"), "{refused}");
    let unknown = http.ask("tools/call", json!({"name": "nothing"})).await;
    assert_eq!((unknown.status, &unknown.body["error"]["code"]), (200, &json!(-32602)));
    let wrong = http.ask("tools/call", json!({"name": "echo", "arguments": [1]})).await;
    assert_eq!(wrong.body["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_before_the_answer() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let params = json!({"name": "take_long", "arguments": {}, "_meta": {"progressToken": "p1"}});
    let response = http.post(&http.message("tools/call", params)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let events = response.text().await.unwrap();
    let messages: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let (last, before) = messages.split_last().unwrap();
    assert_eq!(last["result"]["content"][0]["text"], "done");
    assert!(
        before
            .iter()
            .all(|one| one["method"] == "notifications/progress" && one["params"]["progressToken"] == "p1"),
        "{events}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_a_second_for_a_list_and_the_list_is_read_all_the_same() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let held = rig.mcp.hold_for("tools/list");
    let answered = std::time::Duration::from_secs(8);
    let call = http.call("echo", json!({"text": "x"}));
    assert_eq!(text(&tokio::time::timeout(answered, call).await.unwrap()), "x");
    // Headers that repeat arguments are compared before anything is run.
    let params = json!({"name": "main__fail", "arguments": {}});
    let hurried = rig.gateway(crate::rig::impatient()).await;
    let repeating = Http::modern(&hurried).with("mcp-param-region", "eu").ask("tools/call", params).await;
    assert_eq!(repeating.body["error"]["code"], -32603, "{repeating:?}");
    assert_eq!(rig.mcp.executions("fail"), 0);
    rig.mcp.arrived("tools/list", 1).await;
    drop(held);
    assert!(!http.result("tools/list", json!({})).await["_meta"].to_string().contains("unlisted"));
    assert_eq!(rig.mcp.requests_of("tools/list").len(), 2, "each gateway read the list once");
}
