//! OpenAPI documents that a catalog names: in a file, a secret, a row, an object of S3, or at an address.
//!
//! **Invariant:** a document that was read once is not lost. One at an address or in S3 that cannot be read again stays in use as it was read
//! last; for any other, the catalog is not reloaded.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use tokio::time::{Instant, timeout};
use toolfleet_aws::payloads::{ObjectReader, PayloadError};
use toolfleet_catalog::decode;
use toolfleet_catalog::openapi::MOST_BYTES;
use toolfleet_core::payload::ObjectAt;
use toolfleet_egress::{EgressError, HttpClients, ResponseBody, request_error, sanitize_text};
use url::Url;

use crate::place::{AwsStores, LoadError, Place};

/// A document at an address or in S3 is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// How long a document at an address may take.
const MOST_TIME: Duration = Duration::from_secs(60);
/// What is accepted from an address: any type, since many servers send documents as text.
const ACCEPTED: &str = "application/json, application/yaml, text/yaml, */*;q=0.5";

/// Where a document is.
#[derive(Clone, PartialEq, Eq)]
pub enum DocumentPlace {
    /// Where a catalog can be too.
    Stored(Place),
    /// An object of S3: `s3://BUCKET/KEY`.
    Object(ObjectAt),
    /// An address.
    Address(Url),
}

/// Why there is no document.
#[derive(Debug)]
pub enum Unread {
    /// It is not there, or cannot be used: its server cannot be called.
    Document(String),
    /// AWS does not answer, or there is no client for AWS: nothing is known of the document.
    Store(LoadError),
}

/// Reads documents, and keeps them. It does not print: the query of an address may be a secret.
#[derive(Clone)]
pub struct Documents(Arc<Shared>);

struct Shared {
    clients: HttpClients,
    objects: Option<ObjectReader>,
    kept: Mutex<HashMap<String, Kept>>,
    /// The others that were read.
    read: Mutex<HashSet<String>>,
}

/// A document of an address or of S3, as it was read last.
#[derive(Clone)]
struct Kept {
    text: Arc<str>,
    /// Its version, as the server at its address names it.
    etag: Option<HeaderValue>,
    at: Instant,
    /// Whether it could not be read again since.
    is_stale: bool,
}

