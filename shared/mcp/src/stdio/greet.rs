//! Owns how a child is greeted: which generation it speaks, and the session that the older one opens.
//!
//! `server/discover` comes first, as the specification wants it. Any error but those of 2026-07-28 means the older generation. A
//! program that takes long to start says nothing for a while, and some older ones never answer what they do not know: then
//! `initialize` is sent too, and whichever is answered well decides. Others end at once: [`super::start`] starts them again.
//!
//! **Invariant:** silence alone never decides which generation a child speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;
use toolfleet_core::fault::Fault;

use super::child::{Child, Greeting};
use crate::answer::invalid;
use crate::classify::Trouble;
use crate::era::Era;
use crate::exchange::{Discovered, Initialized, era_among, era_despite};
use crate::transport::Sent;
use crate::wire::{ClientInfo, LEGACY, Meta, PageParams, initialize, initialized, request};
use crate::words::shorten_to;

/// How long a child may say nothing to `server/discover` before `initialize` is sent as well.
const PATIENCE: Duration = Duration::from_secs(3);

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

    /// Greets a child of which it may be known what it speaks.
    pub(super) async fn greet(&self, child: &Child, known: Option<Era>) -> Result<Greeting, Trouble> {
        if known == Some(Era::Legacy) {
            return self.initialize(child).await;
        }
        let discover = self.discover(child);
        tokio::pin!(discover);
        if let Ok(found) = timeout(PATIENCE, &mut discover).await {
            return match found? {
                Era::Modern => Ok(Greeting::Modern),
                Era::Legacy => self.initialize(child).await,
            };
        }
        let session = self.initialize(child);
        tokio::pin!(session);
        tokio::select! {
            biased;
            found = &mut discover => match found? {
                Era::Modern => Ok(Greeting::Modern),
                Era::Legacy => session.await,
            },
            opened = &mut session => opened,
        }
    }

    async fn discover(&self, child: &Child) -> Result<Era, Trouble> {
        let id = self.id();
        let params = PageParams { cursor: None, meta: Meta::modern_of_program(&self.info) };
        match child.ask(id, request(id, "server/discover", params), &Sent::default(), &|_| ()).await {
            Ok(result) => match serde_json::from_str::<Discovered>(result.get()) {
                Ok(found) => era_among(found.supported_versions),
                Err(_) => Ok(Era::Legacy),
            },
            Err(trouble) => era_despite(trouble),
        }
    }

    async fn initialize(&self, child: &Child) -> Result<Greeting, Trouble> {
        let id = self.id();
        let result = child.ask(id, initialize(id, &self.info), &Sent::default(), &|_| ()).await?;
        let version = version_in(&result)?;
        child.tell(initialized());
        Ok(Greeting::Legacy(version))
    }
}

fn version_in(result: &RawValue) -> Result<&'static str, Fault> {
    let found: Initialized = serde_json::from_str(result.get())
        .map_err(|error| invalid("an initialize result", &error.to_string()))?;
    let known = LEGACY.into_iter().find(|known| *known == found.protocol_version);
    known
        .ok_or_else(|| Fault::VersionUnsupported { supported: vec![shorten_to(&found.protocol_version, 32)] })
}
