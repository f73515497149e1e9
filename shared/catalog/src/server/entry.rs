//! The entry of a server as catalogs write it, and the checks that make it a [`Server`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::http::{HttpTransport, StreamKind, StreamTransport};
use super::lambda::{AttributeScope, LambdaArn, LambdaPayload};
use super::openapi::Interface;
use super::registered::{Server, StdioTransport, Transport};
use crate::error::CatalogError;
use crate::error::{cache_rule, invalid};
use crate::import::openapi::Selection;
use crate::permissions::Literals;
use toolfleet_core::credential::{ClientCertificate, Credential, Sensitive, Template};
use toolfleet_core::ids::ServerId;
use toolfleet_core::limits::LimitRules;
use toolfleet_core::literal_secret::{is_placeholder, unfilled, wrong_in, wrong_in_address};
use toolfleet_core::redact::quoted;

/// A server as a catalog writes it: the fields of every transport beside each other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerEntry {
    /// Its id.
    pub(crate) id: ServerId,
    /// Its address.
    #[serde(default)]
    pub(crate) url: Option<Url>,
    /// What is spoken there, where it is not streamable HTTP.
    #[serde(default)]
    pub(crate) transport: Option<String>,
    /// The OpenAPI document of the HTTP interface that it is, or the document's place.
    #[serde(default)]
    pub(crate) openapi: Option<serde_json::Value>,
    /// Which operations of the document are taken.
    #[serde(default)]
    pub(crate) include: Selection,
    /// Which of them are left out again.
    #[serde(default)]
    pub(crate) exclude: Selection,
    /// Whether the interface does nothing twice that has one key, or the header that carries the key.
    #[serde(default)]
    pub(crate) idempotency_key: Option<serde_json::Value>,
    /// The operations of the document, once it is read.
    #[serde(skip)]
    pub(crate) interface: Option<Arc<Interface>>,
    /// The program that it is, in the place of an address. It is looked for in the worker's PATH.
    #[serde(default)]
    pub(crate) command: Option<String>,
    /// The program's arguments.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// The program's variables. A value may be, or end in, `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Template>,
    /// Where the program is started; without it where the worker is.
    #[serde(default)]
    pub(crate) cwd: Option<PathBuf>,
    /// Whether the server keeps nothing of a conversation: then the conversations of one tenant share a few programs or connections.
    #[serde(default)]
    pub(crate) stateless: bool,
    /// The ARN of the Lambda function that it is, in the place of an address.
    #[serde(default)]
    pub(crate) lambda: Option<String>,
    /// The form of the function's events.
    #[serde(default)]
    pub(crate) payload: Option<String>,
    /// What the function is told as the name of its action group or target.
    #[serde(default)]
    pub(crate) target_name: Option<String>,
    /// Whose calls are given what the function returns as attributes.
    #[serde(default)]
    pub(crate) attributes: Option<AttributeScope>,
    /// Whether the function is told who calls.
    #[serde(default)]
    pub(crate) tell_user: bool,
    /// Whether the function is a durable one.
    #[serde(default)]
    pub(crate) durable: bool,
    /// The role that workers assume to invoke the function.
    #[serde(default)]
    pub(crate) role_arn: Option<String>,
    /// The external id that the role asks for.
    #[serde(default)]
    pub(crate) external_id: Option<String>,
    /// How long the program may take from its start to its first answer, in milliseconds.
    #[serde(default)]
    pub(crate) start_timeout_ms: Option<u64>,
    /// Whether its own annotations (`readOnlyHint`, `idempotentHint`) are trusted.
    #[serde(default)]
    pub(crate) trusted: bool,
    /// Whether all it lists is open: tools by name without being registered one by one, resources, prompts, and the lists.
    #[serde(default)]
    pub(crate) discover: bool,
    /// What people call it.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Sensitive>,
    /// Parameters that every request of an interface has in its query.
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Sensitive>,
    /// How workers prove who they are.
    #[serde(default)]
    pub(crate) auth: Credential,
    /// The certificate that workers show.
    #[serde(default)]
    pub(crate) client_certificate: Option<ClientCertificate>,
    /// How long one attempt may take, in milliseconds.
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
    /// Whether workers ask it how far its calls are; a tool's own registration may say otherwise.
    #[serde(default)]
    pub(crate) progress: bool,
    /// What limits its calls.
    #[serde(default)]
    pub(crate) limits: LimitRules,
    /// Whether its answers may be stored.
    #[serde(default)]
    pub(crate) cache: serde_json::Value,
}

