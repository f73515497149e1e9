//! The requests that a gateway answers at this moment: which call a cancellation means, and what a dropped connection cancels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use toolfleet_client::Client;
use toolfleet_core::ids::CallKey;

use crate::caller::Caller;
use crate::message::Request;

/// A request of a client: who sent it, its session at the gateway, and its JSON-RPC id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequestName {
    caller: String,
    session: String,
    id: String,
}

impl RequestName {
    /// The name; none without a session, because two clients of a user may use the same ids.
    pub(crate) fn of(caller: &Caller, session: Option<&str>, id: &str) -> Option<Self> {
        Some(Self { caller: caller.binding(), session: session?.to_owned(), id: id.to_owned() })
    }
}

type Calls = Arc<Mutex<HashMap<RequestName, CallKey>>>;

/// The requests under way.
#[derive(Clone)]
pub(crate) struct InFlight {
    client: Client,
    calls: Calls,
    shutdown: CancellationToken,
}

/// A request under way. It cancels its call when it is dropped before it has ended, if its version wants that.
pub(crate) struct Entry {
    in_flight: InFlight,
    name: Option<RequestName>,
    key: CallKey,
    cancels: bool,
}

impl InFlight {
    pub(crate) fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self { client, calls: Calls::default(), shutdown }
    }

    /// The request is under way for that call.
    ///
    /// Since 2026-07-28 a closed connection cancels the request. A call that a repeated request finds again, by its key or because it
    /// brings the same answers, goes on: the client may come back for it, and would else find a cancelled one for ever.
    pub(crate) fn enter(&self, request: &Request, key: &CallKey, is_new: bool) -> Entry {
        let id = request.inbound.id.as_deref().map_or("", |id| id.get());
        let legacy = (!request.is_modern())
            .then(|| RequestName::of(&request.caller, request.session.as_deref(), id))
            .flatten();
        if let Some(name) = &legacy {
            self.lock().insert(name.clone(), key.clone());
        }
        let cancels = request.is_modern() && is_new;
        Entry { in_flight: self.clone(), name: legacy, key: key.clone(), cancels }
    }

    /// The call of a request under way.
    pub(crate) fn find(&self, name: &RequestName) -> Option<CallKey> {
        self.lock().get(name).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestName, CallKey>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the call without anybody who waits for it.
    pub(crate) fn cancel(&self, key: CallKey) {
        let client = self.client.clone();
        // Where the runtime is gone, so is everything that waited.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = client.cancel(&key).await {
                tracing::warn!(%error, call_id = %key.call_id, code = "gateway_cancel_failed", "the cancellation of a client that has gone is not stored");
            }
        });
    }
}

impl Entry {
    /// The request has its answer.
    pub(crate) fn ended(mut self) {
        self.cancels = false;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let mut calls = self.in_flight.lock();
            if calls.get(name) == Some(&self.key) {
                calls.remove(name);
            }
        }
        // A gateway that stops drops its requests too; nobody has cancelled them.
        if self.cancels && !self.in_flight.shutdown.is_cancelled() {
            self.in_flight.cancel(self.key.clone());
        }
    }
}
