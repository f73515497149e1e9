//! The connection to AWS: credentials, region, endpoints and time-outs, once for all clients. Credentials are never printed.

use std::fmt;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider, StalledStreamProtectionConfig};

use crate::batch::RunQueue;
use crate::direct::{Clients, Direct};
use crate::dynamodb::calls::Calls;
use crate::dynamodb::catalogs::Catalogs;
use crate::dynamodb::fleet::Fleet;
use crate::dynamodb::history::History;
use crate::dynamodb::member_counter::MemberCounter;
use crate::dynamodb::sessions::Sessions;
use crate::dynamodb::{BatchWriter, Batching};
use crate::error::AwsError;
use crate::identity::Identity;
use crate::lambda::Lambda;
use crate::s3::Objects;
use crate::s3::payloads::{ObjectReader, Payloads};
use crate::secrets::Secrets;
use crate::server_time::ServerTime;
use crate::setup::Setup;
use crate::sqs::queue::{Queue, url_of};
use crate::time_outs::{ATTEMPT, ATTEMPTS, RECEIVE_ATTEMPT, attempts, time_outs};
use crate::usage::Usage;

/// A retry costs 5 tokens, one after a time-out 10, of 500.
const RETRY_TOKENS_A_SECOND: f32 = 5.0;
/// The operations of SQS that are sent without the SDK, beside ReceiveMessage.
const HOT_SQS: [&str; 3] = ["DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch"];

/// Region, endpoints and credentials. What is `None` comes from the SDK's own chain: environment, profile, role.
#[derive(Clone, Default)]
pub struct AwsOptions {
    /// The region.
    pub region: Option<String>,
    /// The endpoint of SQS.
    pub sqs_endpoint: Option<String>,
    /// The endpoint of DynamoDB.
    pub dynamodb_endpoint: Option<String>,
    /// The endpoint of Secrets Manager.
    pub secrets_endpoint: Option<String>,
    /// The endpoint of S3; its buckets are parts of the path there.
    pub s3_endpoint: Option<String>,
    /// The endpoint of Lambda, whatever a function's region is.
    pub lambda_endpoint: Option<String>,
    /// The endpoint of STS.
    pub sts_endpoint: Option<String>,
    /// An access key and its secret.
    pub static_credentials: Option<(String, String)>,
}

impl fmt::Debug for AwsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsOptions")
            .field("region", &self.region)
            .field("sqs_endpoint", &self.sqs_endpoint)
            .field("dynamodb_endpoint", &self.dynamodb_endpoint)
            .field("secrets_endpoint", &self.secrets_endpoint)
            .field("s3_endpoint", &self.s3_endpoint)
            .field("lambda_endpoint", &self.lambda_endpoint)
            .field("sts_endpoint", &self.sts_endpoint)
            .field("static_credentials", &self.static_credentials.as_ref().map(|(key, _)| key))
            .finish()
    }
}

/// The names of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// The calls.
    pub calls: String,
    /// The sessions.
    pub sessions: String,
    /// The catalogs.
    pub catalogs: String,
    /// The audit records.
    pub history: String,
    /// What operators set and workers report.
    pub fleet: String,
    /// Over how many partitions an hour of one tenant's history is spread.
    pub history_shards: u32,
}

impl Tables {
    /// The names that data.yaml gives with that prefix.
    pub fn with_prefix(prefix: &str) -> Self {
        Self {
            calls: format!("{prefix}-calls"),
            sessions: format!("{prefix}-sessions"),
            catalogs: format!("{prefix}-catalogs"),
            history: format!("{prefix}-history"),
            fleet: format!("{prefix}-fleet"),
            history_shards: 1,
        }
    }
}

/// The connection. Its clones share clients and batches.
#[derive(Debug, Clone)]
pub struct Aws {
    sqs: Clients<aws_sdk_sqs::Client>,
    /// The same, with the time-out of a receive.
    receiving: Clients<aws_sdk_sqs::Client>,
    dynamodb: aws_sdk_dynamodb::Client,
    secrets: Secrets,
    objects: Objects,
    writer: BatchWriter,
    counter: MemberCounter,
    run_queue: RunQueue,
    identity: Identity,
    sts: aws_sdk_sts::Client,
    lambda: Lambda,
    usage: Usage,
    server_time: ServerTime,
}

