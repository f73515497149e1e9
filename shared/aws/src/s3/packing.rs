//! The form in which results and arguments are stored: plain or gzipped, in the row or in the bucket.

use toolfleet_core::digest::sha256;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::payload::Encoding;

use crate::dynamodb::MAX_RESULT_BYTES;
use crate::gzip::compress_if_shorter;

/// A result in the form in which it is stored.
#[derive(Debug)]
pub enum Packed {
    /// In the row.
    Inline(Outcome),
    /// In the bucket; it still has to be uploaded.
    Large(Box<Upload>),
}

/// A result to upload, and its outcome.
#[derive(Debug)]
pub struct Upload {
    outcome: Outcome,
    object: Encoded,
    plain_bytes: u64,
    fits_row: bool,
}

impl Upload {
    /// How many bytes the result has, uncompressed.
    pub const fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// The bytes to upload.
    pub(crate) const fn object(&self) -> &Encoded {
        &self.object
    }

    /// The outcome, its result included.
    pub(crate) const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The outcome in the form in which a row stores it, if it fits there.
    ///
    /// # Errors
    /// The result does not fit into a row; the upload itself.
    pub fn into_row(self: Box<Self>) -> Result<Outcome, Box<Self>> {
        if self.fits_row { Ok(self.outcome) } else { Err(self) }
    }

    /// The outcome, for the case that its result cannot be stored.
    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }
}

/// Text in the form in which it is stored: gzipped if that is shorter.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: bytes::Bytes,
    pub(crate) sha256: String,
    pub(crate) encoding: Encoding,
}

impl Encoded {
    pub(crate) fn of(text: String) -> Self {
        let compressed = compress_if_shorter(&text);
        Self::new(text, compressed)
    }

    /// The text as it is, for a key under which its reader knows no encoding.
    pub(crate) fn plain(text: String) -> Self {
        Self::new(text, None)
    }

    fn new(text: String, compressed: Option<Vec<u8>>) -> Self {
        let (bytes, encoding) = match compressed {
            Some(gz) => (gz, Encoding::Gzip),
            None => (text.into_bytes(), Encoding::Identity),
        };
        Self { sha256: sha256(&bytes), bytes: bytes.into(), encoding }
    }
}

/// The outcome in the form in which it is stored; its content is longer than the threshold.
pub(crate) fn pack(outcome: Outcome, threshold: usize) -> Packed {
    let text = outcome.content().map_or("", |content| content.get());
    let compressed = compress_if_shorter(text);
    let length = compressed.as_ref().map_or(text.len(), Vec::len);
    if length <= threshold {
        return Packed::Inline(outcome);
    }
    let message = outcome.error.as_ref().map_or(0, |error| error.message.len());
    let (plain_bytes, fits_row) = (text.len() as u64, length.saturating_add(message) <= MAX_RESULT_BYTES);
    let object = Encoded::new(text.to_owned(), compressed);
    Packed::Large(Box::new(Upload { object, plain_bytes, fits_row, outcome }))
}
