//! Owns the connection to AWS: credentials, region, endpoints and time-outs, once for all clients.
//!
//! **Invariant:** credentials are never printed; locally and in production the same clients are built.

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider, StalledStreamProtectionConfig};

use crate::calls::Calls;
use crate::catalogs::Catalogs;
use crate::error::AwsError;
use crate::history::History;
use crate::identity::Identity;
use crate::payloads::{Objects, Payloads};
use crate::queue::{Queue, url_of};
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::statements::{Batching, Statements};

/// Where AWS is and who we are. What is `None` comes from the SDK's own chain: environment, profile, role.
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
            history_shards: 1,
        }
    }
}

/// The connection. Its clones share clients and batches.
#[derive(Debug, Clone)]
pub struct Aws {
    sqs: aws_sdk_sqs::Client,
    /// The same, with the patience that a receive needs.
    receiving: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    secrets: Secrets,
    objects: Objects,
    statements: Statements,
    identity: Identity,
}

impl Aws {
    /// Builds the clients. Nothing is sent yet, except what the credential chain itself needs.
    pub async fn connect(options: AwsOptions) -> Self {
        let config = load(&options).await;
        let identity = Identity::new(config.credentials_provider(), config.region().map(ToString::to_string));
        // Where no endpoint is given, the SDK's own variables (AWS_ENDPOINT_URL_SQS, ..) count.
        let mut sqs = aws_sdk_sqs::config::Builder::from(&config);
        if options.sqs_endpoint.is_some() {
            sqs.set_endpoint_url(options.sqs_endpoint);
        }
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        if options.dynamodb_endpoint.is_some() {
            dynamodb.set_endpoint_url(options.dynamodb_endpoint);
        }
        let mut secrets = aws_sdk_secretsmanager::config::Builder::from(&config);
        if options.secrets_endpoint.is_some() {
            secrets.set_endpoint_url(options.secrets_endpoint);
        }
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let objects = Objects::new(config.clone(), options.s3_endpoint);
        let receiving = sqs.clone().timeout_config(timeouts(RECEIVE));
        Self {
            receiving: aws_sdk_sqs::Client::from_conf(receiving.build()),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
            statements: Statements::new(dynamodb.clone()),
            identity,
            objects,
            dynamodb,
            secrets: Secrets::new(aws_sdk_secretsmanager::Client::from_conf(secrets.build())),
        }
    }

    /// The queue of that URL. Keep and clone it: clones share batches, two queues made of one URL do not. To be called within a
    /// tokio runtime, to which the queue then belongs.
    pub fn queue(&self, url: impl Into<String>) -> Queue {
        Queue::new(self.sqs.clone(), self.receiving.clone(), url.into())
    }

    /// The URL of the queue of that name.
    pub async fn queue_url(&self, name: &str) -> Result<String, AwsError> {
        url_of(&self.sqs, name).await
    }

    /// The calls table.
    pub fn calls(&self, tables: &Tables) -> Calls {
        Calls {
            client: self.dynamodb.clone(),
            statements: self.statements.clone(),
            table: tables.calls.clone(),
        }
    }

    /// The history table.
    pub fn history(&self, tables: &Tables) -> History {
        History {
            client: self.dynamodb.clone(),
            statements: self.statements.clone(),
            table: tables.history.clone(),
            shards: tables.history_shards.max(1),
        }
    }

    /// The sessions table.
    pub fn sessions(&self, tables: &Tables) -> Sessions {
        Sessions {
            client: self.dynamodb.clone(),
            statements: self.statements.clone(),
            table: tables.sessions.clone(),
        }
    }

    /// The catalog table.
    pub fn catalogs(&self, tables: &Tables) -> Catalogs {
        Catalogs { client: self.dynamodb.clone(), table: tables.catalogs.clone() }
    }

    /// Secrets Manager.
    pub fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// The payloads: those of the fleet are stored in `bucket`, where there is one, if they have more than `threshold` bytes when they
    /// are compressed. Whatever a row or a request refers to is read from where it is.
    pub fn payloads(&self, bucket: Option<String>, threshold: usize) -> Payloads {
        Payloads::new(self.objects.clone(), bucket, threshold)
    }

    /// Who we are, for signing what is no service of the SDK's.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// How many writes travelled in how many requests so far.
    pub fn batching(&self) -> Batching {
        self.statements.batching()
    }
}

/// How long one try of a request may take: well inside a lease of 30 s even when it is tried three times.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The same for a receive, which waits up to 20 s for a message.
const RECEIVE: Duration = Duration::from_secs(30);

pub(crate) fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

async fn load(options: &AwsOptions) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts(ATTEMPT))
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        // Bodies are small and wholly read within the time-outs above.
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
