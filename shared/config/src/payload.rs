//! The bucket of large results, and the objects that requests may name as their arguments.

use toolfleet_aws::payloads::THRESHOLD_BYTES;
use toolfleet_core::payload::{ObjectAt, Sources};

use crate::settings::{ConfigError, number};

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
    /// Reads it through `var`, which gives a variable's value if it is set.
    pub fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        const BUCKET: &str = "TOOLFLEET_PAYLOAD_BUCKET";
        const SOURCES: &str = "TOOLFLEET_PAYLOAD_SOURCES";
        let set = |variable| var(variable).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let bucket = set(BUCKET);
        if let Some(name) = &bucket {
            let text = format!(
                "is `{name}`; give the name of a bucket alone (output PayloadsBucketName of data.yaml)"
            );
            ObjectAt::parse(name, "x").map_err(|_| ConfigError::new(BUCKET, text))?;
        }
        let list = set(SOURCES).unwrap_or_default();
        let sources =
            Sources::parse(bucket.as_deref(), &list).map_err(|text| ConfigError::new(SOURCES, text))?;
        let threshold = number(var, "TOOLFLEET_PAYLOAD_THRESHOLD_BYTES", THRESHOLD_BYTES, 0, 380 * 1024)?;
        Ok(Self { bucket, threshold, sources })
    }
}
