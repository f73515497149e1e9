//! Decodes base64 in the forms that senders write: either alphabet, with or without padding.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The bytes that a text in base64 stands for, in either alphabet, padded or not.
pub(super) fn in_base64(text: &str) -> Option<Vec<u8>> {
    let alphabet =
        |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    if !text.bytes().all(alphabet) {
        return None;
    }
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(&plain).or_else(|_| URL_SAFE.decode(&plain)).ok()
}
