//! A subscription to one resource, as an attempt that lasts until its deadline: each update of the resource is told as progress.
//!
//! A server of 2026-07-28 is asked by `subscriptions/listen`, whose response is the stream of updates. An older one is asked by
//! `resources/subscribe`; over HTTP in a session of its own, because servers allow a session one event stream, and over a kept connection on
//! that. The stream is open before the server is asked, so that no update is missed.
//!
//! **Invariant:** the first report says that the server has accepted; a report with another tag says that the subscription began anew.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use toolfleet_core::progress::{Amount, Progress, ProgressNote};
use toolfleet_core::request::Operation;

use crate::answer::{Answer, AnswerKind};
use crate::client::call::{answered, out_of_time};
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Negotiated, Shared};
use crate::fault::{Fault, invalid};
use crate::protocol::wire::{ACKNOWLEDGED, UPDATED};
use crate::tool_call::{ToolCall, admitted};
use crate::transport::channels::channel::{Lease, Watching};
use crate::transport::connection::Connection;
use crate::transport::http::session::Session;
use crate::transport::http::stream::SIDE_REQUEST_TIMEOUT;
use crate::transport::request_error::RequestError;

/// After that pause a stream that has ended is opened again; one that ended within the time so often in a row is given up.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
const SHORT_STREAM: Duration = Duration::from_secs(20);
const MOST_SHORT_STREAMS: u32 = 5;

/// What a server tells of one subscription.
struct Reports<'a> {
    call: &'a ToolCall<'a>,
    tag: String,
    updates: AtomicU32,
}

impl<'a> Reports<'a> {
    fn of(call: &'a ToolCall<'a>) -> Self {
        Self { call, tag: format!("subscription {:08x}", fastrand::u32(..)), updates: AtomicU32::new(0) }
    }

    fn tell(&self, updates: u32) {
        if let (Some(hear), Some(progress)) = (self.call.on_note, Amount::new(f64::from(updates))) {
            hear(ProgressNote::Progress(Progress { progress, total: None, message: Some(self.tag.clone()) }));
        }
    }

    /// The server has accepted.
    fn accepted(&self) {
        self.tell(self.updates.load(Ordering::Relaxed));
    }

