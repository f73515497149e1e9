//! What precedes a request: the server's protocol revision, and with session-bound servers the conversation's session.
//!
//! **Invariant:** a session is registered before the first request in it; one that another client's session wins over is closed at once.

use std::sync::Arc;

use tokio::time::Instant;

use crate::client::state::{Negotiated, Shared};
use crate::endpoint::{Endpoint, EndpointTransport};
use crate::fault::Fault;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{METHOD_NOT_FOUND, MODERN, VERSION_UNSUPPORTED};
use crate::session_store::{OpenSession, SessionStoreUnavailable};
use crate::transport::http::session::Session;
use crate::transport::http::wrong_address::ToldApart;
use crate::transport::request_error::{RequestError, before_call};

impl Shared {
    /// What has to be known before a request: the era, and with legacy servers the session.
    pub(crate) async fn tongue(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
    ) -> Result<Negotiated, Fault> {
        if endpoint.is_connected() {
            return self.channels.lease(endpoint, conversation).await.map(Negotiated::Channel);
        }
        if self.wrong_addresses.is_old_transport(endpoint).await {
            match self.over_old_transport(endpoint, conversation).await {
                // It is another server now.
                Err(Fault::WrongTransport { .. } | Fault::ClientStatus { .. }) => {}
                leased => return leased,
            }
        }
        let asking = "asking the server which protocol it speaks";
        let mut turned = false;
        loop {
            let era = self.eras.learn(endpoint, || self.exchange.discover(endpoint)).await;
            match era.map_err(|error| before_call(error.fault, asking))? {
                ProtocolRevision::Modern => return Ok(Negotiated::Modern),
                ProtocolRevision::Legacy => {}
            }
            let open = |lost| Box::pin(self.open(endpoint, conversation, lost));
            let opening = self.sessions.get(endpoint, conversation, open).await;
            let error = match opening {
                Ok(session) => return Ok(Negotiated::Legacy(session)),
                Err(error) => error,
            };
            let modern = speaks_modern_after_all(&error);
            if modern && !turned {
                turned = true;
                self.eras.set(endpoint, ProtocolRevision::Modern).await;
                continue;
            }
            // The server may have been assumed to be of this generation, or is another one now.
            self.eras.forget(endpoint).await;
            let transport = &self.exchange.transport;
            return match Box::pin(self.wrong_addresses.told_apart(transport, endpoint, error)).await {
                ToldApart::OldTransport => Box::pin(self.over_old_transport(endpoint, conversation)).await,
                ToldApart::Fault(fault) => Err(before_call(fault, "opening a session")),
            };
        }
    }

    /// The specification's rule for servers of 2024-11-05: `initialize` is refused, and a GET begins with the `endpoint` event.
    async fn over_old_transport(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
    ) -> Result<Negotiated, Fault> {
        let old = Endpoint { transport: EndpointTransport::Sse { stateless: false }, ..endpoint.clone() };
        let leased = self.channels.lease(&old, conversation).await;
        if let Err(Fault::WrongTransport { .. } | Fault::ClientStatus { .. }) = &leased {
            self.wrong_addresses.forget(endpoint).await;
        }
        leased.map(Negotiated::Channel)
    }

    /// The session that the fleet has of this conversation, or a new one that is registered before anything is said in it.
    async fn open(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
        lost: Option<Arc<str>>,
    ) -> Result<Session, RequestError> {
        let (Some(register), Some(conversation)) = (&self.register, conversation) else {
            return self.exchange.open(endpoint).await;
        };
        let away = |away: SessionStoreUnavailable| {
            RequestError::from(Fault::SessionStoreUnavailable { detail: away.to_string() })
        };
        let found = register.find(endpoint, conversation).await.map_err(away)?;
        let mut lost = lost.map(|id| id.to_string());
        if let Some(found) = found.filter(|found| Some(&found.id) != lost.as_ref()) {
            match self.exchange.resumed(&found) {
                Some(session) => return Ok(session),
                // Of a version that we do not speak: as good as lost.
                None => lost = Some(found.id),
            }
        }
        let session = self.exchange.open(endpoint).await?;
        let Some(id) = &session.id else { return Ok(session) };
        let cookies = session.cookies.text();
        let opened = OpenSession { id: id.to_string(), version: session.version.to_owned(), cookies };
        let stands = register.register(endpoint, conversation, opened, lost.as_deref()).await;
        if stands.as_ref().is_ok_and(|stands| stands.id == **id) {
            return Ok(session);
        }
        // Nobody will ever speak in ours.
        self.exchange.transport.delete(endpoint, &session).await;
        let stands = stands.map_err(away)?;
        let theirs = self.exchange.resumed(&stands).ok_or(Fault::SessionLost)?;
        // Another client opened it a moment ago.
        Ok(Session { opened: Some(Instant::now()), ..theirs })
    }
}

/// `initialize` refused by a server that has no such method, or names 2026-07-28.
fn speaks_modern_after_all(error: &RequestError) -> bool {
    error.refusal.as_ref().is_some_and(|refusal| match refusal.code {
        Some(VERSION_UNSUPPORTED) => refusal.supported.iter().any(|version| version == MODERN),
        Some(METHOD_NOT_FOUND) => true,
        Some(_) | None => false,
    })
}
