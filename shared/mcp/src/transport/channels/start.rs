//! Opens a connection: the transport's own part, then the handshake.
//!
//! **Invariant:** a failed start leaves nothing behind; its failure is known before any tool was called.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::endpoint::EndpointTransport;
use crate::fault::{Fault, NotSentCause};
use crate::protocol::revision::ProtocolRevision;
use crate::transport::channels::channel::{Channel, Handshake, Lease, Wanted};
use crate::transport::channels::errors::with_words;
use crate::transport::channels::table::Channels;
use crate::transport::request_error::before_call;
use crate::transport::{sse, stdio, websocket};

/// How long what a program wrote on stderr before it refused its handshake may take to arrive.
const WORDS_WITHIN: Duration = Duration::from_millis(100);
/// How long a server may take from the first byte to the end of the handshake.
const SERVER_WITHIN: Duration = Duration::from_secs(30);

/// A start that failed.
pub(crate) struct NotUp {
    pub(crate) fault: Fault,
    /// Whether it was asked with `server/discover` first and may speak to one that is greeted with `initialize`.
    pub(crate) may_be_legacy: bool,
}

impl Channels {
    /// A connection after its handshake.
    pub(crate) async fn start(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<Arc<Channel>, NotUp> {
        let within = match wanted.endpoint.program() {
            Some(program) => program.start_within(self.limits.start_within),
            None => SERVER_WITHIN,
        };
        let peer = wanted.endpoint.peer();
        let late = || {
            let detail = format!("{peer} was not up within {within:?}");
            Fault::NotSent { detail, cause: NotSentCause::Answer }
        };
        let opened = timeout(within, self.open(wanted, place)).await.unwrap_or_else(|_| Err(late()));
        // Held during the handshake, so that it is not ended as unused meanwhile.
        let (channel, _held) = opened.map_err(|fault| NotUp { fault, may_be_legacy: false })?;
        let may_be_legacy = wanted.known.is_none();
        match timeout(within, self.greeter.greet(&channel, wanted.known)).await {
            Ok(Ok(handshake)) => {
                let _first = channel.handshake.set(handshake);
                tracing::info!(server = %channel.server, channel = channel.serial, version = channel.version(), "{} is up", wanted.key.kind.name());
                Ok(channel)
            }
            Ok(Err(trouble)) => {
                let mut fault = before_call(trouble.fault, &format!("the handshake with {peer}"));
                if !channel.quit.is_cancelled() && wanted.endpoint.program().is_some() {
                    let _ended = timeout(WORDS_WITHIN, channel.quit.cancelled()).await;
                    fault = with_words(fault, &channel.said_to(None));
                }
                channel.end(fault.clone());
                Err(NotUp { fault, may_be_legacy })
            }
            Err(_) => {
                let fault = with_words(late(), &channel.said_to(None));
                channel.end(fault.clone());
                Err(NotUp { fault, may_be_legacy })
            }
        }
    }

    /// What it speaks, once it is up.
    pub(crate) fn era_of(channel: &Channel) -> Option<ProtocolRevision> {
        channel.handshake.get().map(|handshake| match handshake {
            Handshake::Modern => ProtocolRevision::Modern,
            Handshake::Legacy(_) => ProtocolRevision::Legacy,
        })
    }

    async fn open(
        self: &Arc<Self>,
        wanted: &Wanted,
        place: OwnedSemaphorePermit,
    ) -> Result<(Arc<Channel>, Option<Lease>), Fault> {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let bounds = (self.limits.idle, self.limits.max_message_bytes);
        let doing = "opening the connection";
        let opened = match &wanted.endpoint.transport {
            EndpointTransport::Program(program) => stdio::spawn::spawn(program, wanted, serial, bounds)?,
            EndpointTransport::WebSocket { .. } => {
                let opened = Box::pin(websocket::open::open(&self.transport, wanted, serial, bounds)).await;
                opened.map_err(|error| before_call(error.fault, doing))?
            }
            EndpointTransport::Http | EndpointTransport::Sse { .. } => {
                let opened = Box::pin(sse::open::open(&self.transport, wanted, serial, bounds)).await;
                opened.map_err(|error| before_call(error.fault, doing))?
            }
        };
        let channel = opened.channel;
        if let Err(fault) = self.enlist(&channel) {
            channel.end(fault.clone());
            let _ended = opened.watch.await;
            return Err(fault);
        }
        let held = channel.hold();
        let (channels, key, of) = (Arc::clone(self), wanted.key.clone(), Arc::clone(&channel));
        tokio::spawn(async move {
            let by_itself = opened.watch.await;
            channels.strike_off(&key, &of, by_itself);
            drop(place);
            of.gone.cancel();
        });
        Ok((channel, held))
    }
}
