//! Assigns a child process to each call: one for each server, tenant and conversation, started on first use. The conversations of one
//! tenant share the children of a stateless program ([`super::shared`]).
//!
//! A server has a limited number of children ([`super::places`]). A child whose registration or secrets have changed gets no new calls and
//! is stopped once it is unused.
//!
//! **Invariant:** two tenants or two environments never share a child, nor do two conversations unless the catalog says that the program
//! is stateless.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use toolfleet_core::ids::{ServerId, Tenant};

use crate::endpoint::Endpoint;
use crate::fault::{Fault, NotSentCause};
use crate::transport::stdio::child::Lease;
use crate::transport::stdio::children::{Children, Limits, Phase, lock};
use crate::transport::stdio::handshake::Greeter;
use crate::transport::stdio::key::{Key, User};
use crate::transport::stdio::program::Program;
use crate::transport::stdio::supervise::STOP_WITHIN;

/// How long a call waits for a program that is to be started again, rather than to say that it is away.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// The children of a client, which end with it.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Children>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

impl Pool {
    pub(crate) fn new(limits: Limits, greeter: Greeter) -> Self {
        Self(Arc::new(Children {
            limits,
            greeter,
            serials: AtomicU64::new(1),
            slots: Mutex::default(),
            servers: Mutex::default(),
            all: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The child of that conversation, greeted, and held until the lease is dropped. It is started if there is none; who gives up
    /// waiting leaves the start to those who come next.
    pub(crate) async fn lease(
        &self,
        endpoint: &Endpoint,
        program: &Arc<Program>,
        conversation: Option<&str>,
    ) -> Result<Lease, Fault> {
        let own = conversation.filter(|_| !program.keeps_nothing());
        let mut key = Key {
            server: endpoint.server.clone(),
            tenant: endpoint.tenant.clone(),
            user: own.map_or(User::All(0), |own| User::Conversation(own.to_owned())),
        };
        loop {
            let ready = program.ready().await?;
            if program.keeps_nothing() {
                key.user = User::All(self.0.least_used(&key, program, &ready));
            }
            let of = self.0.of_server(&key.server);
            let known = self.0.usable(&key, ready.mark);
            let pause = of.pause(&key.tenant);
            if let Some(detail) = of.away(&key.tenant).filter(|_| known.is_none() && pause > SHORT_PAUSE) {
                return Err(Fault::NotSent { detail, cause: NotSentCause::Answer });
            }
            let mut phase = match known {
                Some(phase) => phase,
                None => {
                    sleep(pause).await;
                    self.0.begin(&key, program, ready)?
                }
            };
            let Ok(phase) = phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await else {
                return Err(Fault::NotSent {
                    detail: "the program's start was given up".to_owned(),
                    cause: NotSentCause::Answer,
                });
            };
            match &*phase {
                Phase::Failed(fault) => return Err(fault.clone()),
                // It may have ended since, and then another one is started.
                Phase::Up(child) => match child.hold() {
                    Some(lease) => return Ok(lease),
                    None => self.0.forget(&key, child.serial),
                },
                Phase::Starting => {}
            }
        }
    }

    /// Ends the child of that conversation once nobody uses it.
    pub(crate) fn end(&self, server: &ServerId, tenant: Option<&Tenant>, conversation: &str) {
        self.0
            .retire(|key| key.server == *server && key.tenant.as_ref() == tenant && key.is_of(conversation));
    }

    /// Ends the conversation's children of all servers once nobody uses them.
    pub(crate) fn end_conversation(&self, tenant: &Tenant, conversation: &str) {
        self.0.retire(|key| key.tenant.as_ref() == Some(tenant) && key.is_of(conversation));
    }

    /// The conversations that have children, each once.
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
        let mine = all.values().filter(|child| {
            child.key.server == endpoint.server
                && child.key.tenant == endpoint.tenant
                && (!child.key.is_one_conversation() || conversation.is_some_and(|own| child.key.is_of(own)))
        });
        let Some(child) = mine.max_by_key(|child| (child.key.is_one_conversation(), child.serial)) else {
            return String::new();
        };
        let words = child.said_to(child.only_waiter());
        if child.handshake.get().is_some() {
            return words;
        }
        let starting = format!(
            "the program `{}` has been starting for {} s",
            child.program.command(),
            child.born.elapsed().as_secs()
        );
        if words.is_empty() { starting } else { format!("{starting}; {words}") }
    }

    /// How many children there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0.all).len()
    }

    /// Starts none any more, ends all, and waits until nothing of them is left.
    pub(crate) async fn close(&self) {
        let ended = self.0.end_all();
        let all = async {
            for child in ended {
                child.gone.cancelled().await;
            }
        };
        let _gone = timeout(STOP_WITHIN, all).await;
    }
}
