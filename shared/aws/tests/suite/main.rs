//! The tests of the AWS layer against the embedded endpoints, through the official SDKs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod direct;
mod error;
mod fleet;
mod groups;
mod history_pages;
mod limits;
mod queue;
mod sessions;
mod stub;
mod tables;

use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};

const START_MS: u64 = 1_795_000_000_000;

struct World {
    local: LocalEndpoints,
    clock: Clock,
    aws: Aws,
}

async fn world() -> World {
    let clock = Clock::manual(START_MS);
    let options = LocalOptions { clock: clock.clone(), ..LocalOptions::default() };
    let local = LocalEndpoints::start(options).await.expect("the local endpoints start");
    let aws = Aws::connect(AwsOptions {
        region: Some("us-east-1".into()),
        sqs_endpoint: Some(local.sqs_url().into()),
        dynamodb_endpoint: Some(local.dynamodb_url().into()),
        secrets_endpoint: Some(local.secretsmanager_url().into()),
        s3_endpoint: Some(local.s3_url().into()),
        static_credentials: Some(("AKIATEST".into(), "very-secret".into())),
        ..AwsOptions::default()
    })
    .await;
    World { local, clock, aws }
}

#[test]
fn options_never_print_the_secret_key() {
    let options = AwsOptions {
        static_credentials: Some(("AKIATEST".into(), "very-secret".into())),
        ..AwsOptions::default()
    };
    assert!(!format!("{options:?}").contains("very-secret"));
}
