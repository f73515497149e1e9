//! The bucket of large results, and the objects that requests may name as their arguments.

use clap::Args;
use toolfleet_aws::payloads::THRESHOLD_BYTES;
use toolfleet_core::payload::{ObjectAt, Sources};

use crate::settings::{self, ConfigError, Variables, number};

/// Where results and arguments by reference are.
#[derive(Debug, Clone)]
pub struct PayloadConfig {
    /// The bucket of large results; without it they end as `result_too_large`.
    pub bucket: Option<String>,
    /// The compressed bytes above which a result goes there.
    pub threshold: usize,
    /// The objects that senders may name.
    pub sources: Sources,
}

impl Default for PayloadConfig {
    fn default() -> Self {
        Self { bucket: None, threshold: THRESHOLD_BYTES, sources: Sources::default() }
    }
}

impl PayloadConfig {
    /// Reads the settings through `variables`.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, ConfigError> {
        Self::of(settings::read(variables)?)
    }

    /// The settings of these arguments.
    ///
    /// # Errors
    /// The sources are no list of buckets.
    pub fn of(args: PayloadArgs) -> Result<Self, ConfigError> {
        let PayloadArgs { bucket, threshold, sources } = args;
        let list = sources.as_deref().map(str::trim).unwrap_or_default();
        let sources = Sources::parse(bucket.as_deref(), list);
        let sources = sources.map_err(|text| ConfigError::new("TOOLFLEET_PAYLOAD_SOURCES", text))?;
        Ok(Self { bucket, threshold, sources })
    }
}

/// The declarations of these settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Payloads")]
pub struct PayloadArgs {
    /// The bucket of results that are too large for a record (output PayloadsBucketName of data.yaml).
    #[arg(
        id = "payload-bucket",
        long = "payload-bucket",
        env = "TOOLFLEET_PAYLOAD_BUCKET",
        hide_env_values = true,
        value_name = "BUCKET",
        value_parser = bucket
    )]
    bucket: Option<String>,
    /// The compressed bytes above which a result goes to the bucket.
    #[arg(
        id = "payload-threshold-bytes",
        long = "payload-threshold-bytes",
        env = "TOOLFLEET_PAYLOAD_THRESHOLD_BYTES",
        hide_env_values = true,
        value_name = "BYTES",
        default_value_t = THRESHOLD_BYTES,
        value_parser = number(0_usize, 380 * 1024)
    )]
    threshold: usize,
    /// Other buckets that requests may refer to, separated by commas: BUCKET, BUCKET/PREFIX/, BUCKET/{tenant}/.
    #[arg(
        id = "payload-sources",
        long = "payload-sources",
        env = "TOOLFLEET_PAYLOAD_SOURCES",
        hide_env_values = true,
        value_name = "LIST"
    )]
    sources: Option<String>,
}

fn bucket(text: &str) -> Result<String, String> {
    let name = text.trim();
    match ObjectAt::parse(name, "x") {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(format!(
            "is `{name}`; give the name of a bucket alone (output PayloadsBucketName of data.yaml)"
        )),
    }
}
