//! Reads the body of an upload: joins its chunks and compares the digests of the request.
//!
//! **Invariant:** a body that is cut or has another digest is refused.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::Digest as _;
use sha2::Sha256;

use super::exchange::{Asked, S3Error};

/// A body, and the checksums that were given with it.
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    /// By the names of their headers.
    pub(super) checksums: BTreeMap<String, String>,
}

/// The body of a request, checked.
pub(super) fn read(asked: &Asked<'_>) -> Result<Sent, S3Error> {
    let payload = asked.header("x-amz-content-sha256").unwrap_or_default();
    let (bytes, trailers) = if payload.starts_with("STREAMING-") {
        chunks(&asked.body)?
    } else {
        (asked.body.clone(), BTreeMap::new())
    };
    let given = asked
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let checksum = |name: &String| {
        name.starts_with("x-amz-checksum-")
            && !matches!(name.as_str(), "x-amz-checksum-mode" | "x-amz-checksum-type")
    };
    let checksums: BTreeMap<_, _> = given
        .chain(trailers)
        .filter(|(name, _)| checksum(name) && name != "x-amz-checksum-algorithm")
        .collect();
    let sha256 = Sha256::digest(&bytes);
    if checksums.get("x-amz-checksum-sha256").is_some_and(|given| *given != STANDARD.encode(sha256)) {
        let message = "The SHA256 you specified did not match the calculated checksum.";
        return Err(S3Error::new(StatusCode::BAD_REQUEST, "BadDigest", message));
    }
    if asked.header("content-md5").is_some_and(|given| given != STANDARD.encode(md5::Md5::digest(&bytes))) {
        let message = "The Content-MD5 you specified did not match what we received.";
        return Err(S3Error::new(StatusCode::BAD_REQUEST, "BadDigest", message));
    }
    if payload.len() == 64 && payload != hex::encode(sha256) {
        let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
        return Err(S3Error::new(StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch", message));
    }
    let length = asked.header("x-amz-decoded-content-length").and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length != bytes.len()) {
        return Err(incomplete());
    }
    Ok(Sent { bytes, checksums })
}

fn incomplete() -> S3Error {
    let message = "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    S3Error::new(StatusCode::BAD_REQUEST, "IncompleteBody", message)
}

/// The data of an `aws-chunked` body, and the trailers behind it. Signatures of chunks are not checked.
fn chunks(body: &Bytes) -> Result<(Bytes, BTreeMap<String, String>), S3Error> {
    let mut data = Vec::with_capacity(body.len());
    let mut rest: &[u8] = body;
    loop {
        let line = line(&mut rest).ok_or_else(incomplete)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| incomplete())?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(rest.get(..size).ok_or_else(incomplete)?);
        rest = rest.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or_else(incomplete)?;
    }
    let mut trailers = BTreeMap::new();
    while let Some(line) = line(&mut rest) {
        if let Some((name, value)) = line.split_once(':') {
            trailers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    Ok((data.into(), trailers))
}

/// The next line, taken off the rest; none where no line ends.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, after) = rest.split_at_checked(end)?;
    *rest = after.get(2..)?;
    std::str::from_utf8(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_read_with_its_trailers_and_a_cut_one_is_refused() {
        let body = Bytes::from(
            "3;chunk-signature=ab\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        );
        let (data, trailers) = chunks(&body).unwrap();
        assert_eq!(data, "abcde");
        assert_eq!(trailers.get("x-amz-checksum-crc32").map(String::as_str), Some("AAAAAA=="));
        for cut in 1..body.len() - 38 {
            assert!(chunks(&body.slice(..cut)).is_err(), "{cut}");
        }
    }
}
