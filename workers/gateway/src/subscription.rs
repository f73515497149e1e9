//! One subscription of a client: a call of the fleet that lasts, and another one after it, as long as the client listens.
//!
//! The worker that executes the call subscribes at the server and stores each update as progress. When the worker dies, another one receives
//! the message and subscribes anew, which the gateway sees by the tag of the progress.
//!
//! **Invariant:** whenever an update may have been missed, the client is told that there was one.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use toolfleet_catalog::Server;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::request::Operation;

use crate::answer::fleet_failed;
use crate::call_request::{Asked, CallName, reading};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::in_flight::InFlight;
use crate::message::raw;
use crate::per_caller::MOST_SUBSCRIPTIONS;

/// How long one call of a subscription lasts: the next one follows it.
const CALL_LASTS: Duration = Duration::from_secs(600);
/// How long a call may wait for a worker beyond that.
const GRACE: Duration = Duration::from_secs(30);
/// A call that ended well before that has not lasted as it should.
const SHORT: Duration = Duration::from_secs(5);
/// The pause after a call that failed or was short, and the longest one.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is told of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The server tells of updates from now on.
    Accepted,
    /// The resource may be another one now.
    Updated,
    /// There is no subscription, and why.
    Refused(String),
}

/// Where it is told, with the published address.
pub(crate) type Tell = UnboundedSender<(String, Said)>;

/// What is subscribed to.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) caller: Caller,
    /// The published address.
    pub(crate) uri: String,
    /// Whether the client had it before: then the first report is an update.
    pub(crate) is_resumed: bool,
}

/// Cancels the call of a subscription that nobody listens to any more.
struct CancelOnDrop<'a> {
    in_flight: &'a InFlight,
    key: Option<CallKey>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.in_flight.cancel(key);
        }
    }
}

/// What was last seen of the progress.
#[derive(Default)]
struct Seen {
    tag: Option<String>,
    updates: f64,
    /// Whether the client knows that it has a subscription.
    is_known: bool,
}

impl Seen {
    /// What the row tells that is new.
    fn news(&mut self, row: &CallRow) -> Option<Said> {
        let progress = row.notes.as_deref()?.progress.as_ref()?;
        let (tag, updates) = (progress.message.clone(), progress.progress.get());
        let is_new = self.tag != tag;
        let is_more = self.updates.total_cmp(&updates).is_ne();
        (self.tag, self.updates) = (tag, updates);
        match (std::mem::replace(&mut self.is_known, true), is_new, is_more) {
            (false, _, _) => Some(Said::Accepted),
            (true, false, false) => None,
            (true, _, _) => Some(Said::Updated),
        }
    }
}

impl Gateway {
    /// The server of a published address, if the caller may subscribe there, and the address at the server.
    fn subscribable(&self, caller: &Caller, uri: &str) -> Option<(Arc<Server>, String)> {
        let catalog = self.catalog();
        let resources = catalog.published().resources();
        let (server, own) = resources.find(uri)?;
        let reader = self.reader(&catalog, caller, Instant::now());
        (resources.is_subscribable(server) && reader.may_list(server))
            .then(|| (Arc::clone(server), own.into_owned()))
    }

