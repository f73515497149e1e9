//! What every test starts from: endpoints on free ports, a manual clock, and SDK clients for them.
//!
//! **Invariant:** each test has its own endpoints, so that tests run side by side.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};

/// Some day in 2027.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

pub(crate) struct Local {
    pub(crate) endpoints: LocalEndpoints,
    pub(crate) clock: Clock,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
}

impl Local {
    pub(crate) async fn start() -> Self {
        Self::start_with(LocalOptions::default()).await
    }

    /// Starts with a clock of its own that stands still.
    pub(crate) async fn start_with(options: LocalOptions) -> Self {
        let clock = Clock::manual(START_MS);
        Self::start_at(clock, options).await
    }

    pub(crate) async fn start_at(clock: Clock, options: LocalOptions) -> Self {
        let endpoints =
            LocalEndpoints::start(LocalOptions { clock: clock.clone(), ..options }).await.unwrap();
        let (sqs, dynamodb, secrets) = clients(endpoints.sqs_url(), endpoints.dynamodb_url());
        Self { endpoints, clock, sqs, dynamodb, secrets }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        self.endpoints.queue_url(name)
    }
}

/// Clients as the product makes them: any region, any credentials, an endpoint URL.
pub(crate) fn clients(
    sqs_url: &str,
    dynamodb_url: &str,
) -> (aws_sdk_sqs::Client, aws_sdk_dynamodb::Client, aws_sdk_secretsmanager::Client) {
    let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
    let config = aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let at = |url: &str| config.to_builder().endpoint_url(url).build();
    (
        aws_sdk_sqs::Client::new(&at(sqs_url)),
        aws_sdk_dynamodb::Client::new(&at(dynamodb_url)),
        aws_sdk_secretsmanager::Client::new(&at(sqs_url)),
    )
}
