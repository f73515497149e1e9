//! Gzip with a bound on the size of the output.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The output is checked against the bound after this much input.
const STEP_BYTES: usize = 64 * 1024;

/// The compressed text; `None` as soon as it has more than `max` bytes.
pub(crate) fn compress(text: &str, max: usize) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(5));
    for part in text.as_bytes().chunks(STEP_BYTES) {
        encoder.write_all(part).ok()?;
        if encoder.get_ref().len() > max {
            return None;
        }
    }
    encoder.finish().ok()
}

/// The compressed text, if it is shorter than the text itself.
pub(crate) fn compress_if_shorter(text: &str) -> Option<Vec<u8>> {
    compress(text, text.len()).filter(|gz| gz.len() < text.len())
}
