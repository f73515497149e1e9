//! Checks the bytes of an object against its reference and decodes them.
//!
//! **Invariant:** bytes that do not have the digest of the reference are never returned.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use toolfleet_core::digest::sha256;
use toolfleet_core::payload::{Encoding, ObjectAt};

use super::error::PayloadError;
use crate::blocking::{self, LARGE_BYTES};
use crate::error::AwsError;

/// The text of an object, if it is the one that was referred to; at most `max` bytes.
pub(crate) async fn checked(
    object: Vec<u8>,
    at: &ObjectAt,
    digest: Option<&str>,
    bytes: Option<u64>,
    encoding: Encoding,
    max: u64,
) -> Result<String, PayloadError> {
    let (at, digest) = (at.clone(), digest.map(str::to_owned));
    let large = object.len() >= LARGE_BYTES || encoding == Encoding::Gzip;
    let work = move || text_of(object, at, digest, bytes, encoding, max);
    if !large {
        return work();
    }
    let failed = || PayloadError::Aws(AwsError::passing("a payload could not be read"));
    blocking::run(&blocking::PAYLOADS, work).await.ok_or_else(failed)?
}

fn text_of(
    object: Vec<u8>,
    at: ObjectAt,
    digest: Option<String>,
    bytes: Option<u64>,
    encoding: Encoding,
    max: u64,
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
            let mut reader = MultiGzDecoder::new(object.as_slice()).take(max.saturating_add(1));
            if reader.read_to_end(&mut plain).is_err() {
                return altered("it is not gzip".to_owned());
            }
            plain
        }
    };
    if plain.len() as u64 > max {
        return Err(PayloadError::TooLarge { at, max });
    }
    match String::from_utf8(plain) {
        Ok(text) => Ok(text),
        Err(_) => altered("it is not UTF-8 text".to_owned()),
    }
}
