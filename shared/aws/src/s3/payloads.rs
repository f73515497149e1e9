//! The payloads in S3: large results and arguments, each under the digest of its bytes.
//!
//! An object is written once (`If-None-Match: *`); the fleet never changes or deletes it. The bucket's lifecycle rule deletes it. So an
//! upload can be repeated, interrupted or made twice at once, and an object that no row refers to is deleted in time.

use std::sync::Arc;

use serde_json::value::RawValue;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{Outcome, Payload};
use toolfleet_core::payload::{ArgumentsRef, Encoding, MAX_PAYLOAD_BYTES, ObjectAt, PayloadRef};
use toolfleet_core::time::Timestamp;

use super::check::checked;
pub use super::error::PayloadError;
use super::objects::Objects;
use super::packing::{Encoded, pack};
pub use super::packing::{Packed, Upload};
use crate::blocking::{self, LARGE_BYTES};
use crate::dynamodb::calls::Calls;
use crate::error::AwsError;
use crate::keys;

/// The compressed bytes above which a result costs more in its row than in the bucket.
pub const THRESHOLD_BYTES: usize = 9 * 1024;

/// Reads objects whole.
#[derive(Debug, Clone)]
pub struct ObjectReader(pub(crate) Objects);

impl ObjectReader {
    /// The bytes of an object, at most `max`.
    ///
    /// # Errors
    /// It is not there or larger, or S3 does not answer.
    pub async fn read(&self, at: &ObjectAt, max: u64) -> Result<Vec<u8>, PayloadError> {
        self.0.get(at, max).await
    }
}

/// The payloads of a fleet.
#[derive(Debug, Clone)]
pub struct Payloads {
    objects: Objects,
    bucket: Option<Arc<str>>,
    threshold: usize,
}

impl Payloads {
    pub(crate) fn new(objects: Objects, bucket: Option<String>, threshold: usize) -> Self {
        Self { objects, bucket: bucket.map(Arc::from), threshold }
    }

    /// The bucket that payloads are stored in, if there is one.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// The outcome in the form in which it is stored: in the row, or in the bucket where it is larger than the threshold.
    ///
    /// # Errors
    /// There is no bucket, and the result does not fit into a row; its size in bytes.
    pub async fn pack(&self, outcome: Outcome) -> Result<Packed, usize> {
        let bytes = outcome.content().map_or(0, |content| content.get().len());
        if self.bucket.is_none() || bytes <= self.threshold {
            return Calls::fitting(outcome).await.map(Packed::Inline);
        }
        let threshold = self.threshold;
        let work = move || pack(outcome, threshold);
        if bytes < LARGE_BYTES {
            Ok(work())
        } else {
            blocking::run(&blocking::PAYLOADS, work).await.ok_or(bytes)
        }
    }

    /// Uploads a result; returns the outcome that refers to it.
    pub async fn store(&self, upload: &Upload, tenant: &Tenant, now: Timestamp) -> Result<Outcome, AwsError> {
        let key = keys::result_object(tenant, now, &upload.object().sha256);
        let stored = self.put(key, upload.object(), upload.plain_bytes()).await?;
        let (whole, payload) = (upload.outcome(), Some(Payload::Stored(Box::new(stored))));
        Ok(Outcome { kind: whole.kind, error: whole.error.clone(), payload, source: whole.source.clone() })
    }