impl ServerEntry {
    /// A server of which no more than its address is known.
    pub(crate) fn at(id: ServerId, url: Url) -> Self {
        Self { url: Some(url), ..Self::of(id) }
    }

    /// A server that is a function, of which no more than the form of its events is known.
    pub(crate) fn function(id: ServerId, arn: &LambdaArn, payload: LambdaPayload) -> Self {
        Self {
            lambda: Some(arn.as_str().to_owned()),
            payload: Some(payload.as_str().to_owned()),
            ..Self::of(id)
        }
    }

    const fn of(id: ServerId) -> Self {
        Self {
            id,
            url: None,
            transport: None,
            lambda: None,
            payload: None,
            target_name: None,
            attributes: None,
            tell_user: false,
            durable: false,
            role_arn: None,
            external_id: None,
            openapi: None,
            include: Selection::none(),
            exclude: Selection::none(),
            idempotency_key: None,
            interface: None,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stateless: false,
            start_timeout_ms: None,
            trusted: false,
            discover: false,
            name: None,
            description: None,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            auth: Credential::None,
            client_certificate: None,
            timeout_ms: None,
            progress: false,
            limits: LimitRules::none(),
            cache: serde_json::Value::Null,
        }
    }

    /// The server, if it can be called and writes out no secret; `entry` is the place to name in an error.
    pub(crate) fn check(self, entry: &str, literals: Literals) -> Result<Server, CatalogError> {
        if self.timeout_ms == Some(0) {
            return Err(invalid(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        let cache = cache_rule(entry, &self.cache)?;
        let lambda = self.lambda.is_some().then(|| self.lambda_transport(entry)).transpose()?;
        let transport = match (lambda, self.url.clone(), self.command.clone()) {
            (Some(lambda), _, _) => Transport::Lambda(lambda),
            (None, _, Some(command)) => Transport::Stdio(StdioTransport {
                command,
                args: self.args,
                env: self.env,
                cwd: self.cwd,
                stateless: self.stateless,
                start_timeout_ms: self.start_timeout_ms,
            }),
            (None, Some(url), None) => {
                let stream = stream_kind(entry, self.transport.as_deref(), &url)?;
                check_url(entry, &url, self.client_certificate.is_some())?;
                check_headers(entry, &self.headers, literals)?;
                check_query(entry, &self.query, literals)?;
                let (headers, auth) = (self.headers.clone(), self.auth.clone());
                let client_certificate = self.client_certificate.clone();
                let http = HttpTransport { url, headers, auth, client_certificate };
                match (self.openapi_transport(entry, http.clone())?, stream) {
                    (Some(openapi), _) => Transport::OpenApi(Box::new(openapi)),
                    (None, Some(kind)) => {
                        Transport::Stream(Box::new(StreamTransport { kind, http, stateless: self.stateless }))
                    }
                    (None, None) => Transport::Http(Box::new(http)),
                }
            }
            (None, None, None) => return Err(without_transport(entry)),
        };
        Ok(Server {
            id: self.id,
            transport,
            trusted: self.trusted,
            discover: self.discover,
            name: self.name,
            description: self.description,
            timeout_ms: self.timeout_ms,
            progress: self.progress,
            limits: self.limits,
            cache,
        })
    }
}

/// The error of an entry that names no transport.
pub(super) fn without_transport(entry: &str) -> CatalogError {
    let text = "is missing; give `url` (streamable HTTP, or ws:// and wss:// for WebSocket), `command` (a program that speaks MCP on stdio), `lambda` (the ARN of a function) or `openapi` (the document of an HTTP interface)";
    invalid(&format!("{entry}.url"), text)
}

/// What is spoken over a connection that is kept, if that is what the entry names.
fn stream_kind(entry: &str, word: Option<&str>, url: &Url) -> Result<Option<StreamKind>, CatalogError> {
    let is_socket = matches!(url.scheme(), "ws" | "wss");
    match word {
        None if is_socket => Ok(Some(StreamKind::WebSocket)),
        None => Ok(None),
        Some("http") if !is_socket => Ok(None),
        Some("sse") if !is_socket => Ok(Some(StreamKind::Sse)),
        Some("websocket") if is_socket => Ok(Some(StreamKind::WebSocket)),
        Some(word @ ("http" | "sse")) => {
            let text = format!(
                "has the scheme `{}`, which is WebSocket's, and `transport` is `{word}`; give an http or https address, or leave out \
                 `transport`",
                url.scheme()
            );
            Err(invalid(&format!("{entry}.url"), text))
        }
        Some("websocket") => {
            let text = format!(
                "has the scheme `{}`, and `transport` is `websocket`; give an address with wss, or ws without TLS",
                url.scheme()
            );
            Err(invalid(&format!("{entry}.url"), text))
        }
        Some(other) => {
            let text = format!("is {}; accepted are http, sse and websocket", quoted(other));
            Err(invalid(&format!("{entry}.transport"), text))
        }
    }
}

fn check_url(entry: &str, url: &Url, with_certificate: bool) -> Result<(), CatalogError> {
    let at = format!("{entry}.url");
    if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
        let scheme = url.scheme();
        return Err(invalid(&at, format!("has the scheme `{scheme}`; accepted are http, https, ws and wss")));
    }
    if let Some(text) = wrong_in_address(url) {
        return Err(invalid(&at, text));
    }
    if with_certificate && !matches!(url.scheme(), "https" | "wss") {
        let text = "is shown over TLS alone; give the server a url with https or wss";
        return Err(invalid(&format!("{entry}.client_certificate"), text));
    }
    Ok(())
}

fn check_headers(
    entry: &str,
    headers: &BTreeMap<String, Sensitive>,
    literals: Literals,
) -> Result<(), CatalogError> {
    let mut seen = Vec::new();
    for (name, value) in headers {
        let place = format!("{entry}.headers.{name}");
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return Err(invalid(&place, "is not a name that HTTP allows for a header"));
        }
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower) {
            return Err(invalid(
                &place,
                "is duplicated, in capitals and small letters; one header has one value",
            ));
        }
        seen.push(lower);
        check_value(&place, name, value, literals)?;
    }
    Ok(())
}

fn check_query(
    entry: &str,
    query: &BTreeMap<String, Sensitive>,
    literals: Literals,
) -> Result<(), CatalogError> {
    for (name, value) in query {
        let place = format!("{entry}.query.{name}");
        if name.is_empty() {
            return Err(invalid(&place, "has an empty name; give the name of the parameter"));
        }
        check_value(&place, name, value, literals)?;
    }
    Ok(())
}

/// A value may refer to a secret, and writes out none.
fn check_value(place: &str, name: &str, value: &Sensitive, literals: Literals) -> Result<(), CatalogError> {
    let template = Template::parse(value.expose()).map_err(|text| invalid(place, text))?;
    let wrong = match literals {
        Literals::Refused => wrong_in(name, &template.before, template.secret.is_some()),
        Literals::Accepted => is_placeholder(&template.before).then(unfilled),
    };
    wrong.map_or(Ok(()), |text| Err(invalid(place, text)))
}
