//! Embedded endpoints, a worker, a scripted MCP server with hostile answers, and consoles in front of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use toolfleet_catalog::Catalog;
use toolfleet_client::{Aws, AwsOptions, Client, RequestBuilder, Tables, system_clock};
use toolfleet_config::egress::EgressConfig;
use toolfleet_config::payload::PayloadConfig;
use toolfleet_console::{Access, Bounds, Console, Hosts, Parts, SessionKey, Tokens, serve};
use toolfleet_core::ids::{CallKey, WorkerId};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;
use toolfleet_local::{LocalEndpoints, LocalOptions, REGION};
use toolfleet_testkit::{MockMcp, ProtocolRevision};
use toolfleet_worker::queues::QueueUrls;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{ServiceOptions, Worker, WorkerConfig};

/// The token that sees all tenants, and one that sees `acme` alone.
pub(crate) const ALL: &str = "all-0123456789abcdef0123456789";
pub(crate) const ACME: &str = "acme-0123456789abcdef0123456789";
/// A name of a tool and an answer that want to be more than text.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>\u{202e}\u{7}\"'&";

pub(crate) struct Rig {
    pub(crate) local: LocalEndpoints,
    pub(crate) aws: Aws,
    _mcp: MockMcp,
    _worker: Option<Worker>,
}

/// A console that serves until it is dropped.
pub(crate) struct Served {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn catalog(url: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": url, "trusted": true}, {"id": "gone", "url": "http://127.0.0.1:1/mcp"}],
        "tools": [
            {"id": "echo", "server": "main", "idempotent": true},
            {"id": "fail", "server": "main"},
            {"id": "away", "server": "gone", "name": "x", "idempotent": true},
        ],
        "tenants": {"queue": ["*"]},
    })
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Box::pin(Self::started(true)).await
    }

    /// The same without a worker.
    pub(crate) async fn without_worker() -> Self {
        Box::pin(Self::started(false)).await
    }

    async fn started(works: bool) -> Self {
        let mcp = MockMcp::start(ProtocolRevision::Modern).await;
        mcp.tool(
            "echo",
            |arguments: &Value| json!({"content": [{"type": "text", "text": arguments["text"]}]}),
        );
        let broken = |_: &Value| json!({"content": [{"type": "text", "text": HOSTILE}], "isError": true});
        mcp.tool("fail", broken);
        let local = LocalEndpoints::start(LocalOptions::default()).await.unwrap();
        let aws = connect(&local, local.dynamodb_url()).await;
        let catalog = Catalog::parse(&catalog(&mcp.url()).to_string()).unwrap();
        let worker = match works {
            true => Some(Box::pin(start_worker(&local, aws.clone(), catalog)).await),
            false => None,
        };
        Self { local, aws, _mcp: mcp, _worker: worker }
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.aws, &self.local)
    }

    /// A console whose visitors have the two tokens.
    pub(crate) async fn console(&self) -> Served {
        self.console_of(self.client(), false).await
    }

    pub(crate) async fn console_of(&self, client: Client, by_link: bool) -> Served {
        let tokens = json!({"tokens": [
            {"name": "ann", "token": ALL, "tenants": ["*"]},
            {"name": "bob", "token": ACME, "tenants": ["acme"]},
        ]});
        let access = Access {
            tokens: Tokens::parse(&tokens.to_string()).unwrap(),
            oidc: None,
            key: SessionKey::parse("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=").unwrap(),
            session: Duration::from_secs(3_600),
            by_link,
            secure: false,
        };
        served(client, access, system_clock()).await
    }

    /// Sends a call and waits for its end.
    pub(crate) async fn call(&self, tenant: &str, id: &str, tool: &str, arguments: Value) -> CallKey {
        let request = self.request(tenant, id, tool, arguments);
        let client = self.client();
        let message = client.send(&request, None).await.unwrap();
        client.wait_for_sent(&request, &message, Duration::from_secs(30)).await.unwrap();
        request.key
    }

    pub(crate) fn request(&self, tenant: &str, id: &str, tool: &str, arguments: Value) -> CallRequest {
        RequestBuilder::tool(tenant, tool).arguments(arguments).call_id(id).build().unwrap()
    }
}

/// A console of that access and that clock.
pub(crate) async fn served(client: Client, access: Access, now: toolfleet_client::Now) -> Served {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let hosts = Hosts { settings: "TOOLFLEET_CONSOLE", loopback: true, ..Hosts::default() };
    let console = Console::new(Parts { client, access, hosts, port: address.port(), now });
    let serving = tokio::spawn(async move {
        serve(Arc::new(console), listener, Bounds::of_one_machine(), std::future::pending()).await;
    });
    Served { url: format!("http://{address}"), serving }
}

pub(crate) async fn connect(local: &LocalEndpoints, dynamodb: &str) -> Aws {
    Aws::connect(AwsOptions {
        region: Some(REGION.to_owned()),
        sqs_endpoint: Some(local.sqs_url().to_owned()),
        dynamodb_endpoint: Some(dynamodb.to_owned()),
        secrets_endpoint: Some(local.secretsmanager_url().to_owned()),
        s3_endpoint: Some(local.s3_url().to_owned()),
        static_credentials: Some(("rig".to_owned(), "rig".to_owned())),
        ..AwsOptions::default()
    })
    .await
}

pub(crate) fn client(aws: &Aws, local: &LocalEndpoints) -> Client {
    Client::new(aws, local.queue_url("toolfleet-calls"), &Tables::with_prefix("toolfleet"), system_clock())
}

