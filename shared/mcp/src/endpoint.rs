//! [`Endpoint`]: how a server is reached, and the credentials.
//!
//! **Invariant:** `Debug` prints no header value, whether it is marked as sensitive or not.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::redact::REDACTED;
use toolfleet_credentials::Auth;
use toolfleet_egress::url_without_secrets;
use url::Url;

use crate::fault::Fault;
use crate::transport::stdio::program::Program;

/// How a server is reached.
#[derive(Debug, Clone)]
pub enum EndpointTransport {
    /// By streamable HTTP, or where its address turns out to speak nothing else, as [`EndpointTransport::Sse`].
    Http,
    /// By the HTTP+SSE transport of MCP 2024-11-05.
    Sse {
        /// Whether it keeps nothing of a conversation, so that those of one tenant may share connections.
        stateless: bool,
    },
    /// By WebSocket, a custom transport that the specification does not define.
    WebSocket {
        /// Whether it keeps nothing of a conversation, so that those of one tenant may share connections.
        stateless: bool,
    },
    /// As a program that is started here; nothing is sent to the endpoint's address.
    Program(Arc<Program>),
}

impl EndpointTransport {
    /// What an address alone says: WebSocket by its scheme, else streamable HTTP.
    pub fn of_address(url: &Url) -> Self {
        match url.scheme() {
            "ws" | "wss" => Self::WebSocket { stateless: false },
            _ => Self::Http,
        }
    }
}

/// An MCP server, with the credentials of one tenant.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name. What is learned about a server is kept under its name and address.
    pub server: ServerId,
    /// Where it listens; of a program a name, as in `stdio:files`.
    pub url: Url,
    /// Credentials and other headers of the server's configuration. Our protocol headers win over them.
    pub headers: HeaderMap,
    /// How requests prove who we are; it wins over `headers`.
    pub auth: Option<Arc<Auth>>,
    /// For whom it is called; sessions are never shared between tenants.
    pub tenant: Option<Tenant>,
    /// How it is reached.
    pub transport: EndpointTransport,
}

impl Endpoint {
    /// Its program, if it is one.
    pub fn program(&self) -> Option<&Arc<Program>> {
        match &self.transport {
            EndpointTransport::Program(program) => Some(program),
            EndpointTransport::Http | EndpointTransport::Sse { .. } | EndpointTransport::WebSocket { .. } => {
                None
            }
        }
    }

    /// Whether requests and answers go over a connection that is kept, rather than one request at a time.
    pub(crate) const fn is_connected(&self) -> bool {
        match &self.transport {
            EndpointTransport::Http => false,
            EndpointTransport::Sse { .. }
            | EndpointTransport::WebSocket { .. }
            | EndpointTransport::Program(_) => true,
        }
    }

    /// Whether conversations of one tenant may share its connections.
    pub(crate) fn keeps_nothing(&self) -> bool {
        match &self.transport {
            EndpointTransport::Http => false,
            EndpointTransport::Sse { stateless } | EndpointTransport::WebSocket { stateless } => *stateless,
            EndpointTransport::Program(program) => program.keeps_nothing(),
        }
    }

    /// What answers there, for people.
    pub(crate) fn peer(&self) -> String {
        match self.program() {
            Some(program) => format!("the program `{}`", program.command()),
            None => "the server".to_owned(),
        }
    }

    /// Obtains all secrets and tokens that the first request will need, so that what is missing is known before a call is claimed.
    pub async fn ready(&self) -> Result<(), Fault> {
        if let Some(program) = self.program() {
            program.ready().await.map_err(|fault| program.scrub(fault))?;
        }
        match &self.auth {
            Some(auth) => Ok(auth.ready().await?),
            None => Ok(()),
        }
    }

    /// Whether a credential of ours stands in the text.
    pub(crate) fn leaks_into(&self, text: &str) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.is_in(text))
            || self.program().is_some_and(|program| program.leaks_into(text))
    }

    /// A JSON text without any credential of ours, or `None` where none stands in it.
    pub(crate) fn json_without_echo(&self, text: &str) -> Option<String> {
        let of_auth = self.auth.as_ref().and_then(|auth| auth.scrub_json(text));
        let so_far = of_auth.as_deref().unwrap_or(text);
        let of_program = self.program().and_then(|program| program.scrub_json(so_far));
        of_program.or(of_auth)
    }

    /// A header value or body of plain text or JSON without any credential of ours, or `None` where none stands in it.
    pub(crate) fn words_without_echo(&self, words: &[u8]) -> Option<Vec<u8>> {
        let of_bytes = self.auth.as_ref().and_then(|auth| auth.scrub_bytes(words));
        let Ok(text) = std::str::from_utf8(of_bytes.as_deref().unwrap_or(words)) else {
            return of_bytes;
        };
        let of_json = self.json_without_echo(text);
        // What stands outside the strings of a JSON text, or in a text that is none.
        match of_json.as_deref().unwrap_or(text) {
            rest if self.leaks_into(rest) => Some(self.text_without_echo(rest.to_owned()).into_bytes()),
            _ => of_json.map(String::into_bytes).or(of_bytes),
        }
    }

    /// The fault without any credential that the server's own words may have echoed.
    pub(crate) fn without_echo(&self, fault: Fault) -> Fault {
        fault.map_text(|text| self.text_without_echo(text))
    }

    /// The same for any other words of the server.
    pub(crate) fn text_without_echo(&self, text: String) -> String {
        let text = match &self.auth {
            Some(auth) => auth.scrub_text(text),
            None => text,
        };
        let text = match self.program() {
            Some(program) => program.scrub_words(text),
            None => text,
        };
        let secrets = self
            .headers
            .values()
            .filter(|value| value.is_sensitive())
            .filter_map(|value| value.to_str().ok());
        let parts = secrets.flat_map(|value| [Some(value), value.split(' ').next_back()]).flatten();
        parts.filter(|part| part.len() >= 6).fold(text, |text, part| text.replace(part, REDACTED))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("server", &self.server.as_str())
            .field("url", &url_without_secrets(&self.url))
            .field("headers", &self.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>())
            .field("auth", &self.auth)
            .field("tenant", &self.tenant)
            .field("transport", &self.transport)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_never_prints_a_header_value_or_a_query() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", http::HeaderValue::from_static("hush"));
        let url = Url::parse("https://user:pass@example.com/mcp?key=hush").unwrap();
        let server = ServerId::parse("s").unwrap();
        let endpoint =
            Endpoint { server, url, headers, auth: None, tenant: None, transport: EndpointTransport::Http };
        let shown = format!("{endpoint:?}");
        assert!(!shown.contains("hush") && !shown.contains("pass") && shown.contains("x-api-key"), "{shown}");
    }
}
