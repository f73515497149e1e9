//! Owns the payloads in S3: large results and arguments, each under the digest of its bytes.
//!
//! An object is written once (`If-None-Match: *`) and never changed or deleted by the fleet; the bucket's lifecycle rule ends it. So an
//! upload may be repeated, interrupted or made twice at once, and what a row does not come to refer to vanishes by itself.
//!
//! **Invariant:** bytes that do not have the digest that was asked for are never given out.

use std::fmt;
use std::io::Read as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;
use toolfleet_core::call::CallRow;
use toolfleet_core::digest::sha256;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::payload::{ArgumentsRef, Encoding, ObjectAt, PayloadRef, arguments_key, payload_key};
use toolfleet_core::time::Timestamp;

use crate::calls::{Calls, LARGE_BYTES, TRYING, beside};
use crate::connect::timeouts;
use crate::error::AwsError;
use crate::item::{MOST_BYTES, gzipped};

/// The compressed bytes above which a result costs more in its row than in the bucket.
pub const THRESHOLD_BYTES: usize = 9 * 1024;
/// How long one try may take: 16 MiB at 3 Mbit/s.
const ATTEMPT: Duration = Duration::from_secs(45);
/// How often an upload is begun anew that met another one of the same object.
const CONFLICTS: u32 = 3;

/// The client, made when it is first needed: a fleet without a bucket has none.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Lazy>);

struct Lazy {
    config: SdkConfig,
    endpoint: Option<String>,
    client: OnceLock<Client>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl Objects {
    pub(crate) fn new(config: SdkConfig, endpoint: Option<String>) -> Self {
        Self(Arc::new(Lazy { config, endpoint, client: OnceLock::new() }))
    }

    fn client(&self) -> &Client {
        let Lazy { config, endpoint, client } = &*self.0;
        client.get_or_init(|| {
            let mut own = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts(ATTEMPT));
            if endpoint.is_some() {
                own.set_endpoint_url(endpoint.clone());
                own.set_force_path_style(Some(true));
            }
            Client::from_conf(own.build())
        })
    }
}

/// Why a payload cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// There is no such object.
    #[error("payload_missing: the object {0} does not exist; it expired, or somebody deleted it")]
    Missing(ObjectAt),
    /// The object is another one than was referred to.
    #[error("payload_altered: the object {at} is not the one that was stored: {how}")]
    Altered {
        /// Where it is.
        at: ObjectAt,
        /// In which way.
        how: String,
    },
    /// The object has more bytes than are accepted.
    #[error("the object {at} has more than {most} bytes, the most that are accepted")]
    TooLarge {
        /// Where it is.
        at: ObjectAt,
        /// How many are accepted.
        most: u64,
    },
    /// S3 did not answer, or does not let us.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PayloadError {
    /// The word by which the runbook explains it, where the payload itself is at fault.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => Some("payload_missing"),
            Self::Altered { .. } => Some("payload_altered"),
            Self::TooLarge { .. } | Self::Aws(_) => None,
        }
    }
}

/// A result as it is to be stored.
#[derive(Debug)]
pub enum Packed {
    /// In the row.
    Inline(Outcome),
    /// In the bucket; it still has to be uploaded.
    Large(Box<Upload>),
}

/// Bytes to upload, and the outcome whose result they are.
#[derive(Debug)]
pub struct Upload {
    outcome: Outcome,
    bytes: bytes::Bytes,
    sha256: String,
    encoding: Encoding,
    plain_bytes: u64,
    fits_row: bool,
}

impl Upload {
    /// How many bytes the result has.
    pub const fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// The outcome as a row holds it, if it does.
    ///
    /// # Errors
    /// The upload itself, whose result is larger than a row holds.
    pub fn into_row(self: Box<Self>) -> Result<Outcome, Box<Self>> {
        if self.fits_row { Ok(self.outcome) } else { Err(self) }
    }