async fn start_worker(local: &LocalEndpoints, aws: Aws, catalog: Catalog) -> Worker {
    let none = |_: &str| None;
    let config = WorkerConfig {
        protection: None,
        lambda: None,
        http: None,
        queue_urls: QueueUrls { high: None, low: None, normal: local.queue_url("toolfleet-calls") },
        // Dead letters stay where they are.
        dead_letter_queue_url: None,
        reap_after: Duration::ZERO,
        table_prefix: "toolfleet".to_owned(),
        history_shards: 1,
        payloads: PayloadConfig::read(&none).unwrap(),
        catalog: std::path::PathBuf::from("catalog.json").into(),
        worker: WorkerId::parse("rig").unwrap(),
        limits: toolfleet_worker::Limits::read(&none).unwrap(),
        egress_config: EgressConfig::default().with_loopback(),
    };
    let services = ServiceOptions { reload: None, http: None };
    Box::pin(Worker::start(&config, aws, catalog, Meters::none(), services)).await.unwrap()
}

/// A browser without a script: it keeps one cookie and follows nothing.
#[derive(Clone)]
pub(crate) struct Browser {
    client: reqwest::Client,
    url: String,
    pub(crate) cookie: String,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) page: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn shows(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.page.contains(part), "`{part}` is not on the page:\n{}", self.page);
        }
        self
    }

    #[track_caller]
    pub(crate) fn hides(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(!self.page.contains(part), "`{part}` is on the page:\n{}", self.page);
        }
        self
    }

    /// The commands at its end.
    pub(crate) fn commands(&self) -> Vec<String> {
        let list = self.page.split("<ul class=\"commands\">").nth(1).unwrap_or_default();
        let list = list.split("</ul>").next().unwrap();
        let texts = list.split("<code>").skip(1).map(|rest| rest.split("</code>").next().unwrap());
        texts.map(|text| text.replace("&#39;", "'").replace("&#38;", "&")).collect()
    }
}

impl Browser {
    pub(crate) fn new(served: &Served) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { client, url: served.url.clone(), cookie: String::new() }
    }

    /// A browser that has logged in with that token.
    pub(crate) async fn logged_in(served: &Served, token: &str) -> Self {
        let mut browser = Self::new(served);
        let answered = browser.post("/login", &[("token", token), ("next", "/")]).await;
        assert_eq!(answered.status, 303, "{answered:?}");
        browser.take_cookie(&answered);
        browser
    }

    pub(crate) fn take_cookie(&mut self, answered: &Answered) {
        let set = answered.header("set-cookie");
        self.cookie = set.split(';').next().unwrap().to_owned();
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if self.cookie.is_empty() { request } else { request.header("cookie", &self.cookie) }
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        answered(self.request("GET", path)).await
    }

    /// A page that is there.
    pub(crate) async fn page(&self, path: &str) -> Answered {
        let answered = self.get(path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.page);
        answered
    }

    /// Loads a page until it shows something that workers report every five seconds.
    pub(crate) async fn page_with(&self, path: &str, part: &str) -> Answered {
        let mut last = self.page(path).await;
        // Two beats and the flush of a minute's counts; each round waits for a page.
        for _ in 0..2_000 {
            if last.page.contains(part) {
                return last;
            }
            last = self.page(path).await;
        }
        panic!("`{part}` never comes: {}", last.page);
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answered {
        let encode = |(name, value): &(&str, &str)| {
            format!("{name}={}", value.replace('&', "%26").replace('/', "%2F"))
        };
        let body = form.iter().map(encode).collect::<Vec<_>>().join("&");
        let request = self.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        answered(request.header("origin", &self.url).body(body)).await
    }
}

pub(crate) async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answered { status, headers, page: response.text().await.unwrap() }
}

/// Counts the requests to an endpoint by their operation, and lets them through.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, u64>>>, Arc<AtomicU64>);

impl Counts {
    /// The requests since the last time it was asked.
    pub(crate) fn take(&self) -> u64 {
        self.0.lock().unwrap().clear();
        self.1.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn by_operation(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, head: &[u8]) {
        let head = String::from_utf8_lossy(head);
        for line in head.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("x-amz-target") {
                *self.0.lock().unwrap().entry(value.trim().to_owned()).or_default() += 1;
                self.1.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// The address of a proxy that counts the requests to the tables. A request's head begins a segment of its own.
pub(crate) async fn counting(local: &LocalEndpoints) -> (String, Counts) {
    let target = local.dynamodb_url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counts = Counts::default();
    let counted = counts.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (target, counts) = (target.clone(), counted.clone());
            tokio::spawn(async move {
                let far = TcpStream::connect(target).await.unwrap();
                let (mut near_read, mut near_write) = near.into_split();
                let (mut far_read, mut far_write) = far.into_split();
                let back = tokio::spawn(async move { tokio::io::copy(&mut far_read, &mut near_write).await });
                let mut buffer = vec![0; 65_536];
                while let Ok(read @ 1..) = near_read.read(&mut buffer).await {
                    counts.note(&buffer[..read]);
                    if far_write.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                back.abort();
            });
        }
    });
    (url, counts)
}

/// An instant so long before now.
pub(crate) fn ago(span: Duration) -> Timestamp {
    let now = system_clock()();
    Timestamp::from_ms(now.as_ms() - i64::try_from(span.as_millis()).unwrap())
}
