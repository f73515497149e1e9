//! Payloads by reference: where an object with a result or with arguments is, its digest, and which objects a tenant may name.
//!
//! **Invariant:** a tenant reaches objects below its own prefix of the fleet's bucket, and in buckets that an operator listed; no other.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Tenant;

/// The largest payload, as it is and after decompression, in bytes.
pub const MAX_PAYLOAD_BYTES: u64 = 16 * 1024 * 1024;
/// The longest key of an object in bytes (S3 quota).
const LONGEST_KEY: usize = 1_024;
/// The placeholder of the tenant in a source.
const TENANT: &str = "{tenant}";

/// How the bytes of an object are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity,
    /// By gzip.
    Gzip,
}

impl Encoding {
    /// The word in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectAt {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Which of its versions; the latest by default.
    pub version_id: Option<String>,
}

impl fmt::Display for ObjectAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// A payload that this fleet stored: a call's result, or arguments that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadRef {
    /// Where it is.
    pub at: ObjectAt,
    /// The SHA-256 of the stored bytes, in lower-case hex.
    pub sha256: String,
    /// How many bytes are stored.
    pub bytes: u64,
    /// How they are encoded.
    pub encoding: Encoding,
    /// How many bytes the payload has without the encoding.
    pub plain_bytes: u64,
}

/// Arguments by reference, as a request names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArgumentsRef {
    /// The bucket of the object.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The key of the object.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
    /// The SHA-256 of the object's bytes as they are stored: 64 hexadecimal digits, or base64 as S3 gives it.
    #[schemars(length(min = 43, max = 64))]
    pub sha256: String,
    /// How many bytes are stored, where that is to be checked as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub bytes: Option<u64>,
    /// How the bytes are encoded; `identity` by default.
    #[serde(default, skip_serializing_if = "is_identity")]
    pub encoding: Encoding,
    /// Which version of the object; the latest by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub version_id: Option<String>,
}

/// The signature is serde's.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_identity(encoding: &Encoding) -> bool {
    *encoding == Encoding::Identity
}

/// What is wrong with a reference: which of its fields, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    /// The field of the reference.
    pub field: &'static str,
    /// What is wrong, without the value.
    pub problem: String,
}

impl ArgumentsRef {
    /// The object, if bucket, key and digest can be such; with the digest in hex.
    pub fn object(&self) -> Result<(ObjectAt, String), ReferenceError> {
        let at = ObjectAt::parse(&self.bucket, &self.key)?;
        let sha256 = digest_of(&self.sha256)?;
        if self.bytes.is_some_and(|bytes| bytes == 0 || bytes > MAX_PAYLOAD_BYTES) {
            return Err(wrong("bytes", format!("accepted are 1 to {MAX_PAYLOAD_BYTES}")));
        }
        if self.version_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_KEY) {
            return Err(wrong("version_id", format!("must have 1 to {LONGEST_KEY} bytes")));
        }
        Ok((ObjectAt { version_id: self.version_id.clone(), ..at }, sha256))
    }
}

impl From<&PayloadRef> for ArgumentsRef {
    fn from(payload: &PayloadRef) -> Self {
        let ObjectAt { bucket, key, version_id } = payload.at.clone();
        let (bytes, encoding) = (Some(payload.bytes), payload.encoding);
        Self { bucket, key, sha256: payload.sha256.clone(), bytes, encoding, version_id }
    }
}

impl ObjectAt {
    /// The object of that bucket and key, if there can be such. A key with `.` or `..` as a part is refused: a proxy may
    /// resolve it, and so lead out of a prefix.
    pub fn parse(bucket: &str, key: &str) -> Result<Self, ReferenceError> {
        let of_a_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(of_a_bucket) {
            let problem = "is not the name of a bucket: accepted are 3 to 63 characters of a-z 0-9 . -";
            return Err(wrong("bucket", problem));
        }
        if key.is_empty() || key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
            let problem = format!("must have 1 to {LONGEST_KEY} bytes and no control characters");
            return Err(wrong("key", problem));
        }
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(wrong("key", "has `.` or `..` as a part of its path; give the key as it is stored"));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None })
    }
}

fn wrong(field: &'static str, problem: impl Into<String>) -> ReferenceError {
    ReferenceError { field, problem: problem.into() }
}

fn digest_of(text: &str) -> Result<String, ReferenceError> {
    let bytes = match text.len() {
        64 => hex::decode(text).ok(),
        44 => STANDARD.decode(text).ok(),
        43 => STANDARD_NO_PAD.decode(text).ok(),
        _ => None,
    };
    let bytes = bytes.filter(|bytes| bytes.len() == 32);
    let problem = "is no SHA-256: accepted are 64 hexadecimal digits, or the same in base64";
    bytes.map(hex::encode).ok_or_else(|| wrong("sha256", problem))
}

/// The prefix of a tenant's objects: its name percent-encoded as by Python's `urllib.parse.quote(tenant, safe="")`, and a slash.
pub fn tenant_prefix(tenant: &Tenant) -> String {
    let name = tenant.as_str();
    // A name of dots alone would be a part of a path that is resolved.
    let only_dots = name.chars().all(|c| c == '.');
    let mut prefix = String::with_capacity(name.len() + 1);
    for byte in name.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'~') || byte == b'.' && !only_dots;
        match plain {
            true => prefix.push(char::from(byte)),
            false => prefix.push_str(&format!("%{byte:02X}")),
        }
    }
    prefix.push('/');
    prefix
}

