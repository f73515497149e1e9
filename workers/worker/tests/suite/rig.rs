//! The test rig: embedded endpoints behind cutting proxies, a scripted MCP server, a manual clock, one worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;
use toolfleet_aws::Clock as WorkerClock;
use toolfleet_aws::queue::{Delivery, Outgoing, Queue};
use toolfleet_aws::{Aws, AwsOptions, Tables};
use toolfleet_catalog::{Catalog, CatalogSources, Programs};
use toolfleet_config::catalog::Stores;
use toolfleet_config::payload::PayloadConfig;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallId, CallKey, Tenant, WorkerId};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_egress::{EgressPolicy, HttpClients};
use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};
use toolfleet_mcp::{ClientOptions, McpClient};
use toolfleet_testkit::{CuttingProxy, MockMcp, ProtocolRevision};
use toolfleet_worker::Limits;
use toolfleet_worker::context::{DeadLetters, Parts, WorkerContext};
use toolfleet_worker::mcp_session_store::McpSessionStore;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};
use toolfleet_worker::queues::QueueUrls;
use toolfleet_worker::services::Service;
use toolfleet_worker::services::intake::Intake;
use toolfleet_worker::shutdown::Shutdown;
use toolfleet_worker::telemetry::Meters;

pub(crate) const START_MS: u64 = 1_795_000_000_123;
pub(crate) const LEASE_MS: u64 = 30_000;
pub(crate) const SKEW_MS: u64 = 2_000;
/// The access key of the rig, which the local SQS gives as SenderId.
pub(crate) const SENDER: &str = "AKIARIG";

/// Runs a service as the supervisor does, without restarts.
pub(crate) async fn run_service(service: impl Service, shutdown: Shutdown) {
    service.run(&shutdown).await;
}

