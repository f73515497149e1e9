//! Assigns a connection to each call: one for each server, tenant and conversation, opened on first use. The conversations of one
//! tenant share the connections of a stateless server ([`super::shared`]).
//!
//! A server has a limited number of channels ([`super::places`]). A channel whose registration or secrets have changed gets no new calls and
//! is stopped once it is unused.
//!
//! **Invariant:** two tenants or two environments never share a channel, nor do two conversations unless the catalog says that the server
//! is stateless.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use toolfleet_core::ids::{ServerId, Tenant};

use crate::endpoint::Endpoint;
use crate::fault::{Fault, NotSentCause};
use crate::transport::channels::channel::Lease;
use crate::transport::channels::handshake::Greeter;
use crate::transport::channels::key::{Key, Kind, User};
use crate::transport::channels::lifetime::STOP_WITHIN;
use crate::transport::channels::table::{Channels, Limits, Phase, lock};
use crate::transport::http::requests::Transport;
use crate::transport::stdio::program::Ready;

/// How long a call waits for what is to be opened again, rather than to say that it is away.
const SHORT_PAUSE: Duration = Duration::from_secs(2);

/// The connections of a client, which end with it.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Channels>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

impl Pool {
    pub(crate) fn new(limits: Limits, greeter: Greeter, transport: Transport) -> Self {
        Self(Arc::new(Channels {
            limits,
            transport,
            greeter,
            serials: AtomicU64::new(1),
            slots: Mutex::default(),
            servers: Mutex::default(),
            all: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The channel of that conversation, greeted, and held until the lease is dropped. It is started if there is none; who gives up
    /// waiting leaves the start to those who come next.
    pub(crate) async fn lease(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
    ) -> Result<Lease, Fault> {
        let own = conversation.filter(|_| !endpoint.keeps_nothing());
        let mut key = Key {
            server: endpoint.server.clone(),
            tenant: endpoint.tenant.clone(),
            user: own.map_or(User::All(0), |own| User::Conversation(own.to_owned())),
            kind: if endpoint.program().is_some() { Kind::Program } else { Kind::Connection },
        };
        loop {
            let ready = ready_to_open(endpoint).await?;
            if endpoint.keeps_nothing() {
                key.user = User::All(self.0.least_used(&key, endpoint, &ready));
            }
            let of = self.0.of_server(&key);
            let known = self.0.usable(&key, ready.mark);
            let pause = of.pause(&key.tenant);
            if let Some(detail) = of.away(&key.tenant).filter(|_| known.is_none() && pause > SHORT_PAUSE) {
                return Err(Fault::NotSent { detail, cause: NotSentCause::Answer });
            }
            let mut phase = match known {
                Some(phase) => phase,
                None => {
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                    self.0.begin(&key, endpoint, ready)?
                }
            };
            let Ok(phase) = phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await else {
                return Err(Fault::NotSent {
                    detail: format!("the start of {} was given up", endpoint.peer()),
                    cause: NotSentCause::Answer,
                });
            };
            match &*phase {
                Phase::Failed(fault) => return Err(fault.clone()),
                // It may have ended since, and then another one is started.
                Phase::Up(channel) => match channel.hold() {
                    Some(lease) => return Ok(lease),
                    None => self.0.forget(&key, channel.serial),
                },
                Phase::Starting => {}
            }
        }
    }

    /// Ends the channel of that conversation once nobody uses it.
    pub(crate) fn end(&self, server: &ServerId, tenant: Option<&Tenant>, conversation: &str) {
        self.0
            .retire(|key| key.server == *server && key.tenant.as_ref() == tenant && key.is_of(conversation));
    }

    /// Ends the conversation's channels of all servers once nobody uses them.
    pub(crate) fn end_conversation(&self, tenant: &Tenant, conversation: &str) {
        self.0.retire(|key| key.tenant.as_ref() == Some(tenant) && key.is_of(conversation));
    }

    /// The conversations that have channels, each once.
    pub(crate) fn conversations(&self) -> BTreeSet<(Tenant, String)> {
        let named = |key: &Key| match &key.user {
            User::Conversation(conversation) => Some((key.tenant.clone()?, conversation.clone())),
            User::All(_) => None,
        };
        lock(&self.0.slots).keys().filter_map(named).collect()
    }

    /// What is known of the conversation's program, for a call whose time is over: how long it has been starting, and its last lines.
    pub(crate) fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        let all = lock(&self.0.all);
        let mine = all.values().filter(|channel| {
            channel.key.server == endpoint.server
                && channel.key.tenant == endpoint.tenant
                && (!channel.key.is_one_conversation()
                    || conversation.is_some_and(|own| channel.key.is_of(own)))
        });
        let Some(channel) = mine.max_by_key(|channel| (channel.key.is_one_conversation(), channel.serial))
        else {
            return String::new();
        };
        let words = channel.said_to(channel.only_waiter());
        if channel.handshake.get().is_some() {
            return words;
        }
        let starting = format!(
            "{} has been starting for {} s",
            channel.endpoint.peer(),
            channel.born.elapsed().as_secs()
        );
        if words.is_empty() { starting } else { format!("{starting}; {words}") }
    }

    /// How many programs run.
    pub(crate) fn programs(&self) -> usize {
        lock(&self.0.all).values().filter(|channel| channel.key.kind == Kind::Program).count()
    }

    /// Starts none any more, ends all, and waits until nothing of them is left.
    pub(crate) async fn close(&self) {
        let ended = self.0.end_all();
        let all = async {
            for channel in ended {
                channel.gone.cancelled().await;
            }
        };
        let _gone = timeout(STOP_WITHIN, all).await;
    }
}

/// What the connection is opened with, and the mark that tells it from one that is registered otherwise.
async fn ready_to_open(endpoint: &Endpoint) -> Result<Ready, Fault> {
    if let Some(program) = endpoint.program() {
        return program.ready().await;
    }
    let mut mark = DefaultHasher::new();
    endpoint.url.as_str().hash(&mut mark);
    std::mem::discriminant(&endpoint.transport).hash(&mut mark);
    // Another registration has another credential; the connection holds its own, so that no other gets its address.
    endpoint.auth.as_ref().map(|auth| Arc::as_ptr(auth).addr()).hash(&mut mark);
    Ok(Ready { env: Vec::new(), mark: mark.finish() })
}
