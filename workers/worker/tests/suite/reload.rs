//! Reload of the catalog in a running worker: a valid one is used, an invalid one changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use toolfleet_aws::Tables;
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Place, REFRESH, load};
use toolfleet_core::ids::ToolId;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_worker::catalog_handle::Reloads;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::services::catalog_reload::Watcher;

use crate::rig::{Rig, request};

/// A folder of one test's own, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("toolfleet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl ToString) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

fn with_tool(rig: &Rig, id: &str) -> Value {
    let mut catalog = rig.catalog();
    catalog["tools"].as_array_mut().unwrap().push(json!({"id": id, "server": "mock", "name": "safe"}));
    catalog
}

fn knows(context: &WorkerContext, tool: &str) -> bool {
    context.catalog.current().tool(&ToolId::parse(tool).unwrap()).is_some()
}

fn reloads(taken: u64, refused: u64) -> Reloads {
    Reloads { taken, refused }
}

async fn ended(rig: &Rig, context: &Arc<WorkerContext>, id: &str, tool: &str) -> OutcomeKind {
    rig.send(request(id, tool).to_string()).await;
    rig.settle_with(context).await;
    rig.outcome(id).await.kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_catalog_is_loaded_and_an_invalid_one_is_not() {
    let rig = Rig::new().await;
    let folder = Folder::new("reload");
    let path = folder.write("catalog.json", rig.catalog());
    let context = rig.context(None).await;
    let mut watcher = Watcher::new(context.clone(), path.clone().into());
    watcher.look(false).await;
    assert_eq!(context.catalog.reloads(), reloads(0, 0), "what has not changed is not taken again");
    assert_eq!(ended(&rig, &context, "before", "fresh").await, OutcomeKind::Refused);

    folder.write("catalog.json", with_tool(&rig, "fresh"));
    watcher.look(false).await;
    assert_eq!(context.catalog.reloads(), reloads(1, 0));
    assert_eq!(ended(&rig, &context, "after", "fresh").await, OutcomeKind::Succeeded);

    // Half written, wrong, and gone: each is counted once, and calls run on under the old one.
    let whole = with_tool(&rig, "later").to_string();
    folder.write("catalog.json", &whole[..whole.len() / 2]);
    watcher.look(false).await;
    watcher.look(true).await;
    assert_eq!(context.catalog.reloads(), reloads(1, 1), "one bad version is counted once");
    let mut wrong = with_tool(&rig, "later");
    wrong["tools"][0]["server"] = json!("nowhere");
    folder.write("catalog.json", wrong);
    watcher.look(false).await;
    std::fs::remove_file(&path).unwrap();
    watcher.look(false).await;
    assert_eq!(context.catalog.reloads(), reloads(1, 3));
    assert_eq!(ended(&rig, &context, "during", "fresh").await, OutcomeKind::Succeeded);

    folder.write("catalog.json", whole);
    watcher.look(false).await;
    assert_eq!(context.catalog.reloads(), reloads(2, 3));
    assert!(knows(&context, "later") && !knows(&context, "nowhere"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_compiled_at_first_use_and_kept_over_a_reload() {
    let rig = Rig::new().await;
    let folder = Folder::new("schemas");
    let schema = |pattern: &str| json!({"properties": {"x": {"type": "string", "pattern": pattern}}});
    let catalog = |changed: &str| {
        let mut catalog = rig.catalog();
        for (id, pattern) in [("same", "^[a-z]+$"), ("changes", changed)] {
            let tool = json!({"id": id, "server": "mock", "name": "safe", "input_schema": schema(pattern)});
            catalog["tools"].as_array_mut().unwrap().push(tool);
        }
        catalog
    };
    let context = rig.context(None).await;
    let path = folder.write("catalog.json", catalog("^1+$"));
    let mut watcher = Watcher::new(context.clone(), path.into());
    watcher.look(false).await;
    let compiled = || context.schemas.figures().compiled;
    assert_eq!((context.catalog.reloads(), compiled()), (reloads(1, 0), 0), "nothing is compiled at load");
    for (id, tool, sum) in [("a1", "same", 1), ("a2", "changes", 2), ("a3", "same", 2)] {
        assert_eq!(ended(&rig, &context, id, tool).await, OutcomeKind::Succeeded);
        assert_eq!(compiled(), sum, "{id}");
    }

    folder.write("catalog.json", catalog("^2+$"));
    watcher.look(false).await;
    for (id, tool, sum) in [("b1", "same", 2), ("b2", "changes", 3)] {
        assert_eq!(ended(&rig, &context, id, tool).await, OutcomeKind::Succeeded);
        assert_eq!(compiled(), sum, "{id}");
    }

    // A mistake in a schema is found at load, and the version before stays.
    folder.write("catalog.json", catalog("[z-a]"));
    watcher.look(false).await;
    assert_eq!(context.catalog.reloads(), reloads(2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_keeps_the_catalog_it_arrived_under() {
    let rig = Rig::new().await;
    let folder = Folder::new("keeps");
    let path = folder.write("catalog.json", rig.catalog());
    let context = rig.context(None).await;
    let hold = rig.mcp.hold();
    let mut body = request("c1", "unsafe");
    body["reply"] = json!({"sqs_queue_url": rig.local.queue_url("toolfleet-replies")});
    rig.send(body.to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let call = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;

    // The next version knows neither the tool nor the reply queue.
    let mut next = rig.catalog();
    next["tools"] = json!([]);
    next["reply_queues"] = json!([]);
    folder.write("catalog.json", next);
    Watcher::new(context.clone(), path.into()).look(false).await;
    assert!(!knows(&context, "unsafe"));
    drop(hold);
    call.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let notices = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    assert_eq!(notices.receive(1, 0, 30).await.unwrap().len(), 1, "its notice goes where it was allowed to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogs_and_sections_from_secrets_are_reloaded() {
    let rig = Rig::new().await;
    let folder = Folder::new("secrets");
    let agent = |name: &str| {
        json!({"mcp_url": rig.mcp.url(), "agent_name": name, "cognito_user_pool_id": "us-east-1_a",
               "cognito_client_id": "c", "cognito_username": "u", "cognito_password": "hunter2"})
    };
    secret(
        &rig,
        "CreateSecret",
        json!({"Name": "agents", "SecretString": json!([agent("One")]).to_string()}),
    )
    .await;
    folder.write("pika.json", json!([{"toolId": "p", "executionType": "mcp", "url": rig.mcp.url()}]));
    let mut catalog = rig.catalog();
    catalog["idp"] = json!("secret://agents");
    catalog["pika"] = json!("pika.json");
    let path = folder.write("catalog.json", catalog);
    let context = rig.context(None).await;
    let mut watcher = Watcher::new(context.clone(), path.into());
    watcher.look(false).await;
    assert!(knows(&context, "p"), "a file is looked for beside the catalog");
    let servers = |context: &WorkerContext| {
        context.catalog.current().servers().iter().map(|s| s.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(servers(&context), ["mock", "one", "p"]);

    secret(&rig, "PutSecretValue", json!({"SecretId": "agents", "SecretString": agent("Two").to_string()}))
        .await;
    // Not asked anew within a second of the last reading: this look may still find the old text, a later one may not.
    settled(&mut watcher, || context.catalog.reloads().refused == 1).await;
    assert_eq!(
        servers(&context),
        ["mock", "one", "p"],
        "a single object is refused, the agents before it stay"
    );
    secret(&rig, "PutSecretValue", json!({"SecretId": "agents", "SecretString": "[]"})).await;
    settled(&mut watcher, || context.catalog.reloads().taken == 2).await;
    assert_eq!(servers(&context), ["mock", "p"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_is_a_catalog_once_somebody_may_speak() {
    let rig = Rig::new().await;
    let array = json!([{"toolId": "p", "executionType": "mcp", "url": rig.mcp.url()}]).to_string();
    secret(&rig, "CreateSecret", json!({"Name": "tools", "SecretString": array})).await;
    let mut config = CatalogConfig {
        place: Place::of("secret://tools"),
        refresh: REFRESH,
        tenants: None,
        stdio: None,
        local_environment: None,
    };
    let stores = rig.stores(&rig.direct);
    let catalogs = rig.direct.catalogs(&Tables::with_prefix("toolfleet"));
    let nobody = load(&config, &stores).await;
    assert!(matches!(nobody, Err(LoadError::NamesNobody)), "{nobody:?}");
    config.tenants = Some(vec!["acme".into()]);
    let catalog: Catalog = load(&config, &stores).await.unwrap();
    assert_eq!(catalog.tools().len(), 1);
    catalogs.write("main", &array).await.unwrap();
    config.place = Place::of("table://main");
    assert_eq!(load(&config, &stores).await.unwrap().tools().len(), 1, "a row is as good as a secret");
    catalogs.write("main", "[]").await.unwrap();
    assert!(load(&config, &stores).await.unwrap().tools().is_empty());
    config.place = Place::of("table://nowhere");
    let missing = load(&config, &stores).await.unwrap_err().to_string();
    assert!(missing.contains("toolfleet-catalogs has no row `nowhere`"), "{missing}");
    config.place = Place::of("secret://nowhere");
    let missing = load(&config, &stores).await.unwrap_err().to_string();
    assert!(missing.contains("nowhere"), "{missing}");
}

/// Looks until `done`; a secret is asked for anew at most once a second.
async fn settled(watcher: &mut Watcher, done: impl Fn() -> bool) {
    for _ in 0..100 {
        watcher.look(true).await;
        if done() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the watcher did not see the change");
}

/// One request to the local Secrets Manager, which the workers themselves only read from.
async fn secret(rig: &Rig, operation: &str, body: Value) {
    let host = rig.local.secretsmanager_url().trim_start_matches("http://").trim_end_matches('/');
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: secretsmanager.{operation}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
