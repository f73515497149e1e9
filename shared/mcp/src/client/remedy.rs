//! The remedies after a refusal: a new session, another protocol revision, a fresh tool list.
//!
//! The session or revision is repaired after every refusal that it may have caused, so that the next request finds it repaired. The
//! refused request itself is sent again at most once per remedy, and only where the refusal proves that nothing ran or the call is safe to
//! repeat.

use tokio::time::Instant;

use crate::client::state::{Negotiated, Shared};
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{HEADER_MISMATCH, VERSION_UNSUPPORTED};
use crate::transport::channels::channel::Channel;
use crate::transport::discovery::era_among;
use crate::transport::exchange::Liveness;
use crate::transport::http::session::Session;
use crate::transport::request_error::{Refusal, RequestError, before_call};

/// The remedies taken so far.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) session: bool,
    pub(crate) era: bool,
    pub(crate) headers: bool,
}

/// The request that was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) conversation: Option<&'a str>,
    pub(crate) tongue: &'a Negotiated,
    /// When its call began.
    pub(crate) begun: Instant,
    /// It runs no tool, or one that is safe to repeat.
    pub(crate) repeatable: bool,
}

impl Shared {
    /// Prepares the one repetition that this refusal allows, or returns the fault.
    pub(crate) async fn remedy(
        &self,
        refused: Refused<'_>,
        mut error: RequestError,
        taken: &mut Taken,
    ) -> Result<(), Fault> {
        let Some(refusal) = error.refusal.take() else {
            return Err(error.fault);
        };
        let cured = match refused.tongue {
            Negotiated::Legacy(session) => self.cure_legacy(refused, session, &refusal, taken).await?,
            Negotiated::Modern => self.cure_modern(refused, &refusal, taken).await?,
            Negotiated::Channel(channel) => cure_channel(refused, channel, &refusal, taken),
        };
        if cured && (refused.repeatable || error.proves_nothing_ran()) {
            return Ok(());
        }
        Err(error.fault)
    }

    /// Drops a session that has died, and learns the version of a server that refuses the one it was spoken to in.
    async fn cure_legacy(
        &self,
        refused: Refused<'_>,
        session: &Session,
        refusal: &Refusal,
        taken: &mut Taken,
    ) -> Result<bool, Fault> {
        let Refused { endpoint, conversation, begun, .. } = refused;
        if matches!(refusal.code, Some(HEADER_MISMATCH | VERSION_UNSUPPORTED)) {
            if std::mem::replace(&mut taken.era, true) {
                return Ok(false);
            }
            era_among(refusal.supported.clone()).map_err(|error| error.fault)?;
            self.sessions.forget(endpoint, conversation, session.serial).await;
            self.eras.forget(endpoint).await;
            return Ok(true);
        }
        let denied = refusal.denies_session() && session.id.is_some();
        let dead = denied
            || (session.existed_before(begun)
                && refusal.may_mean_a_dead_session()
                && self.exchange.is_alive(endpoint, session).await == Liveness::Refused);
        if !dead {
            return Ok(false);
        }
        self.sessions.forget(endpoint, conversation, session.serial).await;
        Ok(!std::mem::replace(&mut taken.session, true))
    }

    async fn cure_modern(
        &self,
        refused: Refused<'_>,
        refusal: &Refusal,
        taken: &mut Taken,
    ) -> Result<bool, Fault> {
        let endpoint = refused.endpoint;
        match refusal.code {
            Some(VERSION_UNSUPPORTED) if !taken.era => {
                taken.era = true;
                // It refuses what we speak, so only an older version that it names can help.
                match era_among(refusal.supported.clone()).map_err(|error| error.fault)? {
                    ProtocolRevision::Legacy if !refusal.supported.is_empty() => {
                        self.eras.set(endpoint, ProtocolRevision::Legacy).await;
                        Ok(true)
                    }
                    ProtocolRevision::Legacy | ProtocolRevision::Modern => Ok(false),
                }
            }
            Some(HEADER_MISMATCH) if !taken.headers => {
                taken.headers = true;
                let list = Box::pin(self.pages(endpoint, refused.tongue.connection())).await;
                let list = list.map_err(|error| before_call(error.fault, "listing the server's tools"))?;
                self.usable(endpoint, list).await?;
                Ok(true)
            }
            Some(_) | None if refusal.may_be_legacy() && !taken.era => {
                taken.era = true;
                self.eras.forget(endpoint).await;
                let era = self.eras.learn(endpoint, || self.exchange.discover(endpoint)).await;
                Ok(matches!(era, Ok(ProtocolRevision::Legacy)))
            }
            Some(_) | None => Ok(false),
        }
    }
}

/// Retires a connection whose session the server does not know any more: by HTTP+SSE a message is then refused with a status. Whatever else
/// is answered over a connection that is kept, the server is up and greeted.
fn cure_channel(refused: Refused<'_>, channel: &Channel, refusal: &Refusal, taken: &mut Taken) -> bool {
    let existed_before = channel.born < refused.begun;
    if !existed_before || !refusal.denies_posting() {
        return false;
    }
    channel.retire();
    // A gateway in front of the server may answer 503, so that it is only a reason to open another connection.
    refusal.status != 503 && !std::mem::replace(&mut taken.session, true)
}
