//! Owns the one remedy that each refusal allows: a session opened anew, a generation learned anew, a list read anew.
//!
//! **Invariant:** every remedy is taken at most once a call, and only after a refusal that proves that nothing ran.

use toolfleet_core::fault::Fault;

use super::{Shared, Tongue};
use crate::classify::{Trouble, before_call};
use crate::endpoint::Endpoint;
use crate::era::Era;
use crate::exchange::era_among;
use crate::wire::{HEADER_MISMATCH, VERSION_UNSUPPORTED};

/// The remedies taken so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) session: bool,
    pub(super) era: bool,
    pub(super) headers: bool,
}

impl Shared {
    /// Prepares the one repetition that this refusal allows, or returns the fault.
    pub(super) async fn remedy(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
        tongue: &Tongue,
        trouble: Trouble,
        taken: &mut Taken,
    ) -> Result<(), Fault> {
        let Some(refusal) = &trouble.refusal else {
            return Err(trouble.fault);
        };
        match tongue {
            Tongue::Legacy(session) => {
                if refusal.is_session_lost(session.id.is_some()) {
                    if std::mem::replace(&mut taken.session, true) {
                        return Err(Fault::SessionLost);
                    }
                    self.sessions.forget(endpoint, conversation, session.serial).await;
                    return Ok(());
                }
                if matches!(refusal.code, Some(HEADER_MISMATCH | VERSION_UNSUPPORTED)) && !taken.era {
                    taken.era = true;
                    era_among(refusal.supported.clone()).map_err(|trouble| trouble.fault)?;
                    self.sessions.forget(endpoint, conversation, session.serial).await;
                    self.eras.forget(endpoint).await;
                    return Ok(());
                }
            }
            Tongue::Modern => match refusal.code {
                Some(VERSION_UNSUPPORTED) if !taken.era => {
                    taken.era = true;
                    // It refuses what we speak, so only an older version that it names can help.
                    match era_among(refusal.supported.clone()).map_err(|trouble| trouble.fault)? {
                        Era::Legacy if !refusal.supported.is_empty() => {
                            self.eras.set(endpoint, Era::Legacy).await;
                            return Ok(());
                        }
                        Era::Legacy | Era::Modern => {}
                    }
                }
                Some(HEADER_MISMATCH) if !taken.headers => {
                    taken.headers = true;
                    let list = Box::pin(self.pages(endpoint, tongue.speech())).await;
                    let list =
                        list.map_err(|trouble| before_call(trouble.fault, "listing the server's tools"))?;
                    self.mirrored.learn(endpoint, list.tools);
                    return Ok(());
                }
                Some(_) | None if refusal.may_be_legacy() && !taken.era => {
                    taken.era = true;
                    self.eras.forget(endpoint).await;
                    let era = self.eras.learn(endpoint, || self.exchange.discover(endpoint)).await;
                    if matches!(era, Ok(Era::Legacy)) {
                        return Ok(());
                    }
                }
                Some(_) | None => {}
            },
            // Whatever it answers, it is up and greeted.
            Tongue::Child(_) => {}
        }
        Err(trouble.fault)
    }
}
