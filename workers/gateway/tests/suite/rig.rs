//! Embedded endpoints, a worker, a scripted MCP server with a few tools, and gateways in front of them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use toolfleet_catalog::Catalog;
use toolfleet_client::{Aws, AwsOptions, Client, Now, Tables, system_clock};
use toolfleet_config::egress::EgressConfig;
use toolfleet_config::payload::PayloadConfig;
use toolfleet_core::ids::{Tenant, WorkerId};
use toolfleet_core::time::Timestamp;
use toolfleet_gateway::{Authenticator, Bounds, Gateway, Hosts, Limits, Parts, Sealer, SessionSource, serve};
use toolfleet_local::{LocalEndpoints, LocalOptions, REGION};
use toolfleet_testkit::{MockMcp, ProtocolRevision};
use toolfleet_worker::queues::QueueUrls;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{ServiceOptions, Worker, WorkerConfig};

/// The bucket of large results, as the template names it.
const BUCKET: &str = "toolfleet-payloads-000000000000-us-east-1";

/// A key that all gateways of a test have: 32 bytes of `k`.
const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

pub(crate) struct Rig {
    local: LocalEndpoints,
    aws: Aws,
    pub(crate) mcp: MockMcp,
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
    _worker: Option<Worker>,
}

/// A gateway that serves until it is dropped.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the catalog of a rig registers and publishes.
fn catalog(url: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": url, "discover": true, "progress": true, "trusted": true}],
        "tools": [
            {"id": "echo", "server": "main", "idempotent": true},
            {"id": "secret", "server": "main", "name": "echo", "access": [{"user_roles": ["admin"]}]},
            {"id": "stopped", "server": "main", "name": "echo", "paused": true},
            {"id": "ask", "server": "main"},
            {"id": "long", "server": "main", "progress": true},
        ],
        "tenants": {"queue": ["*"]},
        "publish": {"tools": {"echo": true, "secret": true, "stopped": true, "ask": true, "long": "take_long"}, "servers": {"main": true}},
    })
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(catalog).await
    }

    /// With the catalog that is made of the server's address.
    pub(crate) async fn start_with(catalog: impl FnOnce(&str) -> Value) -> Self {
        let rig = Box::pin(Self::without_worker(catalog)).await;
        let worker = Box::pin(rig.worker()).await;
        Self { _worker: Some(worker), ..rig }
    }

    /// A worker more.
    pub(crate) async fn worker(&self) -> Worker {
        let catalog = Catalog::clone(&self.catalog.load());
        Box::pin(start_worker(&self.local, self.aws.clone(), catalog)).await
    }

    /// The same of a runtime of its own: ended, it dies as a killed process does.
    pub(crate) fn doomed_worker(&self) -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let catalog = Catalog::clone(&self.catalog.load());
        let (sqs, endpoints) = (self.local.queue_url("toolfleet-calls"), Endpoints::of(&self.local));
        runtime.spawn(async move {
            let worker = Box::pin(start_worker_at(&sqs, endpoints.connect().await, catalog)).await;
            std::future::pending::<()>().await;
            drop(worker);
        });
        runtime
    }

    /// Without a worker.
    pub(crate) async fn without_worker(catalog: impl FnOnce(&str) -> Value) -> Self {
        let mcp = MockMcp::start(ProtocolRevision::Modern).await;
        let echo = |arguments: &Value| json!({"content": [{"type": "text", "text": arguments["text"]}], "structuredContent": arguments});
        mcp.tool("echo", echo)
            .schema(json!({"type": "object", "properties": {"text": {"type": "string"}}}))
            .description("Says it again.")
            .listing("title", json!("Echo"));
        mcp.tool(
            "fail",
            |_: &Value| json!({"content": [{"type": "text", "text": "it is broken"}], "isError": true}),
        );
        mcp.tool("long", |_: &Value| json!({"content": [{"type": "text", "text": "done"}]})).progress(3);
        let question = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Who?",
            "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}});
        let greet = |_: &Value| json!({"content": [{"type": "text", "text": "hello"}]});
        mcp.tool("ask", greet).asks(json!({"who": question}), "the server's own state");
        let options = LocalOptions {
            parameters: [("PriorityQueues".to_owned(), "true".to_owned())].into(),
            ..LocalOptions::default()
        };
        let local = LocalEndpoints::start(options).await.unwrap();
        let aws = Endpoints::of(&local).connect().await;
        let catalog = Catalog::parse(&catalog(&mcp.url()).to_string()).unwrap();
        Self { local, aws, mcp, catalog: Arc::new(ArcSwap::from_pointee(catalog)), _worker: None }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_without_bucket().with_payload_bucket(BUCKET)
    }

    pub(crate) fn client_without_bucket(&self) -> Client {
        let queue = self.local.queue_url("toolfleet-calls");
        Client::new(&self.aws, queue, &Tables::with_prefix("toolfleet"), system_clock())
    }

    /// A client that can read and store everything, and send nothing: its queue is not there.
    pub(crate) fn client_without_queue(&self) -> Client {
        let queue = self.local.queue_url("no-such-queue");
        let client = Client::new(&self.aws, queue, &Tables::with_prefix("toolfleet"), system_clock());
        client.with_payload_bucket(BUCKET)
    }

    /// A client that finds the table of calls and the bucket at these addresses.
    pub(crate) async fn client_at(&self, dynamodb: Option<&str>, s3: Option<&str>) -> Client {
        let Endpoints([sqs, own_dynamodb, secrets, own_s3]) = Endpoints::of(&self.local);
        let dynamodb = dynamodb.map_or(own_dynamodb, str::to_owned);
        let endpoints = Endpoints([sqs, dynamodb, secrets, s3.map_or(own_s3, str::to_owned)]);
        let queue = self.local.queue_url("toolfleet-calls");
        Client::new(&endpoints.connect().await, queue, &Tables::with_prefix("toolfleet"), system_clock())
    }

    /// Until when the only open request counts in a concurrency limit.
    pub(crate) async fn permit_ends(&self, limit: &str) -> Option<Timestamp> {
        let permits = self.aws.fleet(&Tables::with_prefix("toolfleet")).permits(&limit.parse().unwrap());
        permits.read().await.unwrap()?.entries.values().copied().next()
    }

    pub(crate) fn dynamodb_url(&self) -> &str {
        self.local.dynamodb_url()
    }

    /// A gateway of these bounds, without tokens.
    pub(crate) async fn gateway(&self, limits: Limits) -> Served {
        self.gateway_for(limits, open("acme")).await
    }

    pub(crate) async fn gateway_for(&self, limits: Limits, authenticator: Authenticator) -> Served {
        gateway_of(self.client(), Arc::clone(&self.catalog), limits, authenticator).await
    }
}

