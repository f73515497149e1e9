//! Reads the body of a response: decompressed, bounded, with a way to look at its first bytes before reading on.
//!
//! **Invariant:** however small a compressed body is, at most the bound of it is held decompressed at once.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use reqwest::Response;

use crate::error::{EgressError, error_detail};
use crate::text::sanitize_text;

/// Deflate expands by at most about a thousand: so many bytes are decompressed before the size of the output is checked.
const STEP_BYTES: usize = 1024;

/// A body as it arrives.
pub struct ResponseBody {
    response: Response,
    inflater: Option<Inflater>,
    /// Compressed bytes that are not inflated yet.
    compressed: Bytes,
    /// Whether any byte came: a response without a body may name an encoding.
    has_compressed: bool,
    /// Bytes that were peeked at and are still to be read.
    peeked: Bytes,
}

/// The body ended before its end, or cannot be decompressed; says what was seen.
#[derive(Debug)]
pub struct BodyError(pub String);

enum Inflater {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    /// Some servers leave out the zlib header that `deflate` requires.
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
    /// `deflate`, before its first byte arrived.
    Undecided,
}

impl ResponseBody {
    /// The body of a response. An unknown content encoding is an error.
    pub fn new(response: Response) -> Result<Self, EgressError> {
        let inflater = inflater_for(response.headers())?;
        Ok(Self { response, inflater, compressed: Bytes::new(), has_compressed: false, peeked: Bytes::new() })
    }

    /// Reads the whole body of a response, if it has at most `max_bytes` bytes.
    pub async fn read(response: Response, max_bytes: u64) -> Result<Vec<u8>, EgressError> {
        Self::new(response)?.whole(max_bytes).await
    }

    /// The length of the decompressed body, where the headers tell it.
    pub fn declared_bytes(&self) -> Option<u64> {
        self.response.content_length().filter(|_| self.inflater.is_none())
    }

    /// The next bytes, or nothing at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
        }
        let Some(inflater) = &mut self.inflater else {
            return self.response.chunk().await.map_err(|error| BodyError(error_detail(error)));
        };
        loop {
            if self.compressed.is_empty() {
                match self.response.chunk().await.map_err(|error| BodyError(error_detail(error)))? {
                    Some(compressed) => {
                        self.has_compressed |= !compressed.is_empty();
                        self.compressed = compressed;
                    }
                    None if !self.has_compressed => return Ok(None),
                    None => return inflater.ended().map(|()| None).map_err(undecodable),
                }
            }
            let step = self.compressed.split_to(self.compressed.len().min(STEP_BYTES));
            let inflated = inflater.inflate(&step).map_err(undecodable)?;
            if !inflated.is_empty() {
                return Ok(Some(inflated.into()));
            }
        }
    }

    /// The first bytes of the body after leading white space, at most `most`; they are still to be read. How the body is cut into
    /// chunks makes no difference.
    pub async fn peek(&mut self, most: usize) -> Result<Vec<u8>, BodyError> {
        let mut read: Vec<u8> = Vec::new();
        let start = |bytes: &[u8]| {
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
            text.get(..most.min(text.len())).unwrap_or_default().to_vec()
        };
        // A body of white space alone tells nothing.
        while start(&read).len() < most && read.len() < 64 * 1024 {
            match self.chunk().await? {
                Some(chunk) => read.extend_from_slice(&chunk),
                None => break,
            }
        }
        let beginning = start(&read);
        self.peeked = read.into();
        Ok(beginning)
    }

    /// The whole body, if it has at most `max_bytes` bytes.
    pub async fn whole(mut self, max_bytes: u64) -> Result<Vec<u8>, EgressError> {
        let too_large = || EgressError::BodyTooLarge { limit_bytes: max_bytes };
        let declared = self.declared_bytes();
        if declared.is_some_and(|length| length > max_bytes) {
            return Err(too_large());
        }
        let mut body =
            Vec::with_capacity(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(1024));
        loop {
            let chunk =
                self.chunk().await.map_err(|BodyError(detail)| EgressError::Interrupted { detail })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len().saturating_add(chunk.len()) as u64 > max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The response, whose body is not read any further.
    pub fn into_response(self) -> Response {
        self.response
    }
}

fn undecodable(error: std::io::Error) -> BodyError {
    BodyError(sanitize_text(&format!("the compressed body cannot be read ({error})")))
}

impl Inflater {
    /// Whether the compressed data ended where the body did.
    fn ended(&mut self) -> std::io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Undecided => Ok(()),
        }
    }

    fn inflate(&mut self, compressed: &[u8]) -> std::io::Result<Vec<u8>> {
        if let Self::Undecided = self {
            // RFC 1950: 8 is the only compression method.
            let zlib = compressed.first().is_some_and(|first| first & 0x0f == 8 && first >> 4 <= 7);
            *self = if zlib {
                Self::Zlib(Box::new(ZlibDecoder::new(Vec::new())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(Vec::new())))
            };
        }
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(compressed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zlib(decoder) => {
                decoder.write_all(compressed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(compressed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Undecided => Ok(Vec::new()),
        }
    }
}

fn inflater_for(headers: &HeaderMap) -> Result<Option<Inflater>, EgressError> {
    let all = headers.get_all(CONTENT_ENCODING).iter();
    let named = all.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim);
    let named: Vec<String> =
        named.map(str::to_ascii_lowercase).filter(|name| !name.is_empty() && name != "identity").collect();
    match named.as_slice() {
        [] => Ok(None),
        [name] if name == "gzip" || name == "x-gzip" => {
            Ok(Some(Inflater::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))))
        }
        [name] if name == "deflate" => Ok(Some(Inflater::Undecided)),
        _ => {
            let found = sanitize_text(&named.join(", "));
            let detail = format!(
                "content-encoding `{found}`, which was not asked for; accepted are gzip, deflate and none"
            );
            Err(EgressError::Encoding { detail })
        }
    }
}
