//! Reads the entry of a server that is an HTTP interface, with its OpenAPI document.

use std::sync::Arc;

use serde_json::Value;
use toolfleet_core::digest::Digest;
use url::Url;

use super::entry::ServerEntry;
use super::http::HttpTransport;
use super::openapi::{Interface, OpenApiTransport};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::import::openapi::{self, Document, Filter, Given, ReadOptions};
use crate::json::kind;
use crate::sources::CatalogSources;

/// The header of the key that makes a repetition harmless, unless the catalog names another (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The place of a document that the catalog holds.
const INLINE: &str = "inline";
/// How many operations a remark names.
const NAMED: usize = 3;

impl ServerEntry {
    /// Reads the document of the entry, where it has one; gives what is to be remarked about it. One that cannot be used any more leaves in
    /// use what was read of it before.
    ///
    /// # Errors
    /// Why none of its operations can be called.
    pub(crate) fn read_openapi(&mut self, sources: &CatalogSources) -> Result<Option<String>, String> {
        let Some(written) = self.openapi.take() else {
            return Ok(None);
        };
        let (place, text) = place_and_text(&written, sources)?;
        let said = self.said(&place);
        let read = self.document(&place, &text);
        let (interface, remark) = match (read, sources.interfaces.get(&self.id, &said)) {
            (Ok(document), _) => {
                let remark = remark(&document);
                let digest = Digest::of_json(&serde_json::json!([text, said.as_str()]));
                (Arc::new(Interface::new(place, document, digest, said)), remark)
            }
            (Err(why), Some(known)) => {
                let text = format!("{why}; it stays in use as it was read before");
                (Arc::clone(known), Some(text))
            }
            (Err(why), None) => return Err(why),
        };
        self.url = Some(interface.document.url.clone());
        self.interface = Some(interface);
        Ok(remark)
    }

    /// Its document, if that can be used.
    fn document(&self, place: &str, text: &str) -> Result<Document, String> {
        let filter = Filter { include: self.include.clone(), exclude: self.exclude.clone() };
        let source = Url::parse(place).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // What stands at an address changes without the catalog: what of it cannot be called leaves the rest in use.
        let is_theirs = source.is_some();
        let options = ReadOptions {
            url: self.url.clone(),
            source,
            place: Some(place.to_owned()),
            filter,
            is_theirs,
            given: Some(self.given()),
        };
        let document = openapi::read(text, &options).map_err(|reason| format!("`openapi` {reason}"))?;
        // Whoever writes the document at an address must not choose where the catalog's credentials go.
        if self.url.is_none()
            && let Some(source) = options.source.filter(|source| source.origin() != document.url.origin())
        {
            return Err(format!(
                "`openapi` is a document of {} that describes {}; set `url` to the address that is to be called",
                source.origin().ascii_serialization(),
                document.url.origin().ascii_serialization()
            ));
        }
        usable(&document, is_theirs)?;
        Ok(document)
    }

    fn given(&self) -> Given {
        let given = Given {
            headers: self.headers.keys().map(|name| name.to_ascii_lowercase()).collect(),
            query: self.query.keys().cloned().collect(),
            auth: false,
            certificate: self.client_certificate.is_some(),
        };
        given.with(&self.auth)
    }

    /// The digest of what the catalog says about the document at that place.
    fn said(&self, place: &str) -> Digest {
        let given = self.given();
        Digest::of_json(&serde_json::json!([
            place,
            self.url,
            self.include,
            self.exclude,
            given.headers,
            given.query,
            given.auth,
            given.certificate
        ]))
    }

    /// Checks the fields that only such an entry has.
    pub(super) fn check_openapi_parts(&self, entry: &str) -> Result<(), CatalogError> {
        let at = |field: &str| format!("{entry}.{field}");
        match &self.openapi {
            Some(Value::String(place)) if place.trim().is_empty() => {
                return Err(invalid(&at("openapi"), "is empty; give the place of the document"));
            }
            Some(Value::String(_) | Value::Object(_)) | None => {}
            Some(other) => {
                let text = format!(
                    "is {}; accepted is the place of an OpenAPI document, or the document itself",
                    kind(other)
                );
                return Err(invalid(&at("openapi"), text));
            }
        }
        self.idempotency_header(entry).map(|_| ())
    }

