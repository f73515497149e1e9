//! The MD5 digests with which SDKs check that SQS received what they sent.
//!
//! **Invariant:** the digest of attributes is the one described in the SQS developer guide, "Calculating the MD5 message digest
//! for message attributes": sorted by name, every part preceded by its length as four bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::engine::message::AttributeValue;

pub(crate) fn of_body(body: &str) -> String {
    hex::encode(Md5::digest(body.as_bytes()))
}

/// None if there are no attributes.
pub(crate) fn of_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>,
) -> Option<String> {
    let sorted: BTreeMap<_, _> = attributes.into_iter().collect();
    if sorted.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    for (name, value) in sorted {
        add(&mut digest, name.as_bytes());
        add(&mut digest, value.data_type.as_bytes());
        match (&value.binary_value, &value.string_value) {
            (Some(binary), _) => {
                digest.update([2]);
                add(&mut digest, &STANDARD.decode(binary).unwrap_or_default());
            }
            (None, text) => {
                digest.update([1]);
                add(&mut digest, text.as_deref().unwrap_or_default().as_bytes());
            }
        }
    }
    Some(hex::encode(digest.finalize()))
}

fn add(digest: &mut Md5, part: &[u8]) {
    digest.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    digest.update(part);
}
