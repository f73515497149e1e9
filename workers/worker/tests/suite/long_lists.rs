//! Listings that are larger than a record, and lists that a server does not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::MockFault;
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;

use crate::rig::{Rig, Seen, limits};

/// As many tools as GitHub's API has operations; what describes them does not compress.
const ENTRIES: usize = 1_224;

fn described(n: usize) -> Value {
    let words: String =
        (0..16).map(|part| hex::encode(Sha256::digest(format!("{n} {part}")))).collect::<Vec<_>>().join(" ");
    json!({"name": format!("p-{n}"), "description": words})
}

async fn worker(rig: &Rig) -> Arc<WorkerContext> {
    let limits = Limits { max_answer_bytes: 16 * 1024 * 1024, ..limits() };
    rig.fleet_of(rig.catalog(), limits, None).await
}

async fn listed(
    rig: &Rig,
    context: &Arc<WorkerContext>,
    id: &str,
    operation: &str,
    arguments: Value,
) -> Seen {
    let body = json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "operation": operation,
        "arguments": arguments});
    rig.send(body.to_string()).await;
    rig.settle_with(context).await;
    rig.outcome(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_too_large_for_a_record_is_paged_by_any_worker() {
    let rig = Rig::new().await;
    let first = Arc::new(AtomicUsize::new(0));
    let begin = Arc::clone(&first);
    rig.mcp.method("prompts/list", move |_| {
        let prompts: Vec<_> = (begin.load(Ordering::Relaxed)..ENTRIES).map(described).collect();
        json!({"prompts": prompts})
    });
    let (mut names, mut cursors, mut arguments) = (Vec::new(), Vec::<String>::new(), json!({}));
    loop {
        // Each part by another worker.
        let context = worker(&rig).await;
        let seen =
            listed(&rig, &context, &format!("part-{}", cursors.len()), "prompts/list", arguments).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
        let part: Value = serde_json::from_str(&seen.content.unwrap()).unwrap();
        names.extend(
            part["prompts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|prompt| prompt["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = part["nextCursor"].as_str() else { break };
        cursors.push(next.to_owned());
        arguments = json!({"cursor": next});
    }
    assert!(cursors.len() >= 2, "{} cursors", cursors.len());
    assert_eq!(names, (0..ENTRIES).map(|n| format!("p-{n}")).collect::<Vec<_>>());

    let context = worker(&rig).await;
    // The list became shorter before the place: it goes on behind the last entry that was given.
    first.store(10, Ordering::Relaxed);
    let seen = listed(&rig, &context, "shorter", "prompts/list", json!({"cursor": cursors[0]})).await;
    let part: Value = serde_json::from_str(&seen.content.unwrap()).unwrap();
    let given = names.iter().position(|name| part["prompts"][0]["name"] == name.as_str()).unwrap();
    assert!(given > 10 && part["prompts"].as_array().unwrap().len() > 10);
    // That entry is gone.
    first.store(ENTRIES - 1, Ordering::Relaxed);
    let seen = listed(&rig, &context, "gone", "prompts/list", json!({"cursor": cursors[0]})).await;
    assert_eq!(seen.code, Some("invalid_arguments"));
    assert!(seen.message.contains("the server's list has changed"), "{}", seen.message);
    // A cursor of another list, and one that is cut off.
    let asked = rig.mcp.requests().len();
    for (id, operation, cursor) in [
        ("other", "resources/list", cursors[0].as_str()),
        ("short", "prompts/list", &cursors[0][..cursors[0].len() - 4]),
        ("made-up", "prompts/list", "toolfleet:x"),
    ] {
        let seen = listed(&rig, &context, id, operation, json!({"cursor": cursor})).await;
        assert_eq!(seen.code, Some("invalid_arguments"), "{id}");
        assert!(seen.message.contains("List again without a cursor"), "{}", seen.message);
    }
    assert_eq!(rig.mcp.requests().len(), asked, "none of these was asked of the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_a_server_does_not_have_is_empty_with_a_note() {
    let rig = Rig::new().await;
    let context = worker(&rig).await;
    for (operation, member) in
        [("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts")]
    {
        rig.mcp.next_for(operation, MockFault::rpc(-32601, "Method not found"));
        let seen = listed(&rig, &context, member, operation, json!({})).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{operation}: {}", seen.message);
        let result: Value = serde_json::from_str(&seen.content.unwrap()).unwrap();
        assert_eq!(result[member], json!([]), "{result}");
        assert!(result["_meta"]["toolfleet/note"].as_str().unwrap().contains(operation), "{result}");
    }
    // Nor does such a server have a tool to call.
    rig.mcp.next_for("tools/list", MockFault::rpc(-32601, "Method not found"));
    let body =
        json!({"v": 1, "call_id": "c1", "tenant": "acme", "server": "mock", "name": "any", "arguments": {}});
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.code, Some("unknown_tool"), "{}", seen.message);
    assert!(seen.message.contains("lists no tools"), "{}", seen.message);
}