/// The tenant that a part of a path names, as [`tenant_prefix`] writes it.
fn tenant_of(part: &str) -> Option<Tenant> {
    let mut bytes = part.bytes();
    let mut name = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            name.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            name.push(byte);
        }
    }
    Tenant::parse(String::from_utf8(name).ok()?).ok()
}

/// The objects that senders may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

/// A bucket, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    bucket: String,
    /// The prefix before the tenant's name, or the whole prefix.
    head: String,
    /// What follows the tenant's name, where it is a part.
    tail: Option<String>,
}

impl Sources {
    /// The fleet's own bucket, where each tenant may name what lies below its own prefix, and a list of others:
    /// `bucket`, `bucket/prefix/`, `bucket/{tenant}/`, separated by commas.
    ///
    /// # Errors
    /// What is wrong with the list, and what is accepted.
    pub fn parse(own: Option<&str>, list: &str) -> Result<Self, String> {
        let mut sources = Vec::new();
        if let Some(bucket) = own {
            let (head, tail) = (String::new(), Some("/".to_owned()));
            sources.push(Source { bucket: bucket.to_owned(), head, tail });
        }
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let source = Source::parse(entry)?;
            if own == Some(source.bucket.as_str()) {
                return Err(format!(
                    "`{entry}` names the fleet's own bucket, of which each tenant reads its own part already; leave it out"
                ));
            }
            sources.push(source);
        }
        Ok(Self(sources))
    }

    /// Whether `tenant` may name that object.
    pub fn open(&self, tenant: &Tenant, at: &ObjectAt) -> bool {
        self.0.iter().any(|source| source.opens(tenant, at))
    }

    /// Whether a sender may name the object that may speak for those tenants: one of those tenants may, or the place is open to every sender.
    pub fn open_to_sender(&self, at: &ObjectAt, may_speak_for: impl Fn(&Tenant) -> bool) -> bool {
        self.open(&Tenant::undecodable(), at)
            || at
                .key
                .split('/')
                .filter_map(tenant_of)
                .any(|tenant| may_speak_for(&tenant) && self.open(&tenant, at))
    }

    /// Whether no object may be named.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Source {
    fn parse(entry: &str) -> Result<Self, String> {
        let (bucket, prefix) = entry.split_once('/').unwrap_or((entry, ""));
        let accepted = "accepted are BUCKET, BUCKET/PREFIX/ and BUCKET/{tenant}/, where {tenant} is a whole part of the path";
        let object = ObjectAt::parse(bucket, "x");
        let object = object.map_err(|_| format!("`{entry}` names no bucket; {accepted}"))?;
        let (head, tail) = match prefix.split_once(TENANT) {
            None => (prefix, None),
            Some((head, tail)) => (head, Some(tail.to_owned())),
        };
        let whole_part = |tail: &str| (head.is_empty() || head.ends_with('/')) && tail.starts_with('/');
        let strange =
            head.contains(['{', '}']) || tail.as_ref().is_some_and(|tail| tail.contains(['{', '}']));
        let cut = tail.is_none() && !head.is_empty() && !head.ends_with('/');
        if strange || cut || tail.as_deref().is_some_and(|tail| !whole_part(tail)) {
            return Err(format!("`{entry}` is no source; {accepted}"));
        }
        Ok(Self { bucket: object.bucket, head: head.to_owned(), tail })
    }

    fn opens(&self, tenant: &Tenant, at: &ObjectAt) -> bool {
        if at.bucket != self.bucket {
            return false;
        }
        let Some(rest) = at.key.strip_prefix(&self.head) else {
            return false;
        };
        let Some(tail) = &self.tail else {
            return true;
        };
        // The prefix ends with the slash that the tail begins with.
        let prefix = tenant_prefix(tenant);
        rest.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.starts_with(tail))
    }
}

/// The names of the pointer's class in the bodies of the SQS extended client libraries.
const POINTERS: [&str; 2] =
    ["software.amazon.payloadoffloading.PayloadS3Pointer", "com.amazon.sqs.javamessaging.MessageS3Pointer"];

/// The object that an SQS extended client library put the body into, if `body` is its pointer.
///
/// # Errors
/// The body is a pointer, and what it names can be no object.
pub fn extended_pointer(body: &str) -> Option<Result<ObjectAt, ReferenceError>> {
    #[derive(Deserialize)]
    struct Target {
        #[serde(rename = "s3BucketName")]
        bucket: String,
        #[serde(rename = "s3Key")]
        key: String,
    }
    // A body of that form is short: no other is read twice.
    if !body.trim_start().starts_with('[') || body.len() > 8_192 {
        return None;
    }
    let (class, target): (String, serde_json::Value) = serde_json::from_str(body).ok()?;
    if !POINTERS.contains(&class.as_str()) {
        return None;
    }
    let target = serde_json::from_value::<Target>(target);
    let target = target.map_err(|_| wrong("target", "has no `s3BucketName` and `s3Key`"));
    Some(target.and_then(|Target { bucket, key }| ObjectAt::parse(&bucket, &key)))
}

#[cfg(test)]
mod tests;