    /// Tells of the subscription for ever, or until it is refused. Dropped, it cancels its call.
    pub(crate) async fn follow(&self, of: &Subscription, tell: &Tell) {
        // Where nobody listens, this is dropped soon.
        let tell = |said| drop(tell.unbounded_send((of.uri.clone(), said)));
        let Some(_counted) = self.subscribers.count(&of.caller) else {
            let text = format!(
                "A caller has at most {MOST_SUBSCRIPTIONS} subscriptions at a gateway, in all its streams; end another one first."
            );
            return tell(Said::Refused(text));
        };
        let mut seen = Seen { is_known: of.is_resumed, ..Seen::default() };
        let mut pauses = Pauses::default();
        let mut is_loss_told = false;
        loop {
            let Some((server, own)) = self.subscribable(&of.caller, &of.uri) else {
                return tell(Said::Refused("Unknown resource, or one without subscriptions.".to_owned()));
            };
            let asked = Asked {
                server: &server.id,
                operation: Operation::ResourcesSubscribe,
                arguments: &raw(&json!({ "uri": own })),
                timeout_ms: u64::try_from(CALL_LASTS.as_millis()).unwrap_or(u64::MAX),
            };
            let call = match reading(&of.caller, asked, CallName::New, None) {
                Ok(call) => call,
                Err(error) => return tell(Said::Refused(error.to_string())),
            };
            let begun = Instant::now();
            let mut cancel = CancelOnDrop { in_flight: &self.in_flight, key: Some(call.key.clone()) };
            let sent = timeout(GRACE, self.client.send(&call, None)).await;
            let ended = match sent {
                Ok(Ok(message_id)) => {
                    let see = |row: &CallRow| seen.news(row).map_or((), tell);
                    let watched =
                        self.client.watch_request(&call, Some(&message_id), CALL_LASTS + GRACE, see);
                    watched.await.map_err(|error| fleet_failed(&error, &call.key.call_id))
                }
                Ok(Err(error)) => Err(fleet_failed(&error, &call.key.call_id)),
                Err(_) => Err("the queue does not answer"),
            };
            let has_succeeded = match ended {
                Ok(result) => {
                    cancel.key = None;
                    let outcome = result.outcome;
                    // A server that fails now may be back soon; what the fleet refuses it refuses again.
                    if is_final(&outcome) && (!seen.is_known || outcome.kind == OutcomeKind::Refused) {
                        let why = outcome.error.map_or_else(String::new, |error| error.message);
                        return tell(Said::Refused(why));
                    }
                    outcome.kind == OutcomeKind::Succeeded
                }
                Err(why) => {
                    tracing::debug!(uri_bytes = of.uri.len(), why, "a subscription begins anew");
                    false
                }
            };
            drop(cancel);
            // Until the next one is accepted nothing is heard. A client that reads the resource learns why.
            if seen.is_known && !has_succeeded && !is_loss_told {
                tell(Said::Updated);
            }
            is_loss_told = !has_succeeded;
            // The next call is another subscription: whatever it begins with, something may have been missed.
            seen.tag = None;
            if let Some(pause) = pauses.after(has_succeeded, begun.elapsed()) {
                sleep(pause).await;
            }
        }
    }
}

/// The pauses between the calls of a subscription.
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE }
    }
}

impl Pauses {
    /// The pause after a call; none after one that has lasted as it should.
    fn after(&mut self, has_succeeded: bool, lasted: Duration) -> Option<Duration> {
        if has_succeeded && lasted >= SHORT {
            *self = Self::default();
            return None;
        }
        let pause = if lasted > LONGEST_PAUSE { PAUSE } else { self.next };
        self.next = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

/// Whether another call would end in the same way.
fn is_final(outcome: &Outcome) -> bool {
    match outcome.kind {
        OutcomeKind::Refused | OutcomeKind::Failed | OutcomeKind::ToolError | OutcomeKind::InputRequired => {
            true
        }
        OutcomeKind::Succeeded
        | OutcomeKind::Expired
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ended_early_is_followed_after_a_pause_that_grows() {
        let mut pauses = Pauses::default();
        let seconds = Duration::from_secs;
        for has_succeeded in [true, false] {
            assert_eq!(pauses.after(true, seconds(600)), None);
            let short: Vec<_> = (0..8)
                .filter_map(|_| pauses.after(has_succeeded, seconds(1)))
                .map(|one| one.as_secs())
                .collect();
            assert_eq!(short, [1, 2, 4, 8, 16, 32, 60, 60]);
        }
        assert_eq!(pauses.after(false, seconds(61)), Some(PAUSE), "it had lasted");
        assert_eq!(pauses.after(false, seconds(1)), Some(seconds(2)));
    }
}
