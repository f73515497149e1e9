//! The credentials of servers: one per server and tenant, kept so that a token it obtained is used again. Holds no secret itself:
//! secrets are in the cache of `toolfleet_aws` and in types that do not print.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use toolfleet_catalog::Server;
use toolfleet_core::credential::{Credential, Sensitive, Template};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_credentials::{Auth, Keyring};
use toolfleet_mcp::{Endpoint, Fault, McpClient, Program};

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
    auth: Option<Arc<Auth>>,
    program: Option<Arc<Program>>,
}

impl Credentials {
    /// Of servers that this client calls, with what the keyring holds.
    pub fn new(mcp: McpClient, keyring: Arc<dyn Keyring>) -> Self {
        Self { mcp, keyring, known: Mutex::default() }
    }

    /// The server as this tenant calls it, or as nobody in particular does. Nothing is read yet.
    pub fn endpoint(&self, server: &Arc<Server>, tenant: Option<&Tenant>) -> Result<Endpoint, Fault> {
        let Known { auth, program, .. } = self.known(server, tenant)?;
        Ok(Endpoint {
            server: server.id.clone(),
            url: server.url.clone(),
            headers: HeaderMap::new(),
            auth,
            tenant: tenant.cloned(),
            program,
        })
    }

    fn known(&self, server: &Arc<Server>, tenant: Option<&Tenant>) -> Result<Known, Fault> {
        let key = (server.id.clone(), tenant.cloned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key).filter(|found| is_the_same(&found.server, server)) {
            return Ok(found.clone());
        }
        let auth = self.build(server)?.map(Arc::new);
        let fresh = Known { server: Arc::clone(server), auth, program: self.program(server).map(Arc::new) };
        if known.len() >= MAX {
            known.clear();
        }
        known.insert(key, fresh.clone());
        Ok(fresh)
    }

    fn program(&self, server: &Server) -> Option<Program> {
        let env = server.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let keyring = Some(Arc::clone(&self.keyring));
        let command = server.command.as_ref()?;
        let program = Program::new(command, server.args.iter().cloned(), server.cwd.clone(), env, keyring);
        let program = if server.stateless { program.keeping_nothing() } else { program };
        Some(match server.start_timeout_ms {
            Some(ms) => program.starting_within(Duration::from_millis(ms)),
            None => program,
        })
    }

    fn build(&self, server: &Server) -> Result<Option<Auth>, Fault> {
        let certificate = server.client_certificate.clone();
        if server.auth == Credential::None && server.headers.is_empty() && certificate.is_none() {
            return Ok(None);
        }
        let template = |(name, value): (&String, &Sensitive)| match Template::parse(value.expose()) {
            Ok(value) => Ok((name.clone(), value)),
            Err(problem) => {
                let detail = format!("header `{name}` of server `{}` {problem}", server.id);
                Err(Fault::Credential { detail })
            }
        };
        let headers = server.headers.iter().map(template).collect::<Result<Vec<_>, _>>()?;
        let auth = self.mcp.auth(&server.auth, headers, &server.url, Arc::clone(&self.keyring));
        Ok(Some(auth.with_certificate(certificate)))
    }
}

/// Whether a server is still registered as it was when its credential was made.
fn is_the_same(old: &Arc<Server>, new: &Arc<Server>) -> bool {
    let parts = |server: &Server| {
        let Server { headers, auth, env, client_certificate, stateless, start_timeout_ms, .. } =
            server.clone();
        (server.address(), headers, auth, env, client_certificate, stateless, start_timeout_ms)
    };
    Arc::ptr_eq(old, new) || parts(old) == parts(new)
}
