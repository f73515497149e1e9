//! Tools that are not registered, on servers that give no list.

use serde_json::{Value, json};
use toolfleet_core::call::HeldReason;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use crate::rig::{Rig, limits};

fn call(id: &str, server: &str) -> String {
    json!({"v": 1, "call_id": id, "tenant": "acme", "server": server, "name": "anything", "arguments": {}})
        .to_string()
}

fn with_servers(rig: &Rig, servers: &[Value]) -> Value {
    let mut catalog = rig.catalog();
    catalog["servers"].as_array_mut().unwrap().extend_from_slice(servers);
    catalog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unregistered_tool_of_a_missing_command_ends_at_once() {
    let rig = Rig::new().await;
    let servers = [
        json!({"id": "nowhere", "command": "/no/such/program", "discover": true}),
        json!({"id": "elsewhere", "command": "sh", "cwd": "/no/such/folder", "discover": true}),
    ];
    let context = rig.fleet_of(with_servers(&rig, &servers), limits(), None).await;
    for (server, words) in [("nowhere", "No such file"), ("elsewhere", "`/no/such/folder`")] {
        rig.send(call(server, server)).await;
        rig.deliver(&context).await;
        let seen = rig.outcome(server).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("server_unreachable")), "{server}");
        assert_eq!(seen.may_have_run, Some(MayHaveRun::No));
        assert!(seen.message.contains(words) && seen.message.contains("catalog"), "{}", seen.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unregistered_tools_wait_for_a_silent_server_like_others() {
    let rig = Rig::new().await;
    let servers = [
        json!({"id": "away", "url": "http://127.0.0.1:9/mcp", "discover": true}),
        json!({"id": "ends", "command": "false", "discover": true}),
    ];
    let context = rig.fleet_of(with_servers(&rig, &servers), limits(), None).await;
    for (server, words) in [("away", "Connection refused"), ("ends", "exit code 1")] {
        let begun = rig.clock.now_ms();
        rig.send(call(server, server)).await;
        let mut held = None;
        while rig.row(server).await.is_none_or(|row| row.finished.is_none()) {
            match rig.receive(&context).await {
                Some(delivery) => toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await,
                None => rig.clock.advance_ms(1_000),
            }
            held = rig.row(server).await.and_then(|row| row.held().cloned()).or(held);
        }
        let held = held.expect("the row says what the call waits for");
        assert_eq!(held.reason, HeldReason::ServerUnreachable, "{server}");
        assert!(held.last_fault.unwrap().contains(words), "{server}");
        let seen = rig.outcome(server).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("server_unreachable")), "{server}");
        assert!(seen.message.contains(words), "{}", seen.message);
        let waited_ms = rig.clock.now_ms() - begun;
        assert!((120_000..150_000).contains(&waited_ms), "{server}: {waited_ms} ms");
    }
}