/// What an address answers.
enum Fetched {
    New(String, Option<HeaderValue>),
    Unchanged,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

impl DocumentPlace {
    /// The address that a text names, if it names one.
    pub fn address(text: &str) -> Option<Url> {
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// The place that a text names; a path is relative to the catalog at `catalog`.
    ///
    /// # Errors
    /// What is wrong with it, and what is accepted.
    pub fn of(text: &str, catalog: &Place) -> Result<Self, String> {
        if let Some(object) = text.strip_prefix("s3://") {
            let (bucket, key) = object.split_once('/').unwrap_or((object, ""));
            let at = ObjectAt::parse(bucket, key);
            return at
                .map(Self::Object)
                .map_err(|_| format!("`{text}` names no object; give s3://BUCKET/KEY"));
        }
        match Self::address(text) {
            Some(url) if url.username().is_empty() && url.password().is_none() => Ok(Self::Address(url)),
            Some(_) => {
                Err("has a name or a password in its address; documents are asked for without".to_owned())
            }
            None => Ok(Self::Stored(catalog.beside(text))),
        }
    }
}

impl Documents {
    /// Reads from addresses with these clients, and from S3 with that one.
    pub fn new(clients: HttpClients, objects: Option<ObjectReader>) -> Self {
        Self(Arc::new(Shared { clients, objects, kept: Mutex::default(), read: Mutex::default() }))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of the document that the catalog at `catalog` calls `name`; `refresh` asks for it whenever it was read last.
    ///
    /// # Errors
    /// It was never read, and cannot be read now.
    pub(crate) async fn read(
        &self,
        name: &str,
        catalog: &Place,
        aws: Option<&AwsStores>,
        refresh: bool,
    ) -> Result<String, Unread> {
        let place = DocumentPlace::of(name, catalog).map_err(Unread::Document)?;
        let kept = self.kept().get(name).cloned();
        if let Some(kept) = kept.as_ref().filter(|kept| !refresh && kept.at.elapsed() < ASK_AGAIN) {
            return Ok(kept.text.to_string());
        }
        let etag = kept.as_ref().and_then(|kept| kept.etag.clone());
        let read = match &place {
            DocumentPlace::Stored(place) => return self.stored(name, place, aws, refresh).await,
            DocumentPlace::Object(at) => self.object(at).await,
            DocumentPlace::Address(url) => self.address(url, etag).await,
        };
        let kept = match (read, kept) {
            (Ok(Fetched::New(text, etag)), _) => {
                Kept { text: text.into(), etag, at: Instant::now(), is_stale: false }
            }
            (Ok(Fetched::Unchanged), Some(kept)) => Kept { at: Instant::now(), is_stale: false, ..kept },
            (Ok(Fetched::Unchanged), None) => {
                let text = "is answered as unchanged, though no version was named";
                return Err(Unread::Document(text.to_owned()));
            }
            (Err(Unread::Document(why)), Some(kept)) => {
                if !kept.is_stale {
                    tracing::warn!(
                        document = shown(name),
                        code = "document_unread",
                        "an OpenAPI document cannot be read again, and stays in use as it was read last: it {why}"
                    );
                }
                Kept { at: Instant::now(), is_stale: true, ..kept }
            }
            (Err(unread), _) => return Err(unread),
        };
        let text = kept.text.to_string();
        self.kept().insert(name.to_owned(), kept);
        Ok(text)
    }

    async fn stored(
        &self,
        name: &str,
        place: &Place,
        aws: Option<&AwsStores>,
        refresh: bool,
    ) -> Result<String, Unread> {
        let read = || self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        match place.read(aws, refresh).await {
            Ok(text) => {
                read().insert(name.to_owned());
                Ok(text)
            }
            Err(error) if is_of_document(&error) && !read().contains(name) => {
                Err(Unread::Document(format!("cannot be read: {error}")))
            }
            Err(error) => Err(Unread::Store(error)),
        }
    }

    async fn object(&self, at: &ObjectAt) -> Result<Fetched, Unread> {
        let Some(objects) = &self.0.objects else {
            return Err(Unread::Store(LoadError::OnlyFiles(format!("s3://{}/{}", at.bucket, at.key))));
        };
        match objects.read(at, MOST_BYTES as u64).await {
            Ok(bytes) => decode(bytes).map(|text| Fetched::New(text, None)).map_err(Unread::Document),
            Err(PayloadError::Aws(error)) if !error.is_permanent() => Err(Unread::Store(error.into())),
            Err(error) => Err(Unread::Document(format!("cannot be read: {error}"))),
        }
    }

    async fn address(&self, url: &Url, etag: Option<HeaderValue>) -> Result<Fetched, Unread> {
        match timeout(MOST_TIME, fetch(&self.0.clients, url, etag)).await {
            Ok(fetched) => fetched.map_err(Unread::Document),
            Err(_elapsed) => {
                Err(Unread::Document(format!("is not answered within {} s", MOST_TIME.as_secs())))
            }
        }
    }
}

async fn fetch(clients: &HttpClients, url: &Url, etag: Option<HeaderValue>) -> Result<Fetched, String> {
    let told = |error: EgressError| format!("cannot be read: {error}");
    clients.policy().check(url).map_err(|refused| told(refused.into()))?;
    let mut request = clients.plain().get(url.clone()).header(ACCEPT, ACCEPTED);
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let response = request.send().await.map_err(|error| told(request_error(error, true)))?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        return Ok(Fetched::Unchanged);
    }
    if status.is_redirection() {
        let to = response.headers().get(http::header::LOCATION).and_then(|to| to.to_str().ok());
        let to = to.map_or_else(String::new, |to| format!(" to {}", sanitize_text(to)));
        return Err(format!("is answered with a redirect{to}; name that address if it is the right one"));
    }
    if status != StatusCode::OK {
        return Err(format!("is answered with HTTP status {}", status.as_u16()));
    }
    let etag = response.headers().get(ETAG).cloned();
    let bytes = ResponseBody::read(response, MOST_BYTES as u64).await.map_err(told)?;
    Ok(Fetched::New(decode(bytes)?, etag))
}

/// Whether the error says that the document is not there or is no text, and not that AWS does not answer.
const fn is_of_document(error: &LoadError) -> bool {
    match error {
        LoadError::Stored(error) => error.is_permanent(),
        LoadError::File { .. } | LoadError::NoText { .. } => true,
        LoadError::OnlyFiles(_) | LoadError::Wrong(_) | LoadError::Interrupted | LoadError::NamesNobody => {
            false
        }
    }
}

/// A name without the query of an address, which may hold a key.
fn shown(name: &str) -> &str {
    name.split_once('?').map_or(name, |(place, _)| place)
}
