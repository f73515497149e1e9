//! Reading when servers, workers or gateways fail, or take long.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;
use toolfleet_testkit::{MockFault, ToolAnswer};

use crate::reading::{furnish, one_server, refused};
use crate::rig::{Http, Rig, Served, answered, gateway_of, open};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_read_is_named() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let failure = MockFault::Rpc {
        status: 200,
        code: -32000,
        message: "down".into(),
        data: Value::Null,
        with_id: true,
    };
    rig.mcp.always_for("resources/list", failure);
    let served = rig.gateway(Limits::default()).await;
    let list = Http::modern(&served).result("resources/list", json!({})).await;
    assert_eq!(
        (&list["_meta"]["toolfleet/unlistedServers"], &list["ttlMs"]),
        (&json!(["main"]), &json!(0)),
        "{list}"
    );
    rig.mcp.behave();
    // A server that gives one cursor again and again is read to there.
    rig.mcp.method("prompts/list", |_| json!({"prompts": [{"name": "p"}], "nextCursor": "again"}));
    let list = Http::modern(&served).result("prompts/list", json!({})).await;
    assert_eq!(
        (&list["prompts"], &list["_meta"]["toolfleet/cutServers"]),
        (&json!([{"name": "p"}]), &json!(["main"])),
        "{list}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_read_again() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    for fault in [MockFault::CloseBeforeAnswer, MockFault::CutAnswer] {
        rig.mcp.next_for("resources/read", fault);
        assert_eq!(
            http.result("resources/read", json!({"uri": "img:1"})).await["contents"][0]["uri"],
            "img:1"
        );
    }
    assert_eq!(rig.mcp.executions("resources/read"), 4);
    rig.mcp.always_for("prompts/get", MockFault::Garbage("no JSON".into()));
    let wrong = refused(&http, "prompts/get", json!({"name": "greet"})).await;
    assert_eq!(
        (&wrong["code"], &wrong["data"]["toolfleet/outcome"]["code"]),
        (&json!(-32603), &json!("invalid_answer")),
        "{wrong}"
    );
    let raw = |text: &str| ToolAnswer::Raw(text.to_owned());
    rig.mcp.method("resources/read", move |_| raw(r#"{"no": "contents"}"#));
    assert_eq!(refused(&http, "resources/read", json!({"uri": "img:1"})).await["code"], -32603);
    rig.mcp.method("resources/read", |_| ToolAnswer::Error { code: 7, message: "not today".into() });
    let wrong = refused(&http, "resources/read", json!({"uri": "img:1"})).await;
    assert!(wrong["code"] == 7 && wrong["message"].as_str().unwrap().contains("not today"), "{wrong}");
}

/// 3 MB of base64 that do not compress.
pub(crate) fn incompressible() -> String {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state >> 58) as usize],
        )
    })
    .take(3_000_000)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_are_too_large_for_a_row_are_read_whole() {
    let rig = Rig::start_with(one_server).await;
    let blob = incompressible();
    let contents = json!({"contents": [{"uri": "img:large", "mimeType": "image/png", "blob": blob}]});
    let answer = contents.clone();
    rig.mcp.method("resources/read", move |_| answer.clone());
    let served = rig.gateway(Limits::default()).await;
    let read = Http::modern(&served).result("resources/read", json!({"uri": "img:large"})).await;
    assert!(read["contents"] == contents["contents"], "3 MB come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_killed_gateway_is_answered_by_another() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (catalog, client) = (rig.catalog.clone(), rig.client());
    let first: Served =
        runtime.spawn(gateway_of(client, catalog, Limits::default(), open("acme"))).await.unwrap();
    let held = rig.mcp.hold_for("resources/read");
    let http = Http::modern(&first);
    let waiting = tokio::spawn(http.post(&http.message("resources/read", json!({"uri": "img:1"}))).send());
    rig.mcp.arrived("resources/read", 1).await;
    runtime.shutdown_background();
    assert!(waiting.await.unwrap().is_err(), "the connection is cut");
    drop(held);
    let second = rig.gateway(Limits::default()).await;
    let read = Http::modern(&second).result("resources/read", json!({"uri": "img:1"})).await;
    assert_eq!(read["contents"][0]["uri"], "img:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_killed_worker_is_read_by_another() {
    let rig = Rig::without_worker(one_server).await;
    furnish(&rig.mcp);
    let doomed = rig.doomed_worker();
    let served = rig.gateway(Limits::default()).await;
    let held = rig.mcp.hold_for("resources/read");
    let http = Http::modern(&served);
    let waiting = tokio::spawn(answered(http.post(&http.message("resources/read", json!({"uri": "img:1"})))));
    rig.mcp.arrived("resources/read", 1).await;
    doomed.shutdown_background();
    let _second = rig.worker().await;
    drop(held);
    let read = waiting.await.unwrap();
    assert_eq!(read.body["result"]["contents"][0]["uri"], "img:1", "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_says_so_and_goes_no_further() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let served = rig.gateway(crate::rig::impatient()).await;
    let held = rig.mcp.hold_for("resources/read");
    for version in ["2026-07-28", "2025-11-25"] {
        let wrong = refused(&Http::of(&served, version), "resources/read", json!({"uri": "img:1"})).await;
        assert!(
            wrong["code"] == -32603 && wrong["message"].as_str().unwrap().contains("Send it again"),
            "{wrong}"
        );
    }
    // Nobody waits for either: the worker hangs up.
    rig.mcp.hung_up(2).await;
    drop(held);
}
