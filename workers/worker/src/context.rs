//! What all calls of one worker share: tables, queue, MCP client, catalog, breakers, clock. Nothing here belongs to one call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use toolfleet_aws::calls::Calls;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::history::History;
use toolfleet_aws::payloads::Payloads;
use toolfleet_aws::queue::{MAX_BODY_BYTES, Queue};
use toolfleet_aws::secrets::Secrets;
use toolfleet_aws::sessions::Sessions;
use toolfleet_aws::{Aws, Clock, RunQueue, Tables, Usage};
use toolfleet_catalog::{Catalog, Server};
use toolfleet_config::catalog::Stores;
use toolfleet_config::credentials::Credentials;
use toolfleet_config::keyring::AwsKeyring;
use toolfleet_config::payload::PayloadConfig;
use toolfleet_core::cache::Bounds;
use toolfleet_core::ids::{Nonce, SessionId, Tenant, WorkerId};
use toolfleet_core::payload::Sources;
use toolfleet_core::session::{SESSION_CACHE_TTL_S, SessionRow};
use toolfleet_core::time::Timestamp;
use toolfleet_executors::{CompiledSchemas, Executors, LambdaExecutor, McpExecutor};
use toolfleet_mcp::McpClient;

use crate::activity::Activity;
use crate::answers::Answers;
use crate::batches::Batches;
use crate::cache::Cache;
use crate::catalog_handle::CatalogHandle;
use crate::clock_check::ClockCheck;
use crate::config::limits::Limits;
use crate::ended_sessions::EndedSessions;
use crate::fleet_view::FleetView;
use crate::gate::{Gate, Limiter, Shares};
use crate::intake_health::IntakeHealth;
use crate::lambda_ports::{Invoker, SessionAttributes};
use crate::pipeline::steps::{Steps, Watch};
use crate::queues::{QueueUrls, Queues};
use crate::recorded_messages::RecordedMessages;
use crate::shutdown::Shutdown;
use crate::telemetry::Meters;

/// KiB of messages that are still to be deleted, requeued or answered although their slots are free again.
const LEAVING_KIB: usize = 32 * 1024;
/// How long a session row is cached.
const SESSION_CACHE_TTL: Duration = Duration::from_secs(SESSION_CACHE_TTL_S);

/// What all calls of one worker share.
pub struct WorkerContext {
    /// The id of this worker in rows and records.
    pub worker: WorkerId,
    /// Its limits.
    pub limits: Limits,
    /// The largest body of a call that its queue can park.
    pub max_body_bytes: usize,
    /// A call that has run for so long protects the worker's task from scale-in, where it has one.
    pub protect_after: Option<Duration>,
    /// What is registered.
    pub catalog: CatalogHandle,
    /// The queues it reads.
    pub queues: Queues,
    /// The queue of messages that were received too often, where this worker reaps it.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// The calls.
    pub calls: Calls,
    /// The audit records.
    pub history: History,
    /// Results and arguments by reference.
    pub payloads: Payloads,
    /// The objects that senders may name.
    pub sources: Sources,
    /// The sessions.
    pub sessions: Sessions,
    /// What operators set and workers report.
    pub fleet: Fleet,
    /// The secrets.
    pub secrets: Secrets,
    /// The sessions to close at their servers.
    pub ended_sessions: EndedSessions,
    /// Where catalogs are, and what they name.
    pub stores: Stores,
    /// The MCP client.
    pub mcp: McpClient,
    /// The gates of all servers.
    pub gate: Arc<Gate>,
    /// The limits of calls.
    pub limiter: Limiter,
    /// How calls are executed.
    pub executors: Executors<Gate>,
    /// The compiled schemas of the catalog and of servers' lists.
    pub schemas: CompiledSchemas,
    /// The wall clock: the machine's, and while that is known to be wrong, DynamoDB's.
    pub clock: Clock,
    /// The end.
    pub shutdown: Shutdown,
    /// What the worker counts with.
    pub meters: Meters,
    /// What it does, for its row and the rollups.
    pub activity: Activity,
    /// The summary of the fleet that this worker read last.
    pub fleet_view: FleetView,
    /// When its intake was last seen to work.
    pub intake_health: IntakeHealth,
    /// Whether it receives, as far as the protection of its task decides.
    receiving: AtomicBool,
    /// Stored answers.
    pub(crate) answers: Answers,
    /// Calls that wait for others to be sent with.
    pub(crate) batches: Batches,
    pub(crate) session_cache: Cache<(Tenant, SessionId), Arc<SessionRow>>,
    pub(crate) recorded_messages: RecordedMessages,
    /// What leaves without a slot may hold so many KiB together.
    pub(crate) leaving: Arc<Semaphore>,
    /// The test hooks of the pipeline.
    pub(crate) steps: Steps,
    /// Whether the worker lags behind its calls.
    pub(crate) run_queue: RunQueue,
    aws: Aws,
    reply_queues: Mutex<HashMap<String, Queue>>,
    /// What is known of the machine's clock.
    clock_check: ClockCheck,
}