/// A gateway in front of that fleet.
pub(crate) async fn gateway_of(
    client: Client,
    catalog: Arc<ArcSwap<Catalog>>,
    limits: Limits,
    authenticator: Authenticator,
) -> Served {
    gateway_at(system_clock(), client, catalog, limits, authenticator).await
}

/// The same, with that clock.
pub(crate) async fn gateway_at(
    now: Now,
    client: Client,
    catalog: Arc<ArcSwap<Catalog>>,
    limits: Limits,
    authenticator: Authenticator,
) -> Served {
    let sealer = Sealer::parse(KEY).unwrap();
    let parts = Parts { client, catalog, authenticator, sealer, limits, now };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let hosts = Hosts { loopback: true, ..Hosts::default() };
    let gateway = Arc::new(Gateway::new(parts));
    let serving =
        tokio::spawn(
            async move { serve(gateway, listener, (hosts, Bounds::of_one_machine()), stopped).await },
        );
    Served { url, stop, serving }
}

/// Everybody is that tenant.
pub(crate) fn open(tenant: &str) -> Authenticator {
    let session = SessionSource::Header("x-conversation".parse().unwrap());
    Authenticator::Open { tenant: Tenant::parse(tenant).unwrap(), session }
}

/// Bounds under which a held call goes on soon. Sending takes a part of them, on a busy machine a large one.
pub(crate) fn impatient() -> Limits {
    Limits { wait: Duration::from_secs(1), task_after: Duration::from_secs(1), ..Limits::default() }
}

/// Where the embedded endpoints are.
struct Endpoints([String; 4]);

