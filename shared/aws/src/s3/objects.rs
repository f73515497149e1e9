//! Reads and writes whole objects.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, LifecycleRuleFilter};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toolfleet_core::payload::{Encoding, ObjectAt};

use super::error::PayloadError;
use super::packing::Encoded;
use crate::error::AwsError;
use crate::time_outs::{OBJECT_ATTEMPT, time_outs};
use crate::usage::Usage;

/// How often an upload is repeated that conflicts with a concurrent upload of the same object.
const MAX_CONFLICTS: u32 = 3;

/// The client of S3, made when it is first used: a fleet without a bucket has none.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Lazy>);

struct Lazy {
    config: SdkConfig,
    endpoint: Option<String>,
    usage: Usage,
    client: OnceLock<Client>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl Objects {
    pub(crate) fn new(config: SdkConfig, endpoint: Option<String>, usage: Usage) -> Self {
        Self(Arc::new(Lazy { config, endpoint, usage, client: OnceLock::new() }))
    }

    fn client(&self) -> &Client {
        let Lazy { config, endpoint, usage, client } = &*self.0;
        client.get_or_init(|| {
            let mut own = aws_sdk_s3::config::Builder::from(config)
                .timeout_config(time_outs(OBJECT_ATTEMPT))
                .interceptor(usage.of("S3"));
            if endpoint.is_some() {
                own.set_endpoint_url(endpoint.clone());
                own.set_force_path_style(Some(true));
            }
            Client::from_conf(own.build())
        })
    }

    /// After how many days objects end by a rule that holds for all of them; none where there is no such rule.
    pub(crate) async fn end_after_days(&self, bucket: &str) -> Result<Option<i32>, AwsError> {
        let asked = self.client().get_bucket_lifecycle_configuration().bucket(bucket);
        let rules = match Box::pin(asked.send()).await {
            Ok(got) => got.rules.unwrap_or_default(),
            Err(error) => match error.as_service_error().and_then(|e| e.code()) {
                Some("NoSuchLifecycleConfiguration") => Vec::new(),
                Some(_) | None => {
                    let resource = format!("bucket {bucket}");
                    return Err(AwsError::of_sdk("GetBucketLifecycleConfiguration", &resource, &error));
                }
            },
        };
        let whole = |rule: &&LifecycleRule| {
            let filter = rule.filter.as_ref();
            let part = |f: &LifecycleRuleFilter| {
                f.prefix.as_ref().is_some_and(|prefix| !prefix.is_empty())
                    || f.tag.is_some()
                    || f.and.is_some()
                    || f.object_size_greater_than.is_some()
                    || f.object_size_less_than.is_some()
            };
            rule.status == ExpirationStatus::Enabled && !filter.is_some_and(part)
        };
        Ok(rules.iter().filter(whole).filter_map(|rule| rule.expiration.as_ref()?.days).min())
    }

    /// Stores an object, unless it exists already: its key names its digest.
    pub(crate) async fn put(&self, at: &ObjectAt, object: &Encoded) -> Result<(), AwsError> {
        let checksum = STANDARD.encode(hex::decode(&object.sha256).unwrap_or_default());
        let resource = format!("bucket {}", at.bucket);
        let mut conflicts = 0;
        loop {
            let request = self.client().put_object().bucket(&at.bucket).key(&at.key);
            let encoding = object.encoding;
            let encoding = (encoding == Encoding::Gzip).then(|| encoding.as_str().to_owned());
            let request = request
                .body(ByteStream::from(object.bytes.clone()))
                .checksum_sha256(&checksum)
                .if_none_match("*")
                .content_type("application/json")
                .set_content_encoding(encoding);
            match Box::pin(request.send()).await {
                Ok(_) => return Ok(()),
                Err(error) => match status_of(&error) {
                    // It exists.
                    Some(412) => return Ok(()),
                    Some(409) if conflicts < MAX_CONFLICTS => conflicts += 1,
                    Some(_) | None => return Err(AwsError::of_sdk("PutObject", &resource, &error)),
                },
            }
        }
    }

    /// The bytes of an object, at most `max`.
    pub(crate) async fn get(&self, at: &ObjectAt, max: u64) -> Result<Vec<u8>, PayloadError> {
        let request = self.client().get_object().bucket(&at.bucket).key(&at.key);
        let got = match Box::pin(request.set_version_id(at.version_id.clone()).send()).await {
            Ok(got) => got,
            Err(error) => {
                let code = error.as_service_error().and_then(|e| e.code());
                return Err(match code {
                    Some("NoSuchKey" | "NoSuchVersion" | "InvalidObjectState") => {
                        PayloadError::Missing(at.clone())
                    }
                    Some(_) | None => PayloadError::Aws(AwsError::of_sdk(
                        "GetObject",
                        &format!("bucket {}", at.bucket),
                        &error,
                    )),
                });
            }
        };
        let too_large = || PayloadError::TooLarge { at: at.clone(), max };
        let length = got.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if length > max {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut body = got.body;
        let broken =
            |e| PayloadError::Aws(AwsError::passing(format!("GetObject on bucket {}: {e}", at.bucket)));
        while let Some(part) = body.try_next().await.map_err(broken)? {
            if (bytes.len() + part.len()) as u64 > max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }
}

fn status_of<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
