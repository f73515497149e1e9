//! Imports Pika's credentials of a server: `authentication` and the older `auth`.
//!
//! No error repeats a value of a credential.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::error::CatalogError;
use crate::error::invalid;
use crate::import::idp::kept;
use crate::json::{below, kind, typed};
use crate::permissions::Literals;
use toolfleet_core::credential::{
    Algorithm, ClientCredentials, Credential, Sensitive, Setting, check_address, is_scope, scopes,
};
use toolfleet_core::redact::quoted;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OAuth {
    client_id: Sensitive,
    client_secret: Sensitive,
    token_url: Sensitive,
    #[serde(default, alias = "scope", deserialize_with = "scopes")]
    scopes: Vec<String>,
    audience: Option<String>,
}

type Read = (BTreeMap<String, Sensitive>, Credential);

/// The headers and the credential of a server.
pub(super) fn read(
    entry: &str,
    authentication: Option<&Value>,
    auth: Option<&Value>,
    literals: Literals,
) -> Result<Read, CatalogError> {
    match (authentication, auth) {
        (None, None) => Ok(Read::default()),
        (Some(_), Some(_)) => {
            Err(invalid(&below(entry, "auth"), "is given beside `authentication`; give one of the two"))
        }
        (Some(value), None) => typed_by_name(&below(entry, "authentication"), value, literals),
        // `token` is Pika's own cache of the last token.
        (None, Some(value)) => oauth(
            &below(entry, "auth"),
            value,
            &["clientId", "clientSecret", "tokenUrl", "scopes", "scope", "audience", "token"],
            literals,
        ),
    }
}

fn typed_by_name(entry: &str, value: &Value, literals: Literals) -> Result<Read, CatalogError> {
    match value.get("type").and_then(Value::as_str) {
        Some("oauth2-client-credentials") => {
            let known = ["type", "clientId", "clientSecret", "tokenUrl", "scopes", "scope", "audience"];
            oauth(entry, value, &known, literals)
        }
        Some("custom-headers") => headers(entry, value),
        Some("bearer" | "bearer-token") => {
            let token = one(entry, value, &["token", "bearerToken", "accessToken"], &[])?;
            header(entry, "Authorization", "Bearer ", &token)
        }
        Some("api-key" | "apiKey") => {
            let names = ["header", "headerName", "name"];
            let key = one(entry, value, &["key", "apiKey", "value"], &names)?;
            let name = names.iter().find_map(|field| value.get(*field)?.as_str()).unwrap_or("X-API-Key");
            header(entry, name, "", &key)
        }
        Some("none") => Ok(Read::default()),
        other => {
            let found = other.map_or("missing".to_owned(), quoted);
            let text = format!(
                "is {found}; accepted are oauth2-client-credentials, custom-headers, bearer, api-key and none"
            );
            Err(invalid(&below(entry, "type"), text))
        }
    }
}

fn oauth(entry: &str, value: &Value, known: &[&str], literals: Literals) -> Result<Read, CatalogError> {
    fields(entry, value, known)?;
    let wire: OAuth = typed(entry, value.clone())?;
    let place = below(entry, "tokenUrl");
    // Not read as a URL by serde, whose complaint would repeat it.
    let token_url =
        Url::parse(wire.token_url.expose()).map_err(|e| invalid(&place, format!("is not a URL: {e}")))?;
    check_address(&token_url).map_err(|text| invalid(&place, text))?;
    if !wire.scopes.iter().all(|scope| is_scope(scope)) {
        return Err(invalid(
            &below(entry, "scopes"),
            "has an entry that is no scope; give one scope an entry",
        ));
    }
    let secret =
        |field: &str, text: Sensitive| text.into_secret().map_err(|text| invalid(&below(entry, field), text));
    let credential = ClientCredentials {
        client_id: Setting::Secret(secret("clientId", wire.client_id)?),
        client_secret: Some(kept(
            entry,
            "clientSecret",
            secret("clientSecret", wire.client_secret)?,
            literals,
        )?),
        private_key: None,
        key_id: None,
        algorithm: Algorithm::default(),
        client_auth: None,
        token_url: Some(token_url),
        issuer: None,
        scopes: wire.scopes,
        audience: wire.audience,
        // Pika asks without it, and an authorization server that does not know it may refuse it.
        resource: Some("none".to_owned()),
        step_up: true,
    };
    Ok((BTreeMap::new(), Credential::ClientCredentials(credential)))
}

fn headers(entry: &str, value: &Value) -> Result<Read, CatalogError> {
    fields(entry, value, &["type", "headers"])?;
    let place = below(entry, "headers");
    let headers = value.get("headers").cloned().unwrap_or(Value::Null);
    if !headers.is_object() {
        return Err(invalid(&place, format!("is {}; accepted is an object of texts", kind(&headers))));
    }
    let headers: BTreeMap<String, Sensitive> = typed(&place, headers)?;
    Ok((headers, Credential::None))
}

/// The one field that holds a secret, whatever it is called; `beside` may stand beside it.
fn one(entry: &str, value: &Value, names: &[&str], beside: &[&str]) -> Result<Sensitive, CatalogError> {
    let known: Vec<&str> = ["type"].iter().chain(names).chain(beside).copied().collect();
    fields(entry, value, &known)?;
    let given: Vec<&&str> = names.iter().filter(|name| value.get(**name).is_some()).collect();
    match given.as_slice() {
        [name] => typed(&below(entry, name), value.get(**name).cloned().unwrap_or_default()),
        _ => Err(invalid(entry, format!("needs one of {}", names.join(", ")))),
    }
}

fn header(entry: &str, name: &str, before: &str, secret: &Sensitive) -> Result<Read, CatalogError> {
    let value = Sensitive::written(&format!("{before}{}", secret.expose()));
    if name.is_empty() {
        return Err(invalid(entry, "names no header"));
    }
    Ok((BTreeMap::from([(name.to_owned(), value)]), Credential::None))
}

/// What is not understood of a credential would be a call without it.
fn fields<'a>(entry: &str, value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, CatalogError> {
    let Value::Object(map) = value else {
        return Err(invalid(entry, format!("is {}; accepted is an object", kind(value))));
    };
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(map),
        Some(key) => {
            Err(invalid(&below(entry, key), format!("is not known here; accepted are {}", known.join(", "))))
        }
    }
}
