//! Reads the entry of a server that is an HTTP interface, with its OpenAPI document.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use toolfleet_core::credential::{Credential, Sensitive};
use toolfleet_core::digest::Digest;
use url::Url;

use super::entry::ServerEntry;
use super::http::HttpTransport;
use super::openapi::{Interface, OpenApiTransport};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::import::openapi::{self, Document, Filter, Given, ReadOptions};
use crate::json::kind;

/// The header of the key that makes a repetition harmless, unless the catalog names another (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// How many operations a remark names.
const NAMED: usize = 3;

impl ServerEntry {
    /// Reads the document of the entry, where it has one; gives what is to be remarked about it.
    ///
    /// # Errors
    /// Why none of its operations can be called.
    pub(crate) fn read_openapi(
        &mut self,
        included: &BTreeMap<String, String>,
    ) -> Result<Option<String>, String> {
        let Some(written) = self.openapi.take() else {
            return Ok(None);
        };
        let (place, text) = match &written {
            Value::String(place) => match included.get(place) {
                Some(text) => (place.clone(), text.clone()),
                None => {
                    return Err(format!(
                        "`openapi` names `{place}`, which was not read along with the catalog"
                    ));
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                ("inline".to_owned(), written.to_string())
            }
        };
        let filter = Filter { include: self.include.clone(), exclude: self.exclude.clone() };
        let source = Url::parse(&place).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let given = given(&self.headers, self.auth != Credential::None, self.client_certificate.is_some());
        let digested = serde_json::json!([
            text,
            self.url,
            self.include,
            self.exclude,
            given.headers,
            given.auth,
            given.certificate
        ]);
        let options = ReadOptions { url: self.url.clone(), source, filter, given: Some(given) };
        let document = openapi::read(&text, &options).map_err(|reason| format!("`openapi` {reason}"))?;
        usable(&document)?;
        let remark = remark(&document);
        self.url = Some(document.url.clone());
        let digest = Digest::of_json(&digested);
        self.interface = Some(Arc::new(Interface::new(place, document, digest)));
        Ok(remark)
    }

    /// Checks the fields that only such an entry has.
    pub(super) fn check_openapi_parts(&self, entry: &str) -> Result<(), CatalogError> {
        let at = |field: &str| format!("{entry}.{field}");
        match &self.openapi {
            Some(Value::String(place)) if place.starts_with("http:") || place.starts_with("https:") => {
                let text = "is an address, and documents are not fetched; download it and give the path of the file, table://KEY or secret://NAME";
                return Err(invalid(&at("openapi"), text));
            }
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
        let (include, exclude) = (self.include.clone(), self.exclude.clone());
        Ok(Some(OpenApiTransport { http, include, exclude, idempotency_key, interface }))
    }
}

fn given(headers: &BTreeMap<String, Sensitive>, auth: bool, certificate: bool) -> Given {
    let headers = headers.keys().map(|name| name.to_ascii_lowercase()).collect();
    Given { headers, auth, certificate }
}

/// A document is used only if the catalog gives the credentials that all wanted operations ask for.
fn usable(document: &Document) -> Result<(), String> {
    let asks = document.left_out.iter().find(|one| one.reason.code == "credential");
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