    fn idempotency_header(&self, entry: &str) -> Result<Option<String>, CatalogError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        match &self.idempotency_key {
            None | Some(Value::Bool(false) | Value::Null) => Ok(None),
            Some(Value::Bool(true)) => Ok(Some(IDEMPOTENCY_KEY.to_owned())),
            Some(Value::String(name)) if !name.is_empty() && name.chars().all(fits) => Ok(Some(name.clone())),
            Some(_) => {
                let text = "is neither true, false nor the name of a header";
                Err(invalid(&format!("{entry}.idempotency_key"), text))
            }
        }
    }

    /// The transport of an entry whose document was read.
    pub(super) fn openapi_transport(
        &self,
        entry: &str,
        http: HttpTransport,
    ) -> Result<Option<OpenApiTransport>, CatalogError> {
        let Some(interface) = self.interface.clone() else {
            return Ok(None);
        };
        let idempotency_key = self.idempotency_header(entry)?;
        let (include, exclude, query) = (self.include.clone(), self.exclude.clone(), self.query.clone());
        Ok(Some(OpenApiTransport { http, include, exclude, idempotency_key, query, interface }))
    }
}

/// Where the document stands, and its text.
fn place_and_text(written: &Value, sources: &CatalogSources) -> Result<(String, String), String> {
    match written {
        Value::String(place) => match sources.included.get(place) {
            Some(text) => Ok((place.clone(), text.clone())),
            None => {
                let why = sources.unread.get(place).map(String::as_str);
                let why = why.unwrap_or("was not read along with the catalog");
                Err(format!("`openapi` names `{}`, which {why}", shown(place)))
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Ok((INLINE.to_owned(), written.to_string()))
        }
    }
}

/// A place without what may be a secret of an address: its name, password and query.
fn shown(place: &str) -> String {
    let Some(mut url) = Url::parse(place).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return place.to_owned();
    };
    // These fail for addresses without a host only.
    let _named = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.into()
}

/// A document is used only if the catalog gives the credentials that all wanted operations ask for. Of one that is somebody else's, such
/// operations are left out: a new one must not stop the others.
fn usable(document: &Document, is_theirs: bool) -> Result<(), String> {
    let leaves_out = is_theirs && !document.operations.is_empty();
    let asks = document.left_out.iter().find(|one| one.reason.code == "credential" && !leaves_out);
    if let Some(one) = asks {
        return Err(format!(
            "`openapi`: the operation `{} {}` {}, or leave such operations out by `exclude`",
            one.method, one.path, one.reason
        ));
    }
    if document.operations.is_empty() {
        let why =
            document.left_out.first().map(|one| format!(": `{} {}` {}", one.method, one.path, one.reason));
        return Err(format!("`openapi` has no operation that can be called{}", why.unwrap_or_default()));
    }
    Ok(())
}

/// What of the document cannot be called though it is wanted.
fn remark(document: &Document) -> Option<String> {
    let missing = (!document.missing.is_empty())
        .then(|| format!("{}, which the document does not have", document.missing.join(", ")));
    let said: Vec<String> = [missing, lost(document)].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The operations that are wanted and cannot be called.
fn lost(document: &Document) -> Option<String> {
    let lost: Vec<_> = document.left_out.iter().filter(|one| one.reason.code != "filtered").collect();
    if lost.is_empty() {
        return None;
    }
    let named: Vec<String> =
        lost.iter().take(NAMED).map(|one| format!("`{} {}` {}", one.method, one.path, one.reason)).collect();
    let rest = if lost.len() > NAMED { "; .." } else { "" };
    let all = lost.len() + document.operations.len();
    Some(format!(
        "{} of {all} operations cannot be called: {}{rest} (`toolfleet tools import openapi` says all)",
        lost.len(),
        named.join("; ")
    ))
}
