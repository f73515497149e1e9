//! The environment variables with which other programs use the fleet of `toolfleet dev`, as a shell script and as JSON.

use toolfleet_client::shell_command::quoted;
use toolfleet_local::{ACCOUNT_ID, REGION};

use crate::context::variables::Variables;

/// Port of SQS, Secrets Manager and S3 by default.
pub(super) const SQS_PORT: u16 = 9324;
/// Port of DynamoDB by default.
pub(super) const DYNAMODB_PORT: u16 = 8000;
/// Port of the demo MCP server by default.
pub(super) const MCP_PORT: u16 = 8931;
/// Port of the gateway by default.
pub(super) const GATEWAY_PORT: u16 = 8932;
/// Port of the console by default.
pub(super) const CONSOLE_PORT: u16 = 8933;
/// The access key and its secret: the local endpoints accept any.
pub(super) const CREDENTIAL: &str = "toolfleet";
/// The prefix of the names of queues and tables.
pub(super) const PREFIX: &str = "toolfleet";

/// Variables and their values, in the order in which they are printed.
#[derive(Debug, Clone)]
pub(crate) struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// The variables for endpoints at these addresses; S3 and Secrets Manager have the address of SQS.
    pub(super) fn new(sqs_url: &str, dynamodb_url: &str, queue_url: &str) -> Self {
        let pairs = [
            ("AWS_REGION", REGION),
            // boto3 and the aws command before version 2 read only this name.
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", CREDENTIAL),
            ("AWS_SECRET_ACCESS_KEY", CREDENTIAL),
            ("AWS_ENDPOINT_URL_SQS", sqs_url),
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_url),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", sqs_url),
            ("AWS_ENDPOINT_URL_S3", sqs_url),
            ("TOOLFLEET_QUEUE_URL", queue_url),
            ("TOOLFLEET_QUEUE_URL_HIGH", &format!("{queue_url}-high")),
            ("TOOLFLEET_QUEUE_URL_LOW", &format!("{queue_url}-low")),
            ("TOOLFLEET_DEAD_LETTER_QUEUE_URL", &format!("{queue_url}-dlq")),
            ("TOOLFLEET_REAP_AFTER_MS", "0"),
            ("TOOLFLEET_TABLE_PREFIX", PREFIX),
            ("TOOLFLEET_PAYLOAD_BUCKET", &payload_bucket()),
            // The demo server, and other servers on this machine.
            ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8,::1/128"),
            ("TOOLFLEET_ALLOW_HTTP", "true"),
        ];
        Self(pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
    }

    /// The variables by name.
    pub(super) fn variables(&self) -> Variables {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// The same with the catalog that a separate worker needs.
    pub(super) fn with_catalog(mut self, place: String) -> Self {
        self.0.push(("TOOLFLEET_CATALOG", place));
        self
    }

    /// The same with where the number of workers is set.
    pub(super) fn with_scale(mut self, place: String) -> Self {
        self.0.push(("TOOLFLEET_SCALE", place));
        self
    }

    /// The variables as a JSON object.
    pub(super) fn to_json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(value.as_str())))
            .collect()
    }

    /// The variables as lines of a shell script.
    pub(crate) fn exports(&self) -> String {
        let line = |(name, value): &(&str, String)| format!("export {name}={}", quoted(value));
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The bucket that data.yaml makes of prefix, account and region.
pub(super) fn payload_bucket() -> String {
    format!("{PREFIX}-payloads-{ACCOUNT_ID}-{REGION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_blank_or_a_quote_is_quoted() {
        let environment = Environment::new("http://a", "http://b", "http://a/q")
            .with_catalog("/tmp/my 'x/c.json".to_owned());
        let exports = environment.exports();
        assert!(exports.contains("export AWS_ENDPOINT_URL_SQS=http://a\n"), "{exports}");
        assert!(exports.ends_with(r"export TOOLFLEET_CATALOG='/tmp/my '\''x/c.json'"), "{exports}");
    }
}
