//! Reads the bytes of a response: inflated where the server compresses, bounded, and looked at before their kind is decided.
//!
//! **Invariant:** however small a compressed body is, no more than the bound of it is held inflated at once.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use reqwest::Response;
use toolfleet_core::fault::Fault;

use crate::network::detail_of;
use crate::words::shorten;

/// Deflate makes at most about a thousand bytes of one: so many are inflated before what came out is looked at.
const STEP_BYTES: usize = 1024;

/// A body as it arrives.
pub(crate) struct Incoming {
    response: Response,
    inflater: Option<Inflater>,
    /// Compressed bytes that are not inflated yet.
    packed: Bytes,
    /// Whether any compressed byte came: a response without a body may name an encoding.
    has_packed: bool,
    /// What was looked at, and is still to be read.
    held: Bytes,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

enum Inflater {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    /// Some servers leave out the header that `deflate` has by the standard.
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
    /// `deflate`, before its first byte.
    Undecided,
}

impl Incoming {
    /// The body of a response. An encoding that nobody asked for and that is not understood is an invalid answer.
    pub(crate) fn new(response: Response) -> Result<Self, Fault> {
        let inflater = inflater_for(response.headers())?;
        Ok(Self { response, inflater, packed: Bytes::new(), has_packed: false, held: Bytes::new() })
    }

    /// How many bytes will come, where that is known.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.response.content_length().filter(|_| self.inflater.is_none())
    }

    /// The next bytes, or nothing at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        if !self.held.is_empty() {
            return Ok(Some(std::mem::take(&mut self.held)));
        }
        let Some(inflater) = &mut self.inflater else {
            return self.response.chunk().await.map_err(|error| Broken(detail_of(error)));
        };
        loop {
            if self.packed.is_empty() {
                match self.response.chunk().await.map_err(|error| Broken(detail_of(error)))? {
                    Some(packed) => {
                        self.has_packed |= !packed.is_empty();
                        self.packed = packed;
                    }
                    None if !self.has_packed => return Ok(None),
                    None => return inflater.ended().map(|()| None).map_err(unreadable),
                }
            }
            let step = self.packed.split_to(self.packed.len().min(STEP_BYTES));
            let inflated = inflater.inflate(&step).map_err(unreadable)?;
            if !inflated.is_empty() {
                return Ok(Some(inflated.into()));
            }
        }
    }

    /// The beginning of the body, which stays to be read: its first bytes that are no white space, `most` at least where there are so
    /// many. The same however the body is cut.
    pub(crate) async fn beginning(&mut self, most: usize) -> Result<Vec<u8>, Broken> {
        let mut seen: Vec<u8> = Vec::new();
        let start = |seen: &[u8]| {
            let text = seen.strip_prefix(b"\xef\xbb\xbf").unwrap_or(seen).trim_ascii_start();
            text.get(..most.min(text.len())).unwrap_or_default().to_vec()
        };
        // White space without end says nothing.
        while start(&seen).len() < most && seen.len() < 64 * 1024 {
            match self.chunk().await? {
                Some(chunk) => seen.extend_from_slice(&chunk),
                None => break,
            }
        }
        let beginning = start(&seen);
        self.held = seen.into();
        Ok(beginning)
    }

    /// The whole body, if it has no more than that many bytes.
    pub(crate) async fn whole(mut self, max_bytes: u64) -> Result<Vec<u8>, Fault> {
        let too_large = || Fault::AnswerTooLarge { limit_bytes: max_bytes };
        let declared = self.declared();
        if declared.is_some_and(|length| length > max_bytes) {
            return Err(too_large());
        }
        let mut body =
            Vec::with_capacity(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(1024));
        loop {
            let chunk = self.chunk().await.map_err(|Broken(detail)| Fault::AnswerLost { detail })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len().saturating_add(chunk.len()) as u64 > max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The response, where nothing more of its body is wanted.
    pub(crate) fn into_response(self) -> Response {
        self.response
    }
}

fn unreadable(error: std::io::Error) -> Broken {
    Broken(shorten(&format!("the compressed body cannot be read ({error})")))
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

    fn inflate(&mut self, packed: &[u8]) -> std::io::Result<Vec<u8>> {
        if let Self::Undecided = self {
            // RFC 1950: 8 is the only method, and the header has a check of its own where both its bytes are there.
            let zlib = packed.first().is_some_and(|first| first & 0x0f == 8 && first >> 4 <= 7);
            *self = if zlib {
                Self::Zlib(Box::new(ZlibDecoder::new(Vec::new())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(Vec::new())))
            };
        }
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(packed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zlib(decoder) => {
                decoder.write_all(packed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(packed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Undecided => Ok(Vec::new()),
        }
    }
}

fn inflater_for(headers: &HeaderMap) -> Result<Option<Inflater>, Fault> {
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
            let found = shorten(&named.join(", "));
            let detail = format!(
                "content-encoding `{found}`, which was not asked for; accepted are gzip, deflate and none"
            );
            Err(Fault::InvalidAnswer { detail })
        }
    }
}
