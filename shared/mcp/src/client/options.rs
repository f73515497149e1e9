//! The options of a client. The defaults are strict: public addresses, https, the system's TLS roots.

use std::sync::Arc;
use std::time::Duration;
use toolfleet_egress::{EgressPolicy, HttpOptions, Proxies};
use url::Url;

use crate::session_store::SessionStore;

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The bound on one response, in bytes.
    pub max_body_bytes: u64,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Node and uvicorn drop theirs after 5 s; a request sent into that is lost.
    pub pool_idle_timeout: Duration,
    /// Where requests may go: public addresses over https unless told otherwise.
    pub reach: EgressPolicy,
    /// Through which proxies requests go.
    pub proxies: Proxies,
    /// Certificate authorities that are trusted beside the system's, as PEM.
    pub extra_roots: Option<Vec<u8>>,
    /// Where Cognito is, in place of each region's endpoint: a VPC endpoint, or a stand-in.
    pub cognito_endpoint: Option<Url>,
    /// Our name, told to servers.
    pub client_name: String,
    /// Our version, told to servers.
    pub client_version: String,
    /// How long it is remembered which generation a server speaks.
    pub era_ttl: Duration,
    /// How many sessions are remembered; beyond it the longest unused are forgotten.
    pub max_sessions: usize,
    /// How many programs one server that is a program may have running; beyond it unused ones are ended, and calls wait.
    pub max_children: usize,
    /// How many connections one server that is no program may have that are kept; beyond it unused ones are closed, and calls wait.
    pub max_connections: usize,
    /// How long a program or a connection that nobody uses is kept.
    pub child_idle: Duration,
    /// How long a program may take from its start to its first answer: some are downloaded first.
    pub child_start: Duration,
    /// Where several clients share the sessions of their conversations; without it each client has its own.
    pub register: Option<Arc<dyn SessionStore>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            pool_idle_timeout: Duration::from_secs(4),
            reach: EgressPolicy::public(),
            proxies: Proxies::default(),
            extra_roots: None,
            cognito_endpoint: None,
            client_name: "toolfleet".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            era_ttl: Duration::from_secs(3600),
            max_sessions: 50_000,
            max_children: 16,
            max_connections: 256,
            child_idle: Duration::from_secs(600),
            child_start: Duration::from_secs(60),
            register: None,
        }
    }
}

impl ClientOptions {
    /// The part that the HTTP clients are built from.
    pub fn http(&self) -> HttpOptions {
        HttpOptions {
            connect_timeout: self.connect_timeout,
            pool_idle_timeout: self.pool_idle_timeout,
            user_agent: format!("{}/{}", self.client_name, self.client_version),
            policy: self.reach.clone(),
            proxies: self.proxies.clone(),
            extra_roots: self.extra_roots.clone(),
        }
    }
}
