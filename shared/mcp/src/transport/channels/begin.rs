//! Begins to open a connection, unless another caller has begun it, and publishes the result to all who wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use toolfleet_core::failure::RetryClass;

use crate::endpoint::{Endpoint, EndpointTransport};
use crate::fault::{Fault, NotSentCause};
use crate::protocol::revision::ProtocolRevision;
use crate::transport::channels::channel::{Channel, Wanted};
use crate::transport::channels::key::{Key, Kind};
use crate::transport::channels::start::NotUp;
use crate::transport::channels::table::{Channels, OfServer, Phase, Slot, closed, lock};
use crate::transport::stdio::program::Ready;

/// How long a start waits for a place among a server's connections.
const PLACE_WITHIN: Duration = Duration::from_secs(60);
impl Channels {
    /// What stands under the key, if it is of that mark and not over.
    pub(crate) fn usable(&self, key: &Key, mark: u64) -> Option<watch::Receiver<Phase>> {
        let mut slots = lock(&self.slots);
        let slot = slots.get(key)?;
        // A start whose task is gone would be waited for in vain.
        let lost = matches!(&*slot.phase.borrow(), Phase::Starting) && slot.phase.has_changed().is_err();
        if slot.mark == mark && !lost {
            return Some(slot.phase.clone());
        }
        if let Phase::Up(channel) = &*slot.phase.borrow() {
            channel.retire();
        }
        slots.remove(key);
        None
    }

    /// Begins a start, unless somebody else has just done so.
    pub(crate) fn begin(
        self: &Arc<Self>,
        key: &Key,
        endpoint: &Endpoint,
        ready: Ready,
    ) -> Result<watch::Receiver<Phase>, Fault> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key).filter(|slot| slot.mark == ready.mark) {
            return Ok(slot.phase.clone());
        }
        let (tell, phase) = watch::channel(Phase::Starting);
        slots.insert(key.clone(), Slot { mark: ready.mark, phase: phase.clone() });
        let of = self.of_server(key);
        let known = match endpoint.transport {
            // It is older than `server/discover`.
            EndpointTransport::Sse { .. } => Some(ProtocolRevision::Legacy),
            EndpointTransport::Http | EndpointTransport::WebSocket { .. } | EndpointTransport::Program(_) => {
                lock(&of.era).filter(|(mark, _)| *mark == ready.mark).map(|(_, era)| era)
            }
        };
        let wanted = Wanted { key: key.clone(), endpoint: endpoint.clone(), ready, known };
        let (channels, own) = (Arc::clone(self), phase.clone());
        tokio::spawn(async move {
            let told = match channels.bring_up(&of, wanted, &own).await {
                Ok(channel) => Phase::Up(channel),
                Err(fault) => Phase::Failed(fault),
            };
            tell.send_replace(told);
        });
        Ok(phase)
    }

    async fn bring_up(
        self: &Arc<Self>,
        of: &OfServer,
        mut wanted: Wanted,
        own: &watch::Receiver<Phase>,
    ) -> Result<Arc<Channel>, Fault> {
        let mark = wanted.ready.mark;
        let mut started = self.start_placed(of, &wanted).await;
        if started.as_ref().is_err_and(|not_up| not_up.may_be_legacy) {
            // Some older programs end, or are of no use any more, when they are asked for what they do not know.
            wanted.known = Some(ProtocolRevision::Legacy);
            started = self.start_placed(of, &wanted).await;
        }
        *lock(&of.era) =
            started.as_ref().ok().and_then(|channel| Self::era_of(channel)).map(|era| (mark, era));
        let started = started.map_err(|not_up| wanted.endpoint.without_echo(not_up.fault));
        if let Err(fault) = &started {
            if fault.retry_class() != RetryClass::Permanent {
                of.failed(&wanted.key.tenant, fault.to_string());
            }
            let mut slots = lock(&self.slots);
            // The slot may be that of a later start.
            if slots.get(&wanted.key).is_some_and(|slot| slot.phase.same_channel(own)) {
                slots.remove(&wanted.key);
            }
            match wanted.key.kind {
                Kind::Program => {
                    tracing::warn!(server = %wanted.key.server, %fault, code = "stdio_not_started", "a program cannot be started");
                }
                Kind::Connection => {
                    tracing::warn!(server = %wanted.key.server, %fault, code = "connection_not_opened", "a connection to a server cannot be opened");
                }
            }
        }
        started
    }

    async fn start_placed(self: &Arc<Self>, of: &OfServer, wanted: &Wanted) -> Result<Arc<Channel>, NotUp> {
        let place = timeout(PLACE_WITHIN, self.place(of, &wanted.key)).await;
        let most = self.limits.most(wanted.key.kind);
        let in_use = match wanted.key.kind {
            Kind::Program => format!("all {most} programs of the server are in use"),
            Kind::Connection => format!("all {most} connections to the server are in use"),
        };
        let place = place.unwrap_or(Err(Fault::NotSent { detail: in_use, cause: NotSentCause::Place }));
        self.start(wanted, place.map_err(|fault| NotUp { fault, may_be_legacy: false })?).await
    }
}
