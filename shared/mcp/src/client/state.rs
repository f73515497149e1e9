//! The client: its connections, caches and sessions.

use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::timeout;
use toolfleet_core::credential::{Credential, Template};
use toolfleet_core::ids::Tenant;
use toolfleet_credentials::{Auth, AuthSite, Keyring, TokenHttpClient};
use toolfleet_egress::{BuildError, HttpClients};
use url::Url;

use crate::client::options::ClientOptions;
use crate::client::revision_cache::RevisionCache;
use crate::endpoint::Endpoint;
use crate::protocol::wire::{ClientInfo, MODERN};
use crate::session_store::{OpenSession, SessionStore};
use crate::tools::Mirrored;
use crate::transport::channels::channel::Lease;
use crate::transport::channels::handshake::Greeter;
use crate::transport::channels::pool::Pool;
use crate::transport::channels::table::Limits;
use crate::transport::connection::Connection;
use crate::transport::exchange::Exchange;
use crate::transport::http::requests::Transport;
use crate::transport::http::session::{Session, Sessions};
use crate::transport::http::stream::SIDE_REQUEST_TIMEOUT;
use crate::transport::http::wrong_address::WrongAddresses;
use crate::transport::websocket::open::http_url;

/// The MCP client. Clones share connections and everything learned.
#[derive(Debug, Clone)]
pub struct McpClient(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) exchange: Exchange,
    pub(crate) eras: RevisionCache,
    pub(crate) wrong_addresses: WrongAddresses,
    pub(crate) sessions: Sessions,
    pub(crate) channels: Pool,
    pub(crate) register: Option<Arc<dyn SessionStore>>,
    pub(crate) mirrored: Mirrored,
    cognito_endpoint: Option<Url>,
}

/// How a server is spoken to.
#[derive(Debug)]
pub(crate) enum Negotiated {
    Modern,
    Legacy(Session),
    Channel(Lease),
}

impl Negotiated {
    pub(crate) fn connection(&self) -> Connection<'_> {
        match self {
            Self::Modern => Connection::Modern,
            Self::Legacy(session) => Connection::Legacy(session),
            Self::Channel(channel) => Connection::Channel(channel),
        }
    }

    pub(crate) fn version(&self) -> &'static str {
        match self {
            Self::Modern => MODERN,
            Self::Legacy(session) => session.version,
            Self::Channel(channel) => channel.version(),
        }
    }
}

impl McpClient {
    /// A client with its own connections and caches.
    pub fn new(options: ClientOptions) -> Result<Self, BuildError> {
        let clients = Arc::new(HttpClients::new(options.http())?);
        let info = ClientInfo { name: options.client_name, version: options.client_version };
        let limits = Limits {
            max_programs: options.max_children,
            max_connections: options.max_connections,
            idle: options.child_idle,
            start_within: options.child_start,
            max_message_bytes: options.max_body_bytes,
        };
        let max_body_bytes = options.max_body_bytes;
        let transport = Transport { clients, info: info.clone(), max_body_bytes };
        let exchange = Exchange::new(transport);
        let greeter = Greeter { info, ids: Arc::clone(&exchange.ids) };
        let channels = Pool::new(limits, greeter, exchange.transport.aside());
        Ok(Self(Arc::new(Shared {
            exchange,
            channels,
            eras: RevisionCache::new(options.era_ttl),
            wrong_addresses: WrongAddresses::default(),
            sessions: Sessions::new(options.max_sessions),
            register: options.register,
            mirrored: Mirrored::default(),
            cognito_endpoint: options.cognito_endpoint,
        })))
    }

    /// The credential that a catalog describes for a server, with the headers that go along. Nothing is read yet.
    pub fn auth(
        &self,
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
        server: &Url,
        keyring: Arc<dyn Keyring>,
    ) -> Auth {
        let transport = &self.0.exchange.transport;
        let server = &http_url(server);
        let clients = &transport.clients;
        let http = TokenHttpClient::from(clients.as_ref());
        let cognito_endpoint = self.0.cognito_endpoint.clone();
        Auth::new(credential, headers, AuthSite { server, http, cognito_endpoint }, keyring)
    }

    /// Ends the conversation's session at the server, as far as it can be reached.
    pub async fn end_conversation(&self, endpoint: &Endpoint, conversation: &str) {
        self.0.channels.end(&endpoint.server, endpoint.tenant.as_ref(), conversation);
        let end = async {
            if let Some(session) = self.0.sessions.take(endpoint, conversation).await
                && session.id.is_some()
            {
                self.0.exchange.transport.delete(endpoint, &session).await;
            }
        };
        let _ = timeout(SIDE_REQUEST_TIMEOUT, end).await;
    }

    /// Ends a session of the conversation that some client of the fleet has opened, as far as the server can be reached.
    pub async fn end_session(&self, endpoint: &Endpoint, conversation: &str, open: &OpenSession) {
        let end = async {
            let ours = self.0.sessions.take(endpoint, conversation).await;
            let theirs = self.0.exchange.resumed(open);
            let same = |a: &Session, b: &Session| a.id == b.id;
            if let Some(ours) = ours
                .filter(|ours| ours.id.is_some() && theirs.as_ref().is_none_or(|theirs| !same(ours, theirs)))
            {
                self.0.exchange.transport.delete(endpoint, &ours).await;
            }
            if let Some(theirs) = theirs {
                self.0.exchange.transport.delete(endpoint, &theirs).await;
            }
        };
        let _ = timeout(SIDE_REQUEST_TIMEOUT, end).await;
    }

    /// The conversations that this client has sessions or programs of, each once.
    pub fn conversations(&self) -> BTreeSet<(Tenant, String)> {
        let mut all = self.0.sessions.conversations();
        all.append(&mut self.0.channels.conversations());
        all
    }

    /// What is known of a program whose answer did not come in time: how long it has been starting, and its last lines of stderr. Empty where
    /// nothing is.
    pub fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        self.0.standing(endpoint, conversation)
    }

    /// How many servers that are programs run.
    pub fn programs(&self) -> usize {
        self.0.channels.programs()
    }

    /// Ends all programs and connections that are kept, and waits a few seconds at most until nothing of them is left. None is started any
    /// more.
    pub async fn close(&self) {
        self.0.channels.close().await;
    }

    /// Forgets a conversation that is over.
    pub fn forget_conversation(&self, tenant: &Tenant, conversation: &str) {
        self.0.sessions.forget_all(tenant, conversation);
        self.0.channels.end_conversation(tenant, conversation);
    }
}

impl Shared {
    /// What is known of a connection that is kept, for a call whose time is over.
    pub(crate) fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        if !endpoint.is_connected() {
            return String::new();
        }
        self.channels.standing(endpoint, conversation)
    }
}