    /// Something may have been missed.
    fn missed(&self) {
        self.tell(self.updates.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// Takes a notification of a stream that is of this subscription alone: its server may name a part of the resource, or write the address
    /// in another way.
    fn take(&self, method: &str) {
        if method == UPDATED {
            self.missed();
        }
    }
}

impl McpClient {
    /// Subscribes to the resource that the call names, until `until`. Ends before it only by a fault. The server has to accept by the call's
    /// deadline.
    pub async fn subscribe(&self, call: ToolCall<'_>, until: Instant) -> Result<Answer, Fault> {
        let reports = Reports::of(&call);
        let begun = Instant::now();
        let accepted = std::sync::Mutex::new(None);
        let lasting = self.0.subscribed(&call, &reports, begun, &accepted);
        let over = async {
            sleep_until(call.deadline).await;
            if version_of(&accepted).is_some() {
                sleep_until(until).await;
            }
        };
        let ended = tokio::select! {
            Err(fault) = lasting => Some(fault),
            () = over => None,
        };
        let fault = match ended {
            Some(fault) => fault,
            None => {
                let Some(version) = version_of(&accepted) else {
                    return Err(out_of_time(&self.0.standing(call.endpoint, call.conversation)));
                };
                let updates = reports.updates.load(Ordering::Relaxed);
                let result = RawValue::from_string(format!("{{\"updates\":{updates}}}"))
                    .map_err(|error| invalid("a count", &error.to_string()))?;
                let kind = AnswerKind::Complete;
                return Ok(Answer {
                    protocol_version: version,
                    ..answered(kind, result, Negotiated::Modern)
                });
            }
        };
        Err(call.without_echo(fault))
    }
}

/// The protocol version of a subscription, once its server has accepted it.
type Accepted = std::sync::Mutex<Option<String>>;

fn version_of(accepted: &Accepted) -> Option<String> {
    accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

impl Shared {
    async fn subscribed(
        &self,
        call: &ToolCall<'_>,
        reports: &Reports<'_>,
        begun: Instant,
        accepted: &Accepted,
    ) -> Result<Infallible, Fault> {
        let mut taken = Taken { headers: true, ..Taken::default() };
        loop {
            let tongue = self.tongue(call.endpoint, call.conversation).await?;
            admitted(call.admit).await?;
            let accept = || {
                *accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(tongue.version().to_owned());
                reports.accepted();
            };
            let ended = match &tongue {
                Negotiated::Modern => self.listened(call, Connection::Modern, reports, &accept).await,
                Negotiated::Channel(channel) => self.over_channel(call, channel, reports, &accept).await,
                Negotiated::Legacy(_) => self.in_session(call, reports, &accept).await,
            };
            let Err(error) = ended;
            let (endpoint, conversation) = (call.endpoint, call.conversation);
            let refused = Refused { endpoint, conversation, tongue: &tongue, begun, repeatable: true };
            Box::pin(self.remedy(refused, error, &mut taken)).await?;
        }
    }

    /// `subscriptions/listen`: its notifications come before its answer, which ends it.
    async fn listened(
        &self,
        call: &ToolCall<'_>,
        connection: Connection<'_>,
        reports: &Reports<'_>,
        accept: &(dyn Fn() + Send + Sync),
    ) -> Result<Infallible, RequestError> {
        let hear = |method: &str, params: Option<&RawValue>| match method {
            ACKNOWLEDGED => {
                if acknowledges(params, call.name) {
                    accept();
                }
            }
            _ => reports.take(method),
        };
        self.exchange.listen(call, connection, &hear).await?;
        Err(Fault::AnswerLost { detail: "the server has ended the subscription".to_owned() }.into())
    }

    /// Over a connection that is kept: the updates of its server go to all that wait for them.
    async fn over_channel(
        &self,
        call: &ToolCall<'_>,
        channel: &Lease,
        reports: &Reports<'_>,
        accept: &(dyn Fn() + Send + Sync),
    ) -> Result<Infallible, RequestError> {
        let (sender, mut words) = mpsc::channel(64);
        let watching = channel.watch(self.exchange.next_id(), call.name, sender);
        let hearing = async {
            while let Some(notice) = words.recv().await {
                match notice.method.as_str() {
                    ACKNOWLEDGED if acknowledges(Some(&notice.params), call.name) => accept(),
                    method => reports.take(method),
                }
            }
        };
        let connection = Connection::Channel(channel);
        if channel.is_modern() {
            let listening = self.exchange.listen(call, connection, &|_, _| ());
            tokio::select! {
                ended = listening => ended.map(drop)?,
                () = hearing => {}
            }
        } else {
            self.exchange.subscription(call, connection, Operation::ResourcesSubscribe.as_str()).await?;
            accept();
            let _end = EndOnDrop { shared: self, call, channel, watching: Some(watching) };
            tokio::select! {
                () = hearing => {}
                () = channel.quit.cancelled() => {}
            }
        }
        Err(Fault::AnswerLost { detail: "the connection of the subscription has ended".to_owned() }.into())
    }

    /// In a session of its own, with its event stream.
    async fn in_session(
        &self,
        call: &ToolCall<'_>,
        reports: &Reports<'_>,
        accept: &(dyn Fn() + Send + Sync),
    ) -> Result<Infallible, RequestError> {
        let session =
            OwnSession { shared: self, call, session: Some(self.exchange.open(call.endpoint).await?) };
        let Some(open) = &session.session else { return Err(Fault::SessionLost.into()) };
        let transport = &self.exchange.transport;
        let mut stream = transport.updates(call.endpoint, open).await?;
        let connection = Connection::Legacy(open);
        self.exchange.subscription(call, connection, Operation::ResourcesSubscribe.as_str()).await?;
        accept();
        let hear = |method: &str, _params: Option<&RawValue>| reports.take(method);
        let mut short = 0;
        loop {
            let begun = Instant::now();
            let ended = transport.hear_updates(stream, call.endpoint, open, &hear).await;
            // Load balancers end streams on which nothing happens.
            short = if begun.elapsed() < SHORT_STREAM { short + 1 } else { 0 };
            if short >= MOST_SHORT_STREAMS {
                return Err(Fault::AnswerLost { detail: ended }.into());
            }
            sleep(REOPEN_AFTER).await;
            stream = transport.updates(call.endpoint, open).await?;
            reports.missed();
        }
    }
}

/// Ends the session when the subscription ends, whatever ends it.
struct OwnSession<'a> {
    shared: &'a Shared,
    call: &'a ToolCall<'a>,
    session: Option<Session>,
}

impl Drop for OwnSession<'_> {
    fn drop(&mut self) {
        let (Some(session), Ok(runtime)) = (self.session.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        if session.id.is_none() {
            return;
        }
        let (transport, endpoint) = (self.shared.exchange.transport.aside(), self.call.endpoint.clone());
        runtime.spawn(async move {
            let _ = timeout(SIDE_REQUEST_TIMEOUT, transport.delete(&endpoint, &session)).await;
        });
    }
}

/// Ends a subscription over a connection that goes on.
struct EndOnDrop<'a> {
    shared: &'a Shared,
    call: &'a ToolCall<'a>,
    channel: &'a Lease,
    watching: Option<Watching<'a>>,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        drop(self.watching.take());
        // The connection may serve another subscription to the same resource.
        if !self.channel.is_watched(self.call.name) {
            let (id, body) = self.shared.exchange.unsubscription(self.call);
            self.channel.ask_aside(id, body);
        }
    }
}

#[derive(Deserialize)]
struct Acknowledged {
    notifications: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    resource_subscriptions: Vec<String>,
}

/// Whether the server will tell of that resource.
fn acknowledges(params: Option<&RawValue>, uri: &str) -> bool {
    let read = params.and_then(|params| serde_json::from_str::<Acknowledged>(params.get()).ok());
    read.is_some_and(|read| read.notifications.resource_subscriptions.iter().any(|one| one == uri))
}
