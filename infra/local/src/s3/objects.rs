//! Operations on objects: put, get, delete several, list.
//!
//! **Invariant:** a put with `If-None-Match` or `If-Match` changes nothing unless its condition holds.

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::Digest as _;

use super::exchange::{Answer, Asked, S3Error, not_written};
use super::service::S3Service;
use super::store::{About, Object, Store};
use super::{body, xml};

/// The headers that are stored with an object and returned with it.
const KEPT: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];
/// The most keys of a listing.
const MOST_KEYS: usize = 1_000;

impl S3Service {
    pub(super) fn put(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        let body::Sent { bytes, checksums } = body::read(asked)?;
        let etag = hex::encode(md5::Md5::digest(&bytes));
        let about =
            About { checksums: checksums.into_iter().collect(), ..self.about(asked, etag, bytes.len()) };
        self.keep(asked, about, bytes)
    }

    /// The description of an object.
    pub(super) fn about(&self, asked: &Asked<'_>, etag: String, length: usize) -> About {
        let kept = asked.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str();
            let value = value.to_str().ok()?;
            let value = if name == "content-encoding" { without_chunks(value) } else { value.to_owned() };
            let keeps = KEPT.contains(&name) || name.starts_with("x-amz-meta-");
            (keeps && !value.is_empty()).then(|| (name.to_owned(), value))
        });
        About {
            key: asked.key.clone(),
            etag,
            length,
            modified_ms: self.clock.now_ms(),
            headers: kept.collect(),
            checksums: Vec::new(),
        }
    }

    /// Stores the object if the request's conditions hold.
    pub(super) fn keep(&self, asked: &Asked<'_>, about: About, bytes: Bytes) -> Result<Answer, S3Error> {
        let mut store = self.store();
        let current = store.object(&asked.bucket, &asked.key).map(|object| object.about.etag.clone());
        let matches = |etag: &str| {
            current.as_deref().is_some_and(|current| etag == "*" || etag.trim_matches('"') == current)
        };
        let (must_not, must) = (asked.header("if-none-match"), asked.header("if-match"));
        if must_not.is_some_and(matches) || must.is_some_and(|etag| !matches(etag)) {
            return Err(precondition_failed());
        }
        let answer = Answer::new(StatusCode::OK).with("etag", format!("\"{}\"", about.etag));
        let answer = about.checksums.iter().fold(answer, |answer, (name, value)| answer.with(name, value));
        store.put(&asked.bucket, about, bytes).map_err(not_written)?;
        Ok(answer)
    }

    pub(super) fn delete_many(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        let text = body::read(asked)?.bytes;
        let keys = xml::keys(&String::from_utf8_lossy(&text));
        let mut store = self.store();
        let mut deleted = String::new();
        for key in keys {
            store.delete(&asked.bucket, &key).map_err(not_written)?;
            deleted.push_str(&format!("<Deleted><Key>{}</Key></Deleted>", xml::escaped(&key)));
        }
        Ok(Answer::xml(format!("<DeleteResult>{deleted}</DeleteResult>")))
    }
}

fn precondition_failed() -> S3Error {
    let message = "At least one of the pre-conditions you specified did not hold";
    S3Error::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
}

fn without_chunks(encoding: &str) -> String {
    let parts = encoding.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "aws-chunked");
    parts.collect::<Vec<_>>().join(",")
}

pub(super) fn get(store: &Store, asked: &Asked<'_>) -> Result<Answer, S3Error> {
    let object = store.object(&asked.bucket, &asked.key).ok_or_else(S3Error::no_key)?;
    if asked.asks("versionId").is_some_and(|version| version != "null") {
        let message = "The specified version does not exist; versions are not served by the local endpoints.";
        return Err(S3Error::new(StatusCode::NOT_FOUND, "NoSuchVersion", message));
    }
    let about = &object.about;
    let is_it = |etag: &str| etag == "*" || etag.trim_matches('"') == about.etag;
    if asked.header("if-match").is_some_and(|etag| !is_it(etag)) {
        return Err(precondition_failed());
    }
    if asked.header("if-none-match").is_some_and(is_it) {
        return Ok(Answer::new(StatusCode::NOT_MODIFIED).with("etag", format!("\"{}\"", about.etag)));
    }
    let range = asked.header("range").map(|range| part_of(range, about.length)).transpose()?.flatten();
    // HEAD needs the length only, so the file is not read.
    let bytes = if asked.method == Method::HEAD { Bytes::from(vec![0; about.length]) } else { read(object)? };
    let answer = Answer::new(StatusCode::OK)
        .with("etag", format!("\"{}\"", about.etag))
        .with("accept-ranges", "bytes")
        .with("last-modified", xml::http_date(about.modified_ms));
    let answer = about.headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value));
    let checksums = about.checksums.iter().filter(|_| {
        range.is_none()
            && asked.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"))
    });
    let mut answer = checksums.fold(answer, |answer, (name, value)| answer.with(name, value));
    match range {
        None => answer.body = bytes,
        Some((from, to)) => {
            answer.status = StatusCode::PARTIAL_CONTENT;
            answer.body = bytes.slice(from..to);
            answer = answer
                .with("content-range", format!("bytes {from}-{}/{}", to.saturating_sub(1), about.length));
        }
    }
    Ok(answer)
}

fn read(object: &Object) -> Result<Bytes, S3Error> {
    object.bytes().map_err(not_written)
}

/// Start and end of a range; none if it has another form, which is ignored.
fn part_of(range: &str, length: usize) -> Result<Option<(usize, usize)>, S3Error> {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let part = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => (from, length),
        (Err(_), Ok(last)) if from.is_empty() => (length.saturating_sub(last), length),
        (Ok(_) | Err(_), _) => return Ok(None),
    };
    if part.0 >= part.1 {
        let message = "The requested range is not satisfiable";
        return Err(S3Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message));
    }
    Ok(Some(part))
}

/// A listing in version 1 or 2 of the operation.
pub(super) fn list(store: &Store, asked: &Asked<'_>) -> Answer {
    let text = |name: &str| asked.asks(name).unwrap_or_default();
    let is_2 = text("list-type") == "2";
    let after = match (asked.asks("continuation-token"), is_2) {
        (Some(token), _) => {
            STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
        }
        (None, true) => text("start-after").to_owned(),
        (None, false) => text("marker").to_owned(),
    };
    let most = text("max-keys").parse().unwrap_or(MOST_KEYS).min(MOST_KEYS);
    let listed = store.list(&asked.bucket, text("prefix"), text("delimiter"), &after, most);
    let token = listed.next.as_ref().map(|next| STANDARD.encode(next));
    Answer::xml(xml::listing(asked, &listed, token.as_deref(), is_2, most))
}