impl Aws {
    /// Builds the clients. Nothing is sent yet, except what the credential chain itself needs.
    pub async fn connect(options: AwsOptions) -> Self {
        let config = load(&options).await;
        let (usage, server_time) = (Usage::default(), ServerTime::default());
        // Where no endpoint is given, the SDK reads its own variables (AWS_ENDPOINT_URL_SQS, ..).
        let sts_config = match options.sts_endpoint {
            Some(endpoint) => config.clone().into_builder().endpoint_url(endpoint).build(),
            None => config.clone(),
        };
        let sts = aws_sdk_sts::Client::new(&sts_config);
        let identity = Identity::new(&config, sts_config.clone());
        let lambda = Lambda::new(config.clone(), sts_config, options.lambda_endpoint, usage.clone());
        let mut sqs = aws_sdk_sqs::config::Builder::from(&config)
            .interceptor(usage.of("SQS"))
            .retry_partition(retries_of("toolfleet-sqs"));
        if options.sqs_endpoint.is_some() {
            sqs.set_endpoint_url(options.sqs_endpoint);
        }
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config)
            .interceptor(usage.of("DynamoDB"))
            .interceptor(server_time.clone());
        if options.dynamodb_endpoint.is_some() {
            dynamodb.set_endpoint_url(options.dynamodb_endpoint);
        }
        let mut secrets =
            aws_sdk_secretsmanager::config::Builder::from(&config).interceptor(usage.of("SecretsManager"));
        if options.secrets_endpoint.is_some() {
            secrets.set_endpoint_url(options.secrets_endpoint);
        }
        let direct = Direct::new("DynamoDB", ATTEMPT, &["BatchExecuteStatement"], usage.clone());
        let dynamodb =
            dynamodb.interceptor(direct.learner()).retry_partition(retries_of("toolfleet-dynamodb"));
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let writing = Clients { sdk: dynamodb.clone(), direct };
        let objects = Objects::new(config.clone(), options.s3_endpoint, usage.clone());
        let run_queue = RunQueue::default();
        let receiving = sqs.clone().timeout_config(time_outs(RECEIVE_ATTEMPT));
        let sqs_of = |sqs, attempt, operations: &[_]| {
            sqs_clients(sqs, Direct::new("SQS", attempt, operations, usage.clone()))
        };
        Self {
            receiving: sqs_of(receiving, RECEIVE_ATTEMPT, &["ReceiveMessage"]),
            sqs: sqs_of(sqs, ATTEMPT, &HOT_SQS),
            counter: MemberCounter::new(dynamodb.clone(), run_queue.clone()),
            writer: BatchWriter::new(writing, run_queue.clone()),
            run_queue,
            identity,
            sts,
            lambda,
            objects,
            dynamodb,
            usage,
            server_time,
            secrets: Secrets::new(aws_sdk_secretsmanager::Client::from_conf(secrets.build())),
        }
    }

    /// The queue of that URL. Keep and clone it: clones share batches, two queues made of one URL do not. Call this within a
    /// tokio runtime; the queue belongs to it.
    pub fn queue(&self, url: impl Into<String>) -> Queue {
        Queue::new(self.sqs.clone(), self.receiving.clone(), url.into(), self.run_queue.clone())
    }

    /// The URL of the queue of that name.
    pub async fn queue_url(&self, name: &str) -> Result<String, AwsError> {
        url_of(&self.sqs.sdk, name).await
    }

    /// The calls table.
    pub fn calls(&self, tables: &Tables) -> Calls {
        Calls { client: self.dynamodb.clone(), writer: self.writer.clone(), table: tables.calls.clone() }
    }

    /// The history table.
    pub fn history(&self, tables: &Tables) -> History {
        History {
            client: self.dynamodb.clone(),
            writer: self.writer.clone(),
            table: tables.history.clone(),
            shards: tables.history_shards.max(1),
        }
    }

    /// The sessions table.
    pub fn sessions(&self, tables: &Tables) -> Sessions {
        Sessions {
            client: self.dynamodb.clone(),
            writer: self.writer.clone(),
            table: tables.sessions.clone(),
        }
    }

    /// The catalog table.
    pub fn catalogs(&self, tables: &Tables) -> Catalogs {
        Catalogs { client: self.dynamodb.clone(), table: tables.catalogs.clone() }
    }

    /// The fleet table.
    pub fn fleet(&self, tables: &Tables) -> Fleet {
        Fleet {
            client: self.dynamodb.clone(),
            writer: self.writer.clone(),
            counter: self.counter.clone(),
            table: tables.fleet.clone(),
            server_time: self.server_time.clone(),
        }
    }

    /// Secrets Manager.
    pub fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// The payloads: those with more than `threshold` compressed bytes are stored in `bucket`, if there is one. Payloads that a row or a
    /// request refers to are read from any bucket.
    pub fn payloads(&self, bucket: Option<String>, threshold: usize) -> Payloads {
        Payloads::new(self.objects.clone(), bucket, threshold)
    }

    /// What reads how tables and the bucket are set up.
    pub fn setup(&self) -> Setup {
        Setup { dynamodb: self.dynamodb.clone(), objects: self.objects.clone() }
    }

    /// What reads objects of any bucket whole.
    pub fn object_reader(&self) -> ObjectReader {
        ObjectReader(self.objects.clone())
    }

    /// Lambda.
    pub fn lambda(&self) -> Lambda {
        self.lambda.clone()
    }

    /// The process's own AWS identity, to sign requests to services without an SDK client.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The SenderId that the queue gives to messages of this process: the unique id of its role and session, or of its user. A queue on this
    /// machine takes the access key for it.
    pub async fn sender_id(&self, queue: &Queue) -> Result<String, AwsError> {
        if is_loopback(queue.url()) {
            return Ok(self.identity.keys(false).await?.access_key_id);
        }
        let caller = self.sts.get_caller_identity().send().await;
        let caller = caller.map_err(|e| AwsError::of_sdk("GetCallerIdentity", "STS", &e))?;
        let missing = || AwsError::passing("GetCallerIdentity on STS: the reply has no user id");
        caller.user_id.ok_or_else(missing)
    }

    /// How far the runtime lags behind its tasks, as the batches of this connection measure it.
    pub fn run_queue(&self) -> RunQueue {
        self.run_queue.clone()
    }

    /// What this process uses of AWS. Nothing is counted until it is asked to be.
    pub fn usage(&self) -> Usage {
        self.usage.clone()
    }

    /// Sends the writes that wait for others, and lets none wait from now on.
    pub fn write_at_once(&self) {
        self.writer.send_at_once();
    }

    /// How many writes were sent in how many requests so far.
    pub fn batching(&self) -> Batching {
        self.writer.batching()
    }
}

fn sqs_clients(sqs: aws_sdk_sqs::config::Builder, direct: Direct) -> Clients<aws_sdk_sqs::Client> {
    let sqs = sqs.interceptor(direct.learner());
    Clients { sdk: aws_sdk_sqs::Client::from_conf(sqs.build()), direct }
}

/// What retries of a service may cost. The SDK refills it by its own successes, and most of them are not its own: so by time, too.
fn retries_of(service: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder().refill_rate(RETRY_TOKENS_A_SECOND).build();
    RetryPartition::custom(service).token_bucket(bucket).build()
}

async fn load(options: &AwsOptions) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(time_outs(ATTEMPT))
        .retry_config(attempts(ATTEMPTS))
        // Bodies are small and read completely within the time-outs above.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some((key, secret)) = &options.static_credentials {
        let credentials = Credentials::new(key, secret, None, None, "toolfleet");
        loader = loader.credentials_provider(SharedCredentialsProvider::new(credentials));
    }
    loader.load().await
}

/// Whether that is a URL on this machine.
fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}