impl Endpoints {
    fn of(local: &LocalEndpoints) -> Self {
        let urls = [local.sqs_url(), local.dynamodb_url(), local.secretsmanager_url(), local.s3_url()];
        Self(urls.map(str::to_owned))
    }

    async fn connect(&self) -> Aws {
        let [sqs, dynamodb, secrets, s3] = self.0.clone();
        Aws::connect(AwsOptions {
            region: Some(REGION.to_owned()),
            sqs_endpoint: Some(sqs),
            dynamodb_endpoint: Some(dynamodb),
            secrets_endpoint: Some(secrets),
            s3_endpoint: Some(s3),
            static_credentials: Some(("rig".to_owned(), "rig".to_owned())),
            ..AwsOptions::default()
        })
        .await
    }
}

async fn start_worker(local: &LocalEndpoints, aws: Aws, catalog: Catalog) -> Worker {
    Box::pin(start_worker_at(&local.queue_url("toolfleet-calls"), aws, catalog)).await
}

async fn start_worker_at(queue: &str, aws: Aws, catalog: Catalog) -> Worker {
    let none = |name: &str| (name == "TOOLFLEET_PAYLOAD_BUCKET").then(|| BUCKET.to_owned());
    // What a killed worker held comes free soon.
    let short = |name: &str| (name == "TOOLFLEET_LEASE_MS").then(|| "5000".to_owned());
    let config = WorkerConfig {
        protection: None,
        lambda: None,
        http: None,
        queue_urls: QueueUrls {
            high: Some(format!("{queue}-high")),
            low: Some(format!("{queue}-low")),
            normal: queue.to_owned(),
        },
        dead_letter_queue_url: Some(format!("{queue}-dlq")),
        reap_after: Duration::ZERO,
        table_prefix: "toolfleet".to_owned(),
        history_shards: 1,
        payloads: PayloadConfig::read(&none).unwrap(),
        catalog: std::path::PathBuf::from("catalog.json").into(),
        worker: WorkerId::parse("rig").unwrap(),
        limits: toolfleet_worker::Limits::read(&short).unwrap(),
        egress_config: EgressConfig::default().with_loopback(),
    };
    let services = ServiceOptions { reload: None, http: None };
    Box::pin(Worker::start(&config, aws, catalog, Meters::none(), services)).await.unwrap()
}

/// An HTTP client that speaks the protocol by hand.
pub(crate) struct Http {
    client: reqwest::Client,
    url: String,
    version: &'static str,
    /// Headers of every request.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) capabilities: Value,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Http {
    pub(crate) fn modern(served: &Served) -> Self {
        Self::of(served, "2026-07-28")
    }

    pub(crate) fn of(served: &Served, version: &'static str) -> Self {
        let (client, url) = (reqwest::Client::new(), served.url.clone());
        Self { client, url, version, headers: Vec::new(), capabilities: json!({}) }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with_tasks(mut self) -> Self {
        self.capabilities = json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
        self
    }

    /// A request of the method, whole.
    pub(crate) fn message(&self, method: &str, mut params: Value) -> Value {
        if self.version == "2026-07-28" {
            let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
            meta["io.modelcontextprotocol/protocolVersion"] = json!(self.version);
            meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        }
        json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    }

    pub(crate) fn post(&self, message: &Value) -> reqwest::RequestBuilder {
        let request = self.client.post(&self.url).header("content-type", "application/json");
        let mut request = request
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", self.version);
        if self.version == "2026-07-28" {
            request = request.header("mcp-method", message["method"].as_str().unwrap());
            let named = ["name", "taskId", "uri"].into_iter().find_map(|one| message["params"][one].as_str());
            if let Some(name) = named {
                request = request.header("mcp-name", name);
            }
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(message.to_string())
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Answered {
        answered(self.post(&self.message(method, params))).await
    }

    /// The result of a request that has one.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let answered = self.ask(method, params).await;
        assert!(answered.body["result"].is_object(), "{answered:?}");
        answered.body["result"].clone()
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    pub(crate) async fn notify(&self, method: &str, params: Value) -> u16 {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        answered(self.post(&message)).await.status
    }
}

pub(crate) async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answered { status, headers, body }
}

/// The first text of a result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}