    /// The outcome without the result that could not be stored.
    pub fn into_outcome(self) -> Outcome {
        self.outcome
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

    /// How the outcome is stored.
    ///
    /// # Errors
    /// The size of a result that fits into no row, where there is no bucket.
    pub async fn pack(&self, outcome: Outcome) -> Result<Packed, usize> {
        let bytes = outcome.content.as_ref().map_or(0, |content| content.get().len());
        if self.bucket.is_none() || bytes <= self.threshold {
            return Calls::fitting(outcome).await.map(Packed::Inline);
        }
        let threshold = self.threshold;
        let work = move || packed(outcome, threshold);
        if bytes < LARGE_BYTES { Ok(work()) } else { beside(&TRYING, work).await.ok_or(bytes) }
    }

    /// Uploads a result; gives the outcome that refers to it.
    pub async fn store(&self, upload: &Upload, tenant: &Tenant, now: Timestamp) -> Result<Outcome, AwsError> {
        let Upload { outcome, bytes, sha256, encoding, plain_bytes, .. } = upload;
        let key = payload_key(tenant, now, sha256);
        let stored = self.put(key, bytes, sha256, *encoding, *plain_bytes).await?;
        let (kind, trouble) = (outcome.kind, outcome.error.clone());
        Ok(Outcome { kind, error: trouble, content: None, stored: Some(Box::new(stored)) })
    }

    /// Uploads arguments; gives what refers to them in a request.
    pub async fn store_arguments(
        &self,
        arguments: &RawValue,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<ArgumentsRef, AwsError> {
        let text = arguments.get().to_owned();
        let plain_bytes = text.len() as u64;
        let compress = move || Bytes::of(text);
        let failed = || AwsError::passing("arguments could not be compressed");
        let Bytes { bytes, sha256, encoding } = beside(&TRYING, compress).await.ok_or_else(failed)?;
        let key = arguments_key(tenant, now, &sha256);
        let stored = self.put(key, &bytes, &sha256, encoding, plain_bytes).await?;
        Ok(ArgumentsRef::from(&stored))
    }

    async fn put(
        &self,
        key: String,
        bytes: &bytes::Bytes,
        sha256: &str,
        encoding: Encoding,
        plain_bytes: u64,
    ) -> Result<PayloadRef, AwsError> {
        let Some(bucket) = self.bucket() else {
            return Err(AwsError::configuration("TOOLFLEET_PAYLOAD_BUCKET is not set"));
        };
        let checksum = STANDARD.encode(hex::decode(sha256).unwrap_or_default());
        let resource = format!("bucket {bucket}");
        let mut conflicts = 0;
        loop {
            let request = self.objects.client().put_object().bucket(bucket).key(&key);
            let encoded = (encoding == Encoding::Gzip).then(|| encoding.as_str().to_owned());
            let request = request
                .body(ByteStream::from(bytes.clone()))
                .checksum_sha256(&checksum)
                .if_none_match("*")
                .content_type("application/json")
                .set_content_encoding(encoded);
            match Box::pin(request.send()).await {
                Ok(_) => break,
                Err(error) => match status_of(&error) {
                    // It is there already, and its key is its digest.
                    Some(412) => break,
                    Some(409) if conflicts < CONFLICTS => conflicts += 1,
                    Some(_) | None => return Err(AwsError::of_sdk("PutObject", &resource, &error)),
                },
            }
        }
        let at = ObjectAt { bucket: bucket.to_owned(), key, version_id: None };
        let bytes = bytes.len() as u64;
        Ok(PayloadRef { at, sha256: sha256.to_owned(), bytes, encoding, plain_bytes })
    }

    /// A stored result.
    pub async fn content(&self, stored: &PayloadRef) -> Result<Box<RawValue>, PayloadError> {
        let PayloadRef { at, sha256, bytes, encoding, plain_bytes } = stored;
        let object = self.object(at, *bytes).await?;
        let plain = checked(object, at, Some(sha256), Some(*bytes), *encoding, *plain_bytes).await?;
        let altered = |how: &str| PayloadError::Altered { at: at.clone(), how: how.to_owned() };
        if plain.len() as u64 != *plain_bytes {
            return Err(altered("its length is another one"));
        }
        RawValue::from_string(plain).map_err(|_| altered("it is not JSON"))
    }

    /// Puts the stored result of a row that has ended, if it has one, into the row.
    pub async fn fill(&self, row: &mut CallRow) -> Result<(), PayloadError> {
        if let Some(finished) = &mut row.finished
            && let Some(stored) = &finished.outcome.stored
        {
            finished.outcome.content = Some(self.content(stored).await?);
        }
        Ok(())
    }

    /// The text of an object that somebody else stored, of at most `most` bytes both as it is stored and when it is read.
    pub async fn text(
        &self,
        at: &ObjectAt,
        sha256: Option<&str>,
        bytes: Option<u64>,
        encoding: Encoding,
        most: u64,
    ) -> Result<String, PayloadError> {
        let object = self.object(at, most).await?;
        checked(object, at, sha256, bytes, encoding, most).await
    }

    /// Whether the bucket exists and answers.
    pub async fn check(&self) -> Result<(), AwsError> {
        let Some(bucket) = self.bucket() else {
            return Ok(());
        };
        let nobody = ObjectAt { bucket: bucket.to_owned(), key: "_start".into(), version_id: None };
        match self.object(&nobody, 0).await {
            Ok(_)
            | Err(PayloadError::Missing(_) | PayloadError::TooLarge { .. } | PayloadError::Altered { .. }) => {
                Ok(())
            }
            Err(PayloadError::Aws(trouble)) => Err(trouble),
        }
    }

    async fn object(&self, at: &ObjectAt, most: u64) -> Result<Vec<u8>, PayloadError> {
        let request = self.objects.client().get_object().bucket(&at.bucket).key(&at.key);
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
        let too_large = || PayloadError::TooLarge { at: at.clone(), most };
        let length = got.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if length > most {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut body = got.body;
        let broken =
            |e| PayloadError::Aws(AwsError::passing(format!("GetObject on bucket {}: {e}", at.bucket)));
        while let Some(part) = body.try_next().await.map_err(broken)? {
            if (bytes.len() + part.len()) as u64 > most {
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

/// Text in the form in which it is stored.
struct Bytes {
    bytes: bytes::Bytes,
    sha256: String,
    encoding: Encoding,
}

impl Bytes {
    fn of(text: String) -> Self {
        let compressed = gzipped(&text, text.len()).filter(|gz| gz.len() < text.len());
        Self::encoded(text, compressed)
    }

    fn encoded(text: String, compressed: Option<Vec<u8>>) -> Self {
        let (bytes, encoding) = match compressed {
            Some(gz) => (gz, Encoding::Gzip),
            None => (text.into_bytes(), Encoding::Identity),
        };
        Self { sha256: sha256(&bytes), bytes: bytes.into(), encoding }
    }
}

/// The outcome in the form in which it is stored; its content is longer than the threshold.
fn packed(outcome: Outcome, threshold: usize) -> Packed {
    let text = outcome.content.as_ref().map_or("", |content| content.get());
    let compressed = gzipped(text, text.len()).filter(|gz| gz.len() < text.len());
    let length = compressed.as_ref().map_or(text.len(), Vec::len);
    if length <= threshold {
        return Packed::Inline(outcome);
    }
    let sentence = outcome.error.as_ref().map_or(0, |why| why.message.len());
    let (plain_bytes, fits_row) = (text.len() as u64, length.saturating_add(sentence) <= MOST_BYTES);
    let Bytes { bytes, sha256, encoding } = Bytes::encoded(text.to_owned(), compressed);
    Packed::Large(Box::new(Upload { bytes, sha256, encoding, plain_bytes, fits_row, outcome }))
}

/// The text that an object holds, if it is the one that was referred to.
async fn checked(
    object: Vec<u8>,
    at: &ObjectAt,
    digest: Option<&str>,
    bytes: Option<u64>,
    encoding: Encoding,
    most: u64,
) -> Result<String, PayloadError> {
    let (at, digest) = (at.clone(), digest.map(str::to_owned));
    let large = object.len() >= LARGE_BYTES || encoding == Encoding::Gzip;
    let work = move || text_of(object, at, digest, bytes, encoding, most);
    if !large {
        return work();
    }
    let failed = || PayloadError::Aws(AwsError::passing("a payload could not be read"));
    beside(&TRYING, work).await.ok_or_else(failed)?
}

fn text_of(
    object: Vec<u8>,
    at: ObjectAt,
    digest: Option<String>,
    bytes: Option<u64>,
    encoding: Encoding,
    most: u64,
) -> Result<String, PayloadError> {
    let altered = |how: String| Err(PayloadError::Altered { at: at.clone(), how });
    if let Some(bytes) = bytes.filter(|bytes| *bytes != object.len() as u64) {
        return altered(format!("it has {} bytes, and {bytes} were stored", object.len()));
    }
    if digest.is_some_and(|digest| sha256(&object) != digest) {
        return altered("its SHA-256 is another one".to_owned());
    }
    let plain = match encoding {
        Encoding::Identity => object,
        Encoding::Gzip => {
            let mut plain = Vec::new();
            let mut reader = MultiGzDecoder::new(object.as_slice()).take(most.saturating_add(1));
            if reader.read_to_end(&mut plain).is_err() {
                return altered("it is not gzip".to_owned());
            }
            plain
        }
    };
    if plain.len() as u64 > most {
        return Err(PayloadError::TooLarge { at, most });
    }
    match String::from_utf8(plain) {
        Ok(text) => Ok(text),
        Err(_) => altered("it is not UTF-8 text".to_owned()),
    }
}