    /// Uploads arguments; returns the reference for a request.
    pub async fn store_arguments(
        &self,
        arguments: &RawValue,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<ArgumentsRef, AwsError> {
        let text = arguments.get().to_owned();
        let plain_bytes = text.len() as u64;
        let compress = move || Encoded::of(text);
        let failed = || AwsError::passing("arguments could not be compressed");
        let object = blocking::run(&blocking::PAYLOADS, compress).await.ok_or_else(failed)?;
        let key = keys::arguments_object(tenant, now, &object.sha256);
        let stored = self.put(key, &object, plain_bytes).await?;
        Ok(ArgumentsRef::from(&stored))
    }

    /// The arguments of a reference that [`Payloads::store_arguments`] gave.
    pub async fn arguments(&self, stored: &ArgumentsRef) -> Result<Box<RawValue>, PayloadError> {
        let invalid =
            |problem: String| AwsError::configuration(format!("a reference to arguments: {problem}"));
        let (at, sha256) = stored.object().map_err(|error| invalid(error.problem))?;
        let text = self.text(&at, Some(&sha256), stored.bytes, stored.encoding, MAX_PAYLOAD_BYTES).await?;
        let altered = |_| PayloadError::Altered { at, how: "it is not JSON".to_owned() };
        RawValue::from_string(text).map_err(altered)
    }

    /// Stores the answer of that name, unless there is one already: the first one stands.
    pub async fn store_answer(&self, tenant: &Tenant, name: &str, text: String) -> Result<(), AwsError> {
        let plain_bytes = text.len() as u64;
        let key = keys::answer_object(tenant, name);
        self.put(key, &Encoded::plain(text), plain_bytes).await.map(drop)
    }

    /// The answer of that name, if there is one.
    pub async fn answer(&self, tenant: &Tenant, name: &str) -> Result<Option<String>, PayloadError> {
        let Some(bucket) = self.bucket() else { return Ok(None) };
        let at =
            ObjectAt { bucket: bucket.to_owned(), key: keys::answer_object(tenant, name), version_id: None };
        match self.text(&at, None, None, Encoding::Identity, MAX_PAYLOAD_BYTES).await {
            Ok(text) => Ok(Some(text)),
            Err(PayloadError::Missing(_)) => Ok(None),
            Err(
                error @ (PayloadError::Aws(_) | PayloadError::Altered { .. } | PayloadError::TooLarge { .. }),
            ) => Err(error),
        }
    }

    async fn put(&self, key: String, object: &Encoded, plain_bytes: u64) -> Result<PayloadRef, AwsError> {
        let Some(bucket) = self.bucket() else {
            return Err(AwsError::configuration("TOOLFLEET_PAYLOAD_BUCKET is not set"));
        };
        let at = ObjectAt { bucket: bucket.to_owned(), key, version_id: None };
        self.objects.put(&at, object).await?;
        let (sha256, bytes, encoding) = (object.sha256.clone(), object.bytes.len() as u64, object.encoding);
        Ok(PayloadRef { at, sha256, bytes, encoding, plain_bytes })
    }

    /// The content of a stored result.
    pub async fn content(&self, stored: &PayloadRef) -> Result<Box<RawValue>, PayloadError> {
        let PayloadRef { at, sha256, bytes, encoding, plain_bytes } = stored;
        let object = self.objects.get(at, *bytes).await?;
        let plain = checked(object, at, Some(sha256), Some(*bytes), *encoding, *plain_bytes).await?;
        let altered = |how: &str| PayloadError::Altered { at: at.clone(), how: how.to_owned() };
        if plain.len() as u64 != *plain_bytes {
            return Err(altered("its length is another one"));
        }
        RawValue::from_string(plain).map_err(|_| altered("it is not JSON"))
    }

    /// Reads the stored result of a finished row, if it has one, into the row.
    pub async fn fill(&self, row: &mut CallRow) -> Result<(), PayloadError> {
        if let Some(finished) = &mut row.finished
            && let Some(stored) = finished.outcome.stored()
        {
            finished.outcome.payload = Some(Payload::Inline(self.content(stored).await?));
        }
        Ok(())
    }

    /// The text of an object that another program stored, of at most `max` bytes both as stored and decoded.
    pub async fn text(
        &self,
        at: &ObjectAt,
        sha256: Option<&str>,
        bytes: Option<u64>,
        encoding: Encoding,
        max: u64,
    ) -> Result<String, PayloadError> {
        let object = self.objects.get(at, max).await?;
        checked(object, at, sha256, bytes, encoding, max).await
    }

    /// Whether the bucket exists and answers.
    pub async fn check(&self) -> Result<(), AwsError> {
        let Some(bucket) = self.bucket() else {
            return Ok(());
        };
        let missing = ObjectAt { bucket: bucket.to_owned(), key: "_start".into(), version_id: None };
        match self.objects.get(&missing, 0).await {
            Ok(_)
            | Err(PayloadError::Missing(_) | PayloadError::TooLarge { .. } | PayloadError::Altered { .. }) => {
                Ok(())
            }
            Err(PayloadError::Aws(error)) => Err(error),
        }
    }
}