pub(crate) struct Rig {
    pub(crate) local: LocalEndpoints,
    pub(crate) clock: Clock,
    /// By how much the clock of the next worker's machine is ahead of that.
    pub(crate) ahead_ms: Arc<AtomicI64>,
    pub(crate) sqs: CuttingProxy,
    pub(crate) dynamodb: CuttingProxy,
    pub(crate) s3: CuttingProxy,
    /// Where its workers keep payloads.
    pub(crate) payloads: PayloadConfig,
    pub(crate) mcp: MockMcp,
    pub(crate) direct: Aws,
    /// When its workers end what lies in the dead-letter queue.
    pub(crate) reap_after: Duration,
    /// What its workers count with.
    pub(crate) meters: Meters,
    /// How its workers call servers.
    pub(crate) egress_config: ClientOptions,
    /// The queue of its calls.
    pub(crate) queue_name: &'static str,
    /// Whether its workers read the queues of high and low priority too.
    pub(crate) priorities: bool,
    /// Secrets Manager for its workers, where it is not the local one.
    pub(crate) secrets: Option<String>,
    /// Lambda and STS for its workers.
    pub(crate) lambda: Option<String>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(ProtocolRevision::Modern).await
    }

    pub(crate) async fn with(era: ProtocolRevision) -> Self {
        let clock = Clock::manual(START_MS);
        let options = LocalOptions {
            clock: clock.clone(),
            parameters: [("PriorityQueues".to_owned(), "true".to_owned())].into(),
            ..LocalOptions::default()
        };
        let local = LocalEndpoints::start(options).await.expect("the local endpoints start");
        let sqs = CuttingProxy::start(local.sqs_url()).await;
        let dynamodb = CuttingProxy::start(local.dynamodb_url()).await;
        let s3 = CuttingProxy::start(local.s3_url()).await;
        let mcp = MockMcp::start(era).await;
        for tool in ["safe", "unsafe", "hinted", "strict"] {
            mcp.tool(tool, |arguments| json!({"content": [{"type": "text", "text": arguments.to_string()}]}));
        }
        mcp.tool("hinted", |_| json!({"content": []})).annotations(json!({"readOnlyHint": true}));
        let direct = connect(local.sqs_url(), local.dynamodb_url(), local.secretsmanager_url(), SENDER).await;
        let egress_config =
            ClientOptions { reach: EgressPolicy::with_loopback(), ..ClientOptions::default() };
        let (reap_after, meters) = (Duration::ZERO, Meters::none());
        Self {
            local,
            clock,
            ahead_ms: Arc::default(),
            sqs,
            dynamodb,
            s3,
            payloads: PayloadConfig::default(),
            mcp,
            direct,
            reap_after,
            meters,
            egress_config,
            queue_name: "toolfleet-calls",
            priorities: false,
            secrets: None,
            lambda: None,
        }
    }

    pub(crate) fn catalog(&self) -> Value {
        let reply = self.local.queue_url("toolfleet-replies");
        json!({
            "servers": [{"id": "mock", "url": self.mcp.url(), "trusted": true, "discover": true}],
            "tools": [
                {"id": "safe", "server": "mock", "idempotent": true, "timeout_ms": 2000},
                {"id": "unsafe", "server": "mock", "timeout_ms": 2000},
                {"id": "paused", "server": "mock", "paused": true},
                {"id": "closed", "server": "mock", "access": [{"user_roles": ["admin"]}]},
                {"id": "strict", "server": "mock", "input_schema":
                    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}
            ],
            "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]},
            "reply_queues": [reply]
        })
    }

    pub(crate) async fn context(&self, watch: Option<Arc<dyn Watch>>) -> Arc<WorkerContext> {
        self.fleet_of(self.catalog(), limits(), watch).await
    }

    /// A worker that reaches AWS through the proxies.
    pub(crate) async fn fleet_of(
        &self,
        catalog: Value,
        limits: Limits,
        watch: Option<Arc<dyn Watch>>,
    ) -> Arc<WorkerContext> {
        self.fleet_at(&self.sqs.url(), catalog, limits, watch).await
    }

    /// A worker that reaches SQS without a proxy, so that the endpoint sees at once when a receive is given up.
    pub(crate) async fn fleet_direct(&self, watch: Option<Arc<dyn Watch>>) -> Arc<WorkerContext> {
        self.fleet_at(self.local.sqs_url(), self.catalog(), limits(), watch).await
    }

    /// What reads catalogs and what they name, by that connection.
    pub(crate) fn stores(&self, aws: &Aws) -> Stores {
        let clients = HttpClients::new(self.egress_config.http()).unwrap();
        Stores::new(aws, &Tables::with_prefix("toolfleet"), clients)
    }

    async fn fleet_at(
        &self,
        sqs: &str,
        catalog: Value,
        limits: Limits,
        watch: Option<Arc<dyn Watch>>,
    ) -> Arc<WorkerContext> {
        let secrets = self.secrets.as_deref().unwrap_or_else(|| self.local.secretsmanager_url());
        let aws = Aws::connect(AwsOptions {
            lambda_endpoint: self.lambda.clone(),
            sts_endpoint: self.lambda.clone(),
            ..options(sqs, &self.dynamodb.url(), secrets, &self.s3.url(), SENDER)
        })
        .await;
        let (clock, ahead_ms) = (self.clock.clone(), Arc::clone(&self.ahead_ms));
        let now = move || {
            let now_ms = i64::try_from(clock.now_ms()).unwrap();
            Timestamp::from_ms(now_ms + ahead_ms.load(Ordering::Relaxed))
        };
        let clock = WorkerClock::Of(Arc::new(now));
        let register = McpSessionStore::new(aws.sessions(&Tables::with_prefix("toolfleet")), clock.clone());
        Arc::new(WorkerContext::new(Parts {
            meters: self.meters.clone(),
            dead_letters: Some(DeadLetters {
                queue: aws.queue(self.local.queue_url("toolfleet-calls-dlq")),
                reap_after: self.reap_after,
            }),
            stores: self.stores(&aws),
            aws,
            queue_urls: QueueUrls {
                normal: self.local.queue_url(self.queue_name),
                high: self.priorities.then(|| self.local.queue_url("toolfleet-calls-high")),
                low: self.priorities.then(|| self.local.queue_url("toolfleet-calls-low")),
            },
            tables: Tables::with_prefix("toolfleet"),
            payloads: self.payloads.clone(),
            worker: WorkerId::parse("w-test").unwrap(),
            limits,
            catalog: {
                let material = CatalogSources { programs: Programs::Allowed, ..CatalogSources::default() };
                Catalog::parse_with(&catalog.to_string(), &material).expect("the rig's catalog")
            },
            mcp: McpClient::new(ClientOptions {
                max_body_bytes: limits.max_answer_bytes,
                register: Some(Arc::new(register)),
                ..self.egress_config.clone()
            })
            .unwrap(),
            clock,
            watch,
        }))
    }

    pub(crate) fn queue(&self) -> Queue {
        self.direct.queue(self.local.queue_url(self.queue_name))
    }

    pub(crate) async fn send(&self, body: impl Into<String>) {
        let message = Outgoing { body: body.into(), group: Some("acme".into()), ..Outgoing::default() };
        self.queue().send(message).await.expect("a message is sent");
    }

    pub(crate) async fn receive(&self, context: &WorkerContext) -> Option<Delivery> {
        context.queues.normal().receive(1, 0, context.limits.visibility_s()).await.ok()?.pop()
    }

    /// Takes one delivery through a worker, to its end.
    pub(crate) async fn deliver(&self, context: &Arc<WorkerContext>) {
        let delivery = self.receive(context).await.expect("a message to deliver");
        pipeline::run(context.clone(), delivery, ()).await;
    }

    /// Takes one delivery through a worker that dies right after `step`.
    pub(crate) async fn crash_after(&self, step: Step) {
        let crash = CrashAfter::new(step);
        let context = self.context(Some(crash.clone())).await;
        let delivery = self.receive(&context).await.expect("a message to deliver");
        tokio::select! {
            () = pipeline::run(context, delivery, ()) => panic!("the call passed by {step:?}"),
            () = crash.reached.notified() => {}
        }
    }

    /// Redelivers with a healthy worker until the queue holds nothing, visible, in flight or delayed.
    pub(crate) async fn settle(&self) {
        let context = self.context(None).await;
        self.settle_with(&context).await;
    }

    pub(crate) async fn settle_with(&self, context: &Arc<WorkerContext>) {
        for _ in 0..200 {
            while let Some(delivery) = self.receive(context).await {
                pipeline::run(context.clone(), delivery, ()).await;
            }
            let depth = self.queue().depth().await.unwrap();
            if depth.visible + depth.in_flight + depth.delayed == 0 {
                return;
            }
            self.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        }
        panic!("the queue still holds messages: {:?}", self.queue().depth().await);
    }

    /// Runs a whole worker, intake included, until `count` messages are gone from the queue.
    ///
    /// There is a slot for each message: a call that found none would go back to the queue for a moment, which the rig's clock never
    /// passes.
    pub(crate) async fn work_off(&self, count: usize) {
        let gone = Arc::new(CountAcknowledged::default());
        let slots = u32::try_from(count).unwrap().max(limits().slots);
        let context = self.fleet_of(self.catalog(), Limits { slots, ..limits() }, Some(gone.clone())).await;
        let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
        gone.reached(count).await;
        context.shutdown.begin(Duration::from_secs(5));
        worker.await.unwrap();
    }

    pub(crate) async fn row(&self, id: &str) -> Option<CallRow> {
        self.row_of("acme", id).await
    }

    pub(crate) async fn row_of(&self, tenant: &str, id: &str) -> Option<CallRow> {
        let calls = self.direct.calls(&Tables::with_prefix("toolfleet"));
        calls.read(&key(tenant, id)).await.unwrap()
    }

    pub(crate) async fn has_ended(&self, id: &str) -> bool {
        self.row(id).await.is_some_and(|row| row.finished.is_some())
    }

    pub(crate) async fn outcome(&self, id: &str) -> Seen {
        let row = self.row(id).await.unwrap_or_else(|| panic!("`{id}` has no row"));
        let outcome = row.finished.clone().unwrap_or_else(|| panic!("`{id}` has not ended: {row:?}")).outcome;
        Seen {
            kind: outcome.kind,
            code: outcome.error.as_ref().map(|t| t.code.as_str()),
            message: outcome.error.as_ref().map(|t| t.message.clone()).unwrap_or_default(),
            may_have_run: outcome.error.as_ref().map(|t| t.may_have_run),
            content: outcome.content().map(|c| c.get().to_owned()),
            row,
        }
    }

    /// Every audit record of a tenant.
    pub(crate) async fn audit(&self, tenant: &Tenant) -> Vec<AuditRecord> {
        let history = self.direct.history(&Tables::with_prefix("toolfleet"));
        let start = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
        let now = Timestamp::from_ms(i64::try_from(self.clock.now_ms()).unwrap());
        history.by_hours(tenant, start, now, 1_000).await.unwrap()
    }

    pub(crate) async fn audit_of(&self, id: &str, kind: AuditKind) -> Vec<AuditRecord> {
        let all = self.audit(&Tenant::parse("acme").unwrap()).await;
        all.into_iter().filter(|r| r.call_id.as_str() == id && r.kind == kind).collect()
    }
}

