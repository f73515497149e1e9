//! Account, region, ARNs and URLs of the local resources.
//!
//! **Invariant:** a queue is identified by the last part of its URL or ARN; hosts, accounts and regions in a request are not checked.

/// The account that every local resource belongs to.
pub const ACCOUNT_ID: &str = "000000000000";

/// The region named in ARNs. Clients may sign for any other.
pub const REGION: &str = "us-east-1";

pub(crate) fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{name}")
}

pub(crate) fn table_arn(name: &str) -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT_ID}:table/{name}")
}

pub(crate) fn queue_name_of_url(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or(url)
}

pub(crate) fn queue_name_of_arn(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

pub(crate) fn secret_arn(name: &str, random_end: &str) -> String {
    format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:{name}-{random_end}")
}
