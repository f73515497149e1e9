//! Owns the credentials of servers: one for each server and tenant, kept so that what it obtained is used again.
//!
//! **Invariant:** no secret stays here; texts of secrets live in the AWS crate's cache and in the client's types that do not
//! print.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use toolfleet_aws::identity::{Identity, Keys, ToSign, signature};
use toolfleet_aws::secrets::Secrets;
use toolfleet_aws::{Aws, AwsError};
use toolfleet_catalog::{Server, Transport};
use toolfleet_core::credential::{Credential, SecretRef, Sensitive, Template};
use toolfleet_core::fault::Fault;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_mcp::{Auth, AwsKeys, Endpoint, Keyring, McpClient, Program, SecretText, Unsigned};
use url::Url;

use crate::clock::Clock;

/// Credentials kept at once; beyond it all are obtained anew.
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
            url: endpoint_url(server)?,
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
        let stdio = server.stdio()?;
        let env = stdio.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let keyring = Some(Arc::clone(&self.keyring));
        let program =
            Program::new(&stdio.command, stdio.args.iter().cloned(), stdio.cwd.clone(), env, keyring);
        let program = if stdio.stateless { program.keeping_nothing() } else { program };
        Some(match stdio.start_timeout_ms {
            Some(ms) => program.starting_within(Duration::from_millis(ms)),
            None => program,
        })
    }

    fn build(&self, server: &Server) -> Result<Option<Auth>, Fault> {
        let Some(http) = server.http() else {
            return Ok(None);
        };
        let certificate = http.client_certificate.clone();
        if http.auth == Credential::None && http.headers.is_empty() && certificate.is_none() {
            return Ok(None);
        }
        let template = |(name, value): (&String, &Sensitive)| match Template::parse(value.expose()) {
            Ok(value) => Ok((name.clone(), value)),
            Err(problem) => {
                let detail = format!("header `{name}` of server `{}` {problem}", server.id);
                Err(Fault::Credential { detail })
            }
        };
        let headers = http.headers.iter().map(template).collect::<Result<Vec<_>, _>>()?;
        let auth = self.mcp.auth(&http.auth, headers, &http.url, Arc::clone(&self.keyring));
        Ok(Some(auth.with_certificate(certificate)))
    }
}

/// Whether a server is still registered as it was when its credential was made.
fn is_the_same(old: &Arc<Server>, new: &Arc<Server>) -> bool {
    Arc::ptr_eq(old, new) || old.transport == new.transport
}

/// A server's address; of a program its name, as in `stdio:files`.
fn endpoint_url(server: &Server) -> Result<Url, Fault> {
    match &server.transport {
        Transport::Http(http) => Ok(http.url.clone()),
        Transport::Stdio(_) => {
            Url::parse(&format!("stdio:{}", server.id)).map_err(|error| Fault::Credential {
                detail: format!("server `{}` has an id that no address holds: {error}", server.id),
            })
        }
    }
}

/// Secrets Manager and the process's own identity.
pub struct AwsKeyring {
    secrets: Secrets,
    identity: Identity,
    clock: Clock,
}

impl AwsKeyring {
    /// What that connection can read.
    pub fn new(aws: &Aws, clock: Clock) -> Self {
        Self { secrets: aws.secrets(), identity: aws.identity(), clock }
    }
}

impl fmt::Debug for AwsKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeyring")
    }
}

impl Keyring for AwsKeyring {
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, Fault>> {
        async move {
            let name = reference.name();
            let read = if fresh { self.secrets.refresh(name).await } else { self.secrets.get(name).await };
            let secret = read.map_err(|error| fault_of(&error))?;
            let text = reference.pick(secret.expose()).map_err(|detail| Fault::Credential { detail })?;
            Ok(SecretText::new(text))
        }
        .boxed()
    }

    fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now().as_ms() / 1000).unwrap_or_default()
    }

    fn aws_keys(&self, fresh: bool) -> BoxFuture<'_, Result<AwsKeys, Fault>> {
        async move {
            let keys = self.identity.keys(fresh).await.map_err(|error| fault_of(&error))?;
            Ok(AwsKeys {
                access_key_id: keys.access_key_id,
                secret_access_key: SecretText::new(keys.secret_access_key),
                session_token: keys.session_token.map(SecretText::new),
            })
        }
        .boxed()
    }

    fn aws_sign(&self, keys: &AwsKeys, request: &Unsigned<'_>) -> Result<Vec<(String, String)>, Fault> {
        let Some(region) = request.region.or_else(|| self.identity.region()) else {
            let detail = "there is no region to sign for; give `region` beside `aws_sigv4`, or AWS_REGION";
            return Err(Fault::Credential { detail: detail.to_owned() });
        };
        let keys = Keys {
            access_key_id: keys.access_key_id.clone(),
            secret_access_key: keys.secret_access_key.expose().to_owned(),
            session_token: keys.session_token.as_ref().map(|token| token.expose().to_owned()),
        };
        let text = |(name, value): (&'_ http::HeaderName, &'_ http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: Vec<_> = request.headers.iter().filter_map(text).collect();
        let to_sign = ToSign {
            method: request.method,
            url: request.url.as_str(),
            headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            body: request.body,
            service: request.service,
            region,
            at: self.clock.now(),
        };
        signature(&keys, &to_sign).map_err(|error| fault_of(&error))
    }
}

/// A failure of the fleet's own with AWS (expired credentials, a role that may not, an outage) ends no call: it is waited for. What the
/// catalog names and is not there ends it.
fn fault_of(error: &AwsError) -> Fault {
    let detail = error.to_string();
    if error.is_access_or_outage() {
        Fault::CredentialPending { detail }
    } else {
        Fault::Credential { detail }
    }
}