/// The dead-letter queue, and when what lies there is ended.
#[derive(Debug)]
pub struct DeadLetters {
    /// The queue.
    pub queue: Queue,
    /// How long a message is left to operators after it was sent, unless its call's deadline passes before.
    pub reap_after: Duration,
}

impl DeadLetters {
    pub(crate) fn reap_after_ms(&self) -> u64 {
        u64::try_from(self.reap_after.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a fleet is made from.
pub struct Parts {
    /// The connection to AWS.
    pub aws: Aws,
    /// The URLs of the queues.
    pub queue_urls: QueueUrls,
    /// The dead-letter queue to reap, if any.
    pub dead_letters: Option<DeadLetters>,
    /// The tables.
    pub tables: Tables,
    /// Where payloads are.
    pub payloads: PayloadConfig,
    /// The id of this worker in rows and records.
    pub worker: WorkerId,
    /// Its limits.
    pub limits: Limits,
    /// What is registered.
    pub catalog: Catalog,
    /// Where catalogs are, and what they name.
    pub stores: Stores,
    /// The MCP client.
    pub mcp: McpClient,
    /// The machine's clock.
    pub clock: Clock,
    /// What it counts with.
    pub meters: Meters,
    /// Who watches the steps, if anyone.
    pub watch: Option<Arc<dyn Watch>>,
}

impl WorkerContext {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            aws,
            queue_urls,
            dead_letters,
            tables,
            payloads,
            worker,
            limits,
            catalog,
            stores,
            mcp,
            clock,
            meters,
            watch,
        } = parts;
        let clock_check = ClockCheck::new(aws.fleet(&tables).server_time(), limits.skew_ms());
        let clock = clock_check.clock(clock);
        let queues = Queues::new(&aws, queue_urls);
        let credentials = Credentials::new(mcp.clone(), Arc::new(AwsKeyring::new(&aws, clock.clone())));
        let gate = Arc::new(Gate::new(Shares::new(limits.slots, limits.reserve()), clock.clone()));
        let endpoints =
            Box::new(move |server: &Arc<Server>, tenant: &Tenant| credentials.endpoint(server, Some(tenant)));
        let schema_cache_bytes = usize::try_from(limits.schema_cache_bytes).unwrap_or(usize::MAX);
        let schemas = CompiledSchemas::new(schema_cache_bytes);
        // The slots are of one tenant at one server: the rest of them are left to its other calls.
        let subscriptions = usize::try_from(limits.slots / 4).unwrap_or(usize::MAX).max(1);
        let executor =
            McpExecutor::new(mcp.clone(), endpoints, Arc::clone(&gate), schemas.clone(), subscriptions);
        let attributes = SessionAttributes { sessions: aws.sessions(&tables), clock: clock.clone() };
        let invoker = Arc::new(Invoker(aws.lambda()));
        let lambda = LambdaExecutor::new(
            (invoker, Arc::new(attributes)),
            Arc::clone(&gate),
            schemas.clone(),
            limits.max_answer_bytes,
        );
        let activity = Activity::new(Nonce::from_random(uuid::Uuid::new_v4().as_u128()), clock.now());
        let limiter = Limiter::new(&aws.fleet(&tables), (&clock, &clock_check), &activity.boot, limits.slots);
        let bounds = Bounds { entries: limits.cache_entries, bytes: limits.cache_bytes };
        Self {
            answers: Answers::new(bounds),
            batches: Batches::default(),
            worker,
            limits,
            max_body_bytes: MAX_BODY_BYTES,
            protect_after: None,
            catalog: CatalogHandle::new(catalog),
            intake_health: IntakeHealth::of(queues.all().map(|(priority, _)| priority)),
            queues,
            dead_letters: dead_letters.map(Arc::new),
            calls: aws.calls(&tables),
            history: aws.history(&tables),
            payloads: aws.payloads(payloads.bucket, payloads.threshold),
            sources: payloads.sources,
            sessions: aws.sessions(&tables),
            fleet: aws.fleet(&tables),
            secrets: aws.secrets(),
            stores,
            mcp,
            limiter,
            gate,
            executors: Executors::new(executor, lambda),
            schemas,
            shutdown: Shutdown::new(),
            meters,
            activity,
            fleet_view: FleetView::default(),
            receiving: AtomicBool::new(true),
            clock,
            clock_check,
            ended_sessions: EndedSessions::default(),
            session_cache: Cache::new(SESSION_CACHE_TTL, 10_000),
            recorded_messages: RecordedMessages::default(),
            leaving: Arc::new(Semaphore::new(LEAVING_KIB)),
            steps: Steps::new(watch),
            run_queue: aws.run_queue(),
            aws,
            reply_queues: Mutex::default(),
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether it receives calls. A worker that does not is no draining one: it is healthy, and receives again.
    pub fn is_receiving(&self) -> bool {
        self.receiving.load(Ordering::Relaxed) && !self.clock_is_off()
    }

    /// Whether this machine's clock is known to be wrong: then this worker's time is DynamoDB's, by the dates of its answers, and rough.
    /// DynamoDB's answers say when the machine's is right again, those to the reads of the control entries too.
    pub fn clock_is_off(&self) -> bool {
        self.clock_check.is_off()
    }

    /// By how many milliseconds this machine's clock is ahead, or behind if that is negative, where it is known to be wrong.
    pub(crate) fn clock_off_by_ms(&self) -> Option<i64> {
        self.clock_check.off_by_ms()
    }

    pub(crate) fn set_receiving(&self, receiving: bool) {
        self.receiving.store(receiving, Ordering::Relaxed);
    }

    /// Sends the writes and deletions that wait for others to go with, and lets none wait from now on: the worker ends.
    pub(crate) fn send_at_once(&self) {
        self.aws.write_at_once();
        for (_, queue) in self.queues.all() {
            queue.delete_at_once();
        }
    }

    /// What the worker uses of AWS.
    pub fn usage(&self) -> Usage {
        self.aws.usage()
    }

    /// The connection to AWS.
    pub(crate) fn aws(&self) -> Aws {
        self.aws.clone()
    }

    /// Uses `catalog` from now on, and drops the tool lists and answers that were cached under the previous one. Returns the previous one.
    pub(crate) fn take_catalog(&self, catalog: Catalog) -> Arc<Catalog> {
        let previous = self.catalog.take(catalog);
        self.executors.forget_lists();
        self.answers.clear();
        previous
    }

    /// The queue of that URL, so that notices of concurrent calls share batches.
    pub(crate) fn reply_queue(&self, url: &str) -> Queue {
        let mut queues = self.reply_queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(url.to_owned()).or_insert_with(|| self.aws.queue(url)).clone()
    }
}