/// How a call was seen to end.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: OutcomeKind,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) may_have_run: Option<MayHaveRun>,
    pub(crate) content: Option<String>,
    pub(crate) row: CallRow,
}

pub(crate) fn limits() -> Limits {
    Limits {
        slots: 20,
        lease: Duration::from_millis(LEASE_MS),
        skew: Duration::from_millis(SKEW_MS),
        max_answer_bytes: 100_000,
        ..Limits::default()
    }
}

pub(crate) fn key(tenant: &str, id: &str) -> CallKey {
    CallKey { tenant: Tenant::parse(tenant).unwrap(), call_id: CallId::parse(id).unwrap() }
}

pub(crate) fn request(id: &str, tool: &str) -> Value {
    json!({"v": 1, "call_id": id, "tenant": "acme", "tool": tool, "arguments": {"call": id}})
}

pub(crate) async fn connect(sqs: &str, dynamodb: &str, secrets: &str, access_key: &str) -> Aws {
    connect_with(sqs, dynamodb, secrets, sqs, access_key).await
}

async fn connect_with(sqs: &str, dynamodb: &str, secrets: &str, s3: &str, access_key: &str) -> Aws {
    Aws::connect(options(sqs, dynamodb, secrets, s3, access_key)).await
}

fn options(sqs: &str, dynamodb: &str, secrets: &str, s3: &str, access_key: &str) -> AwsOptions {
    AwsOptions {
        region: Some("us-east-1".into()),
        sqs_endpoint: Some(sqs.into()),
        dynamodb_endpoint: Some(dynamodb.into()),
        secrets_endpoint: Some(secrets.into()),
        s3_endpoint: Some(s3.into()),
        static_credentials: Some((access_key.into(), "not-a-secret".into())),
        ..AwsOptions::default()
    }
}

/// Holds a call for ever right after a step: dropping it then kills it there.
pub(crate) struct CrashAfter {
    step: Step,
    pub(crate) reached: Notify,
}

impl CrashAfter {
    pub(crate) fn new(step: Step) -> Arc<Self> {
        Arc::new(Self { step, reached: Notify::new() })
    }
}

impl Watch for CrashAfter {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        async move {
            if step == self.step {
                self.reached.notify_one();
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

#[derive(Default)]
pub(crate) struct CountAcknowledged {
    count: AtomicUsize,
    changed: Notify,
}

impl CountAcknowledged {
    pub(crate) async fn reached(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) >= count {
                return;
            }
            changed.await;
        }
    }
}

impl Watch for CountAcknowledged {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        async move {
            if step == Step::Acknowledged {
                self.count.fetch_add(1, Ordering::SeqCst);
                self.changed.notify_waiters();
            }
        }
        .boxed()
    }
}
