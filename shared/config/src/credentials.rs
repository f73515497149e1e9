//! The credentials of servers: one per server and tenant, kept so that a token it obtained is used again. Holds no secret itself:
//! secrets are in the cache of `toolfleet_aws` and in types that do not print.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use toolfleet_catalog::{HttpTransport, Server, StdioTransport, StreamKind, Transport};
use toolfleet_core::credential::{Credential, Sensitive, Template};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_credentials::{Auth, Keyring};
use toolfleet_mcp::{Endpoint, EndpointTransport, Fault, McpClient, Program};
use url::Url;

/// The most credentials that are kept; beyond it all are obtained again.
const MAX: usize = 10_000;

/// The credentials of all servers.
#[derive(Debug)]
pub struct Credentials {
    mcp: McpClient,
    keyring: Arc<dyn Keyring>,
    known: Mutex<HashMap<(ServerId, Option<Tenant>), Known>>,
}

/// A credential, and the registration it was made from.
#[derive(Debug, Clone)]
struct Known {
    server: Arc<Server>,
    /// Its address; of a program its name, as in `stdio:files`.
    url: Url,
    auth: Option<Arc<Auth>>,
    transport: EndpointTransport,
}

impl Credentials {
    /// Of servers that this client calls, with what the keyring holds.
    pub fn new(mcp: McpClient, keyring: Arc<dyn Keyring>) -> Self {
        Self { mcp, keyring, known: Mutex::default() }
    }

    /// The endpoint of the server for this tenant, or for no tenant. No secret is read yet.
    pub fn endpoint(&self, server: &Arc<Server>, tenant: Option<&Tenant>) -> Result<Endpoint, Fault> {
        let Known { url, auth, transport, .. } = self.known(server, tenant)?;
        Ok(Endpoint {
            server: server.id.clone(),
            url,
            headers: HeaderMap::new(),
            auth,
            tenant: tenant.cloned(),
            transport,
        })
    }

    fn known(&self, server: &Arc<Server>, tenant: Option<&Tenant>) -> Result<Known, Fault> {
        let key = (server.id.clone(), tenant.cloned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key).filter(|found| is_the_same(&found.server, server)) {
            return Ok(found.clone());
        }
        let (over_http, none) = (EndpointTransport::Http, BTreeMap::new());
        let (url, auth, transport) = match &server.transport {
            Transport::Http(http) => (http.url.clone(), self.auth(&server.id, http, &none)?, over_http),
            Transport::Stream(stream) => {
                let stateless = stream.stateless;
                let transport = match stream.kind {
                    StreamKind::Sse => EndpointTransport::Sse { stateless },
                    StreamKind::WebSocket => EndpointTransport::WebSocket { stateless },
                };
                (stream.http.url.clone(), self.auth(&server.id, &stream.http, &none)?, transport)
            }
            Transport::Stdio(stdio) => {
                let program = EndpointTransport::Program(Arc::new(self.program(stdio)));
                (program_url(&server.id)?, None, program)
            }
            Transport::OpenApi(openapi) => {
                let auth = self.auth(&server.id, &openapi.http, &openapi.query)?;
                (openapi.http.url.clone(), auth, over_http)
            }
            Transport::Lambda(_) => {
                let detail = format!("server `{}` is a function, which has no endpoint of MCP", server.id);
                return Err(Fault::Credential { detail });
            }
        };
        let auth = auth.map(Arc::new);
        let fresh = Known { server: Arc::clone(server), url, auth, transport };
        if known.len() >= MAX {
            known.clear();
        }
        known.insert(key, fresh.clone());
        Ok(fresh)
    }

    fn program(&self, stdio: &StdioTransport) -> Program {
        let env = stdio.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let keyring = Some(Arc::clone(&self.keyring));
        let program =
            Program::new(&stdio.command, stdio.args.iter().cloned(), stdio.cwd.clone(), env, keyring);
        let program = if stdio.stateless { program.keeping_nothing() } else { program };
        match stdio.start_timeout_ms {
            Some(ms) => program.starting_within(Duration::from_millis(ms)),
            None => program,
        }
    }

    fn auth(
        &self,
        server: &ServerId,
        http: &HttpTransport,
        query: &BTreeMap<String, Sensitive>,
    ) -> Result<Option<Auth>, Fault> {
        let certificate = http.client_certificate.clone();
        let is_none = http.auth == Credential::None && http.headers.is_empty() && certificate.is_none();
        if is_none && query.is_empty() {
            return Ok(None);
        }
        let headers = templates(server, "header", &http.headers)?;
        let auth = self.mcp.auth(&http.auth, headers, &http.url, Arc::clone(&self.keyring));
        let query = templates(server, "parameter", query)?;
        Ok(Some(auth.with_certificate(certificate).with_query(query)))
    }
}

/// The values by name, with the secrets that they refer to.
fn templates(
    server: &ServerId,
    what: &str,
    values: &BTreeMap<String, Sensitive>,
) -> Result<Vec<(String, Template)>, Fault> {
    let template = |(name, value): (&String, &Sensitive)| match Template::parse(value.expose()) {
        Ok(value) => Ok((name.clone(), value)),
        Err(problem) => {
            let detail = format!("{what} `{name}` of server `{server}` {problem}");
            Err(Fault::Credential { detail })
        }
    };
    values.iter().map(template).collect()
}

/// Whether a server is still registered as it was when its credential was made.
fn is_the_same(old: &Arc<Server>, new: &Arc<Server>) -> bool {
    Arc::ptr_eq(old, new) || old.transport == new.transport
}

/// The name of a program, as in `stdio:files`.
fn program_url(server: &ServerId) -> Result<Url, Fault> {
    Url::parse(&format!("stdio:{server}")).map_err(|error| {
        let detail = format!("server `{server}` has an id that no address holds: {error}");
        Fault::Credential { detail }
    })
}
