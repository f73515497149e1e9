//! The handshake over a connection: which revision it speaks, and the session that the older revisions open.
//!
//! `server/discover` is sent first, as the specification demands. Any error but those of 2026-07-28 means an older revision. A slow
//! program does not answer for a while, and some older ones never answer an unknown method: then `initialize` is sent too, and the first
//! usable answer decides. Others exit or stop working after a request before `initialize`, as some bridges do: [`super::begin`] starts
//! them again, and the fresh process gets `initialize` first.
//!
//! **Invariant:** a time-out alone never decides which revision a channel speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;
use toolfleet_egress::sanitize_text_to;

use crate::fault::Fault;
use crate::fault::invalid;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{ClientInfo, LEGACY, Meta, PageParams, initialize, initialized, request};
use crate::transport::channels::channel::{Channel, Handshake};
use crate::transport::discovery::{Discovered, Initialized, era_among, era_despite};
use crate::transport::request_error::RequestError;
use crate::transport::sent::Sent;

/// How long a channel may say nothing to `server/discover` before `initialize` is sent as well.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a channel that knows no `server/discover` may take to answer `initialize` before it is taken for one that was spoilt by the
/// question.
const SPOILT_AFTER: Duration = Duration::from_secs(10);

/// Who greets.
#[derive(Debug, Clone)]
pub(crate) struct Greeter {
    pub(crate) info: ClientInfo,
    pub(crate) ids: Arc<AtomicU64>,
}

impl Greeter {
    fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Greets a channel of which it may be known what it speaks.
    pub(crate) async fn greet(
        &self,
        channel: &Channel,
        known: Option<ProtocolRevision>,
    ) -> Result<Handshake, RequestError> {
        if known == Some(ProtocolRevision::Legacy) {
            return self.initialize_first(channel).await;
        }
        let discover = self.discover(channel);
        tokio::pin!(discover);
        if let Ok(found) = timeout(PATIENCE, &mut discover).await {
            return match found? {
                ProtocolRevision::Modern => Ok(Handshake::Modern),
                ProtocolRevision::Legacy => {
                    timeout(SPOILT_AFTER, self.initialize(channel)).await.unwrap_or_else(|_| Err(mute()))
                }
            };
        }
        let session = self.initialize(channel);
        tokio::pin!(session);
        tokio::select! {
            biased;
            found = &mut discover => match found? {
                ProtocolRevision::Modern => Ok(Handshake::Modern),
                ProtocolRevision::Legacy => session.await,
            },
            opened = &mut session => opened,
        }
    }

    /// A channel that refuses it may speak 2026-07-28 alone.
    async fn initialize_first(&self, channel: &Channel) -> Result<Handshake, RequestError> {
        let refused = match self.initialize(channel).await {
            Err(trouble) if trouble.refusal.is_some() => trouble,
            greeted => return greeted,
        };
        match self.discover(channel).await {
            Ok(ProtocolRevision::Modern) => Ok(Handshake::Modern),
            Ok(ProtocolRevision::Legacy) | Err(_) => Err(refused),
        }
    }

    async fn discover(&self, channel: &Channel) -> Result<ProtocolRevision, RequestError> {
        let id = self.id();
        let params = PageParams { cursor: None, meta: Meta::modern_of_program(&self.info) };
        match channel.ask(id, request(id, "server/discover", params), &Sent::default(), &|_| ()).await {
            Ok(result) => match serde_json::from_str::<Discovered>(result.get()) {
                Ok(found) => era_among(found.supported_versions),
                Err(_) => Ok(ProtocolRevision::Legacy),
            },
            Err(trouble) => era_despite(trouble),
        }
    }

    async fn initialize(&self, channel: &Channel) -> Result<Handshake, RequestError> {
        let id = self.id();
        let result = channel.ask(id, initialize(id, &self.info), &Sent::default(), &|_| ()).await?;
        let version = version_in(&result)?;
        channel.tell_first(initialized()).await?;
        Ok(Handshake::Legacy(version))
    }
}

fn mute() -> RequestError {
    let detail = format!("it did not answer `initialize` within {} s", SPOILT_AFTER.as_secs());
    Fault::AnswerLost { detail }.into()
}

fn version_in(result: &RawValue) -> Result<&'static str, Fault> {
    let found: Initialized = serde_json::from_str(result.get())
        .map_err(|error| invalid("an initialize result", &error.to_string()))?;
    let known = LEGACY.into_iter().find(|known| *known == found.protocol_version);
    known.ok_or_else(|| Fault::VersionUnsupported {
        supported: vec![sanitize_text_to(&found.protocol_version, 32)],
    })
}
