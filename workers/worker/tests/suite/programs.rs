//! Servers that are programs, through SQS and a worker: called, killed, drained, and isolated.

use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_config::catalog::{CatalogConfig, Place, REFRESH, load};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{ScriptedProgram, is_there};
use toolfleet_worker::ServiceOptions;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::start;

use crate::credentials::store;
use crate::rig::{CountAcknowledged, Rig, limits, request};

/// The rig's catalog with the program as a server of its own.
fn with_program(rig: &Rig, script: &ScriptedProgram) -> Value {
    let mut catalog = rig.catalog();
    let server = json!({"id": "files", "command": script.command(), "args": script.args()});
    catalog["servers"].as_array_mut().unwrap().push(server);
    for (tool, name, idempotent) in [("read", "echo", true), ("pay", "pay", false)] {
        let tool = json!({"id": tool, "server": "files", "name": name, "idempotent": idempotent, "timeout_ms": 15000});
        catalog["tools"].as_array_mut().unwrap().push(tool);
    }
    catalog
}

async fn context(rig: &Rig, script: &ScriptedProgram) -> Arc<WorkerContext> {
    rig.fleet_of(with_program(rig, script), limits(), None).await
}

fn said(content: &str) -> String {
    let content: Value = serde_json::from_str(content).unwrap();
    content["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_runs_on_a_program_and_each_conversation_has_its_own() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&[]));
    let context = context(&rig, &script).await;
    let mut heard = Vec::new();
    for (id, session) in [("c1", None), ("c2", Some("red")), ("c3", Some("blue")), ("c4", Some("red"))] {
        let mut call = request(id, "pay");
        if let Some(session) = session {
            call["session"] = json!(session);
        }
        rig.send(call.to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{id}: {}", seen.message);
        heard.push(said(&seen.content.unwrap()));
    }
    assert_eq!(script.count("start"), 3, "{heard:?}");
    let process = |said: &str| said.split(' ').next().unwrap().to_owned();
    assert_eq!(process(&heard[1]), process(&heard[3]), "{heard:?}");
    assert!(heard[3].ends_with(" 2"), "{heard:?}");
    context.mcp.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_is_called_again_only_if_that_is_safe() {
    for (tool, kind, calls) in [("read", OutcomeKind::Succeeded, 2), ("pay", OutcomeKind::OutcomeUnknown, 1)]
    {
        let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["hang-once"]));
        let context = context(&rig, &script).await;
        rig.send(request("c1", tool).to_string()).await;
        let kill = async {
            script.wrote("call", 1).await;
            let killed =
                std::process::Command::new("kill").args(["-9", &script.pids()[0].to_string()]).status();
            assert!(killed.unwrap().success());
        };
        tokio::join!(rig.settle_with(&context), kill);
        let seen = rig.outcome("c1").await;
        assert_eq!(seen.kind, kind, "{tool}: {}", seen.message);
        if kind == OutcomeKind::OutcomeUnknown {
            assert_eq!((seen.code, seen.may_have_run), (Some("answer_lost"), Some(MayHaveRun::Unknown)));
            assert!(seen.message.contains("signal 9"), "{}", seen.message);
        }
        assert_eq!(script.count("call"), calls, "{tool}");
        // The next call finds a program again, whatever became of the one before.
        rig.send(request("c2", "pay").to_string()).await;
        rig.settle_with(&context).await;
        assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded, "{tool}");
        context.mcp.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_at_once_is_a_server_that_is_away() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["crash-at-start"]));
    let context = context(&rig, &script).await;
    rig.send(request("c1", "pay").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("server_unreachable")), "{}", seen.message);
    assert_eq!(seen.may_have_run, Some(MayHaveRun::No));
    assert!(seen.message.contains("no licence found"), "{}", seen.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_leaves_no_process_behind() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["grandchild", "ignores-term"]));
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.fleet_of(with_program(&rig, &script), limits(), Some(gone.clone())).await;
    for id in ["c1", "c2"] {
        let mut call = request(id, "pay");
        call["session"] = json!(id);
        rig.send(call.to_string()).await;
    }
    let worker = tokio::spawn(start::run(context.clone(), ServiceOptions::default()));
    gone.reached(2).await;
    assert_eq!((script.count("start"), context.mcp.programs()), (2, 2));
    context.shutdown.begin(std::time::Duration::from_secs(5));
    worker.await.unwrap().unwrap();
    let left: Vec<_> = script.pids().into_iter().filter(|pid| is_there(*pid)).collect();
    assert!(left.is_empty() && context.mcp.programs() == 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_programs_secrets_are_variables_and_echoes_are_not_stored() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["echo-env"]));
    store(&rig, "crm", r#"{"key": "sk-live-12345"}"#).await;
    let mut catalog = with_program(&rig, &script);
    catalog["servers"][1]["env"] = json!({"CRM_KEY": "secret://crm#key", "MODE": "test"});
    let context = rig.fleet_of(catalog.clone(), limits(), None).await;
    rig.send(request("c1", "pay").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    let content = seen.content.unwrap_or_default();
    assert!(content.contains("CRM_KEY=[redacted]") && content.contains("MODE=test"), "{content}");
    let audit = serde_json::to_string(&rig.audit_of("c1", AuditKind::Call).await).unwrap();
    assert!(!content.contains("sk-live") && !audit.contains("sk-live"), "{content} {audit}");

    // Another value is another environment, and so another process, without a restart of the worker.
    store(&rig, "crm", r#"{"key": "sk-live-67890"}"#).await;
    let fresh = rig.fleet_of(catalog.clone(), limits(), None).await;
    rig.send(request("c2", "pay").to_string()).await;
    rig.settle_with(&fresh).await;
    assert!(!rig.outcome("c2").await.content.unwrap_or_default().contains("sk-live"));

    catalog["servers"][1]["env"] = json!({"CRM_KEY": "secret://nowhere"});
    let without = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("c3", "pay").to_string()).await;
    rig.settle_with(&without).await;
    let seen = rig.outcome("c3").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("credential_unavailable")));
    assert!(seen.message.contains("nowhere"), "{}", seen.message);
    assert_eq!(script.count("start"), 2);
    context.mcp.close().await;
    fresh.mcp.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_catalogs_start_programs_only_if_the_operator_allows() {
    let rig = Rig::new().await;
    let text = json!({
        "servers": [{"id": "files", "command": "sh"}], "tools": [], "tenants": {"queue": ["acme"]}
    });
    let stores = rig.stores(&rig.direct);
    let catalogs = rig.direct.catalogs(&Tables::with_prefix("toolfleet"));
    catalogs.write("main", &text.to_string()).await.unwrap();
    store(&rig, "catalog", &text.to_string()).await;
    for place in ["table://main", "secret://catalog"] {
        let mut config = CatalogConfig {
            place: Place::of(place),
            refresh: REFRESH,
            tenants: None,
            stdio: None,
            local_environment: None,
        };
        let refused = load(&config, &stores).await.unwrap_err().to_string();
        assert!(refused.contains("servers.files.command: starts a program"), "{place}: {refused}");
        assert!(refused.contains("TOOLFLEET_ALLOW_STDIO=true"), "{place}: {refused}");
        config.stdio = Some(true);
        assert_eq!(load(&config, &stores).await.unwrap().servers().len(), 1, "{place}");
    }
}
